"""Errors of per-atom stress by another definition, and with the kinetic part."""

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from ase_mlcalc import Derived, MLCalculator, save
from ase_mlcalc.cli import main
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.model import lookup
from ase_mlcalc.stress import Binned, Grid, Stored, kinetic_stresses, local_stress, total_stresses
from ase_mlcalc.training import evaluate
from ase_mlcalc.training.evaluate import evaluate_files
from ase_mlcalc.training.stress_views import SplitBy


@pytest.fixture(scope="module")
def silicon(tmp_path_factory):
    """A checkpoint of Stillinger-Weber silicon, and crystals labelled by its definition ``center``."""
    folder = tmp_path_factory.mktemp("silicon")
    model_class = lookup("stillinger_weber")
    model = model_class(model_class.Config())
    save(Derived(model), folder / "model.safetensors")
    calc = MLCalculator(model, stress_definition="center")
    frames = []
    for seed in range(3):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.15, seed=seed)
        atoms.set_velocities(0.2 * np.random.default_rng(seed).standard_normal((len(atoms), 3)))
        labels = {name: calc.get_property(name, atoms) for name in ("energy", "stress", "stresses")}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    ase.io.write(folder / "frames.traj", frames)
    for atoms in frames:
        del atoms.arrays["momenta"]
    ase.io.write(folder / "still.traj", frames)
    return folder


def test_a_definition_is_compared_with_labels_of_the_same(silicon, tmp_path):
    def r2(definition):
        return evaluate_files(
            silicon / "model.safetensors", [silicon / "frames.traj"], tmp_path, definition=definition
        ).stresses_r2

    assert r2("center") == pytest.approx(1.0, abs=1e-12)
    assert r2("edge") == pytest.approx(r2(None), abs=1e-12)
    assert 0.5 < r2("edge") < 0.999
    with pytest.raises(ConfigError, match="one of edge"):
        r2("middle")


def test_labels_say_by_which_definition_they_are_measured(silicon, tmp_path):
    def measured(*names, definition=None):
        frames = ase.io.read(silicon / "frames.traj", f":{len(names)}")
        for atoms, name in zip(frames, names, strict=True):
            atoms.info["stress_definition"] = name
        ase.io.write(tmp_path / "named.traj", frames)
        metrics = evaluate_files(
            silicon / "model.safetensors", [tmp_path / "named.traj"], tmp_path, definition=definition
        )
        return metrics.stresses_r2, json.loads((tmp_path / "metrics.json").read_text())["stress_definition"]

    assert measured("center", "center") == (pytest.approx(1.0, abs=1e-12), "center")
    r2, definition = measured("center", "center", definition="edge")
    assert (r2 < 0.999, definition) == (True, "edge")
    assert measured("that of another program", "that of another program")[1] == "edge"
    for asked in (None, "center"):
        with pytest.raises(DataError, match=r"several definitions, center \(2\), heat \(1\).*--key stresses=none"):
            measured("center", "center", "heat", definition=asked)


