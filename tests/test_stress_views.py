"""Errors of per-atom stress by another definition, and with the kinetic part."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from ase_mlcalc import Derived, MLCalculator, save
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.model import lookup
from ase_mlcalc.stress import Binned, Grid, Stored, kinetic_stresses, local_stress, total_stresses
from ase_mlcalc.training.evaluate import evaluate_files


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


def test_stored_stresses_in_bins(silicon):
    frames = ase.io.read(silicon / "frames.traj", ":")
    field = local_stress(Binned(Grid((2, 1, 1))), Stored(), frames)
    expected = np.mean([atoms.get_stress()[0] for atoms in frames])
    assert field.stress.potential[..., 0].mean() == pytest.approx(expected)
    kinetic = np.mean([kinetic_stresses(atoms).sum(axis=0)[0] for atoms in frames])
    assert field.stress.total[..., 0].mean() == pytest.approx(expected + kinetic)
    assert np.ptp(field.stress.potential[..., 0]) > 0.1 * abs(expected)
