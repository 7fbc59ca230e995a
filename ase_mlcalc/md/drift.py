r"""How fast a conserved quantity drifts, with an error bar that allows for correlated residuals.

Ordinary least squares gives the slope b of y(t).  Its textbook standard error supposes independent residuals; those
of a molecular dynamics run oscillate and decay over many rows.  For a straight line over a long time,

.. math:: \mathrm{var}(b) = S / \sum_k (t_k - \bar t)^2, \qquad S = \sum_{l=-\infty}^{\infty} \gamma_l

with the autocovariances :math:`\gamma_l` of the residuals.  S is estimated as by Newey and West, Econometrica 55,
703 (1987), eq. 5 (Bartlett weights), after the first-order autoregressive part has been divided out (prewhitening:
Andrews and Monahan, Econometrica 60, 953 (1992)), whose coefficient is corrected for the bias that a fitted trend
brings, about (2 + 4 φ)/n (Tjøstheim and Paulsen, Biometrika 70, 389 (1983)).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_ROWS = 20
"""Fewer rows give no usable error bar."""

_MAX_AUTOREGRESSION = 0.99


class Slope(NamedTuple):
    """A straight line through a correlated series; units are those of the series and of its time."""

    slope: float
    stderr: float
    """Standard error of the slope: Newey-West with prewhitening, see `ase_mlcalc.md.drift`."""
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
    variance = _long_run_variance(residuals) * len(t) / (len(t) - 2) / sum_squares
    return Slope(slope, math.sqrt(variance), float(y_mean - slope * t_mean), float(np.sqrt(np.mean(residuals**2))))


def energy_drift(time_ps: ArrayLike, total_eV: ArrayLike, n_atoms: int) -> Slope | None:
    """Drift of the total energy in meV/atom/ps; intercept and rms in meV/atom.

    ``None`` if there is no energy or if there are fewer than `MIN_ROWS` rows.
    """
    return fit_slope(time_ps, 1000.0 * np.asarray(total_eV, dtype=float) / n_atoms)


def _long_run_variance(residuals: NDArray[np.float64]) -> float:
    """Sum of all autocovariances."""
    n = len(residuals)
    power = float(residuals[:-1] @ residuals[:-1])
    if power == 0.0:
        return 0.0
    raw = float(residuals[1:] @ residuals[:-1]) / power
    phi = float(np.clip((n * raw + 2.0) / (n - 4.0), -_MAX_AUTOREGRESSION, _MAX_AUTOREGRESSION))
    white = residuals[1:] - phi * residuals[:-1]
    m = len(white)
    lags = math.ceil(m ** (1.0 / 3.0))
    total = float(white @ white) / m
    for lag in range(1, lags + 1):
        total += 2.0 * (1.0 - lag / (lags + 1.0)) * float(white[lag:] @ white[:-lag]) / m
    return total / (1.0 - phi) ** 2
