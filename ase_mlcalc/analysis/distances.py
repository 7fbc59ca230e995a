"""Distances of all pairs of atoms up to a cutoff, periodic images included.

Up to about a thousand atoms, all distances to one image after the other are quicker than a search for neighbours when
the cutoff is half of the cell or more, which it is for g(r).
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from ase.geometry import complete_cell
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ase_mlcalc.neighbors import find_pairs

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

MOST_DISTANCES = 30_000_000
"""Of one frame, computed one by one; more are searched for."""
SEARCH_COST = 20_000
"""Of an atom in the search, in distances, at 10 Å and the density of liquids."""
CALL_COST = 1000
"""Of an image, in distances, beside those."""


class Counts(NamedTuple):
    """Directed pairs of a structure in bins of distances, by the S kinds of their ends."""

    pairs: Array
    """(S, S, n_bins)"""
    own_images: Array
    """(S, n_bins) those of them that are an atom and an image of itself."""


def count_distances(
    positions: Array, cell: Array, pbc: NDArray[np.bool_], kinds: Indices, *, r_max: float, n_bins: int
) -> Counts:
    """All pairs closer than r_max, of all images."""
    size = int(kinds.max()) + 1
    per_A = n_bins / r_max
    shape = (size, size, n_bins)
    images = _images(len(positions), cell, pbc, r_max)
    if images is None:
        pairs = find_pairs(positions, cell, pbc, r_max)
        r_pc = pairs.vectors(positions, cell)
        d_p = np.sqrt(np.einsum("pc,pc->p", r_pc, r_pc))
        place = (kinds[pairs.centers] * size + kinds[pairs.neighbors]) * n_bins + (d_p * per_A).astype(np.int64)
        every = np.bincount(place, minlength=size * size * n_bins).reshape(shape).astype(float)
        alone = np.bincount(place[pairs.centers == pairs.neighbors], minlength=size * size * n_bins).reshape(shape)
        return Counts(every, alone[range(size), range(size)].astype(float))
    first_bin = (kinds[:, None] * size + kinds) * n_bins
    found, own = np.zeros(shape), np.zeros((size, n_bins))
    for d_nn, shift in _matrices(positions, cell, pbc, images, r_max):
        near = d_nn < r_max
        place = first_bin[near] + (d_nn[near] * per_A).astype(np.int64)
        one_way = np.bincount(place, minlength=size * size * n_bins).reshape(shape)
        found += one_way
        if shift.any():
            found += one_way.transpose(1, 0, 2)
            d_n = d_nn.diagonal()
            place = kinds[d_n < r_max] * n_bins + (d_n[d_n < r_max] * per_A).astype(np.int64)
            own += 2 * np.bincount(place, minlength=size * n_bins).reshape(size, n_bins)
    return Counts(found, own)


def distances_per_frame(n_atoms: int, cell: Array, pbc: NDArray[np.bool_], r_max: float) -> int:
    """What `count_distances` costs, as a number of distances of about 10 ns each."""
    images = _images(n_atoms, cell, pbc, r_max)
    return n_atoms * SEARCH_COST if images is None else (n_atoms**2 + CALL_COST) * len(images)


def _matrices(
    positions: Array, cell: Array, pbc: NDArray[np.bool_], images: Array, cutoff: float
) -> Iterator[tuple[Array, Array]]:
    """Distances (N, N) from each atom to the shifted image of each, with the shift in Å; of ±shift one is given.

    An atom is not near itself.
    """
    inside = _wrapped(positions, cell, pbc)
    for shift in images @ np.where(pbc[:, None], cell, 0.0):
        d_nn = cdist(inside, inside + shift)
        if not shift.any():
            np.fill_diagonal(d_nn, 2.0 * cutoff)
        yield d_nn, shift


def _images(n_atoms: int, cell: Array, pbc: NDArray[np.bool_], cutoff: float) -> Array | None:
    """(M, 3) whole cells from which an atom of the cell can be within the cutoff of another, one of each ±.

    ``None`` if there are too many distances.
    """
    box = np.asarray(complete_cell(np.where(pbc[:, None], cell, 0.0)))
    volume = abs(np.linalg.det(box))
    if volume < 1e-9:
        return None  # the search says what is wrong
    heights = volume / np.linalg.norm(np.cross(box[[1, 2, 0]], box[[2, 0, 1]]), axis=1)
    # wrapped positions differ by less than one cell
    reach = np.where(pbc, np.floor(cutoff / heights) + 1, 0).astype(int)
    if n_atoms**2 * float(np.prod(2 * reach + 1)) > MOST_DISTANCES:
        return None
    every = product(*(range(-n, n + 1) for n in reach))
    return np.array([image for image in every if image >= (0, 0, 0)], dtype=float)


def _wrapped(positions: Array, cell: Array, pbc: NDArray[np.bool_]) -> Array:
    """Positions with fractional coordinates from 0 to 1 along periodic directions."""
    if not pbc.any():
        return positions
    box = np.asarray(complete_cell(np.where(pbc[:, None], cell, 0.0)))
    fractional = positions @ np.linalg.inv(box)
    wrapped: Array = positions - np.where(pbc, np.floor(fractional), 0.0) @ box
    return wrapped
