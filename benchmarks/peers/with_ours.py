"""Our own models, in the environment of the benchmark itself; everything at its defaults."""

import copy
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.checkpoint import save
from ase_mlcalc.config import validate
from ase_mlcalc.model import lookup
from ase_mlcalc.potential import Baseline, Derived
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.train import train as train_job
from peers.job import Job
from peers.watch import of_function


def versions() -> dict[str, str]:
    """Of what computes."""
    return {"ase-mlcalc": version("ase-mlcalc")}


def train(job: Job) -> dict[str, Any]:
    """Train as the command line does, or save random weights."""
    model = {**job.network, "cutoff": job.cutoff}
    network = job.out / "model.safetensors"
    if job.minutes is None:
        name = model.pop("name")
        torch.manual_seed(0)
        config = lookup(name).Config(species=[atomic_numbers[symbol] for symbol in job.species], **model)
        save(Derived(lookup(name)(config).float(), Baseline(energy_scale=0.1)), network)  # moves that are not wild
        return {"network": str(network), "minutes": 0.0, "epochs": 0}
    torch.set_num_threads(job.threads)
    files = {"train": job.data / "train.extxyz", "validation": job.data / "valid.extxyz"}
    asked = {"output": job.out, "data": files, "model": model, "train": {"max_minutes": job.minutes}}
    asked["train"]["device"] = job.device
    begin = time.monotonic()
    result = train_job(validate(TrainJob, asked, "benchmark"), progress=False)
    return {
        "network": str(result.checkpoint),
        "minutes": (time.monotonic() - begin) / 60,
        "settings": {},
    }


def calculator(network: Path, run: dict[str, Any], device: str) -> Calculator:
    """In float32, as trained."""
    return MLCalculator(network, dtype="float32", device=device, **run)


class _Watched:
    """A potential whose calls are timed."""

    def __init__(self, potential: Any, device: str) -> None:
        self._potential = potential
        self._call, self.seconds = of_function(potential, device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._potential, name)

    def __call__(self, graph: Any) -> Any:
        return self._call(graph)


def time_model(made: MLCalculator, device: str) -> Callable[[], float]:
    """Watch the seconds that the potential takes of the calculator's, or its kernel where it has one."""
    if made.kernel is not None:
        kernel = copy.copy(made.kernel)
        kernel.of_structure, seconds = of_function(kernel.of_structure, device)
        made.kernel = kernel
        return seconds
    watched = _Watched(made.potential, device)
    made.potential = watched
    return watched.seconds
