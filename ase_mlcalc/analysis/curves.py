"""`Curve`: a measured function on an even grid, with standard errors from consecutive stretches of the trajectory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """What is on an axis and in which unit; the unit is empty for plain numbers."""

    name: str
    unit: str

    def __str__(self) -> str:
        return f"{self.name} / {self.unit}" if self.unit else self.name


@dataclass(frozen=True)
class Curve:
    """y(x) with the same curve from each of B blocks; K points."""

    x: Array
    """(K,) evenly spaced: middles of bins, lags or wavenumbers."""
    y: Array
    """(K,)"""
    blocks: Array
    """(B, K) the curve in consecutive blocks of the trajectory, all of the same weight."""
    x_axis: Axis
    y_axis: Axis

    @property
    def step(self) -> float:
        """Distance of the points in the unit of x."""
        return float(self.x[1] - self.x[0]) if len(self.x) > 1 else 1.0

    @property
    def stderr(self) -> Array:
        """(K,) standard error of y from the scatter of the blocks; NaN where there are fewer than two.

        Blocks count as independent: correlation over more than a block makes it too small.
        """
        if len(self.blocks) < 2:
            return np.full(self.y.shape, np.nan)
        stderr: Array = np.std(self.blocks, axis=0, ddof=1) / np.sqrt(len(self.blocks))
        return stderr

    @property
    def area(self) -> float:
        """Integral of y over x by the rule of rectangles, which is exact for histograms."""
        return float(self.y.sum() * self.step)

    def mean(self) -> tuple[float, float | None]:
        """First moment of a density, and its standard error; ``None`` with fewer than two blocks."""
        own = self.blocks @ self.x * self.step
        stderr = float(np.std(own, ddof=1) / np.sqrt(len(own))) if len(own) > 1 else None
        return float(self.x @ self.y) * self.step, stderr


def even_blocks(n_items: int, n_blocks: int) -> NDArray[np.int64]:
    """(n_items,) which of at most `n_blocks` consecutive blocks each item is in; their sizes differ by one at most."""
    return np.arange(n_items) * min(n_items, n_blocks) // max(n_items, 1)
