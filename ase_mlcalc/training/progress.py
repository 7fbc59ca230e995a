"""What is seen of a run while it goes on: a bar with the time left on a terminal, else a line per validation."""

import math
import time
from collections.abc import Mapping
from typing import Self

from rich.progress import TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ase_mlcalc.bars import bar_on_terminal

REFRESH_S = 0.5
SECONDS_BELOW_S = 100.0

SHOWN = {
    "train_loss": ("loss", "{:.4f}", ""),
    "val_force_mae_meV_per_A": ("force", "{:.4g}", " meV/Å"),
    "val_energy_mae_meV_per_atom": ("energy", "{:.4g}", " meV/atom"),
    "val_stress_mae_GPa": ("stress", "{:.3g}", " GPa"),
    "val_stresses_r2": ("per-atom stress R²", "{:.3f}", ""),
    "learning_rate": ("lr", "{:.1e}", ""),
}
"""Columns of the log that are shown: name, format and unit."""


def describe(row: Mapping[str, float]) -> str:
    """A row of the log as one line."""
    parts = [f"epoch {row['epoch']:g}"]
    for column, (name, form, unit) in SHOWN.items():
        value = row[column]
        if not math.isnan(value):
            parts.append(f"{name} {form.format(value)}{unit}")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as long as they are few, or else minutes."""
    return f"{seconds:.0f} s" if seconds < SECONDS_BELOW_S else f"{seconds / 60:.1f} min"


class ProgressReport:
    """Shows a run; use it as a context manager."""

    def __init__(self, name: str, *, shown: bool) -> None:
        self.shown = shown
        self._drawn = 0.0
        self._after_first_step_s: float | None = None
        self._began: tuple[float, float] | None = None
        """When the first step was done and how much of the run that was: what comes before it takes longer."""
        columns = (TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self._bar = bar_on_terminal(*columns, shown=shown)
        if self._bar is not None:
            self._task = self._bar.add_task(name, total=1.0, state="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, fraction: float) -> None:
        """Say after a step how much of the run was done before it."""
        now = time.monotonic()
        if self._after_first_step_s is None:
            self._after_first_step_s = now
        elif self._began is None:
            self._began = self._after_first_step_s, fraction
        if self._bar is not None and now - self._drawn > REFRESH_S:
            self._drawn = now
            self._bar.update(self._task, completed=fraction, refresh=True)

    def validated(self, row: Mapping[str, float], fraction: float, *, best: bool) -> None:
        """Show the result of a validation."""
        line = describe(row)
        if self._bar is not None:
            self._bar.update(self._task, completed=fraction, state=line, refresh=True)
        elif self.shown:
            mark = "  best" if best else ""
            self.say(f"{line}  {duration(60 * row['minutes'])}{self._left(fraction)}{mark}")

    def _left(self, fraction: float) -> str:
        """Time that is left at the rate since the first step, nothing while that is not known."""
        if self._began is None or fraction <= self._began[1]:
            return ""
        start, at_start = self._began
        return f", {duration((time.monotonic() - start) * (1 - fraction) / (fraction - at_start))} left"

    def say(self, text: str) -> None:
        """Print a line."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)  # [..] in names of files is no style
        elif self.shown:
            print(text, flush=True)
