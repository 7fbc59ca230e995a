"""What is seen of a campaign while it goes on: a bar with the time left on a terminal, else a line per training."""

import csv
import sys
import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.members import member_jobs

LOG_FILE = "log.csv"


class CampaignProgress:
    """Shows a campaign; use it as a context manager.

    Parameters
    ----------
    total : int
        Trainings of the campaign.
    shown : bool
    """

    def __init__(self, total: int, *, shown: bool) -> None:
        self._total, self._shown = total, shown
        self._over = 0
        self._done = 0.0
        self._clock: tuple[float, float] | None = None
        self._bar: Progress | None = None
        if shown and sys.stderr.isatty():
            # no refresh thread: it would compete with the trainings for a core
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[state]}"),
                console=Console(stderr=True),
                auto_refresh=False,
            )
            self._task = self._bar.add_task("trainings", total=total, state="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def was_there(self) -> None:
        """A training was over before; it says nothing about how long the others take."""
        self._over += 1
        self._done += 1.0
        if self._clock is not None:
            self._clock = self._clock[0], self._clock[1] + 1.0

    def tick(self, at_work: Sequence[TrainJob]) -> None:
        """Show how far the trainings are that are at work."""
        left = self._left(at_work)
        if self._bar is not None:
            state = f"{self._over}/{self._total} trained  {left}"
            self._bar.update(self._task, completed=self._done, state=state, refresh=True)

    def over(self, line: str, at_work: Sequence[TrainJob]) -> None:
        """A training came to its end, one way or another, which the line says."""
        self._over += 1
        left = self._left(at_work)
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        elif self._shown:
            print(f"{self._over}/{self._total}  {line}  {left}".rstrip(), flush=True)

    def _left(self, at_work: Sequence[TrainJob]) -> str:
        """Time left, from when the first epoch was seen: processes take seconds to start."""
        self._done = self._over + sum(map(fraction_done, at_work))
        now = time.monotonic()
        if self._clock is None:
            self._clock = now, self._done
        start, at_start = self._clock
        if self._done <= at_start:
            return ""
        seconds = (now - start) * (self._total - self._done) / (self._done - at_start)
        hours, rest = divmod(round(seconds), 3600)
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d} left"


def fraction_done(job: TrainJob) -> float:
    """How far a training is, from the end of its log; 0 where it keeps none, as in closed form."""
    if job.train.members > 1:
        members = member_jobs(job)
        return sum(map(fraction_done, members)) / len(members)
    try:
        with open(job.output / LOG_FILE, encoding="utf-8", newline="") as file:
            last = list(csv.DictReader(file))[-1]
        epochs, minutes = job.train.max_epochs, job.train.max_minutes
        parts = [
            0.0 if epochs is None else float(last["epoch"]) / epochs,
            0.0 if minutes is None else float(last["minutes"]) / minutes,
        ]
    except (OSError, IndexError, KeyError, ValueError):  # not there yet, or no row yet
        return 0.0
    return min(1.0, max(parts))
