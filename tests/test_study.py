"""Studies: what they plan, that they survive whatever happens, and that what they say is what happened."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from study_calculators import LENGTH, SPRING, chain

from ase_mlcalc.cli import main
from ase_mlcalc.cli.studies import job_of
from ase_mlcalc.cli.templates import template_of
from ase_mlcalc.config import validate
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.files import exclusive
from ase_mlcalc.md.frames import read_trajectory
from ase_mlcalc.md.job import run_job
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.result import read_results, save_result
from ase_mlcalc.md.thermo import read_thermo
from ase_mlcalc.study import GroupSummary, StudyJob, read_study, refresh, run_study
from ase_mlcalc.study.identity import claim
from ase_mlcalc.study.measure import measure_run
from ase_mlcalc.study.plan import plan
from ase_mlcalc.study.progress import StudyProgress, steps_done
from ase_mlcalc.study.scans import predictors
from ase_mlcalc.study.summarize import _temperature, summarize
from ase_mlcalc.study.summary import Scan
from ase_mlcalc.workers import workers_lock

TESTS = Path(__file__).parent
FAST = {"thermo_every_fs": 2.0, "frames_every_fs": 10.0, "stresses_every_fs": 0.0, "monitors_every_fs": 0.0}


def calculator(name="Chain", **arguments):
    return {"calculator": f"study_calculators:{name}", "calculator_arguments": arguments}


def job(folder, models=None, md=None, **study):
    """A study of a chain of three atoms, in a folder."""
    ase.io.write(folder / "chain.extxyz", chain())
    raw = {
        "study": {
            "output": str(folder / "study"),
            "models": {"springs": calculator()} if models is None else models,
            "structures": {"chain": str(folder / "chain.extxyz")},
            "scans": False,
            "workers": 1,
            "seeds": 2,
            **study,
        },
        "md": [{"ensemble": "nve", "time_ps": 0.1, **FAST}] if md is None else md,
    }
    return validate(StudyJob, raw, "study")


def made_here(study):
    """All runs of a study in this process, one after another, and their summary."""
    runs = plan(study)
    for run in runs:
        run_job(run.job, progress=False)
    return summarize(study, runs)


# ----- what is planned -----


def test_every_combination_once_in_a_folder_of_its_own(tmp_path):
    models = {"a": calculator(), "b": calculator(spring=5.0)}
    study = job(tmp_path, models, temperatures_K=[100, 300], timesteps_fs=[0.5, 1.0], seeds=[3, 5])
    runs = plan(study)
    assert len({run.folder for run in runs}) == len(runs) == 2 * 2 * 2 * 2
    assert runs[0].folder == "runs/a/chain/100K_0.5fs/seed3"
    assert {run.seed for run in runs[: len(runs) // 2]} == {3}, "each group gets its first seed before any its second"
    for run in runs:
        (stage,) = run.job.md
        assert (stage.temperature_K, stage.timestep_fs, stage.seed) == (run.temperature_K, run.timestep_fs, run.seed)
        assert run.job.job.calculator_arguments == models[run.model]["calculator_arguments"]


def test_stages_before_production_may_have_their_own_values(tmp_path):
    md = [{"ensemble": "nvt", "temperature_K": 50.0, "time_ps": 0.1}, {"ensemble": "nve", "time_ps": 0.1}]
    for run in plan(job(tmp_path, md=md, temperatures_K=[300.0])):
        first, production = run.job.md
        assert (first.temperature_K, production.temperature_K) == (50.0, 300.0)
        assert [config.initial_velocities for _, config in run.job.stages()] == ["thermal", "keep"]
        assert first.seed == run.seed
        assert production.seed not in {other.seed for other in plan(job(tmp_path, md=md))}, "noise of its own"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"md": [{"temperature_K": 300}]}, "filled in from study.temperatures_K"),
        ({"md": [{"seed": 1}, {}]}, "filled in from study.seeds"),
        ({"temperatures_K": [0.026]}, "302 K"),
        ({"temperatures_K": [300, 300]}, "twice"),
        ({"seeds": 0}, "empty"),
        ({"structures": {"a/b": "x.extxyz"}}, "name of a folder"),
        ({"models": ["ase.calculators.emt:EMT", "ase.calculators.emt:EMT"]}, "twice"),
        ({"models": {"a": {"modle": "x"}}}, "modle"),
        ({"models": {"a": {"dtype": "float64"}}}, "give either model"),
        ({"md": [{"ensemble": "nve", "initial_velocities": "keep"}]}, "same run"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message) as error:
        job(tmp_path, **change)
    assert "\n" not in str(error.value)


def test_lists_are_named_by_what_tells_them_apart(tmp_path):
    study = job(
        tmp_path,
        ["one/model.safetensors", "two/model.safetensors", "ase.calculators.emt:EMT"],
        structures=["a.extxyz", "b.traj@0", "b.traj@7"],
    )
    assert list(study.study.models) == ["one-model", "two-model", "EMT"]
    assert {name: (one.file, one.index) for name, one in study.study.structures.items()} == {
        "a": ("a.extxyz", -1),
        "b-0": ("b.traj", 0),
        "b-7": ("b.traj", 7),
    }


def test_same_velocities_for_each_model_and_time_step(tmp_path):
    models = {"soft": calculator(spring=5.0), "hard": calculator()}
    study = job(tmp_path, models, temperatures_K=[100, 400], timesteps_fs=[0.5, 1.0], md=[{"time_ps": 0.002, **FAST}])
    first = {}
    for run in plan(study):
        run_job(run.job, progress=False)
        frame = next(read_trajectory(study.study.output / run.folder / "nvt.traj"))
        first.setdefault((run.temperature_K, run.seed), []).append(frame.get_momenta())
    assert len(first) == 4
    for momenta in first.values():
        assert len(momenta) == 4
        assert all(np.array_equal(momenta[0], other) for other in momenta)
    apart = [momenta[0] for momenta in first.values()]
    assert np.abs(apart[0] - apart[1]).max() > 1e-3
    np.testing.assert_allclose(first[400, 0][0], 2.0 * first[100, 0][0])


# ----- the same study and no other -----


def test_a_study_may_grow_and_not_change(tmp_path):
    study = job(tmp_path, temperatures_K=[300])
    (study.study.output / "runs" / "one").mkdir(parents=True)
    claim(study)
    (study.study.output / "runs" / "one" / "result.json").touch()
    claim(job(tmp_path, temperatures_K=[300], workers=2))
    claim(job(tmp_path, {"springs": calculator(), "more": calculator()}, temperatures_K=[600, 300], seeds=4))
    models = {"springs": calculator(), "more": calculator()}
    grown = {"temperatures_K": [600, 300], "seeds": 4, "md": [{"ensemble": "nve", "time_ps": 0.3, **FAST}]}
    claim(job(tmp_path, models, **grown))
    for change, message in [
        ({"temperatures_K": [600]}, r"study.temperatures_K \(was \[600.0, 300.0\], now \[600.0\]"),
        ({"models": {"springs": calculator()}}, "study.models.more is gone"),
        ({"models": models | {"more": calculator(spring=1.0)}}, "study.models.more.calculator_arguments.spring"),
        ({"md": [{"ensemble": "nve", "time_ps": 0.2, **FAST}]}, r"another study: md.0.time_ps \(was 0.3, now 0.2\);"),
    ]:
        with pytest.raises(ConfigError, match=message) as error:
            claim(job(tmp_path, **({"models": models} | grown | change)))
        assert "choose another output folder" in str(error.value)
    same = job(tmp_path, models, **grown)
    claim(same)
    ase.io.write(tmp_path / "chain.extxyz", chain(4))
    with pytest.raises(ConfigError, match=r"contents of the file of study.structures.chain.file"):
        claim(same)


def test_a_study_of_which_nothing_was_made_may_change(tmp_path):
    misspelt = job(tmp_path, {"springs": {"calculator": "study_calculators:Chian"}}, temperatures_K=[300], seeds=1)
    (group,) = run_study(misspelt, progress=False).groups
    assert group.n_errors == 1
    (group,) = run_study(job(tmp_path, temperatures_K=[300], seeds=1), progress=False).groups
    assert (group.n_errors, group.n_stable) == (0, 1)


def test_missing_files_are_named_before_anything_runs(tmp_path):
    with pytest.raises(DataError, match=r"study.models.m.model: cannot read .*gone.safetensors"):
        run_study(job(tmp_path, {"m": "gone.safetensors"}), progress=False)


def test_a_second_process_is_refused(tmp_path):
    study = job(tmp_path)
    study.study.output.mkdir()
    with exclusive(study.study.output), pytest.raises(ConfigError, match="another process"):
        run_study(study, progress=False)


# ----- workers -----


SURVIVES, BREAKS = 0, 2
"""Seeds whose velocities do not and do stretch a bond as far as `breaks_at_A` says."""


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A study with models that hold, break, crash and cannot be made, in one worker."""
    folder = tmp_path_factory.mktemp("mixed")
    models = {
        "holds": calculator(),
        "breaks": calculator(breaks_at_A=LENGTH + 0.09),
        "crashes": calculator("Crash", breaks_at_A=LENGTH + 0.09),
        "refuses": {"calculator": "study_calculators:refuse"},
    }
    md = [{"ensemble": "nve", "time_ps": 0.1, **FAST}]
    study = job(folder, models, md, seeds=[SURVIVES, BREAKS], temperatures_K=[600.0], scans=True)
    return study, run_study(study, progress=False)


