"""What long work shows on a terminal: a bar, and the time that is left."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn


def bar_on_terminal(*columns: ProgressColumn, shown: bool = True) -> Progress | None:
    """A bar on stderr, ``None`` where that is no terminal or nothing is to be shown.

    Parameters
    ----------
    *columns : rich.progress.ProgressColumn
        What stands between the bar and a last column, the field ``state`` of a task.
    shown : bool
    """
    if not (shown and sys.stderr.isatty()):
        return None
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TextColumn("{task.fields[state]}"),
        console=Console(stderr=True),
        auto_refresh=False,  # a refresh thread would compete with the work for a core
    )


class TimeLeft:
    """Time to the end, at the rate since `begin`: at the start of a command processes take seconds to begin to work."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None

    def begin(self, done: float) -> None:
        """Work is being done now, and so much was done before; only the first call counts."""
        if self._began is None:
            self._began = time.monotonic(), done

    def was_there(self, amount: float) -> None:
        """So much of what is done from now on says nothing about the rate."""
        if self._began is not None:
            self._began = self._began[0], self._began[1] + amount

    def say(self, done: float, total: float) -> str:
        """``H:MM:SS left``, or nothing while the rate is not known."""
        if self._began is None or done <= self._began[1]:
            return ""
        start, at_start = self._began
        seconds = (time.monotonic() - start) * (total - done) / (done - at_start)
        hours, rest = divmod(round(seconds), 3600)
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d} left"
