"""Section: temperature, energies, pressure and volume against time."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ase_mlcalc.plots import COLORS, GREY, new_axes, new_figure
from ase_mlcalc.report.page import PANEL, Gallery, Picture, Section, picture
from ase_mlcalc.report.stage import Stage
from ase_mlcalc.report.words import minus, number

Array = NDArray[np.float64]

_MAX_POINTS = 1200
"""Per stage and panel: a panel has a thousand pixels."""

_QUANTITIES = (
    # column, file, title, axis, per atom and from its mean, caption
    ("temperature_K", "temperature", "Temperature", "temperature / K", False,
     "From the kinetic energy and the degrees of freedom of the ensemble."),
    ("potential_eV", "potential-energy", "Potential energy", "meV/atom", True,
     "Per atom, from its mean."),
    ("total_eV", "total-energy", "Total energy", "meV/atom", True,
     "Potential plus kinetic energy per atom, from its mean; constant only at constant energy."),
    ("pressure_GPa", "pressure", "Pressure", "pressure / GPa", False,
     "−tr(stress)/3 plus the kinetic part 2K/(3V), of the whole cell."),
    ("volume_A3", "volume", "Volume", "Å³ per atom", False, "Of the cell, divided by the number of atoms."),
)  # fmt: skip


def thermo_section(stages: Sequence[Stage]) -> Section | None:
    """Traces of a run on one time axis; ``None`` if nothing was recorded."""
    shown = [stage for stage in stages if stage.rows is not None and len(stage.rows["time_ps"])]
    pictures = [
        _trace(shown, column, file, title, label, from_mean=from_mean, caption=caption)
        for column, file, title, label, from_mean, caption in _QUANTITIES
        if any(stage.column(column) is not None for stage in shown) and not _is_constant(shown, column)
    ]
    return Section("Temperature, energy and pressure", [Gallery(pictures)]) if pictures else None


def _is_constant(stages: Sequence[Stage], column: str) -> bool:
    """A volume that nothing changes is no news."""
    if column != "volume_A3":
        return False
    columns = [values for stage in stages if (values := stage.column(column)) is not None]
    every = np.concatenate(columns)
    return float(np.nanmax(every) - np.nanmin(every)) <= 1e-9 * float(np.nanmax(np.abs(every)))


def _trace(
    stages: Sequence[Stage], column: str, file: str, title: str, label: str, *, from_mean: bool, caption: str
) -> Picture:
    per_atom = [stage.n_atoms if from_mean or column == "volume_A3" else 1 for stage in stages]
    found = [stage.column(column) for stage in stages]
    series = [None if values is None else values / count for values, count in zip(found, per_atom, strict=True)]
    zero = float(np.nanmean(np.concatenate([values for values in series if values is not None]))) if from_mean else 0.0
    scale = 1000.0 if from_mean else 1.0
    figure = new_figure(*PANEL)
    axes = new_axes(figure, 1, 1, 0)
    for stage, values in zip(stages, series, strict=True):
        if values is not None and stage.rows is not None:
            _draw(axes, stage.start_ps + stage.rows["time_ps"], scale * (values - zero))
    if column == "temperature_K":
        caption += _draw_targets(axes, stages)
    mark_stages(axes, stages)
    axes.set(xlabel=stages[0].time_axis, ylabel=label)
    axes.set_title(title, fontsize=11, loc="left")
    if from_mean:
        caption = minus(f"{caption[:-1]}; zero is {zero:.3f} eV/atom.")
    every = np.concatenate([scale * (values - zero) for values in series if values is not None])
    alt = f"{title} against time, from {number(float(np.nanmin(every)))} to {number(float(np.nanmax(every)))} {label}"
    return picture(figure, file, alt=alt, caption=caption)


def _draw(axes: Axes, time: Array, values: Array) -> None:
    """A line; a long one as the range that it covers, so that no spike is lost."""
    bins = max(1, len(time) // _MAX_POINTS)
    if bins == 1:
        axes.plot(time, values, color=COLORS[0], linewidth=0.8)
        return
    whole = len(time) // bins * bins
    folded, times = values[:whole].reshape(-1, bins), time[:whole].reshape(-1, bins)
    extremes = np.column_stack([folded.min(axis=1), folded.max(axis=1)]).ravel()
    axes.plot(np.repeat(times.mean(axis=1), 2), extremes, color=COLORS[0], linewidth=0.6)


def _draw_targets(axes: Axes, stages: Sequence[Stage]) -> str:
    """Temperatures of thermostats, and what to say of them."""
    targets = [stage for stage in stages if stage.target_K is not None]
    for stage in stages:
        if stage.target_K is not None and stage.rows is not None:
            axes.plot(
                stage.start_ps + stage.rows["time_ps"], stage.target_K, color="black", linewidth=1.1,
                linestyle=(0, (5, 3)), zorder=4,
            )  # fmt: skip
    return " Dashed: target of the thermostat." if targets else ""


def mark_stages(axes: Axes, stages: Sequence[Stage]) -> None:
    """Stages named and shaded in turn; a line where the run failed, dotted ones where monitors only noted something."""
    ends = [stage.end_ps for stage in stages]
    whole = max(ends) - stages[0].start_ps
    axes.set_xlim(stages[0].start_ps, stages[0].start_ps + (whole or 1.0))
    for position, (stage, end) in enumerate(zip(stages, ends, strict=True)):
        if position % 2:
            axes.axvspan(stage.start_ps, end, color="black", alpha=0.05, linewidth=0, zorder=0)
        if len(stages) > 1 and end - stage.start_ps > 0.09 * whole:
            axes.text(
                0.5 * (stage.start_ps + end), 0.985, stage.name, transform=axes.get_xaxis_transform(), ha="center",
                va="top", fontsize=8, color=GREY, zorder=6,
                bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1},
            )  # fmt: skip
        noted = sorted({event.time_ps for event in stage.events if not event.stops and event.time_ps is not None})
        for time in noted[:50]:
            axes.axvline(stage.start_ps + time, color=COLORS[4], linewidth=1.2, linestyle=":", zorder=5)
        if stage.failed and stage.failed_at is not None:
            failure = stage.start_ps + stage.failed_at
            axes.axvline(failure, color=COLORS[1], linewidth=2.2, zorder=5, clip_on=False)