def of(summary, model):
    return {run.seed: run for run in summary.runs if run.model == model}


def group_of(summary, model):
    (group,) = [group for group in summary.groups if group.model == model]
    return group


def test_unstable_runs_are_results(mixed):
    study, summary = mixed
    assert [run.status for run in of(summary, "holds").values()] == ["stable"] * 2
    runs = of(summary, "breaks")
    assert (runs[SURVIVES].status, runs[SURVIVES].outcome) == ("stable", "COMPLETED")
    broken = runs[BREAKS]
    assert (broken.status, broken.outcome) == ("failed", "NAN")
    assert 0.0 < broken.time_ps < 0.1
    group = group_of(summary, "breaks")
    assert (group.n_runs, group.n_stable, group.n_failed, group.reasons) == (2, 1, 1, {"NAN": 1})
    assert group.survival.survival[-1] == 0.5
    assert group.median_time_to_failure_ps == broken.time_ps
    # the run itself says the same
    (result,) = read_results(study.study.output / broken.folder)
    assert (result.outcome.name, result.time_ps) == ("NAN", broken.time_ps)


def test_a_dying_worker_marks_its_run_and_the_study_goes_on(mixed):
    study, summary = mixed
    runs = of(summary, "crashes")
    assert (runs[BREAKS].status, runs[SURVIVES].status) == ("error", "stable")
    assert "SIGSEGV" in runs[BREAKS].error
    marked = study.study.output / runs[BREAKS].folder / "error.txt"
    assert marked.read_text(encoding="utf-8").strip() == runs[BREAKS].error
    assert [run.outcome for run in of(summary, "refuses").values()] == [None, None], "came after it"
    group = group_of(summary, "crashes")
    assert (group.n_errors, group.n_failed) == (1, 0), "a crash is no failure of the potential"
    assert group.survival.survival[-1] == 1.0


