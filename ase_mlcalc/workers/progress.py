"""What is seen of many tasks: a bar with the time left on a terminal, else a line now and then."""

import time
from typing import Self

from rich.progress import MofNCompleteColumn, TimeElapsedColumn

from ase_mlcalc.bars import TimeLeft, bar_on_terminal

LINE_EVERY_S = 30.0
"""Between two lines where there is no terminal."""


class TaskProgress:
    """Counts tasks that are over; use it as a context manager.

    Parameters
    ----------
    name : str
        What is done, for example "label".
    total : int
        All tasks.
    before : int
        Those of them that an earlier command did.
    shown : bool
    """

    def __init__(self, name: str, total: int, before: int = 0, *, shown: bool = True) -> None:
        self._name, self._total, self._done, self._shown = name, total, before, shown
        self._time_left = TimeLeft()
        self._spoken = time.monotonic()
        self._bar = bar_on_terminal(MofNCompleteColumn(), TimeElapsedColumn(), shown=shown)
        if self._bar is not None:
            self._task = self._bar.add_task(name, total=total, completed=before, state="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tick(self, at_work: set[int]) -> None:
        """Time goes on.  It is counted from when the first tasks are at work."""
        if at_work:
            self._time_left.begin(self._done)
        if self._bar is not None:
            self._bar.update(self._task, refresh=True)

    def over(self, note: str = "") -> None:
        """One more task is over; `note` is what to say beside the count."""
        self.at(self._done + 1, note)

    def at(self, done: int, note: str = "") -> None:
        """So many are over."""
        if done == self._done:
            return
        self._done = done
        state = "  ".join(part for part in (note, self._time_left.say(done, self._total)) if part)
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, state=state)
        elif self._shown and (self._done == self._total or now - self._spoken > LINE_EVERY_S):
            self._spoken = now
            print(f"{self._name}: {self._done}/{self._total}  {state}".rstrip(), flush=True)
