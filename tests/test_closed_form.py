"""Jobs of models in closed form: the same command and the same files as training in steps."""

import importlib.util
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.verlet import VelocityVerlet

from ase_mlcalc import MLCalculator, checkpoint, train
from ase_mlcalc.cli import main
from ase_mlcalc.config import validate
from ase_mlcalc.errors import ConfigError, DataError, StructureError
from ase_mlcalc.training import closed_form
from ase_mlcalc.training.config import TrainJob


def _oracle_script():
    path = Path(__file__).parent / "oracles" / "sgdml_oracle.py"
    spec = importlib.util.spec_from_file_location("sgdml_oracle", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = _oracle_script()
OFFSET_eV = -4000.0


def molecules(count, *, forces=True, energies=True):
    positions = oracle.geometries(count)
    found = []
    for r, e, f in zip(positions, *oracle.morse(positions), strict=True):
        atoms = Atoms(oracle.NUMBERS, r)
        labels = {"energy": e + OFFSET_eV} if energies else {}
        atoms.calc = SinglePointCalculator(atoms, **labels, **({"forces": f} if forces else {}))
        found.append(atoms)
    return found


def write(path, structures):
    ase.io.write(path, structures, format="extxyz")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "ethanol.extxyz", molecules(40))


def make_job(folder, file, *, model=None, train_keys=None, **data_keys):
    raw = {
        "output": folder,
        "data": {"train": [file], "n_validation": 8, **data_keys},
        "model": {"name": "sgdml", "sigma": [5, 20], **(model or {})},
        "train": train_keys or {},
    }
    return validate(TrainJob, raw, "test")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("closed") / "run"
    return folder, train(make_job(folder, data), progress=False)


def test_a_run_writes_what_every_run_writes(run):
    folder, result = run
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        "model.safetensors",
        "metrics.json",
        "config.toml",
        "parity.png",
    }
    assert result.stopped == "solved"
    assert 0 < result.metrics.force_mae_meV_per_A < 50
    assert result.metrics.n_structures == 8
    written = json.loads((folder / "metrics.json").read_text())
    assert written["force_mae_meV_per_A"] == result.metrics.force_mae_meV_per_A
    assert written["stopped"] == "solved"
    provenance = checkpoint.read_header(folder / "model.safetensors").provenance
    assert provenance["n_training_structures"] == 32
    assert provenance["job"]["model"]["numbers"] == oracle.NUMBERS.tolist()


def test_the_potential_has_the_energies_of_the_data(run):
    positions = oracle.geometries(50)[40:]
    calculator = MLCalculator(run[0] / "model.safetensors")
    energies, forces = oracle.morse(positions)
    predicted = [calculator.get_potential_energy(Atoms(oracle.NUMBERS, r)) for r in positions]
    assert np.abs(np.array(predicted) - energies - OFFSET_eV).max() < 0.05 * energies.std()
    error = calculator.get_forces(Atoms(oracle.NUMBERS, positions[0])) - forces[0]
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(forces[0])


def test_dynamics_conserve_energy(run):
    atoms = Atoms(oracle.NUMBERS, oracle.geometries(1)[0], calculator=MLCalculator(run[0] / "model.safetensors"))

    def fluctuation(timestep_fs):
        start = atoms.copy()
        start.calc = atoms.calc
        dynamics = VelocityVerlet(start, timestep_fs * units.fs)
        energies = []
        for _ in range(round(8 / timestep_fs)):
            dynamics.run(1)
            energies.append(start.get_total_energy())
        return np.std(energies)

    assert fluctuation(0.1) / fluctuation(0.05) == pytest.approx(4, abs=0.5)


def test_a_finished_run_is_left_as_it_is(run, data, capsys):
    folder, result = run
    before = (folder / "model.safetensors").read_bytes()
    again = train(make_job(folder, data))
    assert again == result
    assert "holds a finished run" in capsys.readouterr().out
    assert (folder / "model.safetensors").read_bytes() == before


def test_other_runs_in_the_folder_are_refused(run, data, tmp_path):
    folder, _ = run
    with pytest.raises(ConfigError, match=r"another configuration: model\.sigma \(was .*choose another output folder"):
        train(make_job(folder, data, model={"sigma": 7}), progress=False)
    other = write(tmp_path / "other.extxyz", molecules(39))
    job = make_job(tmp_path / "run", other)
    train(job, progress=False)
    write(other, molecules(38))
    with pytest.raises(ConfigError, match="run on other data"):
        train(job, progress=False)
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "training_state.pt").touch()
    with pytest.raises(ConfigError, match="trained in steps; choose another output folder"):
        train(make_job(tmp_path / "steps", data), progress=False)


def test_a_killed_run_starts_over(data, tmp_path):
    job = make_job(tmp_path / "run", data, model={"sigma": 20})
    first = train(job, progress=False)
    (tmp_path / "run" / "metrics.json").unlink()  # killed between the checkpoint and the metrics
    second = train(job, progress=False)
    assert second.metrics == first.metrics
    assert (tmp_path / "run" / "metrics.json").exists()


