"""Learning curves: nested sets, equal budgets, honest statistics, and nothing lost at a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import training_cases as cases
from campaign_cases import in_this_process, without_pictures, write_metrics

from ase_mlcalc.campaigns import LearningCurveJob, read_learning_curve, run_learning_curve
from ase_mlcalc.campaigns.curve_plan import plan
from ase_mlcalc.campaigns.curve_summary import CurveFit, LearningCurve, describe_fits
from ase_mlcalc.campaigns.statistics import mean_of, power_law
from ase_mlcalc.cli import main
from ase_mlcalc.config import validate
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.training.config import TrainJob, to_toml
from ase_mlcalc.training.dataset import load

SIZES, SEEDS = (4, 8, 12), (0, 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return cases.write(tmp_path_factory.mktemp("data") / "all.extxyz", [*cases.isolated_atoms(), *cases.clusters(24)])


def curve(folder, data, *, model=cases.SCHNET, table=None, held=None, **train):
    raw = {
        "output": folder,
        "data": {"train": [data], "n_validation": 4, **({"n_test": 6} if held is None else held)},
        "train": {"max_epochs": 2, "device": "cpu", "warmup_steps": 2, "save_interval_s": 0.0, **train},
        "learning_curve": {"sizes": SIZES, "seeds": SEEDS, "workers": 1, **(table or {})},
    }
    return validate(LearningCurveJob, raw | ({} if model is None else {"model": model}), "test")


def sources(frames):
    return [frame.source for frame in frames]


# ----- what is trained ------------------------------------------------------------------------------------------------


def test_sets_are_nested_and_what_is_held_back_is_the_same(tmp_path, data):
    planned = plan(curve(tmp_path, data))
    assert len(planned.trainings) == 6
    loaded = {(one.size, one.seed): load(one.training.job.data) for one in planned.trainings}
    first = loaded[4, 0]
    for (size, _seed), own in loaded.items():
        assert len(own.train) == size + 2  # isolated atoms are in all of them
        assert sources(own.validation) == sources(first.validation)
        assert sources(own.test) == sources(first.test)
        assert not {*sources(own.validation), *sources(own.test)} & set(sources(own.train))
    for seed in SEEDS:
        assert set(sources(loaded[4, seed].train)) < set(sources(loaded[8, seed].train))
        assert set(sources(loaded[8, seed].train)) < set(sources(loaded[12, seed].train))
    assert set(sources(loaded[8, 0].train)) != set(sources(loaded[8, 1].train))
    assert {one.training.job.train.seed for one in planned.trainings} == {0, 1}


@pytest.mark.parametrize("table", [{"steps": 60}, {}])
def test_every_size_takes_as_many_steps(tmp_path, data, table):
    train = {"max_epochs": None} if table else {"max_epochs": 20}
    planned = plan(curve(tmp_path, data, table={"sizes": [3, 6, 12], **table}, batch_size=4, **train))
    assert planned.steps == 60  # 20 epochs of three batches at the largest size
    for one in planned.trainings:
        config = one.training.job.train
        assert config.batch_size == 4
        assert config.max_epochs * -(-one.size // 4) == 60
    assert [one.training.job.train.max_epochs for one in planned.trainings[::2]] == [60, 30, 20]


def test_wrong_questions_are_refused_before_anything_is_trained(tmp_path, data, monkeypatch):
    jobs = in_this_process(monkeypatch)
    with pytest.raises(DataError, match=r"24 training structures, seed 0: .* there are only 24"):
        run_learning_curve(curve(tmp_path / "run", data, table={"sizes": [4, 24]}), progress=False)
    with pytest.raises(ConfigError, match="did you mean 'features'"):
        run_learning_curve(curve(tmp_path / "run", data, model={**cases.SCHNET, "featres": 3}), progress=False)
    with pytest.raises(ConfigError, match=r"data\.n_train is filled in"):
        curve(tmp_path / "run", data, held={"n_train": 10})
    with pytest.raises(ConfigError, match=r"either a \[model\] table or"):
        curve(tmp_path / "run", data, table={"models": ["schnet"]})
    with pytest.raises(ConfigError, match="take one out"):
        curve(tmp_path / "run", data, table={"steps": 10})
    assert not jobs
    assert not (tmp_path / "run").exists()


# ----- what comes out -------------------------------------------------------------------------------------------------


def test_a_curve_of_real_trainings(tmp_path, data, monkeypatch):
    without_pictures(monkeypatch)
    in_this_process(monkeypatch)
    job = curve(tmp_path / "run", data, table={"sizes": [4, 12]})
    found = run_learning_curve(job, progress=False)
    assert found == read_learning_curve(tmp_path / "run")
    assert (found.measured_on, found.n_measured, found.steps) == ("test structures", 6, 2)
    for point in found.points:
        tests = [
            json.loads((tmp_path / f"run/trainings/schnet/{point.size}/seed-{seed}/test.json").read_text())
            for seed in SEEDS
        ]
        values = [one["force_mae_meV_per_A"] for one in tests]
        assert values[0] != values[1]
        assert point.errors["forces"].mean == pytest.approx(np.mean(values))
        assert point.errors["forces"].stderr == pytest.approx(abs(values[0] - values[1]) / 2)
        assert "stress" not in point.errors
    assert {fit.quantity for fit in found.fits} == {"forces", "energy"}
    rows = list(csv.DictReader((tmp_path / "run" / "learning_curve.csv").read_text().splitlines()))
    assert [(row["size"], row["seed"]) for row in rows] == [("4", "0"), ("4", "1"), ("12", "0"), ("12", "1")]
    table = (tmp_path / "run" / "learning_curve.md").read_text()
    assert table.count("| schnet |") == 2
    assert "6 test structures" in table
    assert (tmp_path / "run" / "learning_curve.png").stat().st_size > 10_000
    # the training of the first seed is the one that a user makes without a learning curve
    alone = cases.make_job(
        tmp_path / "alone", data, data={"n_validation": 4, "n_test": 6, "n_train": 12}, max_epochs=2, batch_size=12
    )
    same = next(one.training.job for one in plan(job).trainings if (one.size, one.seed) == (12, 0))
    assert same.data == alone.data
    assert (same.train.seed, same.train.max_epochs) == (0, 2)


def test_several_models_and_one_in_closed_form(tmp_path, monkeypatch):
    without_pictures(monkeypatch)
    in_this_process(monkeypatch)
    molecule = cases.write(tmp_path / "molecule.extxyz", cases.clusters(20))
    models = {"solved": {"name": "sgdml", "sigma": 10}, "schnet": {**cases.SCHNET}}
    job = curve(tmp_path / "run", molecule, model=None, table={"sizes": [3, 10], "seeds": 1, "models": models})
    found = run_learning_curve(job, progress=False)
    assert not found.failed
    assert found.models == ("solved", "schnet")
    small, large = (point.errors["forces"].mean for point in found.of("solved"))
    assert large < 0.5 * small
    assert found.fit("solved", "forces").exponent > 0.5
    assert found.fit("solved", "forces").exponent_stderr is None  # one seed, two sizes


def test_a_power_law_is_found(tmp_path):
    sizes, rng = np.array([100, 200, 400, 800]), np.random.default_rng(0)
    exact = power_law({0: {int(n): 3.0 * n**-0.45 for n in sizes}})
    assert exact.exponent == pytest.approx(0.45)
    assert exact.amplitude == pytest.approx(3.0)
    assert exact.exponent_stderr == pytest.approx(0.0, abs=1e-7)
    assert exact.rms_residual == pytest.approx(0.0, abs=1e-7)

    def fit():
        noisy = {seed: {int(n): 3.0 * n**-0.45 * np.exp(rng.normal(scale=0.1)) for n in sizes} for seed in range(5)}
        return power_law(noisy)

    fits = [fit() for _ in range(400)]
    x = np.log(sizes) - np.log(sizes).mean()
    expected = 0.1 / np.sqrt(5 * (x**2).sum())
    assert np.std([one.exponent for one in fits]) == pytest.approx(expected, rel=0.15)
    # the larger of two estimates is somewhat too large, and seldom far too small
    stated = np.array([one.exponent_stderr for one in fits])
    assert expected < np.sqrt(np.mean(stated**2)) < 1.4 * expected
    assert np.mean(np.abs([one.exponent - 0.45 for one in fits]) < 2 * stated) > 0.9
    # seeds that agree by chance do not make a bent curve a power law
    bent = power_law({seed: {int(n): 3.0 * n**-0.45 + 0.2 for n in sizes} for seed in range(3)})
    assert bent.exponent_stderr > 0.01
    # only sizes that all seeds have count, and nothing is fitted to one
    assert power_law({0: {1: 1.0, 2: 0.5, 4: 9.0}, 1: {1: 1.0, 2: 0.5}}).exponent == pytest.approx(1.0)
    assert power_law({0: {1: 1.0}}) is None
    assert power_law({}) is None
    assert mean_of([1.0, None, 3.0]).stderr == pytest.approx(1.0)
    assert mean_of([None]) is None


# ----- kills, failures, growth ----------------------------------------------------------------------------------------


def fake(job):
    write_metrics(job, 100.0 / job.data.n_train + job.train.seed, test=200.0 / job.data.n_train + job.train.seed)


def test_finished_trainings_are_kept_and_a_curve_grows(tmp_path, data, monkeypatch):
    jobs = in_this_process(monkeypatch, fake)
    run_learning_curve(curve(tmp_path / "run", data), progress=False)
    assert len(jobs) == 6
    run_learning_curve(curve(tmp_path / "run", data, table={"workers": 2}), progress=False)
    assert len(jobs) == 6
    (tmp_path / "run" / "trainings/schnet/8/seed-1/test.json").unlink()  # killed between training and test
    grown = run_learning_curve(curve(tmp_path / "run", data, table={"sizes": [2, *SIZES]}), progress=False)
    assert [(job.data.n_train, job.train.seed) for job in jobs[6:]] == [(2, 0), (2, 1), (8, 1)]
    assert [point.size for point in grown.points] == [2, 4, 8, 12]
    grown = run_learning_curve(curve(tmp_path / "run", data, table={"sizes": [2, *SIZES], "seeds": 3}), progress=False)
    assert len(jobs) == 9 + 4
    assert grown.points[0].errors["forces"].mean == pytest.approx(101.0)


def test_a_tuple_in_a_model_is_the_list_that_is_kept(tmp_path, data, monkeypatch):
    jobs = in_this_process(monkeypatch, fake)
    several = {"sgdml": {"sigma": (10.0, 20.0)}}
    for _ in range(2):
        run_learning_curve(curve(tmp_path / "run", data, model=None, table={"models": several}), progress=False)
    assert len(jobs) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"table": {"sizes": [4, 12]}},
            r"learning_curve\.sizes \(was \[4, 8, 12\], now \[4, 12\]; values may be",
        ),
        ({"table": {"sizes": [4, 8, 12, 14]}}, r"learning_curve\.steps"),  # max_epochs is of the largest
        ({"learning_rate": 0.5}, r"train\.learning_rate \(was 0\.01, now 0\.5\)"),
        ({"model": {**cases.SCHNET, "features": 4}}, r"learning_curve\.models\.schnet\.features \(was 8, now 4\)"),
        ({"held": {"n_test": 5}}, r"data\.n_test"),
    ],
)
def test_another_campaign_is_refused(tmp_path, data, monkeypatch, change, message):
    jobs = in_this_process(monkeypatch, fake)
    train = {"batch_size": 1, "learning_rate": 0.01}
    run_learning_curve(curve(tmp_path / "run", data, **train), progress=False)
    with pytest.raises(ConfigError, match=message):
        run_learning_curve(curve(tmp_path / "run", data, **{**train, **change}), progress=False)
    assert len(jobs) == 6


def test_other_contents_of_a_file_are_refused(tmp_path, monkeypatch):
    in_this_process(monkeypatch, fake)
    file = cases.write(tmp_path / "all.extxyz", cases.clusters(24))
    run_learning_curve(curve(tmp_path / "run", file), progress=False)
    cases.write(file, cases.clusters(24, seed=8))
    with pytest.raises(ConfigError, match=r"contents of the file of data\.train"):
        run_learning_curve(curve(tmp_path / "run", file), progress=False)


def test_a_failure_is_reported_stops_no_other_and_is_tried_again(tmp_path, data, monkeypatch, capsys):
    def fails(job):
        if (job.data.n_train, job.train.seed) == (8, 0):
            raise RuntimeError("no luck")
        fake(job)

    jobs = in_this_process(monkeypatch, fails)
    (tmp_path / "curve.toml").write_text(to_toml(as_training(tmp_path / "run", data)))
    words = ["learning-curve", str(tmp_path / "curve.toml"), "--sizes", "4,8,12", "--seeds", "2", "--workers", "1"]
    assert main(words) == 1
    shown = capsys.readouterr()
    assert "1 of 6 trainings failed" in shown.err
    assert "trainings/schnet/8/seed-0: no luck" in shown.err
    assert "1 (1 failed)" in shown.out
    found = read_learning_curve(tmp_path / "run")
    assert [one.folder for one in found.failed] == ["trainings/schnet/8/seed-0"]
    assert found.points[1].errors["forces"].n == 1
    assert found.fit("schnet", "forces").n_sizes == 2
    assert len(jobs) == 6
    in_this_process(monkeypatch, fake)
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "falls as n^-b" in shown
    assert not read_learning_curve(tmp_path / "run").failed


def test_an_error_that_rises_does_not_fall():
    laws = [power_law({0: {4: 1.0, 8: error, 16: error}}) for error in (0.5, 1.1)]
    fits = tuple(CurveFit(model="schnet", quantity="forces", **law.model_dump()) for law in laws)
    falls, rises = describe_fits(LearningCurve.model_construct(fits=fits))
    assert "force MAE: falls as n^-b with b = 0." in falls
    assert "force MAE: does not fall: n^-b with b = -0." in rises


def as_training(folder, data):
    """The job of a training, which has no table for the learning curve."""
    raw = {
        "output": folder,
        "data": {"train": [data], "n_validation": 4, "n_test": 6},
        "model": cases.SCHNET,
        "train": {"max_epochs": 2, "device": "cpu"},
    }
    return validate(TrainJob, raw, "test")


def test_damaged_results_say_so(tmp_path):
    with pytest.raises(DataError, match=r"no learning_curve\.json"):
        read_learning_curve(tmp_path)
    (tmp_path / "learning_curve.json").write_text("{")
    with pytest.raises(DataError, match="run the campaign again"):
        read_learning_curve(tmp_path)


@pytest.mark.slow
def test_a_killed_campaign_goes_on_from_its_last_states(tmp_path, data):
    (tmp_path / "curve.toml").write_text(to_toml(as_training(tmp_path / "run", data)))
    words = [
        sys.executable, "-m", "ase_mlcalc", "learning-curve", str(tmp_path / "curve.toml"), "--sizes", "4,12",
        "--seeds", "2", "--workers", "2", "--set", "train.max_epochs=400", "--set", "train.save_interval_s=0",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    states = tmp_path / "run" / "trainings/schnet/12"

    def done():
        return list((tmp_path / "run").glob("trainings/schnet/4/*/metrics.json"))

    first = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    try:
        deadline = time.monotonic() + 600
        while not (done() and list(states.glob("seed-*/training_state.pt"))):
            assert time.monotonic() < deadline
            assert first.poll() is None, "it ended before it could be killed"
            time.sleep(0.05)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    stamps = {path: path.stat().st_mtime_ns for path in done()}
    second = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    assert second.returncode == 0, second.stderr
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert any("resumed after epoch" in path.read_text() for path in states.glob("seed-*/output.txt"))
    found = read_learning_curve(tmp_path / "run")
    assert [one.status for one in found.trainings] == ["trained"] * 4
