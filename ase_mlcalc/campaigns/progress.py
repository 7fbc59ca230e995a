"""What is seen of a campaign while it goes on: a bar with the time left on a terminal, else a line per training."""

import csv
from collections.abc import Sequence
from typing import Self

from rich.progress import TaskProgressColumn, TimeElapsedColumn

from ase_mlcalc.bars import TimeLeft, bar_on_terminal
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
        self._time_left = TimeLeft()
        self._bar = bar_on_terminal(TaskProgressColumn(), TimeElapsedColumn(), shown=shown)
        if self._bar is not None:
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
        self._time_left.was_there(1.0)

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
        """Time left, from when the first trainings were at work."""
        self._done = self._over + sum(map(fraction_done, at_work))
        self._time_left.begin(self._done)
        return self._time_left.say(self._done, self._total)


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
