import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_cases import SCHNET, clusters, crystals, isolated_atoms, make_job, write

from ase_mlcalc import checkpoint
from ase_mlcalc import model as models
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import CheckpointError, ConfigError, DataError, MLCalcError, NumericalError
from ase_mlcalc.files import exclusive
from ase_mlcalc.model import Model, ModelConfig, SpeciesIndex
from ase_mlcalc.properties import Properties
from ase_mlcalc.training import begin, loop, steps, written
from ase_mlcalc.training.ema import MovingAverage
from ase_mlcalc.training.evaluate import evaluate_files
from ase_mlcalc.training.loop import train
from ase_mlcalc.training.optimizers import make_optimizer
from ase_mlcalc.training.progress import SHOWN, ProgressReport, duration
from ase_mlcalc.training.state import STATE_FILE, Fingerprint, TrainingState


@pytest.fixture
def mixed(tmp_path):
    """Molecules without stress, crystals with it, and isolated atoms with neither edges nor forces."""
    return write(tmp_path / "mixed.xyz", clusters(12) + crystals(8) + isolated_atoms())


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing takes longer than training here."""
    monkeypatch.setattr(written, "parity", lambda *_: None)
    monkeypatch.setattr(written, "learning_curves", lambda *_: None)


def weights(folder):
    return load_file(folder / "model.safetensors")


def same_weights(one, other):
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def log(folder, *, without=("minutes",)):
    with open(folder / "log.csv") as file:
        return [{key: value for key, value in row.items() if key not in without} for row in csv.DictReader(file)]


def test_learns_a_mixed_data_set(tmp_path, mixed):
    job = make_job(tmp_path / "run", mixed, max_epochs=50, learning_rate=0.01, validate_every=10, ema_decay=0.9)
    seeds, deterministic = torch.random.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    result = train(job, progress=False)
    assert torch.equal(seeds, torch.random.get_rng_state())  # nothing global is changed
    assert torch.are_deterministic_algorithms_enabled() == deterministic

    rows = log(job.output)
    assert [row["epoch"] for row in rows] == ["10", "20", "30", "40", "50"]
    assert float(rows[-1]["val_force_mae_meV_per_A"]) < 0.6 * float(rows[0]["val_force_mae_meV_per_A"])
    assert float(rows[-1]["learning_rate"]) < 0.01 * job.train.learning_rate
    assert {"train_loss", "val_energy_mae_meV_per_atom", "val_stress_mae_GPa"} <= rows[0].keys()
    for name in ("metrics.json", "parity.png", "learning_curves.png", "config.toml", STATE_FILE):
        assert (job.output / name).stat().st_size > 0

    written = json.loads((job.output / "metrics.json").read_text())
    assert written["force_mae_meV_per_A"] == result.metrics.force_mae_meV_per_A
    # the checkpoint is what was measured, and isolated atoms have the energies of the data
    assert checkpoint.load(result.checkpoint).dtype == torch.float32
    for atoms in isolated_atoms():
        reference = atoms.get_potential_energy()
        atoms.calc = MLCalculator(result.checkpoint)
        assert atoms.get_potential_energy() == pytest.approx(reference, abs=1e-6)


def test_the_checkpoint_is_the_best_moving_average(no_pictures, tmp_path, mixed):
    job = make_job(tmp_path / "run", mixed, max_epochs=6, learning_rate=0.02, schedule="constant")
    result = train(job, progress=False)
    rows, header = log(job.output), checkpoint.read_header(result.checkpoint)
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert header.provenance["best_epoch"] == float(best["epoch"])
    assert result.metrics.force_mae_meV_per_A == pytest.approx(float(best["val_force_mae_meV_per_A"]), rel=1e-6)


def test_the_metrics_of_train_and_evaluate_agree(tmp_path):
    training = write(tmp_path / "train.xyz", clusters(8))
    held_back = write(tmp_path / "held.xyz", clusters(5, seed=5) + crystals(2))
    job = make_job(tmp_path / "run", training, data={"validation": [held_back]})
    result = train(job, progress=False)
    again = evaluate_files(result.checkpoint, [held_back], tmp_path / "out", batch_size=2, predictions=True)
    assert again.force_mae_meV_per_A == pytest.approx(result.metrics.force_mae_meV_per_A, rel=1e-5)
    assert again.stress_mae_GPa == pytest.approx(result.metrics.stress_mae_GPa, rel=1e-4)
    assert set(again.groups) == {"cluster", "crystal"}
    assert json.loads((tmp_path / "out/metrics.json").read_text())["n_structures"] == 7
    predicted = ase.io.read(tmp_path / "out/predictions.extxyz", index=":")
    assert all(frame.info["stress_definition"] == "edge" for frame in predicted if "stresses" in frame.calc.results)
    labelled = ase.io.read(held_back, index=":")
    error = [abs(p.get_forces() - a.get_forces()).ravel() for p, a in zip(predicted, labelled, strict=True)]
    assert 1000 * np.concatenate(error).mean() == pytest.approx(again.force_mae_meV_per_A, rel=1e-5)
    assert predicted[0].arrays["REF_forces"] == pytest.approx(labelled[0].get_forces(), abs=1e-7)


class KilledError(Exception):
    """Stands for a kill."""


def after(calls, function):
    """The function, killed in its call number `calls`."""
    count = 0

    def wrapped(*args, **kwargs):
        nonlocal count
        count += 1
        if count == calls:
            raise KilledError
        return function(*args, **kwargs)

    return wrapped


KILLS = {
    "in the first step": (steps, "step", 1),
    "in the middle of an epoch": (steps, "step", 9),
    "before a validation": (loop, "_validate", 2),
    "before the state is written": (TrainingState, "write", 2),
    "between state and checkpoint": (written, "write_derived", 2),
    "at the end": (loop, "finish", 1),
    "before the metrics are written": (written, "learning_curves", 1),
}


@pytest.mark.parametrize("save_interval_s", [0.0, 1000.0])
def test_killed_anywhere_and_resumed_is_equal_to_the_last_bit(no_pictures, tmp_path, mixed, save_interval_s):
    def job(name):
        return make_job(tmp_path / name, mixed, max_epochs=4, learning_rate=0.01, save_interval_s=save_interval_s)

    whole = train(job("whole"), progress=False)
    rare = save_interval_s > 0
    for number, (where, name, calls) in enumerate(list(KILLS.values())[:: 3 if rare else 1]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, name, after(calls, getattr(where, name)))
            with pytest.raises(KilledError):
                train(job(f"killed{number}"), progress=False)
        resumed = train(job(f"killed{number}"), progress=False)
        assert same_weights(tmp_path / "whole", tmp_path / f"killed{number}"), (name, calls)
        assert log(tmp_path / "whole") == log(tmp_path / f"killed{number}")
        assert resumed.metrics == whole.metrics


def test_killed_by_the_system_and_resumed(no_pictures, tmp_path, mixed):
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from training_cases import make_job
        from ase_mlcalc.training.loop import train
        if __name__ == "__main__":
            train(make_job(Path(sys.argv[1]), Path({str(mixed)!r}), max_epochs=30, learning_rate=0.01), progress=False)
    """)
    (tmp_path / "script.py").write_text(script)
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, tmp_path / "script.py", tmp_path / "killed"]
    process = subprocess.Popen(command, env=environment)  # noqa: S603  (our own)
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed" / STATE_FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    leftover = tmp_path / "killed" / f".{STATE_FILE}.x.part"
    leftover.write_text("half a file")
    for name in ("killed", "whole"):
        train(make_job(tmp_path / name, mixed, max_epochs=30, learning_rate=0.01), progress=False)
    assert same_weights(tmp_path / "whole", tmp_path / "killed")
    assert log(tmp_path / "whole") == log(tmp_path / "killed")
    assert not leftover.exists()