def test_a_calculator_that_cannot_be_made_is_told(mixed):
    _, summary = mixed
    assert {run.error for run in of(summary, "refuses").values()} == {"no parameters for this calculator"}
    group = group_of(summary, "refuses")
    assert (group.n_errors, group.n_observed, group.survival) == (2, 0, None)


def test_each_model_is_scanned(mixed):
    _, summary = mixed
    scans = {scan.model: scan for scan in summary.scans}
    assert scans["refuses"].error == "no parameters for this calculator"
    assert scans["holds"].scores.keys() == scans["breaks"].scores.keys() != set()
    assert scans["holds"].scores != scans["breaks"].scores, "a potential that is undefined further out"


def test_workers_make_the_runs_that_this_process_makes(mixed, tmp_path):
    study, _ = mixed
    run = plan(study)[0]
    alone = run.job.model_copy(update={"job": run.job.job.model_copy(update={"output": str(tmp_path / "alone")})})
    run_job(alone, progress=False)
    written = (study.study.output / run.folder / "thermo.csv").read_bytes()
    assert written == (tmp_path / "alone" / "thermo.csv").read_bytes()


def test_json_has_the_promised_names(mixed):
    study, _ = mixed
    raw = json.loads((study.study.output / "study.json").read_text(encoding="utf-8"))
    run = {"outcome", "time_ps", "drift_meV_per_atom_per_ps", "drift_stderr", "heating_K_per_ps"}
    group = {"n_runs", "n_stable", "median_time_to_failure_ps"}
    assert all(run <= each.keys() for each in raw["runs"])
    assert all(group <= each.keys() for each in raw["groups"])
    stable = next(each for each in raw["runs"] if each["outcome"] == "COMPLETED")
    assert abs(stable["drift_meV_per_atom_per_ps"]) < 5.0 * stable["drift_stderr"]
    assert raw["groups"][0]["n_runs"] == 2


