"""Training by several processes: the same run as by one, but for the order in which numbers are added."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ase_mlcalc import checkpoint
from ase_mlcalc.config import validate
from ase_mlcalc.data.sets import water16
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.training.config import TrainJob, to_toml
from ase_mlcalc.training.processes import Processes
from ase_mlcalc.training.train import train

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
SMALL = {"name": "equivariant", "features": 16, "edge_features": 16, "cutoff": 3.5}


FAST = {"warmup_steps": 2, "evaluation_batch_size": 2, "validate_every": 1, "save_interval_s": 0.0}


def job(folder: Path, **train_keys) -> TrainJob:
    """Eleven structures in batches of two and three, so that the shares of two processes differ."""
    raw = {
        "output": folder,
        "data": {"train": water16("gfn1"), "index": ":16", "n_train": 11, "n_validation": 5},
        "model": SMALL,
        "train": {"max_epochs": 3, "batch_size": 3, "dtype": "float64", **FAST, **train_keys},
    }
    return validate(TrainJob, raw, "test")


def command_for(configuration: TrainJob) -> list[str]:
    file = configuration.output.parent / f"{configuration.output.name}.toml"
    file.write_text(to_toml(configuration))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return [*launcher, "-m", "ase_mlcalc", "train", str(file)]


def by_torchrun(configuration: TrainJob) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        command_for(configuration), capture_output=True, text=True, check=False, timeout=300, env=ONE_THREAD
    )


def curve(folder: Path) -> np.ndarray:
    """All columns of the log but the clock's."""
    with open(folder / "log.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(value or "nan") for name, value in row.items() if name != "minutes"] for row in rows])


@pytest.mark.parametrize("kernel", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_two_processes_train_as_one(tmp_path, kernel):
    torch.set_num_threads(1)
    train(job(tmp_path / "one", kernel=kernel), progress=False)
    done = by_torchrun(job(tmp_path / "two", kernel=kernel))
    assert done.returncode == 0, done.stderr
    assert "by 2 processes" in done.stdout
    assert done.stdout.count("wrote") == 1  # by the first process alone
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert one.shape == two.shape == (3, one.shape[1])
    assert one[0, 2] > 1.1 * one[-1, 2]  # the loss falls
    np.testing.assert_allclose(two, one, rtol=1e-6)
    weights = [checkpoint.load(tmp_path / name / "model.safetensors").model.state_dict() for name in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers of torchrun in Linux' /proc")
def test_a_killed_run_goes_on_where_batches_are_smaller_than_the_number_of_processes(tmp_path):
    whole, parts = (job(tmp_path / name, batch_size=1, max_epochs=12) for name in ("whole", "parts"))
    train(whole, progress=False)
    running = subprocess.Popen(  # noqa: S603
        command_for(parts), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ONE_THREAD
    )
    while not (parts.output / "training_state.pt").exists():
        assert running.poll() is None
        time.sleep(0.05)
    for worker in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split():
        os.kill(int(worker), signal.SIGKILL)
    assert running.wait() != 0
    assert not (parts.output / "metrics.json").exists()  # it was not over
    done = by_torchrun(parts)
    assert done.returncode == 0, done.stderr
    assert "resumed after epoch" in done.stdout
    np.testing.assert_allclose(curve(parts.output), curve(whole.output), rtol=1e-6)
    again = by_torchrun(parts)
    assert again.returncode == 0, again.stderr
    assert "holds a finished run" in again.stdout


def test_shares_are_disjoint_and_complete():
    items = list(range(11))
    shares = [list(Processes(rank, 4).share(items)) for rank in range(4)]
    assert sorted(item for share in shares for item in share) == items
    assert Processes(3, 4).share(items[:2]) == []


def test_ensembles_and_closed_forms_are_for_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr("ase_mlcalc.training.train.here", lambda: Processes(0, 2))
    with pytest.raises(ConfigError, match="cannot share an ensemble"):
        train(job(tmp_path / "members", members=2), progress=False)
