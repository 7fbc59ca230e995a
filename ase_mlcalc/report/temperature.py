r"""Section: temperature of stages with a thermostat against the canonical ensemble.

The kinetic energy K of f degrees of freedom has a gamma distribution of shape f/2 and scale k_B T, so that the kinetic
temperature 2K/(f k_B) has the mean T and the variance 2 T²/f (Allen and Tildesley, Computer Simulation of Liquids,
2nd edition, 2017, section 2.5).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import gamma

from ase_mlcalc.plots import COLORS, new_axes, new_figure
from ase_mlcalc.report.page import PANEL, Gallery, Picture, Section, picture
from ase_mlcalc.report.stage import Array, Stage
from ase_mlcalc.report.words import number, plus_minus
from ase_mlcalc.study.averages import Estimate, kinetic_variance_ratio, mean_of


class CanonicalCheck(NamedTuple):
    """Mean and variance of the kinetic temperature beside what the canonical ensemble has."""

    target_K: float
    mean_K: Estimate
    variance_ratio: Estimate
    """Variance over 2 T²/f; 1 in the canonical ensemble."""
    temperatures_K: Array
    """What both are of."""
    degrees_of_freedom: int


def canonical_check(stage: Stage) -> CanonicalCheck | None:
    """Mean and variance of a stage at one temperature; the first fifth is left out as equilibration."""
    temperatures, target, freedom = stage.column("temperature_K"), stage.constant_target_K, stage.degrees_of_freedom
    if temperatures is None or target is None or not freedom:
        return None
    kept = temperatures[len(temperatures) // 5 :]
    mean, ratio = mean_of(kept), kinetic_variance_ratio(kept, target, freedom)
    if mean is None or ratio is None:
        return None
    return CanonicalCheck(target, mean, ratio, kept, freedom)


def temperature_section(stages: Sequence[Stage]) -> Section | None:
    """Distributions of the temperature with their theory; ``None`` without a thermostat or with too few rows."""
    pictures = [_distribution(stage, check) for stage in stages if (check := canonical_check(stage)) is not None]
    return Section("Temperature against the canonical ensemble", [Gallery(pictures)]) if pictures else None


def _distribution(stage: Stage, check: CanonicalCheck) -> Picture:
    kept, mean = check.temperatures_K, plus_minus(*check.mean_K, sign=False)
    figure = new_figure(*PANEL)
    axes = new_axes(figure, 1, 1, 0)
    bins = int(np.clip(len(kept) ** 0.5, 10, 40))
    axes.hist(kept, bins=bins, density=True, color=COLORS[5], alpha=0.55, label="run")
    theory = gamma(check.degrees_of_freedom / 2.0, scale=2.0 * check.target_K / check.degrees_of_freedom)
    low, high = theory.ppf([1e-4, 1 - 1e-4])
    grid = np.linspace(min(low, kept.min()), max(high, kept.max()), 300)
    axes.plot(grid, theory.pdf(grid), color="black", linewidth=1.4, label=f"canonical, {check.target_K:g} K")
    axes.set(xlabel="temperature / K", ylabel="probability density / 1/K")
    axes.legend(loc="upper right", frameon=False, fontsize=8.5)
    axes.set_title(f"{stage.name}: {mean} K", fontsize=11, loc="left")
    caption = (
        f"Mean {mean} K, thermostat {check.target_K:g} K; variance {plus_minus(*check.variance_ratio, sign=False)} "
        f"times the canonical 2T²/f with f = {check.degrees_of_freedom} degrees of freedom. Errors by block averaging; "
        "the first fifth of the stage is left out."
    )
    alt = (
        f"Histogram of the temperature of stage {stage.name}, mean {number(check.mean_K.value)} K, with the canonical "
        "distribution"
    )
    return picture(figure, f"temperature-{stage.name}", alt=alt, caption=caption)