def test_a_summary_can_be_made_again_without_running(mixed):
    study, _ = mixed
    stored = read_study(study.study.output)
    assert refresh(study.study.output) == stored
    with pytest.raises(DataError, match=r"no study.json"):
        read_study(study.study.output / "runs")


def test_models_are_compared(mixed):
    _, summary = mixed
    (pair,) = [one for one in summary.comparisons if (one.model_a, one.model_b) == ("holds", "breaks")]
    assert pair.failed_a == 0
    assert pair.failed_b > 0
    assert pair.statistic < 0
    assert 0.0 < pair.p_value <= 1.0


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_runs_from_a_minimum_are_colder_than_they_began(tmp_path, ensemble):
    md = [{"ensemble": ensemble, "time_ps": 1.0, **FAST}]
    summary = made_here(job(tmp_path, {"a": calculator()}, md, temperatures_K=[300], seeds=3))
    (group,) = summary.groups
    cold = ensemble == "nve"
    if cold:
        assert 100 < group.temperature_mean_K < 240  # half of it, if the chain were harmonic and began at its minimum
    assert ("K on average, begun with 300 K" in summary.verdict) == cold
    assert ("study.equilibration" in summary.verdict) == cold


def test_models_are_compared_over_temperatures_and_for_each_time_step(tmp_path):
    models = {"a": calculator(), "b": calculator(breaks_at_A=LENGTH + 0.09)}
    md = [{"ensemble": "nve", "time_ps": 0.05, **FAST}]
    study = job(tmp_path, models, md, timesteps_fs=[0.5, 1.0], temperatures_K=[600, 1200], seeds=[BREAKS, BREAKS + 1])
    summary = made_here(study)
    kinds = [(one.structure, one.temperature_K, one.timestep_fs) for one in summary.comparisons]
    expected = [[(None, None, dt), ("chain", 600.0, dt), ("chain", 1200.0, dt)] for dt in (0.5, 1.0)]
    assert kinds == [*expected[0], *expected[1]]
    whole, *parts = summary.comparisons[:3]
    assert (whole.n_b, whole.failed_b) == (4, sum(part.failed_b for part in parts))
    assert whole.expected_a == pytest.approx(sum(part.expected_a for part in parts))


# ----- killed -----


