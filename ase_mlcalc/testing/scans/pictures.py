"""Pictures of scans: energy above force against distance, with what is wrong marked where it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ase_mlcalc.plots import COLORS, GREY, new_axes, new_figure, save
from ase_mlcalc.testing.scans.bonds import BondCurve, BondScan
from ase_mlcalc.testing.scans.defects import REACH_EV, WALL_EV, Defect, Kind
from ase_mlcalc.testing.scans.dimers import Dimer, DimerScan

Array = NDArray[np.float64]

MARKERS: dict[Kind, str] = {
    "energy_jump": "|",
    "force_jump": "|",
    "force_kink": "^",
    "force_not_derivative": "D",
    "false_minimum": "v",
    "second_minimum": "v",
    "hole": "v",
    "no_wall": "<",
    "dissociates": ">",
    "undefined": "x",
}
FAILURE = COLORS[1]
_LINE = COLORS[0]
_COLUMNS = 3


class Panel(NamedTuple):
    """Curves that are drawn together, energy above force."""

    title: str
    curves: Sequence[BondCurve | Dimer]


def scan_plots(folder: Path, scans: Mapping[str, BondScan | DimerScan | None]) -> list[Path]:
    """Draw scans into files of their names, bond_scan.png and dimer_scan.png; the files that were written."""
    written = []
    for name, scan in scans.items():
        path = folder / f"{name}.png"
        if isinstance(scan, BondScan):
            bond_scan_plot(path, scan)
            written.append(path)
        elif isinstance(scan, DimerScan):
            dimer_scan_plot(path, scan)
            written.append(path)
    return written


def bond_scan_plot(path: Path, scan: BondScan) -> None:
    """Draw the curves of all scanned bonds, a panel for each pair of elements."""
    kinds = sorted({curve.bond.kind for curve in scan.curves})
    panels = [Panel(kind, [curve for curve in scan.curves if curve.bond.kind == kind]) for kind in kinds]
    panels = [Panel(f"{kind}, {_count(len(curves))}", curves) for kind, curves in panels]
    _draw(path, panels, "length of the bond / Å")


def dimer_scan_plot(path: Path, scan: DimerScan) -> None:
    """Draw the curves of all dimers, a panel for each pair of elements."""
    _draw(path, [Panel(curve.name, [curve]) for curve in scan.curves], "distance / Å")


def _count(n: int) -> str:
    return "1 bond" if n == 1 else f"{n} bonds"


def _draw(path: Path, panels: Sequence[Panel], label: str) -> None:
    columns = 2 if len(panels) == 4 else min(_COLUMNS, len(panels))
    blocks = -(-len(panels) // columns)
    figure = new_figure(max(3.9 * columns, 5.4), 4.8 * blocks + 0.7)
    for number, panel in enumerate(panels):
        block, column = divmod(number, columns)
        above = new_axes(figure, 2 * blocks, columns, 2 * block * columns + column)
        below = new_axes(figure, 2 * blocks, columns, (2 * block + 1) * columns + column, sharex=above)
        _draw_panel(above, below, panel)
        above.set_title(panel.title, fontsize=11)
        above.tick_params(labelbottom=False)
        below.set_xlabel(label)
        if column == 0:
            above.set_ylabel("energy / eV")
            below.set_ylabel("force / eV/Å\n(> 0: repulsion)")
    figure.align_ylabels()
    _legend(figure, [defect for panel in panels for curve in panel.curves for defect in curve.verdict.defects])
    save(figure, path)


def _draw_panel(above: Axes, below: Axes, panel: Panel) -> None:
    energies = [_energy(curve) for curve in panel.curves]
    for axes in (above, below):
        axes.axhline(0.0, color=GREY, linewidth=0.8)
    above.axhline(REACH_EV, color=GREY, linewidth=0.8, linestyle=(0, (5, 3)))
    for curve, energy in zip(panel.curves, energies, strict=True):
        several = len(panel.curves) > 1
        above.plot(curve.distance, energy, color=_LINE, linewidth=1.1, alpha=0.6 if several else 1.0)
        below.plot(curve.distance, curve.force, color=_LINE, linewidth=1.1, alpha=0.6 if several else 1.0)
    _limits(above, below, panel.curves, energies)
    for curve, energy in zip(panel.curves, energies, strict=True):
        for defect in curve.verdict.defects:
            of_force = defect.kind in ("force_jump", "force_kink", "force_not_derivative")
            axes, values = (below, curve.force) if of_force else (above, energy)
            _mark(axes, curve.distance, values, defect)


def _energy(curve: BondCurve | Dimer) -> Array:
    """(K,) eV; without an energy the work against the force, counted from where the curve is followed."""
    if np.isfinite(curve.energy).all():
        return curve.energy
    steps = 0.5 * (curve.force[1:] + curve.force[:-1]) * np.diff(curve.distance)
    work = -np.concatenate([[0.0], np.cumsum(steps)])
    start = curve.minimum_A if isinstance(curve, BondCurve) else curve.distance[-1]
    shifted: Array = work - work[int(np.argmin(np.abs(curve.distance - start)))]
    return shifted


def _limits(above: Axes, below: Axes, curves: Sequence[BondCurve | Dimer], energies: Sequence[Array]) -> None:
    """The part of the curves that matters: walls and holes go on out of the picture, those of the force earlier."""
    lowest = max(min(float(energy.min()) for energy in energies), -4 * WALL_EV)
    highest = max(min(max(float(energy.max()) for energy in energies), WALL_EV), 1.2 * REACH_EV)
    pad = 0.08 * (highest - lowest)
    above.set_ylim(lowest - pad, highest + pad)
    shown = [
        curve.force[(energy <= 0.6 * WALL_EV) & (energy >= lowest)]
        for curve, energy in zip(curves, energies, strict=True)
    ]
    values = np.concatenate([*shown, [0.0]])
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    pad = 0.08 * (high - low) or 0.5
    below.set_ylim(low - pad, high + pad)


def _mark(axes: Axes, distance: Array, values: Array, defect: Defect) -> None:
    """A mark on the curve, kept inside the picture; a bar over the region where there is one."""
    color = FAILURE if defect.serious else GREY
    middle = 0.5 * (defect.from_A + defect.to_A)
    if defect.to_A - defect.from_A > 5e-4:
        axes.axvspan(defect.from_A, defect.to_A, color=color, alpha=0.07, linewidth=0)
    low, high = axes.get_ylim()
    height = float(np.clip(np.interp(middle, distance, values), low + 0.03 * (high - low), high - 0.03 * (high - low)))
    size = 13 if MARKERS[defect.kind] == "|" else 7
    axes.plot(middle, height, MARKERS[defect.kind], color=color, markersize=size, markeredgewidth=1.8, zorder=4)


def _legend(figure: Figure, defects: Sequence[Defect]) -> None:
    """What the marks mean; which are failures."""
    entries: dict[str, Line2D] = {}
    for defect in sorted(defects, key=lambda each: not each.serious):
        words = defect.kind.replace("_", " ")
        text = f"{words}: failure" if defect.serious else f"{words}: note"
        color = FAILURE if defect.serious else GREY
        entries.setdefault(
            text, Line2D([], [], color=color, marker=MARKERS[defect.kind], linestyle="none", markersize=8, label=text)
        )
    reach = Line2D([], [], color=GREY, linestyle=(0, (5, 3)), label=f"{REACH_EV:g} eV: within reach of dynamics")
    figure.legend(handles=[*entries.values(), reach], loc="outside lower center", ncols=2, frameon=False, fontsize=9)
