"""Means over a trajectory with standard errors, in memory that does not grow with its length."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_BLOCKS = 16
"""Blocks are joined in pairs when there are this many, so that their number stays between half of it and it."""


class BlockMeans:
    r"""The mean of arrays that come one after the other, and the standard error of the mean by block averaging.

    Consecutive frames are averaged in blocks of equal length, at first of one frame each; whenever there are 16 blocks,
    neighbours are joined.  With B block means :math:`\bar x_k`,

    .. math:: s^2 = \frac{1}{B (B - 1)} \sum_k (\bar x_k - \bar x)^2

    which holds if a block is longer than the correlation time of the frames (Flyvbjerg and Petersen, J. Chem. Phys. 91,
    461 (1989)); of a run of n frames it is n/16 to n/8 of them long.  Frames at the end that fill no block count in the
    mean, but not in its error.
    """

    def __init__(self) -> None:
        self.n = 0
        """How many arrays were added."""
        self.block_length = 1
        """How many of them make a block."""
        self._blocks: list[Array] = []
        self._open: Array | None = None
        self._in_open = 0

    def add(self, values: Array) -> None:
        """Another array; it may be changed here."""
        self.n += 1
        self._in_open += 1
        self._open = values if self._open is None else self._open + values
        if self._in_open < self.block_length:
            return
        self._blocks.append(self._open)
        self._open, self._in_open = None, 0
        if len(self._blocks) == MOST_BLOCKS:
            pairs = zip(self._blocks[::2], self._blocks[1::2], strict=True)
            self._blocks = [first + second for first, second in pairs]
            self.block_length *= 2

    @property
    def n_blocks(self) -> int:
        """B."""
        return len(self._blocks)

    @property
    def mean(self) -> Array:
        """Of all arrays."""
        every = self._blocks if self._open is None else [*self._blocks, self._open]
        result: Array = sum(every[1:], every[0]) / self.n
        return result

    def stderr(self, function: Callable[[Array], Array] | None = None) -> Array | None:
        """Standard error of the mean, or of the mean of a linear function; ``None`` with a single block."""
        blocks = self._blocks if function is None else [function(block) for block in self._blocks]
        count = len(blocks)
        if count < 2:
            return None
        mean = sum(blocks[1:], blocks[0]) / count
        squares = np.zeros_like(mean)
        for block in blocks:
            squares += (block - mean) ** 2
        result: Array = np.sqrt(squares / (count * (count - 1))) / self.block_length
        return result


def bytes_needed(values_per_frame: int) -> int:
    """Memory for the blocks, a frame in the making, and the means and errors."""
    return 8 * values_per_frame * (2 * MOST_BLOCKS + 4)


def free_bytes() -> float:
    """Memory that is free; infinite where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024.0 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return math.inf