def calls(path):
    return len(path.read_text(encoding="utf-8")) if path.exists() else 0


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_killed_study_goes_on_grows_and_repeats_nothing(tmp_path):
    log = tmp_path / "calls.txt"
    md = [{"ensemble": "nvt", "time_ps": 0.5, "checkpoint_every_fs": 20.0, **FAST}]
    study = job(tmp_path, {"springs": calculator(log=str(log))}, md, seeds=2)
    program = (
        "import sys; from ase_mlcalc.study import StudyJob, run_study\n"
        "run_study(StudyJob.model_validate_json(sys.argv[1]), progress=False)"
    )
    killed = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program, study.model_dump_json(exclude_unset=True)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        start_new_session=True,
    )
    steps = plan(study)[0].steps
    wait_for(lambda: calls(log) > 1.5 * steps)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    folders = [study.study.output / run.folder for run in plan(study)]
    first = (folders[0] / "result.json").read_bytes()

    grown = job(tmp_path, {"springs": calculator(log=str(log))}, md, seeds=3)
    summary = run_study(grown, progress=False)

    assert [(run.status, run.error) for run in summary.runs] == [("stable", None)] * 3
    assert (folders[0] / "result.json").read_bytes() == first
    restarts = [read_results(study.study.output / run.folder)[0].restarts for run in plan(grown)]
    assert restarts == [0, 1, 0]
    # one evaluation at each step and start; again only what followed the last checkpoint, and at restarts
    made = calls(log)
    assert 3 * (steps + 1) <= made <= 3 * (steps + 1) + 200
    whole = job(tmp_path, {"springs": calculator()}, md, seeds=3, output=str(tmp_path / "whole"))
    made_here(whole)
    for run in plan(grown):
        files = [one.study.output / run.folder / "thermo.csv" for one in (grown, whole)]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert run_study(grown, progress=False).runs == summary.runs
    assert calls(log) == made, "nothing is left to be done"

    longer = job(tmp_path, {"springs": calculator(log=str(log))}, [md[0] | {"time_ps": 0.6}], seeds=3)
    assert {run.status for run in summarize(longer, plan(longer)).runs} == {"unfinished"}
    assert [(run.status, run.time_ps) for run in run_study(longer, progress=False).runs] == [("stable", 0.6)] * 3
    assert calls(log) - made <= 3 * (plan(longer)[0].steps - steps + 10), "only what is new"


def test_a_study_with_a_ramp_does_not_get_longer(tmp_path):
    ramp = {"ensemble": "nvt", "temperature_end_K": 600, **FAST}
    study = job(tmp_path, md=[ramp | {"time_ps": 0.1}])
    (study.study.output / "runs").mkdir(parents=True)
    claim(study)
    (study.study.output / "runs" / "result.json").touch()
    with pytest.raises(ConfigError, match=r"md.0.time_ps \(was 0.1, now 0.2\)"):
        claim(job(tmp_path, md=[ramp | {"time_ps": 0.2}]))


@pytest.mark.slow
def test_an_interrupt_leaves_checkpoints_and_no_process(tmp_path):
    md = [{"ensemble": "nve", "time_ps": 50.0, "checkpoint_every_fs": 1e4, **FAST}]
    study = job(tmp_path, md=md, seeds=3, workers=2)
    program = (
        "import sys; from ase_mlcalc.study import StudyJob, run_study\n"
        "run_study(StudyJob.model_validate_json(sys.argv[1]), progress=False)"
    )
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program, study.model_dump_json(exclude_unset=True)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    runs = plan(study)
    wait_for(lambda: all(steps_done(run, study.study.output) > 100 for run in runs[:2]))
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors
    summary = read_study(study.study.output)
    assert [run.status for run in summary.runs] == ["unfinished", "unfinished", "waiting"]
    for run in summary.runs[:2]:
        assert run.outcome == "INTERRUPTED"
        assert run.time_ps > 0.05, "far before the first regular checkpoint"
    with workers_lock(study.study.output), exclusive(study.study.output):
        pass  # nobody holds them


# ----- what is measured -----


def test_fluctuation_of_a_harmonic_bond_is_that_of_its_shadow_energy(tmp_path):
    """Velocity Verlet of an oscillator conserves E - (ω dt)²/4 times its potential energy, exactly."""
    md = [{"ensemble": "nve", "time_ps": 2.0, **FAST}]
    study = job(tmp_path, md=md, timesteps_fs=[1.0, 2.0], temperatures_K=[200.0], seeds=1)
    ase.io.write(tmp_path / "chain.extxyz", chain(2))
    summary = made_here(study)
    omega = math.sqrt(2.0 * SPRING / chain(2).get_masses()[0]) * units.fs  # of the reduced mass, 1/fs
    for run in summary.runs:
        rows = read_thermo(study.study.output / run.folder / "thermo.csv")["nve"]
        energy = rows["total_eV"].mean()
        expected = energy * (omega * run.timestep_fs) ** 2 / (8.0 * math.sqrt(2.0))
        assert run.fluctuation_meV_per_atom == pytest.approx(1000.0 * expected / 2, rel=0.03)
    (check,) = summary.timestep_checks
    assert check.expected_ratio == 4.0
    assert check.order == pytest.approx(2.0, abs=0.05)
    assert check.verdict != "differs"


