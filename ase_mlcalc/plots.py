"""All pictures, in one style: what is on the axes, in which unit, in colours that colour-blind readers can tell apart.

Figures are made without pyplot, so that no global state of matplotlib is read or changed by drawing one.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.files import atomic_path

Array = NDArray[np.float64]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Palette of Okabe and Ito (2008)."""

GREY = "#6b7280"
_DPI = 160
_FORMATS = ("png", "pdf", "svg")
_HEXBIN_FROM = 3000


class ParityPanel(NamedTuple):
    """One property in a parity plot; arrays of any shape, NaN where there is no reference."""

    title: str
    unit: str
    reference: Array
    predicted: Array
    groups: Array | None = None
    """A label per value (elements, for example) that chooses its colour; the shape of `reference`."""


class HistogramPanel(NamedTuple):
    """Distributions of one quantity for several groups of atoms."""

    label: str
    values: Mapping[str, Array]


def parity_plot(path: Path, panels: Sequence[ParityPanel]) -> None:
    """Predicted against reference values, one panel a property, with MAE, RMSE and the number of values.

    Errors of values in eV are in meV.  Values without reference (NaN) are left out.  Many ungrouped values are drawn as
    density.
    """
    columns = 2 if len(panels) == 4 else min(3, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = new_figure(4.0 * columns, 3.9 * rows)
    for position, panel in enumerate(panels):
        axes = new_axes(figure, rows, columns, position)
        _draw_parity(figure, axes, panel)
    save(figure, path)


def _draw_parity(figure: Figure, axes: Axes, panel: ParityPanel) -> None:
    reference = np.asarray(panel.reference, dtype=float).ravel()
    predicted = np.asarray(panel.predicted, dtype=float).ravel()
    given = np.isfinite(reference) & np.isfinite(predicted)
    axes.set_title(panel.title)
    axes.set_xlabel(f"reference / {panel.unit}")
    axes.set_ylabel(f"predicted / {panel.unit}")
    if not given.any():
        axes.set(xticks=[], yticks=[], aspect="equal")
        _say(axes, "no reference values")
        return
    reference, predicted = reference[given], predicted[given]
    low, high = _padded(np.concatenate([reference, predicted]))
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, zorder=1)
    if panel.groups is not None:
        groups = np.asarray(panel.groups).ravel()[given]
        for label, color in zip(np.unique(groups), _cycle(COLORS), strict=False):
            mine = groups == label
            axes.plot(
                reference[mine], predicted[mine], ".", markersize=3, alpha=0.6, color=color, label=str(label),
                markeredgewidth=0, rasterized=True,
            )  # fmt: skip
        axes.legend(loc="lower right", frameon=False, markerscale=3, handletextpad=0.2)
    elif len(reference) >= _HEXBIN_FROM:
        cells = axes.hexbin(
            reference, predicted, gridsize=70, bins="log", mincnt=1, cmap="viridis", linewidths=0.1,
            extent=(low, high, low, high), zorder=2,
        )  # fmt: skip
        figure.colorbar(cells, ax=axes, label="values per cell", pad=0.02)
    else:
        size, alpha = point_style(len(reference))
        axes.plot(reference, predicted, ".", markersize=size, alpha=alpha, color=COLORS[0], markeredgewidth=0)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal", adjustable="box")
    axes.locator_params(nbins=5)
    error = predicted - reference
    mae, rmse = (_in_words(value, panel.unit) for value in (np.abs(error).mean(), np.sqrt((error**2).mean())))
    _note(axes, f"MAE   {mae}\nRMSE {rmse}\n{len(error)} values")


def _in_words(error: float, unit: str) -> str:
    """An error with its unit, in meV where values are in eV: the unit of all tables of errors."""
    error, unit = (1000.0 * error, f"m{unit}") if unit.startswith("eV") else (error, unit)
    return f"{error:.0f} {unit}" if error >= 1000.0 else f"{error:.3g} {unit}"


