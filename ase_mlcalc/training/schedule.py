"""The learning rate in the course of a run, and how far the run is."""

import math
import time
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["cosine", "linear", "constant"]

FLOOR = 1e-3
"""Fraction of the learning rate that is left at the end, so that the last steps still do something."""


def learning_rate_factor(
    progress: float, step: int, *, schedule: ScheduleName, warmup_steps: int, decay_from: float
) -> float:
    """What the learning rate is multiplied by: rises in the first steps, is constant, then decays to almost zero.

    Parameters
    ----------
    progress : float
        How much of the run is done, 0 to 1.
    step : int
        Number of steps already taken.
    schedule : "cosine", "linear" or "constant"
        Shape of the decay.
    warmup_steps : int
        The factor grows linearly from 1/(warmup_steps + 1) to 1 in so many steps.
    decay_from : float
        Progress at which the decay begins.

    Returns
    -------
    float
        In (0, 1].
    """
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    if schedule == "constant":
        return warm
    x = min(1.0, max(0.0, progress - decay_from) / max(1.0 - decay_from, 1e-12))
    decayed = 0.5 * (1 + math.cos(math.pi * x)) if schedule == "cosine" else 1 - x
    return warm * (FLOOR + (1 - FLOOR) * decayed)


@dataclass
class Budget:
    """How much of the allowed epochs and minutes is used up.

    Without ``max_minutes`` progress depends on epochs alone, and a run is a function of its configuration.
    """

    max_epochs: int | None
    max_minutes: float | None
    started: float
    """`time.monotonic` at the beginning of this process's part of the run."""
    elapsed_before_s: float = 0.0
    """Time that earlier processes spent on this run."""
    reserve_s: float = 0.0
    """Kept for the evaluation and the pictures at the end."""

    @property
    def elapsed_s(self) -> float:
        """Wall time of the run so far, over all its processes."""
        return self.elapsed_before_s + time.monotonic() - self.started

    def progress(self, epochs: float) -> float:
        """The larger of the fractions of time and of epochs, at most 1."""
        used = 0.0
        if self.max_epochs is not None:
            used = epochs / self.max_epochs
        if self.max_minutes is not None:
            available_s = max(60 * self.max_minutes - self.reserve_s, 1e-9)
            used = max(used, self.elapsed_s / available_s)
        return min(used, 1.0)

    @property
    def out_of_time(self) -> bool:
        """Training has to stop now, so that the reserve is left."""
        return self.max_minutes is not None and self.elapsed_s >= 60 * self.max_minutes - self.reserve_s
