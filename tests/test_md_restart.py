"""Runs that are killed go on as if nothing had happened: bit by bit, for every integrator."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.io import ulm

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import ConfigError, DataError, MLCalcError
from ase_mlcalc.files import exclusive
from ase_mlcalc.md import (
    MDConfig,
    Outcome,
    clear_run,
    evidence,
    read_results,
    read_thermo,
    read_trajectory,
    run_md,
)
from ase_mlcalc.md import run as md_run
from ase_mlcalc.md.ensembles import integrator
from ase_mlcalc.md.monitors import MonitorsConfig, Setting, Snapshot
from ase_mlcalc.md.monitors.fragments import Fragments
from ase_mlcalc.md.restart import checkpoint_path, load_checkpoint
from ase_mlcalc.md.thermo import COLUMNS, ThermoFile
from ase_mlcalc.model import lookup

INTEGRATORS = {
    "verlet": {"ensemble": "nve"},
    "langevin": {"ensemble": "nvt", "thermostat": "langevin"},
    "bussi": {"ensemble": "nvt", "thermostat": "bussi"},
    "nose-hoover": {"ensemble": "nvt", "thermostat": "nose-hoover"},
    "npt": {"ensemble": "npt", "pressure_GPa": 0.1},
    "npt-free": {"ensemble": "npt", "cell_shape": "free"},
    "ramp": {"ensemble": "npt", "temperature_end_K": 80},
    "always": {"ensemble": "nvt", "thermostat": "nose-hoover", "rigid_motion": "removed-always"},
}


def argon():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True) * 2
    model_class = lookup("lennard_jones")
    atoms.calc = MLCalculator(model_class(model_class.Config(sigma=3.4, epsilon=0.0104, cutoff=6.0)), skin=0.3)
    return atoms


def moving_argon():
    atoms = argon()
    atoms.set_velocities(np.ones((len(atoms), 3)))
    return atoms


def config(name, **changes):
    return MDConfig(
        temperature_K=40, timestep_fs=4, time_ps=0.3, thermo_every_fs=8, frames_every_fs=24, checkpoint_every_fs=60,
        stresses_every_fs=120, stress_series_every_fs=12, thermostat_time_fs=80, barostat_time_fs=300,
    ).model_copy(update=INTEGRATORS[name] | changes)  # fmt: skip


def record(folder):
    """Everything that a run wrote and that does not depend on the clock, to the last bit."""
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("*.csv"))}
    for frame in read_trajectory(folder / "md.traj"):
        step = frame.info["step"]
        values = [frame.positions, frame.get_momenta(), np.asarray(frame.cell)]
        values += [np.asarray(value) for _, value in sorted(frame.calc.results.items())] if frame.calc else []
        assert step not in files, "a frame is there twice"
        files[step] = b"".join(value.tobytes() for value in values)
    (result,) = json.loads((folder / "result.json").read_text())["stages"]
    clock = ("wall_seconds", "ms_per_step", "ns_per_day", "provenance", "restarts")
    return files | {"result": {key: value for key, value in result.items() if key not in clock}}


class Killed(BaseException):
    """Like SIGKILL: nothing of the run's own code sees it."""


def run_and_kill(folder, settings, calls):
    """Run until the potential is asked for the calls-th time, then drop everything on the floor."""
    atoms = argon()
    evaluate = atoms.calc.potential
    left = calls

    class Fragile(type(evaluate)):
        def __call__(self, graph):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return super().__call__(graph)

    atoms.calc.potential = Fragile(evaluate.model, evaluate.baseline)
    atoms.calc.potential.__class__.__qualname__ = type(evaluate).__qualname__
    with pytest.raises(Killed):
        run_md(atoms, settings, folder, progress=False)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_killed_run_goes_on_bit_by_bit(tmp_path, name):
    settings = config(name)
    whole = argon()
    run_md(whole, settings, tmp_path / "whole", progress=False)
    expected = record(tmp_path / "whole")
    assert len(expected) > 15
    for calls in (3, 21, 47):
        run_and_kill(tmp_path / "cut", settings, calls)
    atoms = argon()
    result = run_md(atoms, settings, tmp_path / "cut", progress=False)
    assert result.restarts == 3
    assert record(tmp_path / "cut") == expected
    assert np.array_equal(atoms.positions, whole.positions)
    assert np.array_equal(atoms.cell, whole.cell)