@pytest.mark.parametrize(("name", "said"), [("center", True), ("edge", False), ("in words", False)])
def test_a_definition_that_was_taken_from_labels_is_told(silicon, tmp_path, capsys, name, said):
    atoms = ase.io.read(silicon / "frames.traj")
    atoms.info["stress_definition"] = name
    ase.io.write(tmp_path / "named.traj", atoms)
    words = ["evaluate", silicon / "model.safetensors", tmp_path / "named.traj", "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    assert (f"by definition {name}, which the labels name" in capsys.readouterr().out) == said


def test_labels_of_a_definition_that_the_model_lacks_are_refused(tmp_path):
    model_class = lookup("schnet")
    save(Derived(model_class(model_class.Config(species=(14,), features=8))), tmp_path / "model.safetensors")
    atoms = bulk("Si", cubic=True)
    atoms.info["stress_definition"] = "cluster"
    atoms.calc = SinglePointCalculator(atoms, stresses=np.ones((8, 6)))
    ase.io.write(tmp_path / "frames.traj", atoms)
    with pytest.raises(DataError, match=r"'cluster', which the model cannot give .*--definition edge"):
        evaluate_files(tmp_path / "model.safetensors", [tmp_path / "frames.traj"], tmp_path)
    given = evaluate_files(tmp_path / "model.safetensors", [tmp_path / "frames.traj"], tmp_path, definition="edge")
    assert given.n_structures == 1


def test_kinetic_part_changes_what_errors_are_relative_to(silicon, tmp_path):
    model, files = silicon / "model.safetensors", [silicon / "frames.traj"]
    potential = evaluate_files(model, files, tmp_path)
    total = evaluate_files(model, files, tmp_path, kinetic=True)
    assert total.stresses_mae_GPa == pytest.approx(potential.stresses_mae_GPa, rel=1e-9)
    assert total.stress_mae_GPa == pytest.approx(potential.stress_mae_GPa, abs=1e-12)
    frames = ase.io.read(files[0], ":")
    calc = MLCalculator(model)
    error = np.concatenate([calc.get_property("stresses", atoms) - atoms.get_stresses() for atoms in frames])
    label = np.concatenate([total_stresses(atoms) for atoms in frames])
    r2 = 1 - (error**2).mean(axis=0) / label.var(axis=0)
    np.testing.assert_allclose([one.r2 for one in total.stresses_components.values()], r2, rtol=1e-9)
    assert list(total.stresses_components) == ["xx", "yy", "zz", "yz", "xz", "xy"]
    assert total.stresses_r2 == pytest.approx(r2.mean())
    assert abs(total.stresses_r2 - potential.stresses_r2) > 1e-3
    with pytest.raises(DataError, match="no structure has momenta"):
        evaluate_files(model, [silicon / "still.traj"], tmp_path, kinetic=True)


def test_the_picture_shows_what_was_measured(silicon, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(evaluate, "parity", lambda path, comparison: drawn.update({path.parent.name: comparison}))
    model, files = silicon / "model.safetensors", [silicon / "frames.traj"]
    for name, kinetic in (("potential", False), ("total", True)):
        evaluate_files(model, files, tmp_path / name, kinetic=kinetic, predictions=True)
    frames = ase.io.read(files[0], ":")
    for name, stresses in (("potential", Atoms.get_stresses), ("total", total_stresses)):
        expected = np.concatenate([stresses(atoms) for atoms in frames])
        labels = full_3x3_to_voigt_6_stress(drawn[name].labels.stresses.numpy())
        np.testing.assert_allclose(labels, expected, atol=1e-12)
    written = [ase.io.read(tmp_path / name / "predictions.extxyz").get_stress() for name in ("potential", "total")]
    np.testing.assert_array_equal(*written)


def test_structures_without_volume_have_no_kinetic_part(silicon, tmp_path):
    model, files = silicon / "model.safetensors", [silicon / "frames.traj"]
    cluster = ase.io.read(files[0])
    energy = cluster.get_potential_energy()
    cluster.set_cell(None)
    cluster.pbc = False
    cluster.calc = SinglePointCalculator(cluster, energy=energy)
    ase.io.write(tmp_path / "cluster.traj", cluster)
    both = evaluate_files(model, [*files, tmp_path / "cluster.traj"], tmp_path, kinetic=True)
    alone = evaluate_files(model, files, tmp_path, kinetic=True)
    assert both.n_structures == 4
    assert both.stresses_r2 == pytest.approx(alone.stresses_r2, rel=1e-12)


@pytest.mark.parametrize("volume", [0.0, 1e-11])
def test_every_definition_has_the_same_smallest_volume(volume):
    model_class = lookup("stillinger_weber")
    potential = Derived(model_class(model_class.Config()))
    atoms = molecule("Si2H6")[:2]
    atoms.set_cell(np.cbrt(volume) * np.eye(3))
    graph = from_atoms(atoms, potential.cutoff)
    for view in (potential, SplitBy(potential, "edge"), SplitBy(potential, "center")):
        assert view(graph).stresses.isnan().all()


def test_stored_stresses_in_bins(silicon):
    frames = ase.io.read(silicon / "frames.traj", ":")
    field = local_stress(Binned(Grid((2, 1, 1))), Stored(), frames)
    expected = np.mean([atoms.get_stress()[0] for atoms in frames])
    assert field.stress.potential[..., 0].mean() == pytest.approx(expected)
    kinetic = np.mean([kinetic_stresses(atoms).sum(axis=0)[0] for atoms in frames])
    assert field.stress.total[..., 0].mean() == pytest.approx(expected + kinetic)
    assert np.ptp(field.stress.potential[..., 0]) > 0.1 * abs(expected)
