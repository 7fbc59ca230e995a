"""Which structures are trained on and which are held back."""

import ase.io
import pytest
import training_cases as cases
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ase_mlcalc.errors import DataError
from ase_mlcalc.training import dataset
from ase_mlcalc.training.config import DataConfig


def test_an_element_that_only_validation_has_is_named(tmp_path):
    argon = cases.write(tmp_path / "argon.extxyz", cases.crystals(4))
    mixed = cases.write(tmp_path / "mixed.extxyz", cases.clusters(3))
    with pytest.raises(DataError, match=r"mixed\.extxyz\[\d\] holds Kr, which no training structure has"):
        dataset.load(DataConfig(train=(argon,), validation=(mixed,)))
    kept = dataset.load(DataConfig(train=(mixed,), validation=(argon,)))
    assert (len(kept.train), len(kept.validation), kept.species) == (3, 4, [18, 36])


def test_isolated_atoms_are_trained_on_and_never_held_back(tmp_path):
    file = cases.write(tmp_path / "all.extxyz", [*cases.isolated_atoms(), *cases.clusters(10)])
    data = dataset.load(DataConfig(train=(file,), n_train=6, n_validation=4))
    assert [len(frame.atoms) for frame in data.train] == [1, 1, *[4] * 6]
    assert [len(frame.atoms) for frame in data.validation] == [4] * 4


@pytest.mark.parametrize(("n_structures", "held_back"), [(2, 1), (40, 4), (500, 50), (1000, 50), (4000, 200)])
def test_small_sets_hold_back_a_tenth_and_large_ones_a_twentieth(tmp_path, n_structures, held_back):
    one = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.8]])
    one.calc = SinglePointCalculator(one, energy=-0.01)
    ase.io.write(tmp_path / "many.traj", [one] * n_structures)
    data = dataset.load(DataConfig(train=(tmp_path / "many.traj",)))
    assert (len(data.train), len(data.validation)) == (n_structures - held_back, held_back)