def test_the_history_of_the_calculator_is_no_part_of_the_run(tmp_path):
    # without a reset the pairs of a list that was made elsewhere would be summed in another order
    settings = config("verlet")
    run_md(argon(), settings, tmp_path / "fresh", progress=False)
    used = argon()
    start = used.positions.copy()
    used.rattle(0.12, seed=3)
    used.get_forces()
    used.positions = start
    run_md(used, settings, tmp_path / "used", progress=False)
    assert record(tmp_path / "fresh") == record(tmp_path / "used")


def test_integrators_remember_what_they_must(tmp_path):
    # the check above would pass if a state were lost that has no effect: each one has
    for name, forgotten in (("langevin", "rng"), ("bussi", "rng"), ("nose-hoover", "p_eta"), ("npt", "_p_eps")):
        settings = config(name)
        folder = tmp_path / name
        run_md(argon(), settings, folder / "whole", progress=False)
        run_and_kill(folder / "cut", settings, 47)
        path = checkpoint_path(folder / "cut", "md")
        with np.load(path) as stored:
            arrays = dict(stored)
        key = f"integrator/{forgotten}"
        fresh = np.random.default_rng(5).bit_generator.state
        blank = np.frombuffer(json.dumps(fresh).encode(), np.uint8) if forgotten == "rng" else 0 * arrays[key]
        np.savez(path, **(arrays | {key: blank}))
        run_md(argon(), settings, folder / "cut", progress=False)
        assert record(folder / "cut") != record(folder / "whole"), name


@pytest.mark.parametrize("name", ["nose-hoover", "npt", "npt-free", "bussi", "langevin"])
def test_a_restored_integrator_is_the_same_to_the_last_bit(name):
    # at temperatures at which (mass / kT) kT is not the mass: a run once differed there by its last digit
    for temperature in np.linspace(30.3, 1211.7, 60):
        settings = config(name, temperature_K=float(temperature))
        fresh, restored = (integrator(moving_argon(), settings) for _ in range(2))
        restored.restore(fresh.state())
        for part in ("_thermostat", "_barostat"):
            for mass in ("_Q", "_W", "_R", "_kT"):
                before = getattr(getattr(fresh.dynamics, part, None), mass, 0.0)
                after = getattr(getattr(restored.dynamics, part, None), mass, 0.0)
                assert np.array_equal(before, after), (part, mass, temperature)


def test_what_cannot_go_on_is_refused(tmp_path):
    settings = config("langevin")
    run_and_kill(tmp_path, settings, 47)
    with pytest.raises(ConfigError, match=r"md\.friction_per_ps \(was 10\.0, now 5\.0\)"):
        run_md(argon(), settings.model_copy(update={"friction_per_ps": 5.0}), tmp_path, progress=False)
    other = argon()
    model_class = lookup("lennard_jones")
    other.calc = MLCalculator(model_class(model_class.Config(sigma=3.3, epsilon=0.0104, cutoff=6.0)))
    with pytest.raises(ConfigError, match=r"calculator\.sha256"):
        run_md(other, settings, tmp_path, progress=False)
    path = checkpoint_path(tmp_path, "md")
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no zip"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="not a checkpoint"):
            run_md(argon(), settings, tmp_path, progress=False)
    path.write_bytes(content)
    (tmp_path / "thermo.csv").write_text("")
    with pytest.raises(DataError, match="at the checkpoint"):
        run_md(argon(), settings, tmp_path, progress=False)
    clear_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def interrupt_at_call(atoms, n):
    """Let the n-th calculation of a structure end as by Ctrl-C."""
    calculate, calls = atoms.calc.calculate, []

    def impatient(*args, **kwargs):
        calls.append(1)
        if len(calls) == n:
            raise KeyboardInterrupt
        calculate(*args, **kwargs)

    atoms.calc.calculate = impatient


