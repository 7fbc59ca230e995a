"""Means over seeds, and power laws."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from ase_mlcalc.campaigns.config import Quantity
from ase_mlcalc.config import Section
from ase_mlcalc.study import words
from ase_mlcalc.training.metrics import Errors

MAE: dict[Quantity, tuple[str, str, str]] = {
    "forces": ("force_mae_meV_per_A", "force MAE", "meV/Å"),
    "energy": ("energy_mae_meV_per_atom", "energy MAE", "meV/atom"),
    "stress": ("stress_mae_GPa", "stress MAE", "GPa"),
    "stresses": ("stresses_mae_GPa", "per-atom stress MAE", "GPa"),
}
"""Field of `Errors`, name and unit of the mean absolute error of each property."""


class Mean(Section):
    """A number over several seeds."""

    mean: float
    stderr: float | None = None
    """Of the mean; ``None`` for one seed."""
    n: int


class PowerLaw(Section):
    """A fit of error = amplitude n^-exponent."""

    amplitude: float
    exponent: float
    exponent_stderr: float | None = None
    """The larger of two: of the mean over the exponents of the seeds, and of the straight line through the mean errors,
    which is large where they follow no power law.  ``None`` for one seed and two sizes, which tell neither."""
    rms_residual: float
    """Of the logarithms of the mean errors about the line: 0.05 is five percent; large where it is no power law."""
    n_sizes: int
    n_seeds: int


def mean_of(values: Sequence[float | None]) -> Mean | None:
    """Mean and its standard error over those values that there are."""
    known = np.array([value for value in values if value is not None], dtype=float)
    if not len(known):
        return None
    spread = float(known.std(ddof=1) / len(known) ** 0.5) if len(known) > 1 else None
    return Mean(mean=float(known.mean()), stderr=spread, n=len(known))


def errors_of(quantity: Quantity, errors: Errors | None) -> float | None:
    """The mean absolute error of a property, in the unit of `MAE`."""
    value: float | None = None if errors is None else getattr(errors, MAE[quantity][0])
    return value


def power_law(errors: Mapping[int, Mapping[int, float]]) -> PowerLaw | None:
    """Fit a straight line through the logarithms of errors and sizes.

    Errors of one seed at different sizes are not independent, because larger training sets contain the smaller ones.
    So each seed is fitted by itself, and the mean of the exponents has the standard error of their scatter.  Of a few
    seeds that can be small by chance, and it knows nothing of points off the line; so it is at least that of the line.

    Parameters
    ----------
    errors : mapping
        Seed to size to error.

    Returns
    -------
    PowerLaw or None
        ``None`` where no two sizes have all seeds that were trained at all, or an error is zero.
    """
    sizes = sorted(set.intersection(*(set(own) for own in errors.values()))) if errors else []
    if len(sizes) < 2 or any(own[size] <= 0 for own in errors.values() for size in sizes):
        return None
    x = np.log(np.array(sizes, dtype=float))
    lines = [stats.linregress(x, np.log([own[size] for size in sizes])) for own in errors.values()]
    slopes = np.array([line.slope for line in lines])
    slope, intercept = float(slopes.mean()), float(np.mean([line.intercept for line in lines]))
    mean = np.mean([[np.log(own[size]) for size in sizes] for own in errors.values()], axis=0)
    residual = mean - intercept - slope * x
    candidates = [slopes.std(ddof=1) / len(lines) ** 0.5] if len(lines) > 1 else []
    candidates += [stats.linregress(x, mean).stderr] if len(sizes) > 2 else []
    return PowerLaw(
        amplitude=float(np.exp(intercept)),
        exponent=-slope,
        exponent_stderr=float(max(candidates)) if candidates else None,
        rms_residual=float(np.sqrt(np.mean(residual**2))),
        n_sizes=len(sizes),
        n_seeds=len(lines),
    )


def plus_minus(value: float, stderr: float | None) -> str:
    """A value with its error, where that is known."""
    return f"{value:.4g}" if stderr is None else words.plus_minus(value, stderr)
