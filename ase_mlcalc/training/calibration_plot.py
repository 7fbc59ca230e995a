"""The picture of a calibration: error over spread, and the calibration curve before and after rescaling."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ase_mlcalc.plots import COLORS, GREY, logarithmic, new_axes, new_figure, point_style, save

Array = NDArray[np.float64]
TITLES = {"forces": "force of each atom", "stresses": "stress of each atom", "stress": "stress of each structure"}
MOST_BINS = 20


class CalibrationPanel(NamedTuple):
    """What is drawn of one property; see `ase_mlcalc.training.calibration`."""

    name: str
    unit: str
    spread_k: Array
    length_k: Array
    """(K,) lengths of the errors."""
    scale: float
    rank_correlation: float | None
    expected: Array
    observed: Array
    observed_rescaled: Array
    areas: tuple[float, float]
    """Miscalibration before and after."""


def calibration_plot(path: Path, panels: Sequence[CalibrationPanel]) -> None:
    """A row for each property: errors binned by spread on the left, the calibration curve on the right."""
    figure = new_figure(9.6, 4.3 * len(panels))
    for row, panel in enumerate(panels):
        _draw_errors(new_axes(figure, len(panels), 2, 2 * row), panel)
        _draw_curve(new_axes(figure, len(panels), 2, 2 * row + 1), panel)
    save(figure, path)


def _draw_errors(axes: Axes, panel: CalibrationPanel) -> None:
    order = np.argsort(panel.spread_k)
    count = int(np.clip(len(order) // 10, 3, MOST_BINS))
    spread_b, error_b = (
        np.array([np.sqrt(np.mean(values[chunk] ** 2)) for chunk in np.array_split(order, count)])
        for values in (panel.spread_k, panel.length_k)
    )
    shown = panel.length_k > 0
    size, alpha = point_style(int(shown.sum()))
    axes.plot(
        panel.spread_k[shown], panel.length_k[shown], ".", markersize=size, alpha=alpha, color=COLORS[5],
        markeredgewidth=0, rasterized=True, zorder=1,
    )  # fmt: skip
    axes.plot(spread_b, error_b, "o-", markersize=5, linewidth=1.2, color=COLORS[0], label="binned, rms")
    ends = np.array([panel.spread_k.min(), panel.spread_k.max()])
    axes.plot(ends, ends, color=GREY, linewidth=0.9, label="error = spread")
    if panel.scale > 0:
        axes.plot(
            ends, panel.scale * ends, color=COLORS[1], linewidth=1.4, linestyle=(0, (5, 3)),
            label=f"error = {panel.scale:.3g} x spread",
        )  # fmt: skip
    logarithmic(axes, x=True)
    logarithmic(axes)
    if shown.any():  # a few tiny errors must not squeeze the rest
        low = min(np.percentile(panel.length_k[shown], 1.0), error_b[error_b > 0].min(), ends[0])
        axes.set_ylim(0.7 * low, 1.4 * max(panel.length_k.max(), ends[1]))
    axes.set_title(TITLES.get(panel.name, panel.name), loc="left")
    axes.set_xlabel(f"spread between members / {panel.unit}")
    axes.set_ylabel(f"length of error / {panel.unit}")
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    rank = "" if panel.rank_correlation is None else f"rank correlation {panel.rank_correlation:.2f}\n"
    axes.text(
        0.97, 0.04, f"{rank}{len(panel.spread_k)} values", transform=axes.transAxes, ha="right", va="bottom",
        fontsize=9, bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2},
    )  # fmt: skip


def _draw_curve(axes: Axes, panel: CalibrationPanel) -> None:
    before, after = panel.areas
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.9)
    axes.fill_between(panel.expected, panel.expected, panel.observed, color=COLORS[0], alpha=0.12, linewidth=0)
    axes.plot(panel.expected, panel.observed, color=COLORS[0], linewidth=1.6, label=f"spread: area {before:.3f}")
    axes.plot(
        panel.expected, panel.observed_rescaled, color=COLORS[1], linewidth=1.6, linestyle=(0, (5, 3)),
        label=f"rescaled by {panel.scale:.3g}: area {after:.3f}",
    )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal", adjustable="box")
    axes.set_title("calibration curve", loc="left")
    axes.set_xlabel("expected fraction of components in interval")
    axes.set_ylabel("observed fraction")
    axes.legend(loc="upper left" if before < 0.25 else "lower right", frameon=False, fontsize=9)