def test_the_configuration_that_is_written_is_the_job(run, data):
    folder, result = run
    text = (folder / "config.toml").read_text()
    assert "numbers = [6, 6, 8, 1, 1, 1, 1, 1, 1]" in text
    assert main(["train", str(folder / "config.toml")]) == 0
    assert json.loads((folder / "metrics.json").read_text())["minutes"] == result.minutes


def test_only_models_that_are_trained_in_steps_need_an_end(data, tmp_path):
    assert closed_form.wanted(make_job(tmp_path, data))
    with pytest.raises(ConfigError, match=r"give max_minutes .* or max_epochs"):
        validate(TrainJob, {"output": tmp_path, "data": {"train": [data]}, "model": {"name": "schnet"}}, "test")


def test_isolated_atoms_are_references(data, tmp_path):
    alone = []
    for symbol, energy in (("H", -13.0), ("C", -1030.0), ("O", -2000.0)):
        atoms = Atoms(symbol)
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        alone.append(atoms)
    file = write(tmp_path / "with_atoms.extxyz", alone + molecules(30))
    result = train(make_job(tmp_path / "run", file, model={"sigma": 20}), progress=False)
    potential = checkpoint.load(result.checkpoint)
    assert potential.baseline.species_energy == pytest.approx({1: -13.0, 6: -1030.0, 8: -2000.0})
    assert len(potential.model.points_md) == 22
    assert result.metrics.energy_mae_meV_per_atom < 50


def test_an_ensemble_of_bootstrap_samples(data, tmp_path):
    job = make_job(
        tmp_path / "run", data, model={"sigma": 20}, train_keys={"members": 2, "bootstrap": True}, n_train=20
    )
    result = train(job, progress=False)
    spread = checkpoint.load(result.checkpoint)
    assert len(spread.members) == 2
    assert result.metrics.force_mae_meV_per_A is not None


def test_what_is_wrong_with_the_data_is_said(data, tmp_path):
    swapped = molecules(6)
    swapped[4] = swapped[4][[0, 1, 3, 2, 4, 5, 6, 7, 8]]
    mixed = write(tmp_path / "mixed.extxyz", [*molecules(6), *swapped[4:5]])
    with pytest.raises(DataError, match=r"one composition in one order of atoms, C2 O H6, .* has C2 H O H5; sort"):
        train(make_job(tmp_path / "mixed", mixed, n_validation=2), progress=False)
    periodic = molecules(6)
    for atoms in periodic:
        atoms.set_cell([15, 15, 15])
        atoms.pbc = True
    boxes = write(tmp_path / "boxes.extxyz", periodic)
    with pytest.raises(StructureError, match=r"boxes\.extxyz\[\d\] is periodic .* set pbc to False"):
        train(make_job(tmp_path / "boxes", boxes, n_validation=2), progress=False)
    energies = write(tmp_path / "energies.extxyz", molecules(6, forces=False))
    with pytest.raises(DataError, match=r"solved on forces, and training structure 0 of 4 has none"):
        train(make_job(tmp_path / "energies", energies, n_validation=2), progress=False)
    with pytest.raises(ConfigError, match=r"may use 1e-06 GB"):
        train(make_job(tmp_path / "small", data, model={"max_memory_GB": 1e-6}), progress=False)
    with pytest.raises(ConfigError, match=r"train\.start_from is for models that are trained in steps"):
        train(make_job(tmp_path / "start", data, train_keys={"start_from": "model.safetensors"}), progress=False)
    with pytest.raises(ConfigError, match=r"did you mean 'sigma'"):
        train(make_job(tmp_path / "typo", data, model={"sigmas": 3}), progress=False)
    assert not list(tmp_path.glob("*/model.safetensors"))


def test_energies_are_not_needed(tmp_path):
    file = write(tmp_path / "forces.extxyz", molecules(20, energies=False))
    result = train(make_job(tmp_path / "run", file, model={"sigma": 20}), progress=False)
    assert result.metrics.energy_mae_meV_per_atom is None
    assert result.metrics.force_mae_meV_per_A > 0


def test_structures_without_forces_are_left_out(tmp_path, capsys):
    """NaN is a missing label here as in every training; the rest gives what it gives alone."""
    few, more = molecules(20), molecules(20)
    for atoms in molecules(25)[20:]:
        results = {"energy": atoms.get_potential_energy(), "forces": np.full((len(atoms), 3), np.nan)}
        atoms.calc = SinglePointCalculator(atoms, **results)
        more.append(atoms)
    held_back = write(tmp_path / "held_back.extxyz", molecules(30)[25:])
    keys = {"validation": [held_back], "n_validation": None, "model": {"sigma": 20}}
    alone, mixed = (
        train(make_job(tmp_path / name, write(tmp_path / f"{name}.extxyz", structures), **keys))
        for name, structures in (("alone", few), ("mixed", more))
    )
    assert "5 of 25 training structures have no forces and are left out" in capsys.readouterr().out
    assert mixed.metrics.force_mae_meV_per_A == pytest.approx(alone.metrics.force_mae_meV_per_A, rel=1e-3)
