"""All default monitors on trajectories with a fault and on healthy ones: `benchmarks/failure_catalogue.py`."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest

from ase_mlcalc.md.monitors import MONITORS, MonitorsConfig, Setting, Watch, make_monitors
from ase_mlcalc.md.monitors.inspect import _degrees_of_freedom, _snapshot
from ase_mlcalc.md.outcome import Outcome


def load():
    path = Path(__file__).parents[1] / "benchmarks" / "failure_catalogue.py"
    spec = importlib.util.spec_from_file_location("failure_catalogue", path)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


catalogue = load()


@pytest.fixture(scope="module")
def failures():
    made = {}

    def get(name):
        if name not in made:
            made[name] = catalogue.FAILURES[name]()
        return made[name]

    return get


@pytest.mark.parametrize("name", catalogue.FAILURES)
def test_failure_is_named_at_the_right_frame(name, failures):
    failure = failures(name)
    inspection = catalogue.judge_failure(failure)
    alarm = inspection.failure or inspection.alarms[0]
    assert alarm.outcome is failure.outcome
    assert catalogue.named_as(inspection) == failure.outcome.name
    if failure.frame is not None:
        assert alarm.moment.number == failure.frame


def test_catalogue_has_every_outcome_that_monitors_can_give_and_every_monitor(failures):
    outcomes = {failures(name).outcome for name in catalogue.FAILURES}
    assert outcomes == {kind.outcome for kind in MONITORS} | {Outcome.FROZEN}
    monitors = {
        alarm.monitor for name in catalogue.FAILURES for alarm in catalogue.judge_failure(failures(name)).alarms
    }
    assert monitors == {kind.name for kind in MONITORS}


@pytest.mark.parametrize("name", catalogue.FAILURES)
def test_before_the_fault_all_is_well(name, failures):
    failure = failures(name)
    if failure.frame is None:
        return
    before = catalogue.Failure(failure.frames[: failure.frame], failure.outcome, None, failure.told)
    # the bond of the atom that leaves is too long before it is broken, and if there is no more to see that is told
    on_the_way = {"bonds"} if name == "H loss" else set()
    assert {alarm.monitor for alarm in catalogue.judge_failure(before).alarms} == on_the_way


def snapshots(failure):
    told = dict(failure.told)
    told.pop("reference", None)
    n_degrees = _degrees_of_freedom(failure.frames[0])
    for number, atoms in enumerate(failure.frames):
        yield _snapshot(atoms, number, told.get("ensemble"), None, told.get("target_K"), n_degrees)


def new_watch(failure):
    """Everything on that can be, and nothing stops: so that all monitors remember something."""
    every = {name: {"action": "note"} for name in MonitorsConfig.model_fields}
    start = failure.frames[0]
    setting = Setting(
        start, failure.told.get("reference", ()), failure.told.get("ensemble"), _degrees_of_freedom(start)
    )
    return Watch(make_monitors(MonitorsConfig.model_validate(every), setting))


def through_a_file(state):
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        return dict(stored)


@pytest.mark.parametrize("name", catalogue.FAILURES)
def test_a_continued_watch_is_the_uninterrupted_one(name, failures):
    """Stopped and restored at many looks, among them those right before and after the fault."""
    failure = failures(name)
    whole = new_watch(failure)
    expected = [whole.look(snapshot) for snapshot in snapshots(failure)] + [whole.finish()]
    assert any(expected)
    n = len(failure.frames)
    cuts = {n // 3, 2 * n // 3, n - 1, n // 2}
    if failure.frame is not None:
        cuts |= {failure.frame + k for k in (-1, 0, 1, 2, 3, 10) if 0 < failure.frame + k < n}
    watching, got = new_watch(failure), []
    for number, snapshot in enumerate(snapshots(failure)):
        if number in cuts:
            state = through_a_file(watching.state())
            watching = new_watch(failure)
            watching.restore(state)
        got.append(watching.look(snapshot))
    got.append(watching.finish())
    assert got == expected
    final = whole.state()
    assert set(watching.state()) == set(final)
    for key, value in watching.state().items():
        assert np.array_equal(value, final[key], equal_nan=value.dtype.kind == "f"), key


@pytest.mark.parametrize("name", [name for name in catalogue.HEALTHY if "liquid" not in name and "1000 K" not in name])
def test_healthy_start_raises_no_alarm(name):
    assert not catalogue.judge_healthy(catalogue.HEALTHY[name](0.1)).alarms


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.HEALTHY)
def test_twenty_picoseconds_raise_no_alarm(name):
    inspection = catalogue.judge_healthy(catalogue.HEALTHY[name](20.0))
    assert inspection.n_frames == 4001
    assert not inspection.alarms
