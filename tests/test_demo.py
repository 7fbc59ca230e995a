"""The demo in its quick form: every step, stable names of its numbers, and failures that do not pass for success."""

import functools
import io
import json

import ase.io
import pytest
import training_cases as cases
from rich.console import Console

from ase_mlcalc import demo, potential
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.cli import main
from ase_mlcalc.config import apply_overrides, read_toml, validate
from ase_mlcalc.demo import QUICK, check_physics, run_demo
from ase_mlcalc.errors import ConfigError, DataError, MLCalcError
from ase_mlcalc.md import MDJob
from ase_mlcalc.report.overview import write_overview
from ase_mlcalc.training.config import TrainJob

PLAN = QUICK._replace(model={**QUICK.model, "cutoff": 5.0})
STABLE = {
    "checkpoint",
    "force_mae_meV_per_A",
    "energy_mae_meV_per_atom",
    "nve_drift_meV_per_atom_per_ps",
    "nve_drift_stderr",
    "train_minutes",
    "total_minutes",
}


def run(folder, data, plan=PLAN):
    console = Console(file=io.StringIO(), width=120)
    return run_demo(folder, plan=plan, data=data, console=console), console.file.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return cases.write(tmp_path_factory.mktemp("data") / "argon.extxyz", cases.crystals(20))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("demo")
    return folder, *run(folder, data)


def test_numbers_have_stable_names(finished):
    folder, summary, shown = finished
    numbers = json.loads((folder / "summary.json").read_text())
    assert numbers.keys() >= STABLE
    assert all(numbers[name] is not None for name in STABLE)
    assert (folder / "training" / "model.safetensors").samefile(numbers["checkpoint"])
    metrics = json.loads((folder / "training" / "metrics.json").read_text())
    assert numbers["force_mae_meV_per_A"] == metrics["force_mae_meV_per_A"]
    (stage,) = [s for s in json.loads((folder / "md" / "result.json").read_text())["stages"] if s["name"] == "nve"]
    assert numbers["nve_drift_meV_per_atom_per_ps"] == stage["drift"]["slope"]
    assert summary.total_minutes > summary.train_minutes
    assert "QUICK" in shown
    assert "mean nothing" in shown


