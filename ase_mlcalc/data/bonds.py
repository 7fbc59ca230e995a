"""Bonds of a labelled structure, and how its forces drive them."""

from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from ase_mlcalc.data.frames import Frame
from ase_mlcalc.graph import OVERLAP_ANGSTROM
from ase_mlcalc.neighbors import find_pairs

BOND_STRETCH = 1.25
"""Over the sum of the covalent radii; of no weight where this takes in more than bonds, as in metals."""


class Bonds(NamedTuple):
    """Pairs of atoms of a structure that are about as near as their covalent radii."""

    species: NDArray[np.int64]
    """(B, 2) sorted atomic numbers."""
    length: NDArray[np.float64]
    """(B,) Å."""
    direction: NDArray[np.float64]
    """(B, 3) unit vectors from the first atom to the second."""
    push: NDArray[np.float64]
    """(B,) eV/Å by which the forces drive the two apart, half of their difference along the bond."""


def bonds_of(frame: Frame) -> Bonds:
    """The bonds of a structure that has forces."""
    atoms, forces = frame.atoms, frame.labels.forces
    assert forces is not None
    radius = covalent_radii[atoms.numbers]
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 2 * BOND_STRETCH * radius.max())
    vectors = pairs.vectors(atoms.positions, atoms.cell.array)
    length = np.linalg.norm(vectors, axis=1)
    bonded = (pairs.centers < pairs.neighbors) & (length > OVERLAP_ANGSTROM)
    bonded &= length < BOND_STRETCH * (radius[pairs.centers] + radius[pairs.neighbors])
    first, second = pairs.centers[bonded], pairs.neighbors[bonded]
    direction = vectors[bonded] / length[bonded, None]
    apart = forces.numpy()[second] - forces.numpy()[first]
    return Bonds(
        np.sort(atoms.numbers[np.stack([first, second], axis=1)], axis=1),
        length[bonded],
        direction,
        0.5 * np.einsum("bx,bx->b", apart, direction),
    )
