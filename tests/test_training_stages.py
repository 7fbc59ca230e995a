"""Training part by part: what is fixed stays fixed, and a kill in any stage changes nothing."""

import re
import time
import tomllib

import pytest
import torch
from safetensors.torch import load_file
from training_cases import SCHNET, clusters, crystals, labelled, make_job, write

from ase_mlcalc import checkpoint
from ase_mlcalc.config import validate
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.training import begin, stages, steps, written
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.train import train

BODY_ORDER = {"name": "body_order", "cutoff": 5.0, "short_cutoff": 4.5, "features": 6, "n_steps": 1, "hidden": 6}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes longer than training here."""
    monkeypatch.setattr(written, "parity", lambda *_: None)
    monkeypatch.setattr(written, "learning_curves", lambda *_: None)


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data.xyz", clusters(8) + crystals(4))


def job_of(folder, data, **train):
    return make_job(folder, data, model=BODY_ORDER, **{"max_epochs": 10, "learning_rate": 0.01, **train})


def weights(folder):
    return load_file(folder / "model.safetensors")


def equal(one, other, prefix=""):
    names = [name for name in one if name.startswith(prefix)]
    return bool(names) and all(torch.equal(one[name], other[name]) for name in names)


# ----- stages -----


def test_each_stage_learns_its_part_and_nothing_else(tmp_path, data):
    result = train(job_of(tmp_path / "run", data), progress=False)
    one, two, last = (weights(tmp_path / "run" / name) for name in ("stage-1-pair", "stage-2-triplet", "."))
    assert {name.split(".")[0] for name in one} == {"pair"}
    assert {name.split(".")[0] for name in last} == {"pair", "triplet", "message_passing"}
    assert equal(one, two, "pair.")
    assert equal(one, last, "pair.")
    assert equal(two, last, "triplet.")
    assert result.checkpoint == tmp_path / "run" / "model.safetensors"
    assert result.epochs == 1 + 2 + 7
    assert checkpoint.load(result.checkpoint).model.config.cutoff == 5.0
    whole = validate(TrainJob, tomllib.loads((tmp_path / "run" / stages.JOB_FILE).read_text()), "stages.toml")
    assert whole.train.max_epochs == 10
    assert whole.train.stages


class KilledError(Exception):
    """Stands for a kill."""


def killed_in_step(number):
    count = 0

    def step(run, batch, step=steps.step):
        nonlocal count
        count += 1
        if count == number:
            raise KilledError
        return step(run, batch)

    return step


def test_a_kill_in_any_stage_changes_nothing(tmp_path, data):
    whole = train(job_of(tmp_path / "whole", data), progress=False)
    steps_per_epoch = 3
    kills = {"stage-1-pair": 2, "stage-2-triplet": steps_per_epoch * 2 + 1, ".": steps_per_epoch * 6}
    for number, (stage, step) in enumerate(kills.items()):
        folder = tmp_path / f"killed{number}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(steps, "step", killed_in_step(step))
            with pytest.raises(KilledError):
                train(job_of(folder, data), progress=False)
        assert (folder / stage).is_dir()
        assert not (folder / stage / "metrics.json").exists(), "it was killed in another stage than meant"
        before = {path: path.stat().st_mtime_ns for path in folder.glob("stage-*/model.safetensors")}
        resumed = train(job_of(folder, data), progress=False)
        finished = [path for path in before if path.parent.name < stage and stage != "."]
        assert all(path.stat().st_mtime_ns == before[path] for path in finished), "a finished stage was repeated"
        assert equal(weights(tmp_path / "whole"), weights(folder))
        assert resumed.metrics == whole.metrics


def test_a_finished_run_is_left_alone_and_may_be_moved(tmp_path, data, capsys):
    first = train(job_of(tmp_path / "run", data), progress=False)
    (tmp_path / "run").rename(tmp_path / "moved")
    taken = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "step", lambda *_: taken.append(1))
        again = train(job_of(tmp_path / "moved", data))
    assert not taken
    assert again.metrics == first.metrics
    assert again.epochs == first.epochs
    assert "stage 1 of 3: pair is done" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"another configuration.*learning_rate"):
        train(job_of(tmp_path / "moved", data, learning_rate=0.02), progress=False)


def test_time_is_shared_out(tmp_path, data):
    shares = stages.shared_out(job_of(tmp_path, data, max_epochs=None, max_minutes=10.0), (0.1, 0.2, 0.7))
    assert [minutes for _, minutes in shares] == pytest.approx([1, 2, 7])
    assert [epochs for epochs, _ in stages.shared_out(job_of(tmp_path, data, max_epochs=2), (1, 2, 7))] == [1, 1, 1]


def test_minutes_limit_all_stages_together(tmp_path, data, monkeypatch):
    def slow_step(run, batch, step=steps.step):
        time.sleep(0.05)
        return step(run, batch)

    monkeypatch.setattr(begin, "PICTURES_S", 0.2)
    monkeypatch.setattr(steps, "step", slow_step)
    began = time.monotonic()
    result = train(job_of(tmp_path / "run", data, max_epochs=None, max_minutes=0.1), progress=False)
    assert time.monotonic() - began < 9
    assert result.minutes < 0.15
    assert result.stopped == "0.07 minutes used"


def test_stages_can_be_left_out(tmp_path, data):
    train(job_of(tmp_path / "run", data, stages=False, max_epochs=1), progress=False)
    assert not list((tmp_path / "run").glob("stage-*"))
    plain = make_job(tmp_path / "schnet", data, max_epochs=1)
    assert not stages.wanted(plain)
    assert not stages.wanted(job_of(tmp_path, data, learn=["pair"]))
    assert stages.wanted(job_of(tmp_path, data))


# ----- starting from other weights, learning a part -----


@pytest.fixture
def first(tmp_path, data):
    return train(make_job(tmp_path / "first", data, max_epochs=2), progress=False).checkpoint


def test_only_what_is_named_is_learned(tmp_path, data, first):
    job = make_job(tmp_path / "tuned", data, start_from=first, learn=["readout", "interactions.*.after.*"])
    train(job, progress=False)
    before, after = load_file(first), weights(tmp_path / "tuned")
    for name in before:
        learned = name.startswith("readout.") or ".after." in name
        assert torch.equal(before[name], after[name]) != learned, name


def test_the_scales_stay_and_reference_energies_are_fitted_anew(tmp_path, data, first):
    others = clusters(12, seed=7)
    for atoms in others:
        atoms.calc.results["energy"] += 3.0 * len(atoms)
        atoms.calc.results["forces"] *= 2.0
    job = make_job(tmp_path / "run", write(tmp_path / "others.xyz", others), start_from=first, max_epochs=1)
    old, new = checkpoint.load(first), checkpoint.load(train(job, progress=False).checkpoint)
    assert new.baseline.energy_scale == old.baseline.energy_scale
    assert new.baseline.species_energy[18] > old.baseline.species_energy[18] + 2


def test_without_a_step_the_weights_are_those_of_the_start(tmp_path, data, first, monkeypatch):
    monkeypatch.setattr(steps, "step", lambda *_: torch.zeros(2, dtype=torch.float64))
    train(make_job(tmp_path / "same", data, start_from=first, max_epochs=1), progress=False)
    assert equal(load_file(first), weights(tmp_path / "same"))


def test_weights_keep_the_numbers_that_they_were_trained_with(tmp_path, first, monkeypatch):
    """With another average number of neighbours the same weights would be another potential."""
    monkeypatch.setattr(steps, "step", lambda *_: torch.zeros(2, dtype=torch.float64))
    old = checkpoint.load(first)
    denser = [atoms.repeat((1, 1, 2)) for atoms in crystals(3)]
    data = write(tmp_path / "denser.xyz", [labelled(atoms, "energy", "forces") for atoms in denser])
    model = {**SCHNET, "species": [18, 36]}
    untouched = checkpoint.load(train(make_job(tmp_path / "a", data, model=model), progress=False).checkpoint)
    assert untouched.model.config.mean_neighbors > 1.3 * old.model.config.mean_neighbors, "nothing to tell them apart"
    new = checkpoint.load(
        train(make_job(tmp_path / "b", data, model=model, start_from=first), progress=False).checkpoint
    )
    graph = from_atoms(denser[0], old.cutoff)
    assert torch.equal(old(graph).forces, new(graph).forces)
    assert new.baseline.species_energy[36] == old.baseline.species_energy[36], "krypton is not in the new data"
    own = {**model, "mean_neighbors": 20.0}
    job = make_job(tmp_path / "c", data, model=own, start_from=first)
    assert checkpoint.load(train(job, progress=False).checkpoint).model.config.mean_neighbors == 20.0


def test_numbers_of_the_start_that_do_not_fit_the_model_are_refused(tmp_path, data, monkeypatch):
    monkeypatch.setattr(steps, "step", lambda *_: torch.zeros(2, dtype=torch.float64))
    network = {"name": "behler_parrinello", "cutoff": 5.0, "n_radial": 4, "angular_cutoff": 4.0, "hidden": [4, 4]}
    first = train(make_job(tmp_path / "first", data, model=network), progress=False).checkpoint
    job = make_job(tmp_path / "run", data, model={**network, "n_radial": 5}, start_from=first)
    with pytest.raises(ConfigError, match=r"the rest as train\.start_from has it: .*32 values for 34 functions$"):
        train(job, progress=False)


def test_what_does_not_fit_begins_at_random_and_is_said(tmp_path, data, first, capsys):
    model = {**SCHNET, "n_interactions": 2}
    train(make_job(tmp_path / "deeper", data, model=model, start_from=first, max_epochs=1))
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"starting from .*first/model.safetensors; \d+ parameters begin at random \(interactions\.1\.", said
    )


def test_killed_and_resumed_from_a_start_is_equal_to_the_last_bit(tmp_path, data, first):
    def job(name):
        return make_job(tmp_path / name, data, start_from=first, learn=["readout"], max_epochs=4)

    train(job("whole"), progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "step", killed_in_step(8))
        with pytest.raises(KilledError):
            train(job("killed"), progress=False)
    train(job("killed"), progress=False)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


def test_a_start_that_changed_is_refused(tmp_path, data, first):
    train(make_job(tmp_path / "run", data, start_from=first, max_epochs=1), progress=False)
    other = train(make_job(tmp_path / "other", data, seed=4, max_epochs=1), progress=False).checkpoint
    with pytest.raises(ConfigError, match="started from other weights"):
        train(make_job(tmp_path / "run", data, start_from=other, max_epochs=1), progress=False)
    moved = first.rename(tmp_path / "elsewhere.safetensors")
    train(make_job(tmp_path / "run", data, start_from=moved, max_epochs=1), progress=False)


def test_starts_and_parts_that_do_not_fit_are_refused(tmp_path, data, first):
    def refused(match, **keys):
        with pytest.raises(ConfigError, match=match):
            train(make_job(tmp_path / "run", data, max_epochs=1, **keys), progress=False)

    refused(r"holds a model 'schnet' and this job trains 'body_order'", start_from=first, model=BODY_ORDER)
    refused(
        r"species \[18, 36\], this job is for \[18, 36, 54\]",
        start_from=first,
        model={**SCHNET, "species": [18, 36, 54]},
    )
    refused("no parameter of the name and shape", start_from=first, model={**SCHNET, "features": 16, "n_gaussians": 5})
    refused(r"fits 'read_out'; there are .*readout\.0\.bias", learn=["readout", "read_out"])
    assert not (tmp_path / "run" / "training_state.pt").exists()
