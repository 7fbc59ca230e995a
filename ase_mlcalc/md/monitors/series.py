"""A series over a long run in bounded memory: averages over intervals that get longer as the run does."""

import numpy as np

from ase_mlcalc.md.monitors.base import Array, State

_ROWS = 1024


class Averages:
    """Evenly spaced averages of a series and of its times.

    When there are 1024, neighbours are averaged in pairs, and from then on each row takes twice as many values.  Slopes
    and means stay what they are, up to the last row that is not full yet.
    """

    def __init__(self) -> None:
        self._rows = np.zeros((_ROWS, 2))
        self._filled = 0
        self._per_row = 1
        self._sum_time = self._sum_value = 0.0
        self._in_sum = 0

    def add(self, time: float, value: float) -> None:
        """Take in the next value."""
        self._sum_time += time
        self._sum_value += value
        self._in_sum += 1
        if self._in_sum < self._per_row:
            return
        if self._filled == _ROWS:
            self._rows[: _ROWS // 2] = 0.5 * (self._rows[0::2] + self._rows[1::2])
            self._filled //= 2
            self._per_row *= 2
            return
        self._rows[self._filled] = self._sum_time / self._in_sum, self._sum_value / self._in_sum
        self._filled += 1
        self._sum_time = self._sum_value = 0.0
        self._in_sum = 0

    @property
    def times(self) -> Array:
        """(n,) mean time of each row."""
        return self._rows[: self._filled, 0]

    @property
    def values(self) -> Array:
        """(n,) mean value of each row."""
        return self._rows[: self._filled, 1]

    def state(self) -> State:
        """Everything."""
        return {
            "rows": self._rows[: self._filled].copy(),
            "sums": np.array([self._sum_time, self._sum_value]),
            "counts": np.array([self._per_row, self._in_sum]),
        }

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        rows = np.asarray(state["rows"], dtype=float)
        self._filled = len(rows)
        self._rows[: self._filled] = rows
        self._sum_time, self._sum_value = np.asarray(state["sums"], dtype=float).tolist()
        self._per_row, self._in_sum = (int(count) for count in state["counts"])