def test_the_seed_matters(no_pictures, tmp_path, mixed):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(hash(name) % 1000)  # the run does not depend on the state of the world
        train(make_job(tmp_path / name, mixed, max_epochs=1, seed=seed), progress=False)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


def test_a_finished_run_is_left_alone(tmp_path, mixed, capsys):
    first = train(make_job(tmp_path / "run", mixed), progress=False)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir() if path.name != ".lock"}
    again = train(make_job(tmp_path / "run", mixed))
    assert "finished" in capsys.readouterr().out
    assert again == first
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir() if p.name != ".lock"}


def test_another_configuration_or_other_data_in_the_same_folder(no_pictures, tmp_path, mixed):
    train(make_job(tmp_path / "run", mixed), progress=False)
    with pytest.raises(ConfigError, match=r"train\.batch_size \(was 4, now 2\)"):
        train(make_job(tmp_path / "run", mixed, batch_size=2), progress=False)
    with pytest.raises(ConfigError, match=r"model\.features \(was 8, now 4\)"):
        train(make_job(tmp_path / "run", mixed, model={**SCHNET, "features": 4}), progress=False)
    write(mixed, clusters(12, seed=9) + crystals(8) + isolated_atoms())
    with pytest.raises(ConfigError, match="changed since"):
        train(make_job(tmp_path / "run", mixed), progress=False)
    (tmp_path / "run" / STATE_FILE).write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="corrupt or foreign"):
        train(make_job(tmp_path / "run", mixed), progress=False)
    (tmp_path / "run" / STATE_FILE).unlink()
    with pytest.raises(ConfigError, match="choose another output folder"):
        train(make_job(tmp_path / "run", mixed), progress=False)


