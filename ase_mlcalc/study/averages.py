r"""Averages with error bars: over one correlated run, and over several runs that each have an error bar.

The standard error of a mean over a correlated series follows from means over blocks (Flyvbjerg and Petersen, J. Chem.
Phys. 91, 461 (1989)), with a correction for correlation that is left between neighbouring blocks, as for slopes in
`ase_mlcalc.md.drift`.  Here the mean is all that is fitted, so one degree of freedom is spent, and the bias of the
correlation coefficient is about (1 + 3 φ)/B (Kendall, Biometrika 41, 403 (1954)).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ase_mlcalc.md.drift import MIN_ROWS, fit_slope
from ase_mlcalc.study.summary import PooledValue, Verdict

Array = NDArray[np.float64]

_BLOCKS = 20
_MAX_BLOCK_CORRELATION = 0.8


class Estimate(NamedTuple):
    """A value and its standard error."""

    value: float
    stderr: float


def mean_of(values: ArrayLike) -> Estimate | None:
    """Mean of an evenly sampled, correlated series; ``None`` for fewer than `MIN_ROWS` rows or rows that are NaN."""
    y = np.asarray(values, dtype=float)
    if len(y) < MIN_ROWS or not np.isfinite(y).all():
        return None
    length = len(y) // _BLOCKS
    blocks = y[len(y) - length * _BLOCKS :].reshape(_BLOCKS, length).mean(axis=1)
    deviations = blocks - blocks.mean()
    power = float(deviations @ deviations)
    if power == 0.0:
        return Estimate(float(y.mean()), 0.0)
    raw = float(deviations[1:] @ deviations[:-1]) / power
    phi = float(np.clip((_BLOCKS * raw + 1.0) / (_BLOCKS - 3.0), 0.0, _MAX_BLOCK_CORRELATION))
    variance = power / (_BLOCKS - 1) / _BLOCKS * (1.0 + phi) / (1.0 - phi)
    return Estimate(float(y.mean()), math.sqrt(variance))


def fluctuation(time: ArrayLike, values: ArrayLike) -> Estimate | None:
    """Root mean square of a series about its fitted line; ``None`` as for `mean_of`.

    The error is that of the mean square, halved as a square root does to relative errors.
    """
    t, y = np.asarray(time, dtype=float), np.asarray(values, dtype=float)
    line = fit_slope(t, y)
    if line is None:
        return None
    mean = y.mean()  # taken off first: energies may be 1e5 times their fluctuation
    squares = mean_of(((y - mean) - line.slope * (t - t.mean())) ** 2)
    if squares is None:
        return None
    rms = math.sqrt(squares.value)
    return Estimate(rms, 0.5 * squares.stderr / rms if rms else 0.0)


def kinetic_variance_ratio(temperatures_K: ArrayLike, target_K: float, degrees_of_freedom: int) -> Estimate | None:
    """Variance of the kinetic energy over the canonical (f/2)(k_B T)², from temperatures 2K/(f k_B).

    Of the instantaneous temperature that is the variance over 2 T²/f.  The variance about the mean of the run misses
    how far that mean is off, which is added.  ``None`` as for `mean_of`, and where nothing moves.
    """
    y = np.asarray(temperatures_K, dtype=float)
    mean = mean_of(y)
    if mean is None or degrees_of_freedom < 1 or target_K <= 0.0:
        return None
    squares = mean_of((y - mean.value) ** 2)
    assert squares is not None
    canonical = 2.0 * target_K**2 / degrees_of_freedom
    return Estimate((squares.value + mean.stderr**2) / canonical, squares.stderr / canonical)


def pooled(estimates: Sequence[Estimate]) -> PooledValue | None:
    """One value from several runs that each have an error bar; ``None`` without any.

    Runs may differ by more than their own errors, for each sees another part of phase space.  So the variance between
    runs is estimated and added to that of each (DerSimonian and Laird, Control. Clin. Trials 7, 177 (1986)), and the
    error of the weighted mean is not smaller than the scatter about it says (Knapp and Hartung, Stat. Med. 22, 2693
    (2003), as modified by Röver et al., BMC Med. Res. Methodol. 15, 99 (2015)).
    """
    if not estimates:
        return None
    values = np.array([one.value for one in estimates])
    variances = np.array([one.stderr for one in estimates]) ** 2
    n = len(values)
    if n == 1:
        return PooledValue(value=float(values[0]), stderr=float(math.sqrt(variances[0])), n=1)
    if not (variances > 0.0).all():  # an error bar of zero would take all the weight
        return PooledValue(value=float(values.mean()), stderr=float(values.std(ddof=1) / math.sqrt(n)), n=n)
    weights = 1.0 / variances
    center = weights @ values / weights.sum()
    excess = float(weights @ (values - center) ** 2) - (n - 1)
    between = max(0.0, excess / float(weights.sum() - (weights**2).sum() / weights.sum()))
    weights = 1.0 / (variances + between)
    center = float(weights @ values / weights.sum())
    scatter = max(1.0, float(weights @ (values - center) ** 2) / (n - 1))
    return PooledValue(value=center, stderr=math.sqrt(scatter / weights.sum()), n=n)


def agreement(value: float, stderr: float, expected: float, tolerance: float) -> Verdict:
    """Whether a value agrees with what theory says, within two standard errors or a tolerance.

    ``undecided`` where the error bar is wider than the tolerance, so that agreement would mean nothing.
    """
    off = abs(value - expected)
    if off > max(tolerance, 2.0 * stderr):
        return "differs"
    return "agrees" if 2.0 * stderr <= tolerance else "undecided"