def test_forces_that_are_no_derivative_break_the_timestep_law(tmp_path):
    md = [{"ensemble": "nve", "time_ps": 0.5, **FAST}]
    study = job(tmp_path, {"noisy": calculator(noise=0.3)}, md, timesteps_fs=[1.0, 2.0], temperatures_K=[50.0])
    (check,) = made_here(study).timestep_checks
    assert check.order < 1.5
    assert check.verdict == "differs"


def test_temperatures_of_langevin_dynamics_are_canonical(tmp_path):
    md = [{"ensemble": "nvt", "time_ps": 2.0, **FAST}]
    study = job(tmp_path, md=md, timesteps_fs=[2.0], seeds=3, temperatures_K=[300.0])
    summary = made_here(study)
    (group,) = summary.groups
    found = group.temperature
    assert abs(found.mean_K - 300.0) < 3.0 * found.mean_stderr_K < 90.0
    assert abs(found.kinetic_variance_ratio - 1.0) < 3.0 * found.kinetic_variance_stderr < 1.0
    assert "differs" not in (found.mean_verdict, found.variance_verdict)
    assert group.drift_meV_per_atom_per_ps is None, "Langevin dynamics conserves nothing"
    # a thermostat that counts three degrees of freedom too many
    hot = [run.model_copy(update={"temperature_mean_K": 9 / 6 * run.temperature_mean_K}) for run in summary.runs]
    assert _temperature(hot, study.production, 300.0).mean_verdict == "differs"


def test_the_monitor_that_stopped_a_run_is_named(tmp_path):
    md = [{"ensemble": "nve", "time_ps": 0.2} | FAST | {"monitors_every_fs": 2.0}]
    study = job(tmp_path, {"soft": calculator(spring=1.0)}, md, timesteps_fs=[1.0], seeds=1, temperatures_K=[3000.0])
    summary = made_here(study)
    (run,) = summary.runs
    assert (run.status, run.outcome, run.monitor) == ("failed", "STRETCHED", "bonds")
    assert "Å" in run.detail
    assert 0.0 < run.time_ps < 0.2
    assert run.drift_meV_per_atom_per_ps is None, "the slope of a run that failed says nothing"
    assert summary.groups[0].median_time_to_failure_ps == run.time_ps
    assert "1 STRETCHED" in summary.verdict


def test_drift_in_kelvin_is_the_same_heat(tmp_path):
    (group,) = made_here(job(tmp_path, timesteps_fs=[0.5], temperatures_K=[200.0])).groups
    assert group.n_drift == 2
    assert 0.0 < abs(group.drift_meV_per_atom_per_ps) < 4.0 * group.drift_stderr
    # 1 meV/atom/ps is 1 eV/atom/ns, and 1.5 k_B is 1.29260e-4 eV/K
    assert group.drift_K_per_ns / group.drift_meV_per_atom_per_ps == pytest.approx(7736.4, rel=1e-4)


def test_interrupted_runs_are_censored_where_they_stand(tmp_path):
    md = [{"ensemble": "nve", "time_ps": 0.05, **FAST}]
    study = job(tmp_path, md=md, seeds=3)
    runs = plan(study)
    for run in runs[:2]:
        run_job(run.job, progress=False)
    folder = study.study.output / runs[1].folder
    (result,) = read_results(folder)
    save_result(result.model_copy(update={"outcome": Outcome.INTERRUPTED, "time_ps": 0.03}))
    summary = summarize(study, runs)
    assert [run.status for run in summary.runs] == ["stable", "unfinished", "waiting"]
    (group,) = summary.groups
    assert (group.n_observed, group.n_waiting) == (2, 2)
    assert group.survival.censored_ps == (0.03, 0.05)
    assert not summary.finished
    assert "2 of 3 runs are still to be made" in summary.verdict


