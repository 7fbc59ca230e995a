"""MACE in its own environment: ``mace_run_train`` and its ASE calculator.

Training takes the program's defaults (two layers, correlation 3, spherical harmonics to degree 3, weights 1 and 100 of
energy and forces, learning rate 0.01 with AMSGrad) in float32, with its average of the weights over the last hundred
steps.  What suits minutes instead of days: few structures in a step, because on a processor a structure costs the same
in any batch and steps are what a short run lacks; a learning rate that falls to a hundredth within the run, in as many
epochs as the minutes hold by the pace of a short run before it.
"""

import json
import math
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import ase.data
import ase.io
from ase import Atoms
from ase.calculators.calculator import Calculator
from mace.calculators import MACECalculator

from peers.job import Job, run_tool
from peers.watch import of_module

BATCH = 5
LEARNING_RATE = 0.01
LAST_LEARNING_RATE = 1e-4
EMA_DECAY = 0.99
PACE_STEPS = 12
LEAST_EPOCHS = 2
NAME = "network"


def versions() -> dict[str, str]:
    """Of what computes."""
    return {"mace-torch": version("mace-torch"), "e3nn": version("e3nn")}


def train(job: Job) -> dict[str, Any]:
    """Train for as many epochs as the minutes hold; the model with the best validation error is kept."""
    file = job.data / "train.extxyz"
    if job.minutes is None:
        epochs, gamma = 1, 1.0
    else:
        frames = ase.io.read(file, ":")
        epochs, n_train = _that_fit(60 * job.minutes, len(frames), *_pace(job, frames[: BATCH * PACE_STEPS]))
        if n_train < len(frames):
            file = job.out / "first.extxyz"
            ase.io.write(file, frames[:n_train])
        gamma = (LAST_LEARNING_RATE / LEARNING_RATE) ** (1 / (epochs - 1))
    minutes = run_tool(_command(job, file, epochs, gamma), job, "train.log")
    return {
        "network": str(job.out / f"{NAME}.model"),
        "minutes": minutes,
        "epochs": epochs,
        "settings": {
            "batch": BATCH,
            "learning_rate": LEARNING_RATE,
            "schedule": f"exponential to {LAST_LEARNING_RATE:g}",
            "ema_decay": EMA_DECAY,
        },
    }


def _that_fit(seconds: float, n_train: int, structure_s: float, validation_s: float) -> tuple[int, int]:
    """Epochs, and structures in each: all of them, unless the time is too short for two epochs of all."""
    epochs = round(seconds / (n_train * structure_s + validation_s))  # as near as whole epochs come
    if epochs >= LEAST_EPOCHS:
        return epochs, n_train
    return LEAST_EPOCHS, max(BATCH, math.floor((seconds / LEAST_EPOCHS - validation_s) / structure_s))


def _pace(job: Job, few: list[Atoms]) -> tuple[float, float]:
    """Seconds of training for each structure, and of one validation, from a short run in a folder of its own."""
    pilot = job._replace(out=job.out / "pace")
    pilot.out.mkdir()
    ase.io.write(pilot.out / "few.extxyz", few)
    run_tool(_command(pilot, pilot.out / "few.extxyz", 1, 1.0), pilot, "train.log")
    (log,) = (pilot.out / "results").glob("*_train.txt")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    of_steps = [line["time"] for line in lines if line["mode"] == "opt"]
    of_validation = [line["time"] for line in lines if line["mode"] == "eval"]
    shutil.rmtree(pilot.out)
    return mean(of_steps[len(of_steps) // 3 :]) / BATCH, of_validation[-1]  # the first steps also compile


def _command(job: Job, train_file: Path, epochs: int, gamma: float) -> list[str]:
    numbers = [ase.data.atomic_numbers[symbol] for symbol in job.species]
    options: dict[str, Any] = {
        "name": NAME,
        "train_file": train_file,
        "valid_file": job.data / "valid.extxyz",
        "energy_key": "REF_energy",
        "forces_key": "REF_forces",
        "E0s": "average",
        "atomic_numbers": str(sorted(numbers)),
        "model": "MACE",
        "num_channels": job.network["channels"],
        "max_L": job.network["max_L"],
        "r_max": job.cutoff,
        "batch_size": BATCH,
        "valid_batch_size": 10,
        "lr": LEARNING_RATE,
        "scheduler": "ExponentialLR",
        "lr_scheduler_gamma": gamma,
        "ema_decay": EMA_DECAY,
        "max_num_epochs": epochs,
        "default_dtype": "float32",
        "device": job.device,
        "seed": 0,
        "plot": False,
    }
    return ["mace_run_train", "--ema", *(f"--{key}={value}" for key, value in options.items())]


def calculator(network: Path, run: dict[str, Any], device: str) -> Calculator:
    """As the program's documentation makes it."""
    return MACECalculator(model_paths=str(network), device=device, default_dtype="float32", **run)


def time_model(made: MACECalculator, device: str) -> Callable[[], float]:
    """Watch the seconds that the model takes of the calculator's."""
    return of_module(made.models[0], device)