def learning_curves(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Training history: validation errors, training loss and learning rate against epoch and minutes.

    Parameters
    ----------
    path : Path
        PNG file to write.
    rows : sequence of mappings
        Keys ``epoch``, ``minutes``, ``train_loss``, ``val_force_mae_meV_per_A``, ``val_energy_mae_meV_per_atom``,
        ``val_stress_mae_GPa`` and ``learning_rate``; NaN or absent where not measured.
    """

    def column(key: str) -> Array:
        return np.array([float(row.get(key, math.nan)) for row in rows], dtype=float)

    epoch = column("epoch")
    wanted = (
        ("val_force_mae_meV_per_A", "validation force MAE / meV/Å"),
        ("val_energy_mae_meV_per_atom", "validation energy MAE / meV/atom"),
        ("val_stress_mae_GPa", "validation stress MAE / GPa"),
        ("train_loss", "training loss"),
        ("learning_rate", "learning rate"),
    )
    panels = [(label, column(key)) for key, label in wanted]
    panels = [(label, values) for label, values in panels if np.isfinite(values).any()]
    columns = 2 if len(panels) > 1 else 1
    n_rows = max(1, math.ceil(len(panels) / columns))
    figure = new_figure(5.2 * columns, 3.4 * n_rows)
    for position, (label, values) in enumerate(panels):
        axes = new_axes(figure, n_rows, columns, position)
        given = np.isfinite(values)
        axes.plot(epoch[given], values[given], color=COLORS[position % len(COLORS)], linewidth=1.4)
        if (values[given] > 0).all():
            logarithmic(axes)
        if label.startswith("validation"):
            best = int(np.nanargmin(values))
            axes.plot(epoch[best], values[best], "o", color=COLORS[position], markersize=5)
            _note(axes, f"best {values[best]:.3g} at epoch {epoch[best]:g}", right=True)
        axes.set_ylabel(label)
        axes.set_xlabel("epoch")
        _add_minutes(axes, epoch, column("minutes"))
    if not panels:
        _say(new_axes(figure, 1, 1, 0), "nothing has been logged yet")
    save(figure, path)


def _add_minutes(axes: Axes, epoch: Array, minutes: Array) -> None:
    """A second axis on top; only where minutes grow with epochs, so that one can be read from the other."""
    usable = np.isfinite(epoch) & np.isfinite(minutes)
    epoch, minutes = epoch[usable], minutes[usable]
    if len(epoch) < 2 or not ((np.diff(epoch) > 0).all() and (np.diff(minutes) > 0).all()):
        return
    # straight lines between the rows, and beyond them at the mean pace, so that both ways are defined everywhere
    pace = (minutes[-1] - minutes[0]) / (epoch[-1] - epoch[0])
    span = epoch[-1] - epoch[0]
    wide_epoch = np.concatenate([[epoch[0] - span], epoch, [epoch[-1] + span]])
    wide_minutes = np.concatenate([[minutes[0] - span * pace], minutes, [minutes[-1] + span * pace]])
    top = axes.secondary_xaxis(
        "top",
        functions=(
            lambda x: np.interp(np.asarray(x, dtype=float), wide_epoch, wide_minutes),
            lambda x: np.interp(np.asarray(x, dtype=float), wide_minutes, wide_epoch),
        ),
    )
    top.set_xlabel("minutes", color=GREY)
    top.tick_params(colors=GREY, labelsize=8)


def histograms(path: Path, panels: Sequence[HistogramPanel], title: str = "") -> None:
    """Distributions side by side; see `draw_histogram`."""
    figure = new_figure(3.7 * max(1, len(panels)), 3.4)
    for position, panel in enumerate(panels):
        axes = new_axes(figure, 1, len(panels), position)
        draw_histogram(axes, panel.values, _cycle(COLORS))
        axes.set_ylim(0.0, 1.12 * axes.get_ylim()[1])
        axes.set_xlabel(panel.label)
        axes.set_ylabel("probability density / 1/GPa" if position == 0 else "")
        # the legend stands where the last panel is emptiest
        if position == len(panels) - 1:
            axes.legend(loc="best", frameon=False)
    if title:
        figure.suptitle(title, fontsize=10)
    save(figure, path)


def draw_histogram(axes: Axes, values: Mapping[str, Array], colors: Sequence[str]) -> None:
    """Distributions as outlines, one colour a group; at most 0.1 % of a group is cut off on each side."""
    # of each group, and exact values: a rare element must not be cut off altogether
    ends = [np.percentile(group, [0.1, 99.9], method="nearest") for group in values.values()]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    low, high = (low - 0.5, high + 0.5) if high - low < 1e-12 else (low, high)
    count = sum(len(group) for group in values.values())
    bins = np.linspace(low, high, int(np.clip(count**0.5, 12, 60)) + 1).tolist()
    for (label, group), color in zip(values.items(), colors, strict=False):
        axes.hist(group, bins=bins, density=True, histtype="stepfilled", color=color, alpha=0.15)
        axes.hist(group, bins=bins, density=True, histtype="step", color=color, linewidth=1.5, label=label)
    axes.set_xlim(low, high)


def new_figure(width_inch: float, height_inch: float) -> Figure:
    """An empty figure that belongs to no window and no global state."""
    return Figure(figsize=(width_inch, height_inch), layout="constrained", facecolor="white")


def new_axes(figure: Figure, rows: int, columns: int, position: int, sharex: Axes | None = None) -> Axes:
    """Axes in the common style at a position of a grid."""
    axes: Axes = figure.add_subplot(rows, columns, position + 1, sharex=sharex)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(visible=True, color="#e5e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
    axes.xaxis.label.set_fontsize(10)
    axes.yaxis.label.set_fontsize(10)
    return axes


def point_style(count: int) -> tuple[float, float]:
    """Size in points and opacity of so many points in a panel: a few are seen one by one, many as a cloud."""
    many = float(np.clip(math.log10(max(count, 1) / 30.0) / 2.0, 0.0, 1.0))  # from 30 on less, the least from 3000 on
    return 9.0 - 6.0 * many, 0.9 - 0.5 * many


def whole_ticks(axis: Axis) -> None:
    """Ticks at whole numbers only, at one of them if there is but one: by default there would be two, of 0.15."""
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def logarithmic(axes: Axes, *, x: bool = False) -> None:
    """A logarithmic y (or x) axis with ticks at 1, 2 and 5, written as plain numbers."""
    axis = axes.xaxis if x else axes.yaxis
    if x:
        axes.set_xscale("log")
    else:
        axes.set_yscale("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _note(axes: Axes, text: str, *, right: bool = False) -> None:
    box: dict[str, Any] = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2}
    x, side = (0.97, "right") if right else (0.03, "left")
    axes.text(x, 0.96, text, transform=axes.transAxes, va="top", ha=side, fontsize=9, bbox=box, zorder=5)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def _cycle(colors: Sequence[str]) -> list[str]:
    return list(colors) * 20


def _padded(values: Array) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    return low - pad, high + pad


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, PDF or SVG by the end of its name, whole or not at all.

    Raises
    ------
    ConfigError
        A name with another end.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _FORMATS:
        raise ConfigError(f"{path} is no name for a picture; expected one that ends in .{', .'.join(_FORMATS)}")
    with atomic_path(path) as part:
        figure.savefig(part, format=kind, dpi=_DPI)
