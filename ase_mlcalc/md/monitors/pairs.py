"""Pairs of atoms as monitors look at them: all closer than a cutoff, and nearest images of given pairs."""

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
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
    vectors: Array = atoms.positions[second] - atoms.positions[first]
    if not atoms.pbc.any() or len(vectors) == 0:
        return vectors
    cell = np.asarray(atoms.cell)
    if _is_rectangular(cell, atoms.pbc):
        sides = np.where(atoms.pbc, np.diagonal(cell), np.inf)
        return vectors - np.rint(vectors / sides) * np.where(atoms.pbc, sides, 0.0)
    if atoms.pbc.all():
        to_fractional = np.linalg.inv(cell)
        nearest: Array = vectors - np.rint(vectors @ to_fractional) @ cell
        # in a skewed cell rounding finds the nearest image of what is nearer than half of the least height
        least_height = 1.0 / np.sqrt(np.einsum("ij,ij->j", to_fractional, to_fractional).max())
        if np.einsum("pc,pc->p", nearest, nearest).max() < 0.25 * least_height**2:
            return nearest
    return np.asarray(find_mic(vectors, atoms.cell, atoms.pbc)[0], dtype=float)


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
