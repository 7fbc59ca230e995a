"""A training in a worker process."""

from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from ase_mlcalc.files import make_folder
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.train import train, train_one

OUTPUT_FILE = "output.txt"


def train_here(job: dict[str, Any]) -> None:
    """Train, or go on with a run that was killed; what it says is added to ``output.txt`` in its folder."""
    _followed(train, TrainJob.model_validate(job))


def train_member_here(job: dict[str, Any]) -> None:
    """The same for a member of an ensemble, which is tested as a whole."""
    _followed(train_one, TrainJob.model_validate(job))


def _followed(train_job: Callable[[TrainJob], object], job: TrainJob) -> None:
    make_folder(job.output)
    with open(job.output / OUTPUT_FILE, "a", encoding="utf-8") as file, redirect_stdout(file):
        train_job(job)
