"""The picture of a learning curve: errors against the number of structures, both logarithmic, with power laws."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from ase_mlcalc.campaigns.config import Quantity
from ase_mlcalc.campaigns.curve_summary import LearningCurve
from ase_mlcalc.campaigns.statistics import MAE, errors_of, plus_minus
from ase_mlcalc.plots import COLORS, logarithmic, new_axes, new_figure, save

MARKERS = "osD^vP*"
LEGEND_LINE_INCH = 0.2


def draw_learning_curve(path: Path, curve: LearningCurve) -> None:
    """Draw what was measured, a panel for each property; nothing is written before anything was trained.

    Dots are single trainings, markers with bars means over seeds and their standard errors, lines the power laws.
    """
    if not curve.quantities:
        return
    figure = new_figure(5.2 * len(curve.quantities), 4.2 + LEGEND_LINE_INCH * len(curve.models))
    for position, quantity in enumerate(curve.quantities):
        _draw(new_axes(figure, 1, len(curve.quantities), position), curve, quantity)
    save(figure, path)


def _draw(axes: Axes, curve: LearningCurve, quantity: Quantity) -> None:
    _, name, unit = MAE[quantity]
    for k, model in enumerate(curve.models):
        color, marker = COLORS[k % len(COLORS)], MARKERS[k % len(MARKERS)]
        single = [
            (one.size, error)
            for one in curve.trainings
            if one.model == model and (error := errors_of(quantity, one.measured)) is not None
        ]
        points = [(point.size, point.errors[quantity]) for point in curve.of(model) if quantity in point.errors]
        if not points:
            continue
        if len(single) > len(points):
            axes.plot(*zip(*single, strict=True), ".", color=color, alpha=0.35, markersize=5, markeredgewidth=0)
        fit = curve.fit(model, quantity)
        label = model
        if fit is not None:
            sizes = np.geomspace(points[0][0], points[-1][0], 50)
            axes.plot(sizes, fit.amplitude * sizes**-fit.exponent, color=color, linewidth=1.2)
            label = f"{model}: exponent {plus_minus(-fit.exponent, fit.exponent_stderr)}"
        axes.errorbar(
            [size for size, _ in points],
            [mean.mean for _, mean in points],
            yerr=[mean.stderr or 0.0 for _, mean in points],
            fmt=marker, color=color, markersize=6, capsize=3, linewidth=1.2, label=label,
        )  # fmt: skip
    logarithmic(axes, x=True)
    logarithmic(axes)
    low, high = axes.get_ylim()
    if high < 10.0 * low:  # ticks at 1, 2 and 5 would be one or two
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xticks(curve.sizes, [f"{size}" for size in curve.sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training structures")
    axes.set_ylabel(f"{name} / {unit}")
    axes.set_title(f"{curve.n_measured} {curve.measured_on}", loc="left", fontsize=10)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False, fontsize=9)  # inside it hides markers
