"""Training ensembles: members differ as they should, kills cost nothing, and spread is calibrated."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_cases import clusters, crystals, isolated_atoms, labelled, make_job, write

from ase_mlcalc import checkpoint
from ase_mlcalc.data.frames import elements
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import CheckpointError, ConfigError, DataError, MLCalcError
from ase_mlcalc.training import begin, calibration, members, steps, written
from ase_mlcalc.training.calibration import (
    Calibration,
    calibrate,
    calibrate_files,
    calibration_curve,
    miscalibration_area,
)
from ase_mlcalc.training.dataset import load
from ase_mlcalc.training.evaluate import evaluate_files
from ase_mlcalc.training.train import train, train_one


@pytest.fixture
def mixed(tmp_path):
    return write(tmp_path / "mixed.xyz", clusters(12) + crystals(12) + isolated_atoms())


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing takes longer than training here."""
    monkeypatch.setattr(written, "parity", lambda *_: None)
    monkeypatch.setattr(written, "learning_curves", lambda *_: None)
    monkeypatch.setattr(members, "parity", lambda *_: None)
    monkeypatch.setattr(calibration, "calibration_plot", lambda *_: None)


def ensemble_job(folder, file, **train):
    return make_job(folder, file, data={"n_validation": 8}, **{"members": 3, "learning_rate": 0.01, **train})