def test_two_processes_do_not_share_a_folder(tmp_path, mixed):
    with exclusive(tmp_path), pytest.raises(ConfigError, match="another process"):
        train(make_job(tmp_path, mixed), progress=False)


def test_a_run_that_blows_up_says_so_and_keeps_what_it_had(no_pictures, tmp_path, mixed):
    job = make_job(tmp_path / "run", mixed, max_epochs=4)
    with pytest.MonkeyPatch.context() as patch:
        taken = 0

        def bad_step(run, batch, step=steps.step):
            nonlocal taken
            taken += 1
            return step(run, batch) * (float("nan") if taken > 12 else 1.0)

        patch.setattr(steps, "step", bad_step)
        with pytest.raises(NumericalError, match=r"NaN or Inf in epoch 3 .*learning_rate"):
            train(job, progress=False)
    assert checkpoint.load(job.output / "model.safetensors").properties >= {"forces"}
    assert [row["epoch"] for row in log(job.output)] == ["1", "2"]


def test_a_full_disk_is_named_and_keeps_the_earlier_state(no_pictures, tmp_path, mixed):
    resource = pytest.importorskip("resource")
    job = make_job(tmp_path / "run", mixed, max_epochs=1)
    train(job, progress=False)
    before = (job.output / STATE_FILE).read_bytes()
    model = models.lookup("schnet")(models.lookup("schnet").Config())
    state = TrainingState(model, MovingAverage(model, 0.9), make_optimizer(model, job.train))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # the system refuses to write more, as on a full disk
    try:
        with pytest.raises(MLCalcError, match=r"cannot write .*training_state\.pt.*free space"):
            state.write(job.output, job, Fingerprint("another"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (job.output / STATE_FILE).read_bytes() == before
    assert not list(job.output.glob(".*.part"))


def test_minutes_limit_the_whole_command(no_pictures, tmp_path, mixed, monkeypatch):
    def slow_step(run, batch, step=steps.step):
        time.sleep(0.25)
        return step(run, batch)

    monkeypatch.setattr(begin, "PICTURES_S", 0.8)
    monkeypatch.setattr(steps, "step", slow_step)
    job = make_job(tmp_path / "run", mixed, max_epochs=None, max_minutes=0.05, batch_size=1)
    began = time.monotonic()
    result = train(job, progress=False)
    assert result.stopped == "0.05 minutes used"
    assert time.monotonic() - began < 4.9  # an epoch alone takes longer
    (row,) = log(job.output)
    assert float(row["learning_rate"]) < 0.3 * job.train.learning_rate  # steps take longer where the machine is busy
    assert 0 < float(row["epoch"]) == result.epochs < 1


def test_patience(no_pictures, tmp_path, mixed):
    job = make_job(
        tmp_path / "run", mixed, max_epochs=50, patience=2, learning_rate=1e-9, ema_decay=0.0, dtype="float64"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "step", lambda *_: torch.zeros(2, dtype=torch.float64))  # learns nothing
        result = train(job, progress=False)
    assert (result.epochs, result.stopped) == (3, "no improvement in 2 validations")


def test_energies_in_another_unit_are_pointed_out(no_pictures, tmp_path, capsys):
    frames = clusters(20)
    train(make_job(tmp_path / "right", write(tmp_path / "right.xyz", frames), max_epochs=1))
    assert "error in the data" not in capsys.readouterr().out
    for atoms in frames:
        atoms.calc.results["energy"] *= 23.06
    train(make_job(tmp_path / "wrong", write(tmp_path / "wrong.xyz", frames), max_epochs=1))
    assert "error in the data: " in (out := capsys.readouterr().out)
    assert "kcal/mol" in out


def test_brackets_are_shown_above_the_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressReport("training", shown=True) as report:
        report.say("wrote run[a]/model.safetensors")
    assert "wrote run[a]/model.safetensors" in capsys.readouterr().err


def test_time_left_is_reckoned_without_the_first_step(monkeypatch, capsys):
    """The first step compiles, or waits for what is made once."""
    clock = [0.0]
    monkeypatch.setattr("ase_mlcalc.training.progress.time.monotonic", lambda: clock[0])
    row = dict.fromkeys((*SHOWN, "epoch"), 1.0) | {"minutes": 1.0}
    with ProgressReport("training", shown=True) as report:
        for step in range(5):  # of 20; all but the first take a second
            clock[0] += 40.0 if step == 0 else 1.0
            report.update(step / 20)
            if step == 0:
                report.validated(row, 1 / 20, best=False)
        report.validated(row, 5 / 20, best=True)
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith("  60 s")
    assert last.endswith("  60 s, 15 s left  best")
    assert (duration(99), duration(120)) == ("99 s", "2.0 min")


def test_labels_that_are_asked_for_must_be_there(tmp_path):
    file = write(tmp_path / "a.xyz", clusters(6))
    with pytest.raises(DataError, match="stress asked for but in 0/"):
        train(make_job(tmp_path / "run", file, loss={"stress": 1.0}), progress=False)
    with pytest.raises(DataError, match="only 6"):
        train(make_job(tmp_path / "run", file, data={"n_train": 6, "n_validation": 1}), progress=False)
    assert not (tmp_path / "run" / STATE_FILE).exists()


class ToyConfig(ModelConfig):
    """A pair function as a sum of powers of the distance."""


@pytest.fixture
def toys(monkeypatch):
    """Models that predict forces or per-atom stresses directly; only this test sees them."""
    monkeypatch.setattr(models, "_REGISTRY", dict(models.registered()))

    def prepare(self, config):
        Model.__init__(self, config)
        self.species_index = SpeciesIndex(config.species)
        self.coefficients = torch.nn.Parameter(0.1 * torch.randn(6))

    def pair_function(self, graph):
        d_p = torch.linalg.vector_norm(graph.vectors, dim=1, keepdim=True)
        powers = torch.cat([(3.0 / d_p) ** k for k in (2, 4, 6, 8, 12, 14)], dim=1)
        return (powers @ self.coefficients)[:, None] * (d_p < self.config.cutoff)

    class ToyForces(Model, name="toy_forces", outputs={"forces"}):
        Config = ToyConfig
        __init__ = prepare

        def forward(self, graph):
            f_pc = pair_function(self, graph) * graph.vectors
            return Properties(forces=f_pc.new_zeros(graph.n_atoms, 3).index_add(0, graph.centers, f_pc))

    class ToyStresses(Model, name="toy_stresses", outputs={"stresses"}):
        Config = ToyConfig
        __init__ = prepare

        def forward(self, graph):
            r_pc = graph.vectors
            w_pab = pair_function(self, graph)[..., None] * r_pc[:, :, None] * r_pc[:, None, :]
            return Properties(stresses=w_pab.new_zeros(graph.n_atoms, 3, 3).index_add(0, graph.centers, w_pab))


@pytest.mark.parametrize("what", ["forces", "stresses"])
def test_direct_models_train_in_the_same_loop(no_pictures, tmp_path, toys, what):
    file = write(tmp_path / "a.xyz", crystals(20, names=("energy", "forces", "stress", "stresses")))
    job = make_job(
        tmp_path / "run", file, model={"name": f"toy_{what}"}, max_epochs=40, learning_rate=0.02, validate_every=10
    )
    result = train(job, progress=False)
    rows = log(job.output)
    assert float(rows[-1]["val_loss"]) < 0.75 * float(rows[0]["val_loss"])
    assert result.metrics.energy_mae_meV_per_atom is None
    assert (result.metrics.stresses_mae_GPa is None) == (what == "forces")
    assert (result.metrics.force_mae_meV_per_A is None) == (what == "stresses")
