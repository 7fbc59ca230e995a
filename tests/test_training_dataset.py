"""Which structures are trained on and which are held back."""

import json

import pytest
import training_cases as cases

from ase_mlcalc.errors import DataError
from ase_mlcalc.training import dataset, written
from ase_mlcalc.training.config import DataConfig
from ase_mlcalc.training.evaluate import evaluate_files
from ase_mlcalc.training.train import train


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
def test_small_sets_hold_back_a_tenth_and_large_ones_a_twentieth(n_structures, held_back):
    assert dataset._held_back(n_structures) == held_back


def test_what_is_held_back_is_not_trained_on(tmp_path):
    file = cases.write(tmp_path / "many.extxyz", cases.clusters(40))
    data = dataset.load(DataConfig(train=(file,)))
    assert (len(data.train), len(data.validation)) == (36, 4)


def places(frames):
    return [frame.source for frame in frames]


def test_test_structures_are_the_same_for_every_size_and_draw(tmp_path):
    file = cases.write(tmp_path / "all.extxyz", [*cases.isolated_atoms(), *cases.clusters(20)])
    one = dataset.load(DataConfig(train=(file,), n_train=6, n_validation=4, n_test=5))
    other = dataset.load(DataConfig(train=(file,), n_train=6, n_validation=4, n_test=5, draw_seed=3))
    everything = dataset.load(DataConfig(train=(file,), n_validation=4, n_test=5))
    assert places(one.test) == places(other.test) == places(everything.test)
    assert places(one.validation) == places(other.validation)
    assert set(places(one.train)) != set(places(other.train))
    assert (len(one.test), len(everything.train)) == (5, 2 + 20 - 4 - 5)
    for data in (one, other, everything):
        assert not set(places(data.test)) & {*places(data.train), *places(data.validation)}
    file = cases.write(tmp_path / "test.extxyz", cases.clusters(7, seed=5))
    from_file = dataset.load(DataConfig(train=(tmp_path / "all.extxyz",), test=(file,), n_test=3))
    assert len(from_file.test) == 3
    assert all("test.extxyz" in source for source in places(from_file.test))
    assert len(from_file.train) == 2 + 18


def test_an_element_that_only_test_structures_have_is_named(tmp_path):
    argon = cases.write(tmp_path / "argon.extxyz", cases.crystals(4))
    mixed = cases.write(tmp_path / "mixed.extxyz", cases.clusters(3))
    with pytest.raises(DataError, match=r"test structure .*mixed\.extxyz\[\d\] holds Kr"):
        dataset.load(DataConfig(train=(argon,), test=(mixed,)))


def test_errors_on_test_structures_are_those_of_evaluate(tmp_path, monkeypatch):
    monkeypatch.setattr(written, "parity", lambda *_: None)
    monkeypatch.setattr(written, "learning_curves", lambda *_: None)
    data, held = cases.clusters(12), cases.clusters(5, seed=9)
    file, test = cases.write(tmp_path / "all.extxyz", data), cases.write(tmp_path / "test.extxyz", held)
    job = cases.make_job(tmp_path / "run", file, max_epochs=1)
    assert train(job, progress=False).test is None
    # test files may come later, and say nothing of how the run was made
    tested = job.model_copy(update={"data": job.data.model_copy(update={"test": (test,)})})
    result = train(tested, progress=False)
    expected = evaluate_files(result.checkpoint, [test], tmp_path / "out")
    assert result.test.force_mae_meV_per_A == pytest.approx(expected.force_mae_meV_per_A, rel=1e-5)
    assert result.test.force_mae_meV_per_A != pytest.approx(result.metrics.force_mae_meV_per_A, rel=1e-3)
    assert json.loads((job.output / "test.json").read_text())["n_structures"] == 5
