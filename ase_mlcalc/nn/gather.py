"""What an atom sees of its neighbours: the one place where features travel from atom to atom."""

import torch
from torch import Tensor

from ase_mlcalc.graph import Graph


def of_neighbors(x: Tensor, graph: Graph, dim: int = 0) -> Tensor:
    r"""Features of the neighbour of each edge.

    Every model that passes features between atoms takes them from here, because which atom's energy felt which atom's
    motion is only known where features change hands: with ``graph.gauge`` = q set, values stay what they are and
    gradients that pass from edge i -> j back to atom j are multiplied by :math:`1 - q \cdot r_{ij}`, from which
    `ase_mlcalc.virials` gets the virial that a heat flux needs.

    For the same reason it is the place where processes that share a structure hand features to each other.

    Parameters
    ----------
    x : (..., N, ...)
        Features; atoms along dimension `dim`.
    graph : Graph
    dim : int

    Returns
    -------
    (..., E, ...)
    """
    x, graph = with_those_of_others(x, graph, dim)
    x_p = x.index_select(dim, graph.neighbors)
    q_r_p = gauge_of_edges(graph, x_p.dtype)
    if q_r_p is None:
        return x_p
    q_r_p = q_r_p.view([-1 if axis == dim % x_p.ndim else 1 for axis in range(x_p.ndim)])
    return x_p - (x_p - x_p.detach()) * q_r_p


def with_those_of_others(x: Tensor, graph: Graph, dim: int = 0) -> tuple[Tensor, Graph]:
    """Features of all atoms, whichever process owns them, and the graph as one that no longer asks for them."""
    if graph.halo is None:
        return x, graph
    return graph.halo.exchange(x, dim), graph._replace(halo=None)


def gauge_of_edges(graph: Graph, dtype: torch.dtype) -> Tensor | None:
    """(E,) q · r_ij, by which `of_neighbors` takes from gradients; ``None`` where nothing is taken."""
    return None if graph.gauge is None else graph.vectors.detach() @ graph.gauge.to(dtype)
