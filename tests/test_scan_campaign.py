"""Scans of hyper-parameters: what is trained, what is refused, what is the best, and searches that go on."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from statistics import median

import numpy as np
import pytest
import training_cases as cases
from campaign_cases import in_this_process, without_pictures, write_metrics

from ase_mlcalc import checkpoint
from ase_mlcalc.campaigns import ScanJob, read_scan, run_scan
from ase_mlcalc.campaigns.scan_plan import folder_name, grid
from ase_mlcalc.campaigns.search import propose
from ase_mlcalc.cli import main
from ase_mlcalc.cli.templates import template_of
from ase_mlcalc.config import toml_value, validate
from ase_mlcalc.errors import ConfigError, DataError

GRID = {"model.features": [4, 8], "train.learning_rate": [0.001, 0.01, 0.1]}
SEARCH = {
    "train.learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
    "model.features": {"low": 2, "high": 64},
    "train.schedule": ["linear", "constant"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return cases.write(tmp_path_factory.mktemp("data") / "all.extxyz", cases.clusters(14))


def scan(folder, data, table, *, held=None, **train):
    raw = {
        "output": folder,
        "data": {"train": [data], "n_validation": 4, **(held or {})},
        "model": {key: value for key, value in cases.SCHNET.items() if key != "features"},
        "train": {"max_epochs": 1, "batch_size": 4, "device": "cpu", "warmup_steps": 2, **train},
        "scan": {"workers": 1, **table},
    }
    return validate(ScanJob, raw, "test")


def error_of(job):
    """Smallest at a learning rate of 0.01 and many features."""
    schedule = 0.5 if job.train.schedule == "constant" else 0.0
    return 10 + math.log10(job.train.learning_rate / 0.01) ** 2 + 8 / job.model.get("features", 8) + schedule


def fake(job):
    write_metrics(job, error_of(job) + 0.1 * job.train.seed)


# ----- what is trained, what is refused -------------------------------------------------------------------------------


def test_all_combinations_are_trained_and_sorted(tmp_path, data, monkeypatch):
    jobs = in_this_process(monkeypatch, fake)
    found = run_scan(scan(tmp_path / "run", data, {**GRID, "seeds": 2}), progress=False)
    assert len(jobs) == 12
    tried = {(job.model["features"], job.train.learning_rate, job.train.seed) for job in jobs}
    assert tried == {(n, rate, seed) for n in (4, 8) for rate in (0.001, 0.01, 0.1) for seed in (0, 1)}
    assert all(job.model["cutoff"] == 5.0 for job in jobs)
    assert found.points[0].values == {"model.features": 8, "train.learning_rate": 0.01}
    scores = [found.score(point).mean for point in found.points]
    assert scores == sorted(scores)
    assert scores[0] == pytest.approx(11.05)
    assert found.score(found.points[0]).stderr == pytest.approx(0.05)
    assert found == read_scan(tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "scan.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert (rows[0]["model.features"], rows[0]["train.learning_rate"]) == ("8", "0.01")
    assert float(rows[0]["validation_force_mae_meV_per_A"]) == pytest.approx(11.05)


def test_lists_beside_each_other(tmp_path, data):
    table = {"model.features": [4, 8], "model.n_interactions": [2, 1], "method": "zip"}
    points = grid(scan(tmp_path, data, table))
    assert [tuple(point.values.values()) for point in points] == [(4, 2), (8, 1)]
    # the keys may be written as tables, as TOML without quotes reads
    nested = scan(tmp_path, data, {"model": {"features": [4, 8], "n_interactions": [2, 1]}, "method": "zip"})
    assert nested == scan(tmp_path, data, table)
    # one value may stand beside several others
    repeated = {**table, "model.features": [4, 8, 4], "model.n_interactions": [2, 1, 1]}
    points = grid(scan(tmp_path, data, repeated))
    assert [tuple(point.values.values()) for point in points] == [(4, 2), (8, 1), (4, 1)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"model.featres": [4, 8]}, "unknown key 'featres'; did you mean 'features'"),
        ({"train.learning_rat": [4, 8]}, r"unknown key 'train\.learning_rat'; did you mean 'learning_rate'"),
        (
            {"train.learning_rate": [0.1, -1.0]},
            r"learning_rate = -1\.0: train\.learning_rate: .* greater than 0",
        ),
        ({"model.name": ["schnet", "shcnet"]}, "unknown model 'shcnet'"),
        ({"data.n_train": [4, 11]}, r"data\.n_train = 11: 11 training \+ 4 validation structures"),
        ({"features": [4, 8]}, "did you mean|known keys"),
        ({"modle.features": [4, 8]}, "unknown key"),
        ({"values": {"features": [4, 8]}}, r"no key of \[data\], \[model\] or \[train\]"),
        ({"train.seed": [1, 2]}, r"train\.seed is filled in from scan\.seeds"),
        ({"model.features": 4}, "no list of values and no range"),
        ({"model.features": []}, "at least one value"),
        ({"model.features": [4, 4]}, "each once"),
        ({"model.features": {"low": 1, "high": 8}}, "is a range, which is for method"),
        ({"model.features": {"low": 8, "high": 1}, "method": "optuna", "trials": 2}, "no range"),
        ({**GRID, "method": "zip"}, "stand beside each other"),
        ({"model.features": [4, 4], "model.n_interactions": [1, 1], "method": "zip"}, "would be the same"),
        ({**GRID, "method": "optuna"}, "trials belongs to"),
        ({**GRID, "trials": 3}, "trials belongs to"),
        ({**GRID, "trails": 3}, "did you mean 'trials'"),
        ({}, "nothing is varied"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(tmp_path, data, monkeypatch, table, message):
    jobs = in_this_process(monkeypatch, fake)
    with pytest.raises((ConfigError, DataError, Exception), match=message) as caught:
        run_scan(scan(tmp_path / "run", data, table), progress=False)
    assert type(caught.value).__name__ in {"ConfigError", "DataError", "ModelError"}
    assert "\n" not in str(caught.value)
    assert not jobs
    assert not (tmp_path / "run").exists()


def test_names_of_folders_tell_points_apart():
    assert folder_name({"model.cutoff": 4.0, "train.learning_rate": 1e-4}) == "cutoff=4.0,learning_rate=0.0001"
    assert folder_name({"model.a.n": [1, 2], "train.n": 3}) == "model.a.n=1,2,train.n=3"
    assert folder_name({"model.name": "schnet"}) == "name=schnet"
    one, other = folder_name({"data.index": ":50"}), folder_name({"data.index": "50:"})
    assert one != other
    assert folder_name({"data.train": ["../a b/c.xyz"]}) != folder_name({"data.train": ["../ab/c.xyz"]})
    assert all(set('/ ":\\').isdisjoint(name) for name in (one, other))
    assert len(folder_name({"model.x": list(range(200))})) < 140


# ----- real trainings -------------------------------------------------------------------------------------------------


def test_a_scan_of_real_trainings(tmp_path, data, monkeypatch, capsys):
    without_pictures(monkeypatch)
    in_this_process(monkeypatch)
    job = scan(tmp_path / "run", data, {"model.features": [2, 16]}, held={"n_test": 3})
    text = (
        f'output = "{tmp_path}/run"\n[data]\ntrain = "{data}"\nn_validation = 4\nn_test = 3\n[model]\n'
        + "".join(f"{key} = {toml_value(value)}\n" for key, value in job.model.items())
        + '[train]\nmax_epochs = 1\nbatch_size = 4\ndevice = "cpu"\nwarmup_steps = 2\n'
        + "[scan]\nworkers = 1\nmodel.features = [2, 16]\n"
    )
    (tmp_path / "scan.toml").write_text(text)
    assert main(["scan", str(tmp_path / "scan.toml")]) == 0
    shown = capsys.readouterr().out
    assert "4 validation structures; a call is for 4 atoms with 1 thread" in " ".join(shown.split())
    found = read_scan(tmp_path / "run")
    for point in found.points:
        folder = tmp_path / "run" / point.trainings[0].folder
        assert point.trainings[0].folder == f"trainings/features={point.values['model.features']}/seed-0"
        metrics = json.loads((folder / "metrics.json").read_text())
        assert point.validation["forces"].mean == pytest.approx(metrics["force_mae_meV_per_A"])
        tested = json.loads((folder / "test.json").read_text())
        assert point.test["energy"].mean == pytest.approx(tested["energy_mae_meV_per_atom"])
        potential = checkpoint.load(folder / "model.safetensors")
        assert point.cost.parameters == potential.model.size
        assert 0.01 < point.cost.ms_per_call < 1000
    assert found.points[0].cost.parameters != found.points[1].cost.parameters
    assert (tmp_path / "run" / "scan.png").stat().st_size > 10_000
    stamp = (tmp_path / "run" / "costs.json").stat().st_mtime_ns
    assert run_scan(job, progress=False) == found
    assert (tmp_path / "run" / "costs.json").stat().st_mtime_ns == stamp


# ----- growth, failures -----------------------------------------------------------------------------------------------


def test_a_grid_grows_and_another_one_is_refused(tmp_path, data, monkeypatch):
    jobs = in_this_process(monkeypatch, fake)
    run_scan(scan(tmp_path / "run", data, GRID), progress=False)
    more = {**GRID, "model.features": [4, 8, 16]}
    assert len(run_scan(scan(tmp_path / "run", data, more), progress=False).points) == 9
    assert len(jobs) == 9
    with pytest.raises(ConfigError, match=r"scan\.values\.model\.features .* may be added, not taken out"):
        run_scan(scan(tmp_path / "run", data, GRID), progress=False)
    with pytest.raises(ConfigError, match=r"scan\.values\.train\.schedule"):
        run_scan(scan(tmp_path / "run", data, {**more, "train.schedule": ["linear"]}), progress=False)
    with pytest.raises(ConfigError, match=r"train\.max_epochs \(was 1, now 2\)"):
        run_scan(scan(tmp_path / "run", data, more, max_epochs=2), progress=False)
    by_energy = run_scan(scan(tmp_path / "run", data, {**more, "objective": "energy"}), progress=False)
    assert by_energy.objective == "energy"
    assert len(jobs) == 9


def test_a_failed_point_is_last_and_is_tried_again(tmp_path, data, monkeypatch):
    def fails(job):
        if job.train.learning_rate == 0.01:
            raise RuntimeError("the loss became NaN")
        fake(job)

    in_this_process(monkeypatch, fails)
    found = run_scan(
        scan(
            tmp_path / "run",
            data,
            {"train.learning_rate": [0.01, 0.1]},
        ),
        progress=False,
    )
    assert [point.values["train.learning_rate"] for point in found.points] == [0.1, 0.01]
    assert found.failed[0].error == "the loss became NaN"
    assert found.score(found.points[1]) is None
    assert "1 failed" in (tmp_path / "run" / "scan.md").read_text()
    jobs = in_this_process(monkeypatch, fake)
    found = run_scan(scan(tmp_path / "run", data, {"train.learning_rate": [0.01, 0.1]}), progress=False)
    assert [job.train.learning_rate for job in jobs] == [0.01]
    assert not found.failed


# ----- searches -------------------------------------------------------------------------------------------------------


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna", reason="searches need the extra `search`: pip install ase-mlcalc[search]")


def test_a_search_finds_better_values_than_chance(tmp_path, data, monkeypatch, optuna):
    jobs = in_this_process(monkeypatch, fake)
    found = run_scan(scan(tmp_path / "run", data, {**SEARCH, "method": "optuna", "trials": 40}), progress=False)
    errors = [error_of(job) for job in jobs]
    assert len(errors) == 40
    assert found.score(found.points[0]).mean == pytest.approx(min(errors))
    assert median(errors[20:]) < median(errors[:10]) - 0.2  # ten trials are drawn at random
    assert found.points[0].values["train.learning_rate"] == pytest.approx(0.01, rel=0.9)
    assert len({job.train.learning_rate for job in jobs}) == 40
    assert all(isinstance(job.model["features"], int) and 2 <= job.model["features"] <= 64 for job in jobs)
    assert {job.train.schedule for job in jobs} == {"linear", "constant"}


def test_a_killed_search_goes_on_with_the_same_trials(tmp_path, data, monkeypatch, optuna):
    table = {**SEARCH, "method": "optuna", "trials": 16}
    jobs = in_this_process(monkeypatch, fake)
    run_scan(scan(tmp_path / "whole", data, table), progress=False)
    whole = [(job.train.learning_rate, job.model["features"], job.train.schedule) for job in jobs]

    class KilledError(BaseException):
        pass

    def dies(job):
        if "trial-0013" in str(job.output):
            raise KilledError
        fake(job)

    in_this_process(monkeypatch, dies)
    with pytest.raises(KilledError):
        run_scan(scan(tmp_path / "killed", data, table), progress=False)
    assert len(read_scan(tmp_path / "killed").points) == 13
    jobs = in_this_process(monkeypatch, fake)
    run_scan(scan(tmp_path / "killed", data, table), progress=False)
    again = [(job.train.learning_rate, job.model["features"], job.train.schedule) for job in jobs]
    assert again == whole[12:]
    # more trials may follow, other ranges may not
    run_scan(scan(tmp_path / "killed", data, {**table, "trials": 18}), progress=False)
    assert len(jobs) == 6
    wider = {**table, "train.learning_rate": {"low": 1e-5, "high": 1.0, "log": True}}
    with pytest.raises(ConfigError, match=r"scan\.values\.train\.learning_rate\.low \(was 0\.0001, now 1e-05\)"):
        run_scan(scan(tmp_path / "killed", data, wider), progress=False)
    (tmp_path / "killed/trainings/trial-0003/point.json").write_text("{}")
    with pytest.raises(DataError, match=r"trial-0003/point\.json is damaged"):
        run_scan(scan(tmp_path / "killed", data, table), progress=False)


def test_a_search_survives_failures(tmp_path, data, monkeypatch, optuna):
    def fails(job):
        if job.train.learning_rate > 0.1:
            raise RuntimeError("NaN")
        fake(job)

    jobs = in_this_process(monkeypatch, fails)
    found = run_scan(scan(tmp_path / "run", data, {**SEARCH, "method": "optuna", "trials": 12}), progress=False)
    assert len(jobs) == 12
    assert 0 < len(found.failed) < 12
    assert found.points[0].n_trained == 1


def test_trials_that_go_on_are_not_proposed_again(tmp_path, data, optuna):
    job = scan(tmp_path, data, {**SEARCH, "method": "optuna", "trials": 40})
    known = [
        {"train.learning_rate": 10**-rate, "model.features": 20, "train.schedule": "linear"}
        for rate in np.linspace(0.5, 3.5, 16)
    ]
    errors = [abs(math.log10(values["train.learning_rate"]) + 2) for values in known]
    best = {"train.learning_rate": 0.01, "model.features": 20, "train.schedule": "linear"}
    alone = propose(job, known, errors)
    beside = propose(job, [*known, *[best] * 12], [*errors, *[True] * 12])
    assert alone.keys() == beside.keys() == SEARCH.keys()
    # the values at work count as bad ones until something is known of them
    far = [abs(math.log10(values["train.learning_rate"]) + 2) for values in (alone, beside)]
    assert far[0] < 0.6
    assert far[1] > 0.1
    assert propose(job, known, [False] * 16).keys() == SEARCH.keys()


def test_without_optuna_it_is_said_what_to_install(tmp_path, data, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install \"ase-mlcalc\[search\]\""):
        run_scan(scan(tmp_path / "run", data, {**SEARCH, "method": "optuna", "trials": 2}), progress=False)


@pytest.mark.slow
def test_a_killed_scan_goes_on_from_its_last_states(tmp_path, data):
    """Worker processes and their command, killed at once; what was trained by then is not touched again."""
    (tmp_path / "scan.toml").write_text(
        f"output = '{tmp_path / 'run'}'\n"
        f"[data]\ntrain = '{data}'\nn_validation = 4\n"
        "[model]\nname = 'schnet'\nn_interactions = 1\nn_gaussians = 8\n"
        "[train]\nmax_epochs = 400\nbatch_size = 4\nsave_interval_s = 0\ndevice = 'cpu'\n"
        "[scan]\nworkers = 2\n'model.features' = [4, 6, 8, 10]\n"
    )
    words = [sys.executable, "-m", "ase_mlcalc", "scan", str(tmp_path / "scan.toml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    trainings = tmp_path / "run" / "trainings"

    def done():
        return list(trainings.glob("**/metrics.json"))

    first = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    try:
        deadline = time.monotonic() + 600
        while not (done() and len(list(trainings.glob("**/training_state.pt"))) > len(done())):
            assert time.monotonic() < deadline
            assert first.poll() is None, "it ended before it could be killed"
            time.sleep(0.05)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    stamps = {path: path.stat().st_mtime_ns for path in done()}
    second = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    assert second.returncode == 0, second.stderr
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert any("resumed after epoch" in path.read_text() for path in trainings.glob("**/output.txt"))
    assert len(read_scan(tmp_path / "run").points) == 4


# ----- templates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["learning-curve", "scan"])
def test_templates_are_runnable(tmp_path, name, capsys):
    import tomllib

    from ase_mlcalc.campaigns import LearningCurveJob

    assert main(["template", name]) == 0
    text = capsys.readouterr().out
    assert text == template_of(name)
    raw = tomllib.loads(text)
    job = validate(LearningCurveJob if name == "learning-curve" else ScanJob, raw, name)
    if name == "scan":
        assert job.scan.values == {"model.cutoff": [4.0, 5.0], "train.learning_rate": [0.003, 0.01]}
        assert job.scan.seeds == (0,)
    else:
        assert (job.learning_curve.sizes, job.learning_curve.seeds) == ((100, 200, 400, 800), (0, 1, 2))
        assert (job.train.max_epochs, job.train.max_minutes) == (50, None)
