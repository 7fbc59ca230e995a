"""Pairs of atoms as monitors look at them: all closer than a cutoff, and nearest images of given pairs."""

from itertools import product

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray

from ase_mlcalc.neighbors import Pairs, find_pairs

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_FEW = 100
"""Up to so many atoms all distances are faster than a search in cells."""


def pairs_within(atoms: Atoms, cutoff: float) -> tuple[Pairs, Array]:
    """Directed pairs closer than a cutoff (Å), periodic images included, and their distances (E,) in Å."""
    cell = np.asarray(atoms.cell)
    positions = atoms.positions
    if len(atoms) <= _FEW and _one_image_is_enough(cell, atoms.pbc, cutoff):
        return _all_pairs(positions, cell, atoms.pbc, cutoff)
    found = find_pairs(positions, cell, atoms.pbc, cutoff)
    return found, np.linalg.norm(found.vectors(positions, cell), axis=1)


def nearest_images(atoms: Atoms, first: Index, second: Index) -> Array:
    """(P, 3) Å, vectors from atoms to the nearest image of others."""
    return to_nearest_images(atoms.positions[second] - atoms.positions[first], np.asarray(atoms.cell), atoms.pbc)


def to_nearest_images(vectors: Array, cell: Array, pbc: NDArray[np.bool_]) -> Array:
    """(P, 3) Å, vectors made those to the nearest image, in any cell and with any directions periodic."""
    if not pbc.any() or len(vectors) == 0:
        return vectors
    if _is_rectangular(cell, pbc):
        sides = np.where(pbc, np.diagonal(cell), np.inf)
        return vectors - np.rint(vectors / sides) * np.where(pbc, sides, 0.0)
    # images differ along periodic directions only: open ones, however they are tilted, have no part in this
    lattice = cell[pbc]
    to_fractional = np.linalg.inv(cell) if pbc.all() else np.linalg.pinv(lattice)
    nearest: Array = vectors - np.rint(vectors @ to_fractional) @ lattice
    # no lattice vector is shorter than the least height: below half of it there is no nearer image
    least_height = 1.0 / np.sqrt(np.einsum("ij,ij->j", to_fractional, to_fractional).max())
    doubtful = np.einsum("pc,pc->p", nearest, nearest) >= 0.25 * least_height**2
    if doubtful.any():
        nearest[doubtful] = _nearest_of_several(nearest[doubtful], cell, pbc)
    return nearest


def _nearest_of_several(vectors: Array, cell: Array, pbc: NDArray[np.bool_]) -> Array:
    """The same for vectors whose nearest image rounding may miss.

    In a reduced lattice it is one of those around the rounded one (P. Q. Nguyen and D. Stehlé, ACM Trans. Algorithms 5,
    46 (2009)).
    """
    reduced = np.asarray(minkowski_reduce(np.where(pbc[:, None], cell, 0.0), pbc)[0])[pbc]
    rounded = vectors - np.rint(vectors @ np.linalg.pinv(reduced)) @ reduced
    images = rounded[:, None] + np.array(list(product((-1.0, 0.0, 1.0), repeat=len(reduced)))) @ reduced
    nearest = np.einsum("pic,pic->pi", images, images).argmin(axis=1)
    found: Array = images[np.arange(len(images)), nearest]
    return found


def nearest_distances(atoms: Atoms, first: Index, second: Index) -> Array:
    """(P,) Å, distances to nearest images."""
    vectors = nearest_images(atoms, first, second)
    return np.sqrt(np.einsum("pc,pc->p", vectors, vectors))


def _is_rectangular(cell: Array, pbc: NDArray[np.bool_]) -> bool:
    """Whether lattice vectors of periodic directions lie along x, y and z."""
    off = cell - np.diag(np.diagonal(cell))
    return not off[pbc].any() and bool((np.diagonal(cell)[pbc] > 0).all())


def _one_image_is_enough(cell: Array, pbc: NDArray[np.bool_], cutoff: float) -> bool:
    """Whether at most one image of an atom can be within the cutoff, and rounding finds it."""
    if not pbc.any():
        return True
    return _is_rectangular(cell, pbc) and float(np.diagonal(cell)[pbc].min()) > 2.0 * cutoff


def _all_pairs(positions: Array, cell: Array, pbc: NDArray[np.bool_], cutoff: float) -> tuple[Pairs, Array]:
    vectors = positions[None, :, :] - positions[:, None, :]
    shifts = None
    if pbc.any():
        sides = np.where(pbc, np.diagonal(cell), np.inf)
        shifts = -np.rint(vectors / sides)
        vectors = vectors + shifts * np.where(pbc, sides, 0.0)
    squared = np.einsum("ijc,ijc->ij", vectors, vectors)
    near = squared < cutoff**2
    np.fill_diagonal(near, val=False)
    i, j = np.nonzero(near)
    whole = np.zeros((len(i), 3), dtype=np.int64) if shifts is None else shifts[i, j].astype(np.int64)
    return Pairs(i, j, whole), np.sqrt(squared[i, j])
