"""What the potentials of a scan cost: their size and the time of a call."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ase_mlcalc import accelerate, checkpoint
from ase_mlcalc.campaigns.scan_plan import ScanPoint
from ase_mlcalc.campaigns.summaries import read_summary, write_summary
from ase_mlcalc.campaigns.trainings import is_trained
from ase_mlcalc.config import Section
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.ensemble import models_of
from ase_mlcalc.training.side_by_side import time_calls
from ase_mlcalc.training.state import CHECKPOINT_FILE

COSTS_FILE = "costs.json"
REPEATS = 20


class Cost(Section):
    """Of one potential."""

    parameters: int
    """Numbers that its models hold; those of a kernel model grow with its training data."""
    ms_per_call: float
    """Median wall time of neighbours, energy, forces and what else it predicts."""


class Costs(Section):
    """Of the potentials of a scan, by the names of their points."""

    n_atoms: int
    """Of the structure that calls were timed on."""
    threads: int
    points: dict[str, Cost]


def measure_costs(folder: Path, points: Sequence[ScanPoint], typical: Frame) -> None:
    """Time calls of all potentials that are trained, one seed of each point, and write ``costs.json``.

    Calls are interleaved and nothing else of the campaign is at work, so that times can be compared; so all are timed
    anew where one is missing.
    """
    trained = {each.name: each.trainings[0].job for each in points if is_trained(each.trainings[0].job)}
    known = read_costs(folder)
    if not trained or (known is not None and trained.keys() <= known.points.keys()):
        return
    potentials = [accelerate.with_kernels(checkpoint.load(job.output / CHECKPOINT_FILE)) for job in trained.values()]
    times = time_calls(potentials, typical.atoms, REPEATS)
    sizes = [sum(model.size for model in models_of(potential)) for potential in potentials]
    costs = {name: Cost(parameters=size, ms_per_call=ms) for name, size, ms in zip(trained, sizes, times, strict=True)}
    threads = torch.get_num_threads()
    write_summary(folder / COSTS_FILE, Costs(n_atoms=len(typical.atoms), threads=threads, points=costs))


def read_costs(folder: Path) -> Costs | None:
    """What was measured; ``None`` if nothing was."""
    path = folder / COSTS_FILE
    return read_summary(Costs, path) if path.exists() else None
