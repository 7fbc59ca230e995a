"""The structures that models are checked on: small, without symmetry, with every kind of boundary."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from numpy.typing import NDArray

SPECIES = (1, 6, 8, 11, 17)
"""Elements of the check structures."""


def water() -> Atoms:
    """Three atoms without a cell."""
    return _rattled(molecule("H2O"), 0.05, seed=1)


def ethanol() -> Atoms:
    """Nine atoms of three species without a cell."""
    return _rattled(molecule("CH3CH2OH"), 0.05, seed=2)


def crystal() -> Atoms:
    """Eight atoms of dense rock salt in a triclinic cell that is shorter than usual cutoffs."""
    atoms = bulk("NaCl", "rocksalt", a=4.4, cubic=True)
    strain = 0.05 * np.random.default_rng(3).standard_normal((3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return _rattled(atoms, 0.1, seed=4)


def slab() -> Atoms:
    """Eight atoms, periodic in two directions, with a volume; some atoms lie outside the cell."""
    atoms = crystal()
    cell = atoms.cell.array.copy()
    cell[2] *= 2.5
    atoms.set_cell(cell)
    atoms.set_pbc((True, True, False))
    atoms.positions[:, 2] -= 1.0
    return atoms


def one_atom_lattice() -> Atoms:
    """One atom per cell, all of whose neighbours are its own images (strained, so that the stress is general)."""
    atoms = bulk("Na", "fcc", a=3.2)
    strain = 0.05 * np.random.default_rng(5).standard_normal((3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


def isolated_atom(number: int) -> Atoms:
    """One atom without a cell."""
    return Atoms(numbers=[number], positions=[[0.3, -0.2, 0.1]])


def fitted(atoms: Atoms, species: Sequence[int]) -> Atoms:
    """The same geometry with elements that a model knows: each element becomes one of `species`."""
    known = sorted(species)
    atoms = atoms.copy()
    atoms.numbers = [z if z in known else known[SPECIES.index(z) % len(known)] for z in atoms.numbers.tolist()]
    return atoms


def composed(atoms: Atoms, numbers: Sequence[int]) -> Atoms:
    """Other atoms at the density of a structure: its own geometry if it has as many, else a rattled grid."""
    n = len(numbers)
    if n == len(atoms):
        atoms = atoms.copy()
        atoms.numbers = numbers
        return atoms
    per_side = int(np.ceil(n ** (1 / 3)))
    grid = np.indices((per_side,) * 3).reshape(3, -1).T[:n]
    if atoms.cell.rank < 3:
        return _rattled(Atoms(numbers, 1.4 * grid), 0.1, seed=8)
    other = Atoms(numbers, cell=atoms.cell.array * (n / len(atoms)) ** (1 / 3), pbc=atoms.pbc)
    other.set_scaled_positions((grid + 0.5) / per_side)
    return _rattled(other, 0.1, seed=8)


def rotation(seed: int, *, improper: bool = False) -> NDArray[np.float64]:
    """(3, 3) a random rotation, or a random rotation with a mirror."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    wrong_kind = (np.linalg.det(q) < 0) != improper
    return -q if wrong_kind else q


def rotated(atoms: Atoms, matrix: NDArray[np.float64]) -> Atoms:
    """The structure, its cell and its momenta turned (and mirrored) by a matrix."""
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ matrix.T)
    atoms.positions = atoms.positions @ matrix.T
    if atoms.has("momenta"):
        atoms.set_momenta(atoms.get_momenta() @ matrix.T)
    return atoms


def moving(atoms: Atoms) -> Atoms:
    """The structure with momenta, the same for the same number of atoms."""
    atoms = atoms.copy()
    velocities = 0.05 * np.random.default_rng(6).standard_normal((len(atoms), 3))
    atoms.set_velocities(velocities)
    return atoms


def strained(atoms: Atoms, strain: NDArray[np.float64]) -> Atoms:
    """The structure and its cell deformed by 1 + strain."""
    atoms = atoms.copy()
    deform = np.eye(3) + strain
    positions = atoms.positions @ deform.T
    atoms.set_cell(atoms.cell.array @ deform.T)
    atoms.positions = positions
    return atoms


def _rattled(atoms: Atoms, amplitude: float, seed: int) -> Atoms:
    atoms.positions += amplitude * np.random.default_rng(seed).standard_normal(atoms.positions.shape)
    return atoms