def test_ctrl_c_and_on(tmp_path):
    settings = config("bussi")
    run_md(argon(), settings, tmp_path / "whole", progress=False)
    atoms = argon()
    interrupt_at_call(atoms, 40)
    with pytest.raises(KeyboardInterrupt):
        run_md(atoms, settings, tmp_path / "cut", progress=False)
    assert read_results(tmp_path / "cut")[0].outcome is Outcome.INTERRUPTED
    run_md(argon(), settings, tmp_path / "cut", progress=False)
    assert record(tmp_path / "cut") == record(tmp_path / "whole")


@pytest.mark.parametrize("n", [1, 12, 20, 21])  # at the start and in the midst of later frames
def test_ctrl_c_in_the_midst_of_writing_waits_for_its_end(tmp_path, monkeypatch, n):
    settings = config("bussi")
    run_md(argon(), settings, tmp_path / "whole", progress=False)
    fill, calls = ulm.Writer.fill, []

    def interrupted(self, array):
        calls.append(1)
        if len(calls) == n:
            signal.raise_signal(signal.SIGINT)
        fill(self, array)

    monkeypatch.setattr(ulm.Writer, "fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_md(argon(), settings, tmp_path / "cut", progress=False)
    assert read_results(tmp_path / "cut")[0].outcome is Outcome.INTERRUPTED
    monkeypatch.undo()
    frames = [frame.info["step"] for frame in read_trajectory(tmp_path / "cut" / "md.traj")]
    assert frames == sorted(set(frames))
    run_md(argon(), settings, tmp_path / "cut", progress=False)
    assert record(tmp_path / "cut") == record(tmp_path / "whole")


NO_SPACE = OSError(28, "No space left on device")


def fail_at(monkeypatch, owner, method, n, error=NO_SPACE):
    """Let the n-th call of a method fail."""
    calls, works = [], getattr(owner, method)

    def fails(*args, **kwargs):
        calls.append(1)
        if len(calls) == n:
            raise error
        return works(*args, **kwargs)

    monkeypatch.setattr(owner, method, fails)


@pytest.mark.parametrize(("owner", "method", "n", "error"), [
    (ThermoFile, "write", 25, NO_SPACE),
    (Path, "write_bytes", 3, NO_SPACE),
    (ulm.Writer, "fill", 21, OSError("96 requested and 0 written")),
    (Path, "write_text", 2, NO_SPACE),
], ids=["thermo", "checkpoint", "trajectory by numpy", "result"])  # fmt: skip
def test_a_full_disk_stops_cleanly_and_the_run_goes_on(tmp_path, monkeypatch, owner, method, n, error):
    settings = config("langevin")
    run_md(argon(), settings, tmp_path / "whole", progress=False)
    fail_at(monkeypatch, owner, method, n, error)
    with pytest.raises(MLCalcError, match="disk is full"):
        run_md(argon(), settings, tmp_path / "cut", progress=False)
    (stopped,) = read_results(tmp_path / "cut")
    assert stopped.outcome is Outcome.DISK_FULL
    assert stopped.steps_done > 20
    monkeypatch.undo()
    run_md(argon(), settings, tmp_path / "cut", progress=False)
    assert record(tmp_path / "cut") == record(tmp_path / "whole")


def test_how_a_run_failed_is_told_though_its_last_structures_cannot_be_written(tmp_path, monkeypatch):
    fail_at(monkeypatch, evidence, "write", 1)
    ended = run_md(argon(), config("langevin", max_temperature_K=43.0), tmp_path, progress=False)
    assert ended.outcome is Outcome.EXPLODED
    assert re.search(r"[\d.]+ K at step \d+; cannot write .*md-failure\.extxyz: No space left", ended.detail)
    assert read_results(tmp_path) == [ended]
    assert not list(tmp_path.glob("md-failure*"))


@pytest.mark.parametrize("name", sorted(INTEGRATORS.keys() - {"ramp"}))
def test_a_longer_run_goes_on_behind_its_end_bit_by_bit(tmp_path, name):
    whole = argon()
    run_md(whole, config(name), tmp_path / "whole", progress=False)
    short = run_md(argon(), config(name, time_ps=0.12), tmp_path / "grown", progress=False)
    assert short.completed
    assert len(record(tmp_path / "grown")) < len(record(tmp_path / "whole"))
    run_and_kill(tmp_path / "grown", config(name), 25)  # and killed on its way
    atoms = argon()
    result = run_md(atoms, config(name), tmp_path / "grown", progress=False)
    assert result.completed
    assert result.steps_done == result.config.steps == 75
    assert record(tmp_path / "grown") == record(tmp_path / "whole")
    assert np.array_equal(atoms.positions, whole.positions)
    assert run_md(argon(), config(name), tmp_path / "grown", progress=False).restarts == result.restarts


def test_a_longer_run_has_each_row_once_wherever_the_shorter_ended(tmp_path):
    for steps in (17, 18, 40, 75):
        result = run_md(argon(), config("bussi", time_ps=0.004 * steps), tmp_path, progress=False)
        rows = read_thermo(tmp_path / "thermo.csv")["md"]["step"].tolist()
        assert rows == sorted({*range(0, steps, 2), steps})
        frames = [frame.info["step"] for frame in read_trajectory(tmp_path / "md.traj")]
        assert frames == sorted({*range(0, steps, 6), steps})
        assert result.time_ps == pytest.approx(0.004 * steps)


def test_a_run_that_is_part_of_others_does_not_get_longer(tmp_path):
    first = run_md(argon(), config("langevin"), tmp_path, name="first", progress=False)
    assert checkpoint_path(tmp_path, "first").exists()
    atoms = argon()
    run_md(atoms, first.config, tmp_path, name="first", progress=False)
    run_md(atoms, config("verlet", initial_velocities="keep"), tmp_path, name="second", progress=False)
    assert not checkpoint_path(tmp_path, "first").exists()  # of no use any more
    before = record_files(tmp_path)
    with pytest.raises(
        ConfigError, match=r"'first' .* from md\.time_ps = 0\.3 to 0\.6: the stage 'second' started from"
    ):
        run_md(argon(), config("langevin", time_ps=0.6), tmp_path, name="first", progress=False)
    checkpoint_path(tmp_path, "second").unlink()
    with pytest.raises(ConfigError, match="last checkpoint is not there"):
        run_md(atoms_at_the_end_of(tmp_path, first), config("verlet", initial_velocities="keep", time_ps=0.6), tmp_path,
               name="second", progress=False)  # fmt: skip
    assert record_files(tmp_path) == {name: text for name, text in before.items() if "checkpoint" not in name}


def test_a_run_whose_end_is_part_of_what_it_does_does_not_get_longer(tmp_path):
    for name, changes in (("ramp", {}), ("langevin", {"settle_within_percent": 99.0})):
        settings = config(name, **changes)
        run_md(argon(), settings, tmp_path / name, progress=False)
        with pytest.raises(ConfigError, match="depends on its length"):
            run_md(argon(), settings.model_copy(update={"time_ps": 0.6}), tmp_path / name, progress=False)
    with pytest.raises(ConfigError, match=r"md\.time_ps \(was 0\.3, now 0\.2\)"):
        run_md(argon(), config("ramp", time_ps=0.2), tmp_path / "ramp", progress=False)


def test_a_run_that_failed_has_no_sequel(tmp_path):
    hot = config("langevin", max_temperature_K=43.0)
    ended = run_md(argon(), hot, tmp_path, progress=False)
    assert ended.outcome is Outcome.EXPLODED
    again = run_md(argon(), hot.model_copy(update={"time_ps": 9.0}), tmp_path, progress=False)
    assert (again.outcome, again.steps_done) == (ended.outcome, ended.steps_done)


def record_files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def atoms_at_the_end_of(folder, stage):
    atoms = argon()
    run_md(atoms, stage.config, folder, name=stage.name, progress=False)
    return atoms


def test_a_stage_waits_for_the_end_of_those_before_it(tmp_path):
    whole = argon()
    run_md(whole, config("langevin"), tmp_path / "whole", progress=False)
    run_and_kill(tmp_path / "cut", config("langevin"), 47)
    before = record_files(tmp_path / "cut")
    second = config("verlet", initial_velocities="keep", time_ps=0.02)
    with pytest.raises(ConfigError, match="'md' that is RUNNING and not at its end, so that 'second' cannot run there"):
        run_md(moving_argon(), second, tmp_path / "cut", name="second", progress=False)
    assert record_files(tmp_path / "cut") == before
    atoms = argon()
    run_md(atoms, config("langevin"), tmp_path / "cut", progress=False)
    assert record(tmp_path / "cut") == record(tmp_path / "whole")
    assert run_md(atoms, second, tmp_path / "cut", name="second", progress=False).completed


@pytest.mark.parametrize("name", ["md", "stage"])  # the header begins with this word
def test_a_stage_that_lost_its_checkpoint_begins_anew_without_its_rows(tmp_path, name):
    for folder in (tmp_path / "whole", tmp_path / "cut"):
        first = run_md(argon(), config("langevin", time_ps=0.04), folder, name="first", progress=False)
    keep = config("verlet", initial_velocities="keep")
    run_md(atoms_at_the_end_of(tmp_path / "whole", first), keep, tmp_path / "whole", name=name, progress=False)
    atoms = atoms_at_the_end_of(tmp_path / "cut", first)
    interrupt_at_call(atoms, 40)
    with pytest.raises(KeyboardInterrupt):
        run_md(atoms, keep, tmp_path / "cut", name=name, progress=False)
    assert len(read_thermo(tmp_path / "cut" / "thermo.csv")[name]["step"]) > 5
    checkpoint_path(tmp_path / "cut", name).unlink()
    run_md(atoms_at_the_end_of(tmp_path / "cut", first), keep, tmp_path / "cut", name=name, progress=False)
    thermo = (tmp_path / "whole" / "thermo.csv").read_bytes()
    assert (tmp_path / "cut" / "thermo.csv").read_bytes() == thermo


def test_half_a_header_of_a_full_disk_is_written_anew(tmp_path):
    (tmp_path / "thermo.csv").write_text("stage,st")
    run_md(argon(), config("verlet", time_ps=0.02), tmp_path, progress=False)
    assert (tmp_path / "thermo.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


@pytest.mark.parametrize("during", ["check_start", "make_folder"])  # make_folder: just before the lock
def test_a_run_that_another_process_ended_in_the_meantime_is_not_made_again(tmp_path, monkeypatch, during):
    settings = config("bussi")
    run_and_kill(tmp_path, settings, 47)
    does, ended = getattr(md_run, during), []

    def slow(*args):
        does(*args)
        if not ended:
            ended.append(None)
            ended[0] = run_md(argon(), settings, tmp_path, progress=False), record_files(tmp_path)

    monkeypatch.setattr(md_run, during, slow)
    atoms = argon()
    result = run_md(atoms, settings, tmp_path, progress=False)
    assert (result, record_files(tmp_path)) == ended[0]
    *_, last = read_trajectory(tmp_path / "md.traj")
    assert np.array_equal(atoms.positions, last.positions)


def test_what_a_monitor_waits_to_report_is_known_after_a_restart():
    methane = molecule("CH4")
    watching, restored = (Fragments(MonitorsConfig().fragments, Setting(methane)) for _ in range(2))
    broken = methane.copy()
    broken.positions[1] *= 3.2
    assert watching.look(Snapshot(broken, number=1, step=2, time_ps=0.001)) is None, "it has to last"
    restored.restore(watching.state())
    assert watching.pending() is not None
    assert restored.pending() == watching.pending()
    restored.look(Snapshot(methane, number=2, step=4, time_ps=0.002))
    assert restored.pending() is None
    watching.restore(restored.state())
    assert watching.pending() is None


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    with exclusive(tmp_path), pytest.raises(ConfigError, match="another process"):
        run_md(argon(), config("verlet"), tmp_path, progress=False)


def lennard_jones():
    return LennardJones(sigma=2.2, epsilon=0.3, rc=5.0)


@pytest.mark.parametrize(
    "make", [EMT, lennard_jones, lambda: SumCalculator([EMT(), lennard_jones()])], ids=["emt", "lj", "sum"]
)
def test_foreign_calculators_go_on_bit_by_bit_too(tmp_path, make):
    def copper():
        atoms = bulk("Cu", cubic=True) * 2
        atoms.calc = make()
        return atoms

    settings = MDConfig(temperature_K=600, timestep_fs=2, time_ps=0.3, checkpoint_every_fs=50, frames_every_fs=20)
    run_md(copper(), settings, tmp_path / "whole", progress=False)
    atoms = copper()
    calculate, calls = atoms.calc.calculate, []

    def fragile(*args, **kwargs):
        calls.append(1)
        if len(calls) > 88:
            raise Killed
        calculate(*args, **kwargs)

    atoms.calc.calculate = fragile
    with pytest.raises(Killed):
        run_md(atoms, settings, tmp_path / "cut", progress=False)
    assert load_checkpoint(checkpoint_path(tmp_path / "cut", "md")).step == 75
    run_md(copper(), settings, tmp_path / "cut", progress=False)
    assert record(tmp_path / "cut") == record(tmp_path / "whole")


SCRIPT = """
from ase.build import bulk
from ase.calculators.emt import EMT
from ase_mlcalc.md import MDConfig, run_md
atoms = bulk("Cu", cubic=True) * 2
atoms.calc = EMT()
config = MDConfig(temperature_K=600, timestep_fs=2, time_ps={time_ps}, checkpoint_every_fs=20, frames_every_fs=6,
                  stresses_every_fs=0, **{changes!r})
print("ready", flush=True)
run_md(atoms, config, {folder!r}, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["verlet", "langevin", "bussi", "nose-hoover", "npt"])
def test_sigkill_at_random_moments(tmp_path, name):
    """Twenty kills at random moments; whatever was being written, the whole run comes out."""
    rng = np.random.default_rng(list(name.encode()))
    kills = 20

    def start(folder):
        script = SCRIPT.format(time_ps=1.5, changes=INTEGRATORS[name], folder=str(folder))
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", textwrap.dedent(script)],
            stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        with process.stdout as said:
            assert said.readline() == b"ready\n"
        return process

    begun = time.perf_counter()
    assert start(tmp_path / "whole").wait() == 0
    whole_seconds = time.perf_counter() - begun
    killed = 0
    while killed < kills:
        process = start(tmp_path / "cut")
        time.sleep(rng.uniform(0.0, 2.0 * whole_seconds / kills))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        if process.returncode == 0:  # it came to its end: begin anew
            assert record(tmp_path / "cut") == record(tmp_path / "whole")
            clear_run(tmp_path / "cut")
    assert start(tmp_path / "cut").wait() == 0
    assert record(tmp_path / "cut") == record(tmp_path / "whole")


def test_calculators_with_endless_parameters_are_known_again(tmp_path):
    results = []
    for _ in range(2):
        atoms = bulk("Cu", cubic=True)
        atoms.calc = EMT()
        atoms.calc.parameters["limit"] = np.inf
        results.append(run_md(atoms, MDConfig(time_ps=0.002), tmp_path, progress=False))
    assert results[0] == results[1]
    assert results[1].identity["calculator"]["parameters"]["limit"] == "Infinity"


def test_molecules_with_velocities_to_keep(tmp_path):
    atoms = molecule("CH3CH2OH")
    atoms.calc = EMT()
    atoms.set_velocities(np.random.default_rng(0).normal(0, 0.01, (9, 3)))
    settings = MDConfig(ensemble="nve", initial_velocities="keep", time_ps=0.05)
    run_md(atoms, settings, tmp_path, progress=False)
    moved = atoms.copy()
    moved.calc = EMT()
    with pytest.raises(ConfigError, match="structure"):  # it starts from where the first ended
        run_md(moved, settings, tmp_path, progress=False)
