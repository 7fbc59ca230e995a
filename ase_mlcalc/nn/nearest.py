"""The k nearest neighbours of each atom, by any measure of distance."""

from typing import NamedTuple

import torch
from torch import Tensor

from ase_mlcalc.graph import Graph


class Nearest(NamedTuple):
    """For each of N atoms its k nearest edges, or all of them where there are fewer."""

    edges_nk: Tensor
    """(N, k) indices of edges of the graph, nearest first."""
    given_nk: Tensor
    """(N, k) false where an atom has fewer edges; the index then means nothing."""


def nearest(graph: Graph, distance_p: Tensor, k: int) -> Nearest:
    """Choose among the edges of each atom, so that no other structure and no atom beyond the cutoff is considered.

    Parameters
    ----------
    graph : Graph
    distance_p : (E,)
        Any measure of how far the neighbour of each edge is from its centre.
    k : int
    """
    n_edges = len(graph.centers)
    if n_edges == 0:
        nothing = graph.centers.new_zeros(graph.n_atoms, 0)
        return Nearest(nothing, nothing.bool())
    by_distance = torch.argsort(distance_p.detach(), stable=True)
    order_p = by_distance[torch.argsort(graph.centers[by_distance], stable=True)]  # by centre, then by distance
    atoms = torch.arange(graph.n_atoms, device=graph.centers.device)
    first_n = torch.searchsorted(graph.centers, atoms)
    end_n = torch.searchsorted(graph.centers, atoms, right=True)
    place_nk = first_n[:, None] + torch.arange(k, device=atoms.device)
    return Nearest(order_p[place_nk.clamp(max=n_edges - 1)], place_nk < end_n[:, None])
