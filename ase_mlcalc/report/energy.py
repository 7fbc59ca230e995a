"""Section: how fast the energy drifts that the equations of motion conserve."""

from collections.abc import Sequence

import numpy as np

from ase_mlcalc.md.drift import Slope
from ase_mlcalc.plots import COLORS, new_axes, new_figure
from ase_mlcalc.report.page import PANEL, Gallery, Picture, Section, picture
from ase_mlcalc.report.stage import Stage
from ase_mlcalc.report.words import number, slope_words

_MAX_POINTS = 3000


def drift_section(stages: Sequence[Stage]) -> Section | None:
    """Conserved energy of each stage with its line, the temperature where a potential gives no energy."""
    pictures = [picture for stage in stages if (picture := _drift_picture(stage)) is not None]
    return Section("Drift of the conserved energy", [Gallery(pictures)]) if pictures else None


def conserved_name(stage: Stage) -> str:
    """What a drift is the drift of."""
    return "total energy" if stage.ensemble == "nve" else "conserved quantity"


def _drift_picture(stage: Stage) -> Picture | None:
    conserved = stage.conserved_eV
    if stage.rows is None:
        return None
    if stage.drift is not None and conserved is not None:
        name, values, line, unit = conserved_name(stage), 1000.0 * conserved / stage.n_atoms, stage.drift, "meV/atom"
    elif stage.heating is not None and conserved is None:
        name, values, line, unit = "temperature", stage.rows["temperature_K"], stage.heating, "K"
    else:
        return None
    figure = new_figure(*PANEL)
    axes = new_axes(figure, 1, 1, 0)
    time = stage.rows["time_ps"]
    every = max(1, len(time) // _MAX_POINTS)
    axes.plot(time[::every], (values - line.intercept)[::every], color=COLORS[5], linewidth=0.7)
    ends = np.array([time[0], time[-1]])
    axes.plot(ends, line.slope * ends, color=COLORS[1], linewidth=2.0)
    axes.set(xlabel="time / ps", ylabel=f"{name} / {unit}", xlim=(float(ends[0]), float(ends[1])))
    axes.set_title(f"{stage.name}: {slope_words(line)} {unit}/ps", fontsize=11, loc="left")
    return picture(
        figure,
        f"drift-{stage.name}",
        alt=f"{name} of stage {stage.name} against time with a straight line of slope {slope_words(line)} {unit}/ps",
        caption=_caption(stage, name, line, unit),
    )


def _caption(stage: Stage, name: str, line: Slope, unit: str) -> str:
    what = f"The {name}" + (" per atom" if unit == "meV/atom" else "")
    extra = (
        "" if stage.ensemble == "nve" or unit == "K" else ", which is the total energy less what the thermostat gave"
    )
    return (
        f"{what}{extra}, from the start of its least-squares line; rms about the line {number(line.rms, 2)} {unit}. "
        "The standard error of the slope is from block averaging, for residuals are correlated (Flyvbjerg and "
        "Petersen 1989)."
    )
