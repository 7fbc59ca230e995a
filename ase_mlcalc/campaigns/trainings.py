"""Trainings of a campaign: made in worker processes, kept when they are over, tried again when they failed."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple

import torch

from ase_mlcalc.campaigns.config import CampaignTable
from ase_mlcalc.campaigns.progress import CampaignProgress
from ase_mlcalc.config import Section
from ase_mlcalc.files import make_folder, write_text
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.held_out import TEST_FILE
from ase_mlcalc.training.metrics import Errors, Metrics
from ase_mlcalc.training.worker import train_here
from ase_mlcalc.workers import Executor, Task, available_cores, work_on

ERROR_FILE = "error.txt"
LOGS = "logs"

Status = Literal["trained", "failed", "waiting"]
"""``failed``: it raised an error or its process died, and the next command tries it again.  ``waiting``: not trained to
its end yet."""


class Training(NamedTuple):
    """One training of a campaign."""

    name: str
    """Its folder within that of the campaign."""
    job: TrainJob


class Trained(Section):
    """What a training came to."""

    folder: str
    """Within the folder of the campaign."""
    status: Status
    error: str | None = None
    """Why it failed."""
    epochs: float | None = None
    minutes: float | None = None
    validation: Errors | None = None
    test: Errors | None = None


def is_trained(job: TrainJob) -> bool:
    """Whether a training is over and measured; its folder is not looked into any further."""
    files = ["metrics.json", *([TEST_FILE] if job.data.is_tested else [])]
    return all((job.output / name).exists() for name in files)


def look_at(training: Training) -> Trained:
    """What a training came to so far, from its files."""
    folder = training.job.output
    if is_trained(training.job):
        raw = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        tested = _errors(folder / TEST_FILE) if training.job.data.is_tested else None
        return Trained(
            folder=training.name,
            status="trained",
            epochs=raw["epochs"],
            minutes=raw["minutes"],
            validation=_errors(folder / "metrics.json"),
            test=tested,
        )
    if (folder / ERROR_FILE).exists():
        error = (folder / ERROR_FILE).read_text(encoding="utf-8").strip()
        return Trained(folder=training.name, status="failed", error=error)
    return Trained(folder=training.name, status="waiting")


def _errors(path: Path) -> Errors:
    """Those over all structures; what is per element and per group stays in the file."""
    metrics = Metrics.model_validate_json(path.read_text(encoding="utf-8"))
    return Errors(**metrics.model_dump(include=set(Errors.model_fields)))


def make(
    trainings: Iterable[Training],
    total: int,
    table: CampaignTable,
    folder: Path,
    lock: IO[str] | None,
    *,
    executor: Executor | None,
    shown: bool,
) -> None:
    """Do what is left to do of some trainings, several side by side.

    Parameters
    ----------
    trainings : iterable of Training
        Taken one at a time, as processes get free.
    total : int
        How many they are.
    table : CampaignTable
        How many processes there are.
    folder : path
        Of the campaign.
    lock : file, optional
        What `workers_lock` gave.
    executor : Executor, optional
        Where they are made; default: in processes of this machine.
    shown : bool
        Show how far they are.

    Raises
    ------
    MLCalcError
        Worker processes cannot be started.
    """
    at_work: list[Training] = []

    with CampaignProgress(total, shown=shown) as progress:

        def tasks() -> Iterator[Task]:
            for training in trainings:
                if is_trained(training.job):
                    progress.was_there()
                    continue
                make_folder(training.job.output)
                (training.job.output / ERROR_FILE).unlink(missing_ok=True)
                at_work.append(training)
                yield Task.of(train_here, job=training.job.model_dump(mode="json"))

        def tick(numbers: set[int]) -> None:
            progress.tick([at_work[number].job for number in numbers])

        workers = n_workers(table)
        with work_on(tasks(), workers, table.threads, folder / LOGS, lock, tick, executor=executor) as work:
            for done in work:
                training = at_work[done.number]
                if done.error is not None:
                    write_text(training.job.output / ERROR_FILE, done.error + "\n")
                progress.over(describe(look_at(training)), [at_work[number].job for number in done.at_work])


def n_workers(table: CampaignTable) -> int:
    """Trainings side by side."""
    if table.workers is not None:
        return table.workers
    return 1 if torch.cuda.is_available() else max(1, available_cores() // table.threads)


def describe(one: Trained) -> str:
    """A training in one line."""
    if one.status != "trained" or one.minutes is None:
        return f"{one.folder}: {one.status}" + (f": {one.error}" if one.error else "")
    errors = one.test or one.validation
    force = None if errors is None else errors.force_mae_meV_per_A
    shown = "" if force is None else f", force MAE {force:.4g} meV/Å"
    return f"{one.folder}: {one.minutes:.1f} min{shown}"
