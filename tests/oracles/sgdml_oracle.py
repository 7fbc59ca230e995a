"""Ethanol under a Morse potential, and a model of it by the package `sgdml`: run to write the fixtures anew.

The package lives in an environment of its own (``pip install sgdml``), the rest in ours::

    python tests/oracles/sgdml_oracle.py tests/oracles/sgdml/data.npz
    SGDML_ENV/bin/python benchmarks/sgdml_package.py tests/oracles/sgdml/data.npz 30 20 tests/oracles/sgdml
"""

import sys
from pathlib import Path

import numpy as np
from ase import units
from ase.build import molecule
from ase.data import covalent_radii

from ase_mlcalc.files import atomic_path

FOLDER = Path(__file__).parent / "sgdml"
KCAL_MOL = units.kcal / units.mol
N_TRAIN = 30
SIGMA = 20.0
NUMBERS = molecule("CH3CH2OH").numbers
METHYL_CARBON, OTHER_CARBON, METHYL_HYDROGENS, OTHER_HYDROGENS = 1, 0, (6, 7, 8), (4, 5)
"""Of ASE's ethanol: what rotates about the bond between the carbons, and the two hydrogens that a mirror exchanges."""


def geometries(count, seed=0, rattle=0.05):
    """(count, 9, 3) Å: rattled ethanol, the methyl group turned by any angle, every other one mirrored."""
    rng = np.random.default_rng(seed)
    start = molecule("CH3CH2OH")
    found = []
    for k in range(count):
        atoms = start.copy()
        axis = atoms.positions[METHYL_CARBON] - atoms.positions[OTHER_CARBON]
        methyl = atoms[list(METHYL_HYDROGENS)]
        methyl.rotate(rng.uniform(0, 360), axis, center=atoms.positions[METHYL_CARBON])
        atoms.positions[list(METHYL_HYDROGENS)] = methyl.positions
        atoms.positions += rattle * rng.standard_normal(atoms.positions.shape)
        atoms.positions *= np.array([1, 1, -1]) ** k
        found.append(atoms.positions)
    return np.array(found)


def morse(positions, numbers=NUMBERS):
    """Energies (count,) eV and forces (count, N, 3) eV/Å: 1 eV deep at the sum of covalent radii."""
    radii = covalent_radii[numbers]
    vectors = positions[:, None, :, :] - positions[:, :, None, :]  # (count, i, j): r_j - r_i
    distances = np.linalg.norm(vectors, axis=-1) + np.eye(len(numbers))
    decay = np.exp(-1.2 * (distances - radii[:, None] - radii[None, :]))
    apart = 1 - np.eye(len(numbers))
    energies = 0.5 * (((1 - decay) ** 2 - 1) * apart).sum(axis=(1, 2))
    slopes = 2 * 1.2 * (1 - decay) * decay * apart / distances
    return energies, (slopes[..., None] * vectors).sum(axis=2)


if __name__ == "__main__":
    positions = geometries(N_TRAIN + 10)
    energies, forces = morse(positions)
    with atomic_path(Path(sys.argv[1])) as part, open(part, "wb") as file:
        np.savez_compressed(file, z=NUMBERS, R=positions, E=energies / KCAL_MOL, F=forces / KCAL_MOL)
