"""The picture of a comparison: mean errors, their distribution, and accuracy over cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ase_mlcalc.plots import COLORS, logarithmic, new_axes, new_figure, save
from ase_mlcalc.training.figures import PANELS
from ase_mlcalc.training.metrics import Comparison, Metrics

QUANTITIES = {
    "forces": ("force", "meV_per_A", "meV/Å", 1e3),
    "stresses": ("stresses", "GPa", "GPa", 1.0),
    "stress": ("stress", "GPa", "GPa", 1.0),
    "energy": ("energy", "meV_per_atom", "meV/atom", 1e3),
}
"""Property to name and unit in the fields of `Metrics`, shown unit, and that unit of `PANELS` in it; the first one that
was measured of any potential is drawn."""


class Contestant(NamedTuple):
    """One potential in the picture."""

    name: str
    comparison: Comparison
    metrics: Metrics
    ms_per_call: float


def side_by_side_plot(path: Path, contestants: Sequence[Contestant], timed: str) -> None:
    """Draw a comparison; nothing is written if no error could be measured.

    Parameters
    ----------
    path : Path
        PNG file to write.
    contestants : sequence of Contestant
    timed : str
        What the time of a call belongs to.
    """
    for name in QUANTITIES:
        measured = [(one, color) for one, color in zip(contestants, _colors(len(contestants)), strict=True)
                    if _mean_errors(one, name) is not None]  # fmt: skip
        if measured:
            break
    else:
        return
    figure = new_figure(14.4, 2.6 + max(1.6, 0.35 * len(measured)))
    _draw_bars(new_axes(figure, 1, 3, 0), name, measured)
    _draw_distribution(new_axes(figure, 1, 3, 1), name, measured)
    _draw_cost(new_axes(figure, 1, 3, 2), name, measured, timed)
    save(figure, path)


def _colors(count: int) -> list[str]:
    return [COLORS[k % len(COLORS)] for k in range(count)]


def _mean_errors(one: Contestant, name: str) -> tuple[float, float] | None:
    """MAE and RMSE."""
    field, unit, _, _ = QUANTITIES[name]
    values = one.metrics.model_dump()
    mae, rmse = values[f"{field}_mae_{unit}"], values[f"{field}_rmse_{unit}"]
    return None if mae is None else (mae, rmse)


def _draw_bars(axes: Axes, name: str, measured: Sequence[tuple[Contestant, str]]) -> None:
    longest = max(rmse for one, _ in measured for _, rmse in [_mean_errors(one, name) or (0.0, 0.0)])
    for row, (one, color) in enumerate(measured):
        mae, rmse = _mean_errors(one, name) or (0.0, 0.0)
        axes.barh(row, rmse, height=0.7, color=color, alpha=0.25)
        axes.barh(row, mae, height=0.7, color=color)
        axes.text(rmse + 0.01 * longest, row, f"{mae:.3g} / {rmse:.3g}", va="center", fontsize=9)
    axes.set_yticks(range(len(measured)), [_short(one.name) for one, _ in measured])
    axes.set_ylim(len(measured) - 0.4, -0.6)  # the first on top
    axes.set_xlim(0, 1.35 * longest)
    axes.grid(visible=False, axis="y")
    axes.set_title("MAE (dark) / RMSE (light)", loc="left")
    axes.set_xlabel(f"{PANELS[name][0]}: error / {QUANTITIES[name][2]}")


def _draw_distribution(axes: Axes, name: str, measured: Sequence[tuple[Contestant, str]]) -> None:
    lowest = []
    for one, color in measured:
        error = np.sort(_errors(one.comparison, name))
        error = error[error > 0]
        if not len(error):
            continue
        axes.step(error, np.arange(1, len(error) + 1) / len(error), where="post", color=color, linewidth=1.5,
                  label=_short(one.name))  # fmt: skip
        lowest.append(np.percentile(error, 1.0))
    if lowest:
        axes.set_xscale("log")
        axes.set_xlim(left=0.7 * min(lowest))
        axes.legend(loc="upper left", frameon=False, fontsize=9)
    axes.set_ylim(0, 1)
    axes.set_title("distribution of the errors", loc="left")
    axes.set_xlabel(f"error / {QUANTITIES[name][2]}")
    axes.set_ylabel("fraction with a smaller error")


def _errors(comparison: Comparison, name: str) -> NDArray[np.float64]:
    """Absolute errors of all labelled components, in the unit that is shown."""
    prediction, label = getattr(comparison.prediction, name), getattr(comparison.labels, name)
    error = prediction - label
    if name == "energy":
        error = error / np.bincount(comparison.system, minlength=len(label))
    absolute: NDArray[np.float64] = (error[~label.isnan()].abs() / PANELS[name][2] * QUANTITIES[name][3]).numpy()
    return absolute


def _draw_cost(axes: Axes, name: str, measured: Sequence[tuple[Contestant, str]], timed: str) -> None:
    for one, color in measured:
        mae, _ = _mean_errors(one, name) or (0.0, 0.0)
        axes.plot(one.ms_per_call, mae, "o", color=color, markersize=8)
        axes.annotate(_short(one.name), (one.ms_per_call, mae), xytext=(7, 5), textcoords="offset points", fontsize=9)
    logarithmic(axes, x=True)
    logarithmic(axes)
    times = [one.ms_per_call for one, _ in measured]
    axes.set_xlim(0.6 * min(times), 2.5 * max(times))  # room for the names
    errors = [mae for one, _ in measured for mae, _ in [_mean_errors(one, name) or (0.0, 0.0)] if mae > 0]
    if errors:
        axes.set_ylim(0.6 * min(errors), 1.7 * max(errors))
    axes.set_title("accuracy over cost", loc="left")
    axes.set_xlabel(f"time of a call on {timed} / ms")
    axes.set_ylabel(f"MAE / {QUANTITIES[name][2]}")


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]
