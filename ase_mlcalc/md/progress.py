"""A progress bar for runs on a terminal: time left, temperature and speed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from ase_mlcalc.bars import bar_on_terminal

Update = Callable[[int, float | None], None]

_REFRESH_SECONDS = 0.5


def ns_per_day(steps: int, timestep_fs: float, seconds: float) -> float:
    """Simulated nanoseconds per day of computing."""
    return steps * timestep_fs * 1e-6 * 86400.0 / seconds


@contextmanager
def progress_bar(name: str, steps: int, timestep_fs: float, *, shown: bool, first: int = 0) -> Iterator[Update]:
    """A function to call with step and temperature (K) after each step; silent unless stderr is a terminal.

    A run that goes on from a checkpoint begins at step `first`.
    """
    bar = bar_on_terminal(MofNCompleteColumn(), TimeRemainingColumn(), shown=shown)
    if bar is None:
        yield lambda _step, _temperature: None
        return
    with bar:
        task = bar.add_task(name, total=steps, completed=first, state="")
        start = drawn = time.perf_counter()

        def update(step: int, temperature: float | None) -> None:
            nonlocal drawn
            now = time.perf_counter()
            if step < steps and now - drawn < _REFRESH_SECONDS:
                return
            drawn = now
            state = "" if temperature is None else f"{temperature:.0f} K"
            state += f"  {ns_per_day(step - first, timestep_fs, now - start):.3g} ns/day" if step > first else ""
            bar.update(task, completed=step, state=state, refresh=True)

        yield update
