"""What a GPU is worth: predictions and steps of training of the same models on it and on the processor.

    python benchmarks/gpu.py                # prints two tables, writes gpu.json below --out
    make bench-gpu

A prediction is energy, forces and stress by the calculator in float32, atoms moved before each call, neighbours
included; the processor has as many threads as ``--threads`` says, and its kernels.  Training is that of the package
with a batch of 4 or 32 boxes of 48 atoms.  Beside the GPU there is one thread.
"""

import argparse
import csv
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from rich.console import Console
from rich.table import Table

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.config import validate
from ase_mlcalc.data.sets import water16
from ase_mlcalc.files import write_text
from ase_mlcalc.model import lookup
from ase_mlcalc.potential import Derived
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.train import train

MODELS = ("equivariant", "schnet", "tensor_field", "body_order", "behler_parrinello")
REPEATS = ((1, 1, 1), (2, 2, 1), (4, 4, 2), (8, 8, 4))
"""Of the box of 16 molecules: 48 to 12 288 atoms."""
BATCHES = (4, 32)


def sizes(largest: int) -> list[Atoms]:
    """Boxes of water, from one frame of the set that the package carries."""
    atoms = ase.io.read(water16("gfn1"), 0)
    return [found for found in (atoms.repeat(each) for each in REPEATS) if len(found) <= largest]


def call_ms(calculator: MLCalculator, atoms: Atoms, seconds: float) -> float:
    """Median time of a call."""
    rng, moving = np.random.default_rng(0), atoms.copy()
    wanted = [name for name in ("energy", "forces", "stress") if name in calculator.implemented_properties]

    def call() -> float:
        moving.positions = atoms.positions + rng.normal(scale=0.01, size=atoms.positions.shape)
        begin = time.perf_counter()
        for name in wanted:
            calculator.get_property(name, moving)  # arrays of numpy, so that the GPU is waited for
        return time.perf_counter() - begin

    for _ in range(3):
        call()
    times, end = [call()], time.perf_counter() + seconds
    while time.perf_counter() < end and len(times) < 200:
        times.append(call())
    return 1000 * statistics.median(times)


def predictions(names: list[str], devices: list[str], threads: int, largest: int, seconds: float) -> list[list[Any]]:
    """A row for each model and size: atoms, ms by device, their ratio."""
    rows = []
    for name in names:
        torch.manual_seed(0)
        model = lookup(name)(lookup(name).Config(species=(1, 8)))
        for atoms in sizes(largest):
            found = []
            for device in devices:
                torch.set_num_threads(threads if device == "cpu" else 1)
                calculator = MLCalculator(Derived(model), device=device, dtype="float32", compile=None)
                try:
                    found.append(call_ms(calculator, atoms, seconds))
                except torch.OutOfMemoryError:
                    found.append(float("nan"))
            rows.append([name, len(atoms), *found, *_ratio(found)])
    return rows


def trainings(names: list[str], devices: list[str], threads: int, seconds: float) -> list[list[Any]]:
    """A row for each model and batch: structures a second by device, their ratio."""
    rows = []
    for name in names:
        for batch in BATCHES:
            found = []
            for device in devices:
                torch.set_num_threads(threads if device == "cpu" else 1)
                found.append(structures_per_second(name, device, batch, seconds))
            rows.append([name, batch, *found, *_ratio(found[::-1])])
    return rows


def structures_per_second(name: str, device: str, batch: int, seconds: float) -> float:
    """Of training, between its first validation and its last, which take one structure each; from its start where
    there was time for one only.
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = {
            "output": folder,
            "data": {"train": [water16("gfn1")], "n_train": 2 * batch, "n_validation": 1},
            "model": {"name": name},
            "train": {"max_minutes": seconds / 60, "batch_size": batch, "device": device, "validate_every": 1},
        }
        train(validate(TrainJob, raw, name), progress=False)
        log = list(csv.DictReader((Path(folder) / "log.csv").read_text(encoding="utf-8").splitlines()))
    first, last = log[0] if len(log) > 1 else {"epoch": 0, "minutes": 0}, log[-1]
    minutes = float(last["minutes"]) - float(first["minutes"])
    return 2 * batch * (float(last["epoch"]) - float(first["epoch"])) / (60 * minutes) if minutes > 0 else float("nan")


def _ratio(found: list[float]) -> list[float]:
    return [found[0] / found[1]] if len(found) == 2 else []


def show(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=110).print(table)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-gpu"))
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--skip", nargs="+", choices=["predictions", "training"], default=[])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the processor")
    parser.add_argument("--largest", type=int, default=12288, help="atoms of the largest structure")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each number")
    options = parser.parse_args()
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    gpu = torch.cuda.get_device_name() if len(devices) > 1 else None
    found: dict[str, Any] = {"gpu": gpu, "threads": options.threads, "torch": torch.__version__}
    heads = [f"{options.threads} threads", gpu, "ratio"] if gpu else [f"{options.threads} threads"]
    if "predictions" not in options.skip:
        rows = predictions(options.only, devices, options.threads, options.largest, options.seconds)
        found["predictions"] = rows
        show("ms per prediction", ["model", "atoms", *heads], rows)
    if "training" not in options.skip:
        rows = trainings(options.only, devices, options.threads, options.seconds)
        found["training"] = rows
        show("structures of 48 atoms per second of training", ["model", "batch", *heads], rows)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "gpu.json", json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
