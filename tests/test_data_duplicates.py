"""The same structure twice is found however it was moved, rounded or sorted, and near ones are not taken for it."""

import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.io import read

from ase_mlcalc.data.duplicates import TOLERANCE_ANGSTROM, repeated
from ase_mlcalc.data.sets import water16


def shaken(atoms, seed=0, size=0.1):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=size, size=atoms.positions.shape)
    return atoms


def reordered(atoms, seed=3):
    return atoms[np.random.default_rng(seed).permutation(len(atoms))]


def wrapped(atoms):
    atoms = atoms.copy()
    atoms.translate([1.7, -0.4, 9.1])
    atoms.wrap()
    return atoms


def rounded(atoms):
    atoms = atoms.copy()
    atoms.positions = np.round(atoms.positions, 3)
    return atoms


def turned(atoms):
    atoms = atoms.copy()
    atoms.rotate(37, (1, 2, 3), rotate_cell=bool(atoms.pbc.any()))
    return atoms


def mirrored(atoms):
    atoms = atoms.copy()
    atoms.positions[:, 0] *= -1
    return atoms


STRUCTURES = {
    "molecule": molecule("CH3CH2OH"),
    "crystal": bulk("NaCl", "rocksalt", a=5.6, cubic=True),
    "slab": fcc111("Cu", (2, 2, 3), vacuum=6.0),
    "wire": Atoms("C4", [[0, 0, 0], [0.4, 0, 1.3], [0, 0.3, 2.6], [0, 0, 3.9]], cell=[0, 0, 5.2], pbc=[0, 0, 1]),
    "two atoms": bulk("Si"),
}


@pytest.mark.parametrize("change", [rounded, wrapped, reordered, turned], ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", STRUCTURES)
def test_it_is_the_same_structure(name, change):
    if (name, change) == ("wire", turned):
        pytest.skip("a cell vector alone does not say how a wire is turned")
    others = [shaken(STRUCTURES[name], seed) for seed in range(1, 6)]
    assert repeated(others, [change(others[3])]) == [(0, 3)]


def test_a_mirrored_molecule_has_the_same_energy():
    atoms = shaken(molecule("CH3CH2OH"))
    assert repeated([atoms], [mirrored(atoms)]) == [(0, 0)]


@pytest.mark.parametrize("name", STRUCTURES)
def test_one_atom_moved_by_little_makes_another_structure(name):
    atoms = shaken(STRUCTURES[name])
    near = atoms.copy()
    near.positions[1, 0] += 0.005
    assert 4 * TOLERANCE_ANGSTROM < 0.005
    assert repeated([atoms], [near]) == []


def test_other_cells_elements_and_boundaries_make_another_structure():
    atoms = shaken(bulk("NaCl", "rocksalt", a=5.6, cubic=True))
    strained = atoms.copy()
    strained.set_cell(atoms.cell.array * 1.002, scale_atoms=True)
    sheared = atoms.copy()
    sheared.set_cell(atoms.cell.array @ [[1, 0.002, 0], [0, 1, 0], [0, 0, 1]], scale_atoms=True)
    other = atoms.copy()
    other.numbers[other.numbers == 11] = 19
    open_ended = atoms.copy()
    open_ended.pbc = [True, True, False]
    assert repeated([atoms], [strained, sheared, other, open_ended, atoms[:-1]]) == []


def test_displacements_that_the_lowest_waves_of_a_supercell_do_not_see():
    """In a supercell all images move alike, so that structure factors of the large cell are blind to it."""
    cell = bulk("Si", cubic=True)
    one, other = (shaken(cell, seed).repeat(2) for seed in (1, 2))
    assert repeated([one], [other]) == []
    assert repeated([one, other], [wrapped(other)]) == [(0, 1)]


def test_isolated_and_empty_sets():
    assert repeated([], [Atoms("H")]) == []
    assert repeated([Atoms("H")], []) == []
    assert repeated([Atoms("O"), Atoms("H")], [Atoms("H", [[1.0, 2.0, 3.0]])]) == [(0, 1)]


def test_neighbours_in_time_are_not_repeats_and_it_is_fast():
    frames = read(water16("gfn1"), ":64")
    many = [shaken(frames[k % 64], seed=k, size=0.004) for k in range(2000)]  # as far as a step of dynamics takes them
    began = time.process_time()
    assert repeated(many, [*frames, wrapped(many[1234])]) == [(64, 1234)]
    assert time.process_time() - began < 8