def test_everything_is_written(finished):
    folder, _, _ = finished
    assert (folder / "md" / "report.html").stat().st_size > 10_000
    picture = (folder / "overview.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(ase.io.read(folder / "training" / "predictions.extxyz", ":")) == PLAN.n_validation


def test_the_laws_hold_and_have_a_signal(finished):
    _, summary, shown = finished
    assert len(summary.checks) == 3
    for check in summary.checks:
        assert check.passed
        assert check.signal > check.floor
    assert shown.count("holds") == 3


def test_its_configuration_files_are_those_of_train_and_md(finished):
    folder, _, _ = finished
    validate(TrainJob, read_toml(folder / "train.toml"), "train.toml")
    raw = apply_overrides(read_toml(folder / "md.toml"), [])
    assert [name for name, _ in validate(MDJob, raw, "md.toml").stages()] == ["nvt", "nve"]


def test_again_keeps_the_training_and_repeats_the_dynamics(finished, data, no_pictures):
    folder, summary, _ = finished
    state = (folder / "training" / "training_state.pt").stat().st_mtime_ns
    trajectory = (folder / "md" / "nve.traj").stat().st_mtime_ns
    again, _ = run(folder, data)
    assert (folder / "training" / "training_state.pt").stat().st_mtime_ns == state
    assert (folder / "md" / "nve.traj").stat().st_mtime_ns > trajectory
    assert again.nve_drift_meV_per_atom_per_ps == summary.nve_drift_meV_per_atom_per_ps


def test_another_plan_in_the_same_folder_is_refused_and_changes_nothing(finished, data):
    folder, _, _ = finished
    before = (folder / "train.toml").read_text()
    with pytest.raises(ConfigError, match=r"another configuration: .*train.max_epochs"):
        run(folder, data, PLAN._replace(max_epochs=3))
    assert (folder / "train.toml").read_text() == before
    assert (folder / "summary.json").exists()


def test_checks_notice_wrong_forces_and_wrong_stresses(finished, monkeypatch):
    folder, _, _ = finished
    model, atoms = folder / "training" / "model.safetensors", ase.io.read(folder / "start.extxyz")
    right = potential.edge_mechanics
    # by torch alone, which is where a mistake can be made here
    monkeypatch.setattr(demo, "MLCalculator", functools.partial(MLCalculator, compile=False))

    def outcome(change):
        monkeypatch.setattr(potential, "edge_mechanics", lambda graph, g_pc: change(*right(graph, g_pc)))
        return [check.passed for check in check_physics(model, atoms)]

    assert outcome(lambda forces, stresses: (forces, stresses)) == [True, True, True]
    assert outcome(lambda forces, stresses: (1.00001 * forces, stresses)) == [True, False, True]
    assert outcome(lambda forces, stresses: (forces, -stresses)) == [True, True, False]
    assert outcome(lambda forces, stresses: (0 * forces, 0 * stresses)) == [False, False, False]


def test_checks_notice_stresses_that_do_not_add_up(finished, monkeypatch):
    folder, _, _ = finished

    class Forgetful(MLCalculator):
        def calculate(self, *arguments):
            super().calculate(*arguments)
            self.results["stresses"][0] *= 0.999

    monkeypatch.setattr(demo, "MLCalculator", Forgetful)
    checks = check_physics(folder / "training" / "model.safetensors", ase.io.read(folder / "start.extxyz"))
    assert [check.passed for check in checks] == [False, True, True]


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(demo, "write_report", lambda folder: folder / "report.html")
    monkeypatch.setattr(demo, "write_overview", lambda *_, **__: None)


def test_a_law_that_fails_is_a_failure_after_the_numbers_are_written(finished, data, monkeypatch, no_pictures):
    folder, _, _ = finished
    broken = [
        demo.Check(name="forces are -dE/dr", error=0.5, allowed=1e-6, signal=1.0, floor=1e-3, unit="eV/Å")
    ]  # fmt: skip
    monkeypatch.setattr(demo, "check_physics", lambda *_: broken)
    with pytest.raises(MLCalcError, match=r"forces are -dE/dr: 5\.0e-01 of 1 eV/Å, allowed 1e-06"):
        run(folder, data)
    (check,) = json.loads((folder / "summary.json").read_text())["checks"]
    assert check["passed"] is False


def test_dynamics_that_explode_are_a_failure_without_a_drift(finished, data, monkeypatch, no_pictures):
    folder, _, _ = finished
    right = demo._md_job

    def hot(*arguments):
        job = right(*arguments)
        stages = tuple(stage.model_copy(update={"temperature_K": 1.0, "max_temperature_K": 1.5}) for stage in job.md)
        return job.model_copy(update={"md": stages})

    monkeypatch.setattr(demo, "_md_job", hot)
    with pytest.raises(MLCalcError, match="temperature exploded"):
        run(folder, data)
    numbers = json.loads((folder / "summary.json").read_text())
    assert numbers["nve_drift_meV_per_atom_per_ps"] is None
    assert numbers["overview"] is None
    assert numbers["md_outcome"] == "EXPLODED"


def test_an_overview_of_a_stage_that_is_not_there(finished, tmp_path):
    folder, _, _ = finished
    with pytest.raises(DataError, match="no stage 'npt'"):
        write_overview(
            tmp_path / "o.png",
            predictions=folder / "training" / "predictions.extxyz",
            log=folder / "training" / "log.csv",
            run_folder=folder / "md",
            stage="npt",
        )


@pytest.mark.slow
def test_the_command_on_the_water_that_comes_with_the_package(tmp_path, capsys):
    assert main(["demo", "--quick", "--out", str(tmp_path / "out")]) == 0
    assert "16 training structures, 4 for validation" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["meaningful"] is False