def weights(path):
    return load_file(path / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ----- training -------------------------------------------------------------------------------------------------------


def test_members_are_ordinary_runs_and_make_one_potential(tmp_path, mixed, monkeypatch):
    monkeypatch.setattr(written, "parity", lambda *_: None)  # those of the ensemble are enough
    monkeypatch.setattr(written, "learning_curves", lambda *_: None)
    job = ensemble_job(tmp_path / "run", mixed)
    result = train(job, progress=False)
    loaded = checkpoint.load(result.checkpoint)
    assert isinstance(loaded, Ensemble)
    assert len(loaded.members) == 3
    folder = job.output
    for name in ("metrics.json", "config.toml", "parity.png", "calibration.png", "calibration.json"):
        assert (folder / name).stat().st_size > 0
    # the first member is the run that one would have got without an ensemble
    alone = train(make_job(tmp_path / "alone", mixed, data={"n_validation": 8}, learning_rate=0.01), progress=False)
    assert same(weights(folder / "member-1"), weights(tmp_path / "alone"))
    assert not same(weights(folder / "member-2"), weights(folder / "member-1"))
    for number in (1, 2, 3):
        own = {f"member-{number}.{name}": tensor for name, tensor in weights(folder / f"member-{number}").items()}
        assert same(own, {name: tensor for name, tensor in weights(folder).items() if name in own})

    raw = json.loads((folder / "metrics.json").read_text())
    assert [member["seed"] for member in raw["members"]] == [0, 1000, 2000]
    assert raw["members"][0]["force_mae_meV_per_A"] == pytest.approx(alone.metrics.force_mae_meV_per_A, rel=1e-6)
    assert raw["epochs"] == 3
    # the mean is no worse than the members are on average, and what is written is what is measured
    rmse = [member["force_rmse_meV_per_A"] for member in raw["members"]]
    assert result.metrics.force_rmse_meV_per_A < np.sqrt(np.mean(np.square(rmse)))
    held = [labelled(frame.atoms, "energy", "forces") for frame in load(job.data).validation]
    write(tmp_path / "held.xyz", held)
    again = evaluate_files(result.checkpoint, [tmp_path / "held.xyz"], tmp_path / "out")
    assert again.force_rmse_meV_per_A == pytest.approx(result.metrics.force_rmse_meV_per_A, rel=1e-5)

    found = json.loads((folder / "calibration.json").read_text())["properties"]["forces"]
    assert loaded.uncertainty_scale["forces"] == found["scale"] > 0


class KilledError(Exception):
    """Stands for a kill."""


def test_killed_members_go_on_and_finished_ones_are_not_repeated(no_pictures, tmp_path, mixed):
    whole = train(ensemble_job(tmp_path / "whole", mixed), progress=False)
    job, trained = ensemble_job(tmp_path / "killed", mixed), []

    def dies_in_the_second(member, *, progress=True):
        trained.append(member.output.name)
        if len(trained) == 2:
            with pytest.MonkeyPatch.context() as patch:
                step, calls = steps.step, []

                def killed(*args):
                    calls.append(args)
                    if len(calls) == 7:
                        raise KilledError
                    return step(*args)

                patch.setattr(steps, "step", killed)
                return train_one(member, progress=progress)
        return train_one(member, progress=progress)

    with pytest.raises(KilledError):
        members.train(job, dies_in_the_second, progress=False)
    assert trained == ["member-1", "member-2"]
    assert not (job.output / "model.safetensors").exists()
    before = (job.output / "member-1" / "model.safetensors").stat().st_mtime_ns
    resumed = train(job, progress=False)
    assert (job.output / "member-1" / "model.safetensors").stat().st_mtime_ns == before
    assert same(weights(job.output), weights(tmp_path / "whole"))
    assert resumed.metrics == whole.metrics


def test_a_finished_ensemble_is_left_alone_and_a_larger_one_adds_members(no_pictures, tmp_path, mixed, capsys):
    first = train(ensemble_job(tmp_path / "run", mixed), progress=False)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*/*") if path.name != ".lock"}
    made = first.checkpoint.stat().st_mtime_ns
    assert train(ensemble_job(tmp_path / "run", mixed)) == first
    assert "holds a finished ensemble" in capsys.readouterr().out
    assert first.checkpoint.stat().st_mtime_ns == made
    more = ensemble_job(tmp_path / "run", mixed, members=4)
    assert len(checkpoint.load(train(more, progress=False).checkpoint).members) == 4
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_other_runs_in_the_folder_are_refused(no_pictures, tmp_path, mixed):
    train(make_job(tmp_path / "single", mixed), progress=False)
    with pytest.raises(ConfigError, match="holds the run of a single model"):
        train(ensemble_job(tmp_path / "single", mixed), progress=False)
    train(ensemble_job(tmp_path / "run", mixed), progress=False)
    with pytest.raises(ConfigError, match=r"member 1: .*train\.batch_size \(was 4, now 2\)"):
        train(ensemble_job(tmp_path / "run", mixed, batch_size=2), progress=False)
    with pytest.raises(ConfigError, match="choose another output folder"):
        train(make_job(tmp_path / "run", mixed), progress=False)
    with pytest.raises(ConfigError, match="give members"):
        make_job(tmp_path / "x", mixed, bootstrap=True)


def test_a_failing_member_is_named(no_pictures, tmp_path, mixed, monkeypatch):
    monkeypatch.setattr(steps, "step", lambda *_: torch.full((2,), torch.nan, dtype=torch.float64))
    with pytest.raises(MLCalcError, match=r"^member 1: the loss became NaN"):
        train(ensemble_job(tmp_path / "run", mixed), progress=False)


def test_members_that_would_be_equal_are_refused(tmp_path, mixed):
    """A model in closed form does not depend on the seed: its members would agree everywhere, and seem certain."""
    job = make_job(tmp_path / "run", mixed, model={"name": "sgdml"}, members=2)
    with pytest.raises(ConfigError, match=r"'sgdml' is solved in closed form.*train\.bootstrap = true"):
        train(job, progress=False)
    assert not (tmp_path / "run").exists()


def test_time_is_shared_out(tmp_path, mixed):
    job = ensemble_job(tmp_path / "run", mixed, max_minutes=20.0, workers=2)
    jobs = members.member_jobs(job)
    assert [member.train.max_minutes for member in jobs] == [pytest.approx(20.0 * 0.95 / 2)] * 3
    assert {member.train.members for member in jobs} == {1}
    assert [member.output.name for member in jobs] == ["member-1", "member-2", "member-3"]


@pytest.mark.slow
def test_members_side_by_side_are_the_same_members(no_pictures, tmp_path, mixed):
    few = {"members": 2, "max_epochs": 1}
    train(ensemble_job(tmp_path / "one", mixed, **few), progress=False)
    train(ensemble_job(tmp_path / "two", mixed, **few, workers=2), progress=False)
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert "epoch 1" in (tmp_path / "two/member-2/output.txt").read_text()


@pytest.mark.slow
def test_a_failure_side_by_side_is_one_line(no_pictures, tmp_path, mixed):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "member-2").write_text("not a folder")
    with pytest.raises(MLCalcError, match=r"member 2: cannot make the output folder .*member-2") as caught:
        train(ensemble_job(tmp_path / "run", mixed, members=2, max_epochs=1, workers=2), progress=False)
    assert "\n" not in str(caught.value)


# ----- bootstrap ------------------------------------------------------------------------------------------------------


def test_bootstrap_samples_differ_and_validation_structures_do_not(tmp_path, mixed):
    def positions(frames):
        return [frame.atoms.positions.tobytes() for frame in frames]

    plain = load(ensemble_job(tmp_path / "run", mixed).data)
    drawn = [load(job.data) for job in members.member_jobs(ensemble_job(tmp_path / "run", mixed, bootstrap=True))]
    for one in drawn:
        assert positions(one.validation) == positions(plain.validation)
        assert len(one.train) == len(plain.train)
        assert set(positions(one.train)) < set(positions(plain.train))  # none new, some left out
        assert positions(one.train[:2]) == positions(plain.train[:2])  # isolated atoms
        assert elements(one.train) == [18, 36]
    assert positions(drawn[0].train) != positions(drawn[1].train)
    again = load(members.member_jobs(ensemble_job(tmp_path / "run", mixed, bootstrap=True))[1].data)
    assert positions(again.train) == positions(drawn[1].train)


def test_repetition_by_bootstrap_is_no_problem_of_the_data(tmp_path, mixed):
    job = members.member_jobs(ensemble_job(tmp_path / "run", mixed, bootstrap=True))[0]
    data = load(job.data)
    assert len({id(frame) for frame in data.train}) < len(data.train), "nothing was drawn twice"
    said = []
    report = SimpleNamespace(say=said.append)
    begin.point_out_problems(load(ensemble_job(tmp_path / "run", mixed).data), report)
    before = list(said)
    begin.point_out_problems(data, report)
    assert said == 2 * before


def test_a_bootstrap_sample_keeps_rare_elements(tmp_path):
    rare = write(tmp_path / "rare.xyz", clusters(1) + crystals(9))
    held = write(tmp_path / "held.xyz", crystals(2, seed=5))
    for seed in range(6):
        job = make_job(tmp_path / "run", rare, data={"validation": [held], "bootstrap_seed": seed})
        assert elements(load(job.data).train) == [18, 36]


# ----- calibration ----------------------------------------------------------------------------------------------------


def drawn_errors(factor, items=4000, seed=0):
    """Spreads over a decade, and errors that are normal with `factor` times the spread."""
    rng = np.random.default_rng(seed)
    spread = 10 ** rng.uniform(-2, -1, items)
    return spread, rng.normal(size=(items, 3)) * (factor * spread / math.sqrt(3))[:, None]


def test_the_known_factor_is_found():
    found = calibrate(*drawn_errors(2.0))
    assert found.scale == pytest.approx(2.0, rel=0.02)
    assert found.miscalibration_area_rescaled < 0.01
    # with twice the standard deviation, a fraction erf(x / 2) lies where erf(x) should: integrated over p
    expected = 0.5 - 2 / np.pi * np.arctan(1 / 2.0)
    assert found.miscalibration_area == pytest.approx(expected, abs=0.01)
    assert found.rank_correlation > 0.5
    assert found.error_rms == pytest.approx(2.0 * found.spread_rms, rel=0.03)


def test_a_calibrated_spread_needs_no_factor_and_a_meaningless_one_has_no_rank():
    spread, error = drawn_errors(1.0)
    found = calibrate(spread, error)
    assert found.scale == pytest.approx(1.0, rel=0.02)
    assert found.miscalibration_area < 0.01
    shuffled = calibrate(np.random.default_rng(1).permutation(spread), error)
    assert abs(shuffled.rank_correlation) < 0.05
    expected, observed = calibration_curve(error * (math.sqrt(3) / spread)[:, None])
    assert np.abs(expected - observed).max() < 0.02


def test_the_area_is_exact():
    assert miscalibration_area(np.zeros(5)) == pytest.approx(0.5)  # everything is inside, however small the interval
    assert miscalibration_area(np.full(7, 1e9)) == pytest.approx(0.5)
    # one value in the middle of the distribution: a step at p = 1/2
    assert miscalibration_area(np.array([0.6744897501960817])) == pytest.approx(0.25)


def test_items_without_spread_are_counted_and_too_few_are_refused():
    spread, error = drawn_errors(1.0, 30)
    spread[:4] = 0.0
    found = calibrate(spread, error)
    assert (found.n_items, found.n_without_spread) == (26, 4)
    with pytest.raises(DataError, match="at least 10 labelled items"):
        calibrate(np.zeros(30), error)
    with pytest.raises(DataError, match="NaN"):
        calibrate(np.full(30, np.nan), error)
    assert calibrate(np.ones(30), error).rank_correlation is None


def test_calibration_of_files(no_pictures, tmp_path, mixed):
    made = train(ensemble_job(tmp_path / "run", mixed), progress=False).checkpoint
    data = write(tmp_path / "test.xyz", crystals(6, seed=8) + clusters(6, seed=9))
    found = calibrate_files(made, [data], tmp_path / "out", batch_size=5)
    assert found.keys() == {"forces"}  # six crystals with a stress are too few
    assert found["forces"].n_items == 6 * 4 + 6 * 4
    more = write(tmp_path / "more.xyz", crystals(12, seed=8))
    assert calibrate_files(made, [more], tmp_path / "more").keys() == {"forces", "stress"}
    written = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert Calibration.model_validate(written["properties"]["forces"]) == found["forces"]
    # by hand: forces of each member through one graph a structure
    before, after = checkpoint.load(made), checkpoint.load(tmp_path / "out" / "model.safetensors")
    assert after.uncertainty_scale == {"forces": found["forces"].scale}
    assert before.uncertainty_scale != after.uncertainty_scale
    assert same(weights(tmp_path / "run"), weights(tmp_path / "out"))
    with pytest.raises(CheckpointError, match="holds one model"):
        calibrate_files(tmp_path / "run/member-1/model.safetensors", [data], tmp_path / "no")
    unlabelled = write(tmp_path / "energy.xyz", crystals(3, names=("energy",)))
    with pytest.raises(DataError, match="nothing to calibrate"):
        calibrate_files(made, [unlabelled], tmp_path / "no")
    with pytest.raises(ConfigError, match="cannot make the output folder"):
        calibrate_files(made, [data], data)
