r"""How fast a conserved quantity drifts, with an error bar that allows for correlated residuals.

Ordinary least squares gives the slope b of y(t).  Its textbook standard error supposes independent residuals; those
of a molecular dynamics run oscillate with the vibrations and decay over many rows.  For a straight line over a time
long against both,

.. math:: \mathrm{var}(b) = S / \sum_k (t_k - \bar t)^2, \qquad S = \sum_{l=-\infty}^{\infty} \gamma_l

with the autocovariances :math:`\gamma_l` of the residuals.  S is estimated by block averaging (Flyvbjerg and Petersen,
J. Chem. Phys. 91, 461 (1989)): means over blocks average the oscillations out, and S is the variance of the means
about their own line times the length L of a block, with two degrees of freedom spent on the line,

.. math:: S = \frac{L}{B - 2} \sum_B \delta_B^2 \; \frac{1 + \varphi}{1 - \varphi}

where the last factor is for correlation that is left between neighbouring blocks: :math:`\varphi` is its coefficient,
corrected for the bias of about (2 + 4 φ)/B that fitting a line brings, and not below zero.  Two standard errors cover
the true slope in at least nine of ten runs if the correlation time is below a thirtieth of the run.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCKS = 20
_MAX_BLOCK_CORRELATION = 0.8

MIN_ROWS = 2 * _BLOCKS
"""Fewer rows give no usable error bar."""


class Slope(NamedTuple):
    """A straight line through a correlated series; units are those of the series and of its time."""

    slope: float
    stderr: float
    """Standard error of the slope by block averaging, see `ase_mlcalc.md.drift`."""
    intercept: float
    """Value of the line at time zero."""
    rms: float
    """Root mean square deviation from the line."""

    @property
    def significant(self) -> bool:
        """The slope differs from zero by more than two standard errors."""
        return abs(self.slope) > 2.0 * self.stderr


def fit_slope(time: ArrayLike, values: ArrayLike) -> Slope | None:
    """Least-squares slope of an evenly sampled, correlated series.

    Parameters
    ----------
    time : (n,) evenly spaced
    values : (n,)

    Returns
    -------
    Slope, or ``None`` for fewer than `MIN_ROWS` rows or rows that are NaN.
    """
    t = np.asarray(time, dtype=float)
    y = np.asarray(values, dtype=float)
    if len(t) < MIN_ROWS or not np.isfinite(y).all():
        return None
    t_mean, y_mean = t.mean(), y.mean()
    centered = t - t_mean
    sum_squares = float(centered @ centered)
    slope = float(centered @ (y - y_mean)) / sum_squares  # the mean is taken off first: y may be 1e5 times its noise
    residuals = (y - y_mean) - slope * centered
    variance = _sum_of_autocovariances(residuals) / sum_squares
    return Slope(slope, math.sqrt(variance), float(y_mean - slope * t_mean), float(np.sqrt(np.mean(residuals**2))))


def energy_drift(time_ps: ArrayLike, total_eV: ArrayLike, n_atoms: int) -> Slope | None:
    """Drift of the total energy in meV/atom/ps; intercept and rms in meV/atom.

    ``None`` if there is no energy or if there are fewer than `MIN_ROWS` rows.
    """
    return fit_slope(time_ps, 1000.0 * np.asarray(total_eV, dtype=float) / n_atoms)


def _sum_of_autocovariances(residuals: NDArray[np.float64]) -> float:
    """S of the equations at the top of this module; rows that fill no block are left out at the start."""
    length = len(residuals) // _BLOCKS
    means = residuals[len(residuals) - length * _BLOCKS :].reshape(_BLOCKS, length).mean(axis=1)
    place = np.arange(_BLOCKS) - (_BLOCKS - 1) / 2.0
    means = means - means.mean()
    means = means - (place @ means) / (place @ place) * place
    power = float(means @ means)
    if power == 0.0:
        return 0.0
    raw = float(means[1:] @ means[:-1]) / power
    phi = float(np.clip((_BLOCKS * raw + 2.0) / (_BLOCKS - 4.0), 0.0, _MAX_BLOCK_CORRELATION))
    return length * power / (_BLOCKS - 2) * (1.0 + phi) / (1.0 - phi)