# ----- scans -----


def summary_of_models(survived, scores):
    groups = [
        GroupSummary(
            model=model,
            structure="s",
            temperature_K=300,
            timestep_fs=1,
            ensemble="nve",
            planned_ps=10.0,
            n_runs=4,
            n_observed=4,
            n_stable=0,
            n_failed=4,
            n_errors=0,
            n_waiting=0,
            mean_survival_ps=time_ps,
        )
        for model, time_ps in survived.items()
    ]
    return predictors([Scan(model=model, structure="s", scores={"wall": own}) for model, own in scores.items()], groups)


def test_scores_are_ranked_against_survival():
    (found,) = summary_of_models({"a": 9.0, "b": 6.0, "c": 3.0, "d": 1.0}, {"a": 0.0, "b": 0.1, "c": 7.0, "d": 9.0})
    assert (found.score, found.n_models, found.rank_correlation) == ("wall", 4, -1.0)
    assert found.p_value == pytest.approx(2 / 24)
    assert summary_of_models({"a": 9.0, "b": 6.0}, {"a": 0.0, "b": 0.1}) == [], "two models rank nothing"
    assert summary_of_models({"a": 9.0, "b": 9.0, "c": 9.0}, {"a": 0.0, "b": 0.1, "c": 1.0}) == []
    assert summary_of_models({"a": 9.0, "b": 6.0, "c": 3.0}, {"a": 0.0, "b": 0.1, "c": None}) == []
    assert summary_of_models({"a": 9.0, "b": 6.0, "c": 3.0}, {"a": 1e-14, "b": 2e-14, "c": 3e-14}) == [], "rounding"


# ----- the command line -----


def options(**given):
    nothing = {
        "models": (),
        "calculators": (),
        "arguments": (),
        "structures": (),
        "reference": None,
        "equilibration": None,
        "temperatures": None,
        "timesteps": None,
        "seeds": None,
        "stage": {},
        "out": None,
        "workers": None,
        "compile": False,
        "overrides": (),
    }
    return nothing | given


def test_options_are_the_keys_of_the_file():
    found = job_of(
        None,
        **options(
            models=["m.safetensors"],
            calculators=["study_calculators:Chain"],
            arguments=["spring=3.5"],
            structures=["a.extxyz"],
            reference="ref.traj",
            equilibration="langevin",
            stage={"ensemble": "nve", "time_ps": 2.0},
            temperatures="300,600",
            timesteps="0.5",
            seeds="3",
            out=Path("there"),
            workers=2,
            overrides=["study.scans=false"],
        ),
    )
    assert found.study.models["Chain"].calculator_arguments == {"spring": 3.5}
    assert found.study.models["m"].model == "m.safetensors"
    assert found.study.temperatures_K == (300.0, 600.0)
    assert (found.study.timesteps_fs, found.study.seeds) == ((0.5,), (0, 1, 2))
    assert (found.study.output, found.study.workers, found.study.scans) == (Path("there"), 2, False)
    assert found.study.structures["a"].reference == "ref.traj"
    first, *_ = plan(found)
    assert [name for name, _ in first.job.stages()] == ["equilibration", "nve"]
    assert first.job.job.reference == "ref.traj"
    (stage,) = found.md
    assert (stage.ensemble, stage.time_ps) == ("nve", 2.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"structures": ["a.extxyz"]}, "--model or --calculator"),
        ({"models": ["m"], "structures": ["a"], "temperatures": "300K"}, "--temperature reads a number"),
        ({"models": ["m"], "structures": ["a"], "seeds": "many"}, "--seeds reads how many"),
        ({"models": ["m"], "structures": ["a"], "seeds": ""}, "seeds: the list is empty"),
        ({"models": ["m"], "structures": ["a", "b"], "reference": "r"}, "belongs to one --structure"),
        ({"models": ["m"], "structures": ["a"], "arguments": ["x=1"]}, "belongs to one --calculator"),
        ({"calculators": ["a:B", "a:B"], "structures": ["a"]}, "--calculator: 'a:B' stands there twice"),
    ],
)
def test_options_that_make_no_study(given, message):
    with pytest.raises(ConfigError, match=message):
        job_of(None, **options(**given))


