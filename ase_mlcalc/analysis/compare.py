r"""How far two measured curves are apart, beside what chance makes of it.

.. math::

    L_1 = \int |y - y_\mathrm{ref}| \, dx, \qquad
    W_1 = \int |F(x) - F_\mathrm{ref}(x)| \, dx, \qquad F(x) = \int^x y \, dx' \Big/ \int y \, dx'

over the range that both have; counts go on with zeros (`as_far`).  L1 says how much differs, and saturates once two
peaks no longer overlap; W1, the distance of Wasserstein, says how far things have moved, in the unit of x (for one
dimension: S. S. Vallender, Theory Probab. Appl. 18, 784 (1974)).  W1 is for curves that are nowhere negative; their
areas are made 1 for it.

Errors come from shuffled blocks.  Deviations of the blocks of both curves from their means, widened for the means that
were taken off, are thrown together and dealt out again at random: the difference of the two new means is one that
chance could have made (a permutation test on residuals: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap
(1993), chapter 15).  Added to the difference of the curves it gives the standard error of their distance;
its own size is what two trajectories of such fluctuations differ by when nothing differs.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ase_mlcalc.analysis.curves import Curve

Array = NDArray[np.float64]

DRAWS = 400
NOISE_PERCENT = 95.0


class Distance(NamedTuple):
    """A distance of a curve from a reference."""

    value: float
    stderr: float | None
    """Standard error; ``None`` where one curve has fewer than two blocks."""
    noise: float | None
    """What chance exceeds in one of twenty comparisons when nothing differs; ``None`` as above."""
    halves: float | None
    """Between the first and the second half of the reference; ``None`` if it has fewer than two blocks."""
    unit: str

    @property
    def significant(self) -> bool | None:
        """More than noise; ``None`` where that is not known."""
        return None if self.noise is None else self.value > self.noise


Measure = Callable[[Array, Array, float], Array]


def l1(y: Array, reference: Array, step: float) -> Array:
    """(..., K) curves on one grid to (...) integrals of their absolute difference."""
    total: Array = np.abs(y - reference).sum(axis=-1) * step
    return total


def w1(y: Array, reference: Array, step: float) -> Array:
    """(..., K) curves on one grid to (...) distances of Wasserstein of the distributions that they are."""
    total: Array = np.abs(_cumulative(y) - _cumulative(reference)).sum(axis=-1) * step
    return total


def _cumulative(y: Array) -> Array:
    sums = np.cumsum(y, axis=-1)
    part: Array = sums / sums[..., -1:]
    return part


def distance(measure: Measure, mine: Curve, reference: Curve, unit: str, *, seed: int = 0) -> Distance | None:
    """A distance of a curve from a reference with its errors.

    Parameters
    ----------
    measure : `l1` or `w1`
    mine, reference : Curve
        Of different grids the finer one is interpolated to the other.
    unit : str
        Of the distance.
    seed : int
        Of the shuffling.

    Returns
    -------
    Distance, or ``None`` if the curves have no range in common.
    """
    aligned = on_one_grid(mine, reference)
    if aligned is None:
        return None
    mine, reference = aligned
    step = reference.step
    stderr = noise = halves = None
    if len(mine.blocks) > 1 and len(reference.blocks) > 1:
        chance = _chance(mine.blocks, reference.blocks, np.random.default_rng(seed))
        stderr = float(np.std(measure(mine.y + chance, reference.y, step)))
        noise = float(np.percentile(measure(reference.y + chance, reference.y, step), NOISE_PERCENT))
    if len(reference.blocks) > 1:
        half = len(reference.blocks) // 2
        first, second = reference.blocks[:half].mean(axis=0), reference.blocks[-half:].mean(axis=0)
        halves = float(measure(first, second, step))
    return Distance(float(measure(mine.y, reference.y, step)), stderr, noise, halves, unit)


def on_one_grid(mine: Curve, reference: Curve) -> tuple[Curve, Curve] | None:
    """Both curves on the coarser of their grids, as far as both reach."""
    if len(mine.x) == len(reference.x) and np.allclose(mine.x, reference.x, rtol=1e-9, atol=1e-9 * reference.step):
        return mine, reference
    grid = (mine if mine.step > reference.step else reference).x
    slack = 1e-6 * min(mine.step, reference.step)
    low, high = max(mine.x[0], reference.x[0]) - slack, min(mine.x[-1], reference.x[-1]) + slack
    grid = grid[(grid >= low) & (grid <= high)]
    return None if len(grid) < 2 else (_at(mine, grid), _at(reference, grid))


def as_far(curve: Curve, other: Curve) -> Curve:
    """A distribution of whole numbers, with zeros up to where another one ends: what is not listed was never seen."""
    missing = len(other.x) - len(curve.x)
    if missing <= 0:
        return curve
    blocks = np.pad(curve.blocks, ((0, 0), (0, missing)))
    return replace(curve, x=other.x, y=np.pad(curve.y, (0, missing)), blocks=blocks)


def _at(curve: Curve, x: Array) -> Curve:
    blocks = np.array([np.interp(x, curve.x, block) for block in curve.blocks]).reshape(len(curve.blocks), len(x))
    return Curve(x, np.interp(x, curve.x, curve.y), blocks, curve.x_axis, curve.y_axis)


def _chance(blocks: Array, other: Array, rng: np.random.Generator) -> Array:
    """(DRAWS, K) differences of two means that scatter alone could have made."""
    off = np.concatenate([_residuals(blocks), _residuals(other)])
    off *= np.sqrt((len(off) - 1.0) / len(off))  # dealing out without replacement widens them by as much
    weights = np.repeat([1.0 / len(blocks), -1.0 / len(other)], [len(blocks), len(other)])
    chance: Array = rng.permuted(np.tile(weights, (DRAWS, 1)), axis=1) @ off
    return chance


def _residuals(blocks: Array) -> Array:
    count = len(blocks)
    residuals: Array = (blocks - blocks.mean(axis=0)) * np.sqrt(count / (count - 1.0))
    return residuals
