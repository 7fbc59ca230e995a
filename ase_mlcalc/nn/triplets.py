"""Triplets of atoms: pairs of edges that share a centre."""

from typing import NamedTuple

import torch
from torch import Tensor


class Triplets(NamedTuple):
    """Unordered pairs of different edges i -> j and i -> k with the same centre i, each pair once.  T triplets."""

    first: Tensor
    """(T,) index of the edge i -> j."""
    second: Tensor
    """(T,) index of the edge i -> k; always larger than `first`."""


def find_triplets(centers: Tensor) -> Triplets:
    """All angles j-i-k of a graph.

    An atom with n edges is the centre of n (n - 1) / 2 triplets; j and k may be images of one atom.

    Parameters
    ----------
    centers : (E,)
        Centre of each edge, ascending, as in `Graph`.
    """
    edge = torch.arange(centers.shape[0], device=centers.device)
    end_p = torch.searchsorted(centers, centers, right=True)  # where the edges of the same centre end
    partners_p = end_p - edge - 1
    first = edge.repeat_interleave(partners_p)
    before_p = partners_p.cumsum(0) - partners_p
    rank = torch.ones_like(first).cumsum(0) - 1 - before_p[first]  # shapes, not len: torch.export traces this
    return Triplets(first, first + 1 + rank)