def test_options_beside_a_file_are_refused(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(template_of("study"), encoding="utf-8")
    assert job_of(path, **options(out=tmp_path / "x")).study.output == tmp_path / "x"
    with pytest.raises(ConfigError, match="has seeds already"):
        job_of(path, **options(seeds="3"))


def test_command_line(tmp_path, capsys):
    ase.io.write(tmp_path / "chain.extxyz", chain())
    words = ["study", "--calculator", "study_calculators:Chain", "--structure", str(tmp_path / "chain.extxyz")]
    words += ["--ensemble", "nve", "--temperature", "100", "--timestep", "0.5,1", "--time-ps", "0.2"]
    words += ["--out", str(tmp_path / "out"), "--set", "study.scans=false"]
    for run in plan(job_in(tmp_path)):  # so that no worker has to be started
        run_job(run.job, progress=False)
    assert main([*words, "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "2/2" in printed
    assert "dt² says 4" in printed
    assert (tmp_path / "out" / "report.html").exists()
    assert read_study(tmp_path / "out").groups[0].n_stable == 2
    assert main([*words, "--seeds", "1"]) == 1
    assert "study.seeds (was [0, 1], now [0]" in capsys.readouterr().err


def job_in(folder):
    """The study of `test_command_line`."""
    given = {
        "calculators": ["study_calculators:Chain"],
        "structures": [str(folder / "chain.extxyz")],
        "stage": {"ensemble": "nve", "time_ps": 0.2},
        "temperatures": "100",
        "timesteps": "0.5,1",
        "seeds": "2",
        "out": folder / "out",
    }
    return job_of(None, **options(**given))


def test_runs_that_could_not_be_made_fail_the_command(mixed, tmp_path, capsys, monkeypatch):
    study, summary = mixed
    monkeypatch.setattr("ase_mlcalc.study.run_study", lambda _: summary)
    words = ["study", "--calculator", "study_calculators:Chain", "--structure", "chain.extxyz"]
    assert main([*words, "--out", str(study.study.output)]) == 1
    assert "3 of 8 runs could not be made; the first, runs/refuses/chain" in capsys.readouterr().err


# ----- what is seen -----


def test_progress_is_a_line_a_run_with_the_time_left(tmp_path, capsys):
    study = job(tmp_path, seeds=3)
    runs = plan(study)
    with StudyProgress(runs, {0}, study.study.output, shown=True) as shown:
        for position in (1, 2):
            run_job(runs[position].job, progress=False)
            shown.tick({position})
            shown.over(position, measure_run(runs[position], study.study.output), set())
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "1 of 3 runs were made before and are kept"
    assert second.startswith("2/3  springs chain 300 K 0.5 fs seed 1: stable, 0.1 ps")
    assert third.endswith("0:00:00 left")


def test_steps_done_are_read_from_the_end_of_the_thermo_file(tmp_path):
    md = [{"ensemble": "nvt", "time_ps": 0.1, **FAST}, {"ensemble": "nve", "time_ps": 0.05, **FAST}]
    study = job(tmp_path, md=md, seeds=1)
    (run,) = plan(study)
    assert (run.steps, steps_done(run, study.study.output)) == (300, 0)
    run_job(run.job, progress=False)
    assert steps_done(run, study.study.output) == 300
    thermo = study.study.output / run.folder / "thermo.csv"
    rows = thermo.read_text(encoding="utf-8").splitlines(keepends=True)
    last = next(k for k, row in enumerate(rows) if row.startswith("nvt,120,"))
    thermo.write_text("".join(rows[: last + 1]) + "nvt,1", encoding="utf-8")
    assert steps_done(run, study.study.output) == 120
