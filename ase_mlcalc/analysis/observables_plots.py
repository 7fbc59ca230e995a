"""Pictures of observables: one curve a panel with a band of two standard errors, the reference under it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ase_mlcalc.analysis.curves import Curve
from ase_mlcalc.analysis.motion import Diffusion
from ase_mlcalc.analysis.observables import R_MAX_A, Observables, curves_of
from ase_mlcalc.plots import COLORS, GREY, new_axes, new_figure, save, whole_ticks

Array = NDArray[np.float64]

MOST_PANELS = 12
"""In one picture: those with the most to show come first."""
COLUMNS = 3
MINE, REFERENCE = COLORS[0], COLORS[1]
SHOWN_POWER = 0.99
"""Of a density of states, up to where it is drawn."""
STANDS_OUT = 4.0
"""A first peak this many times as high as all that follows is cut off, with its height in words."""
ONE_PLACE_A = 0.1
"""Cell vectors closer than this are marked once."""


class Panel(NamedTuple):
    """One curve, or what is known of it on both sides."""

    title: str
    mine: Curve | None
    reference: Curve | None = None
    bars: bool = False
    x_range: tuple[float, float] | None = None
    y_top: float | None = None
    level: float | None = None
    """A horizontal line."""
    mark: float | None = None
    """A vertical line: where bonds end."""
    line: tuple[Array, Array] | None = None
    """A fit."""
    note: str = ""
    own_images: tuple[float, ...] = ()
    """Distances to mark as cell vectors."""


def draw_observables(
    folder: Path,
    mine: Observables,
    reference: Observables | None = None,
    *,
    names: tuple[str, str] = ("trajectory", "reference"),
) -> list[Path]:
    """Draw whatever was measured into ``rdf.png``, ``angles.png``, ``coordination.png``, ``h_of_r.png``, ``msd.png``
    and ``vdos.png``.

    Parameters
    ----------
    folder : Path
    mine : Observables
    reference : Observables, optional
        Drawn beneath, in the same panels.
    names : (str, str)
        Of both in the legend.

    Returns
    -------
    list of Path
        The pictures that there are: nothing is drawn of what could not be measured.
    """
    made: dict[str, Callable[[Observables, Observables | None], list[Panel]]] = {
        "rdf": pair_panels,
        "angles": angle_panels,
        "coordination": coordination_panels,
        "h_of_r": h_panels,
        "msd": msd_panels,
        "vdos": velocity_panels,
    }
    drawn = []
    for name, panels_of in made.items():
        panels = panels_of(mine, reference)
        if panels:
            draw_panels(folder / f"{name}.png", panels, names)
            drawn.append(folder / f"{name}.png")
    return drawn


def pair_panels(mine: Observables, reference: Observables | None) -> list[Panel]:
    """g(r) of each pair, or the density of distances, with the end of bonds."""
    panels = []
    end = _farthest(mine)
    kind = "distances" if mine.rdf is None else "rdf"
    curves, own = seen_curves(mine, kind)
    others, other_own = ({}, ()) if reference is None else seen_curves(reference, kind)
    for name, curve in curves.items():
        mark = mine.bond_cutoffs_A.get(name)
        top, note = _without_first_peak(curve, mark)
        level = 1.0 if mine.rdf is not None else None
        vectors = tuple(sorted({*own, *other_own})) if is_like(name) else ()
        panels.append(
            Panel(
                name, curve, others.get(name), x_range=(0.0, end), mark=mark, y_top=top, level=level, note=note,
                own_images=vectors,
            )
        )  # fmt: skip
    return panels


def seen_curves(observables: Observables, name: str) -> tuple[dict[str, Curve], tuple[float, ...]]:
    """The curves of one observable as they are drawn, and the distances in Å of what is left out of them.

    At cell vectors atoms meet their own images.  That says nothing about the material, and in small cells it would be
    the highest peak of all.
    """
    curves, own = curves_of(observables, name), observables.own_images
    if name not in ("rdf", "h_of_r") or not own:
        return curves, ()
    seen = {label: _without(curve, own[label]) if label in own else curve for label, curve in curves.items()}
    # of a single atom of an element there is nothing else
    return {label: curve if curve.y.any() else curves[label] for label, curve in seen.items()}, _places(own[""])


def _without(curve: Curve, part: Curve) -> Curve:
    return replace(curve, y=_difference(curve.y, part.y), blocks=_difference(curve.blocks, part.blocks))


def _difference(whole: Array, part: Array) -> Array:
    """Zero where the part is all of it, in spite of rounding."""
    left = whole - part
    return np.where(np.abs(left) > 1e-9 * np.abs(whole), left, 0.0)


def _places(curve: Curve) -> tuple[float, ...]:
    """Where there is something of a curve, Å; what lies closely together, as in a cell that changes, is one place."""
    x = curve.x[curve.y > 0.0]
    return tuple(float(each.mean()) for each in np.split(x, np.flatnonzero(np.diff(x) > ONE_PLACE_A) + 1))


def is_like(label: str) -> bool:
    """Whether a pair as "Cu-Cu" or "Cu around Cu" is of one element; h(r), without a name, has such pairs."""
    return len(set(label.replace(" around ", "-").split("-"))) == 1


def _farthest(observables: Observables) -> float:
    """Å, up to where there are distances: all over in periodic structures, to its size in a molecule."""
    h = observables.h_of_r
    if h is None or observables.open_directions == 0:
        return R_MAX_A
    return min(R_MAX_A, 1.1 * float(h.x[np.flatnonzero(h.y)[-1]]))


def _without_first_peak(curve: Curve, end: float | None) -> tuple[float | None, str]:
    """Where to cut the axis so that what follows a bond of a molecule is still seen."""
    if end is None or not (curve.x > end).any():
        return None, ""
    inner, outer = curve.y[curve.x <= end], curve.y[curve.x > end]
    if not outer.max() > 0.0 or inner.max() < STANDS_OUT * outer.max():
        return None, ""
    where = curve.x[int(np.argmax(inner))]
    return 1.6 * float(outer.max()), f"first peak: {inner.max():.3g} at {where:.2f} Å"


def angle_panels(mine: Observables, reference: Observables | None) -> list[Panel]:
    """Angles of the triplets that are seen most."""
    others = {} if reference is None else reference.angles
    ranked = sorted(mine.angles, key=lambda name: float(np.nansum(mine.angles[name].stderr)))
    shown = set(ranked[:MOST_PANELS])
    return [
        Panel(name, curve, others.get(name), x_range=(0.0, 180.0))
        for name, curve in mine.angles.items()
        if name in shown
    ]


def coordination_panels(mine: Observables, reference: Observables | None) -> list[Panel]:
    """Distributions of coordination numbers, then what they are at other distances."""
    others = {} if reference is None else reference.coordination
    shown = list(mine.coordination.items())[:MOST_PANELS]
    panels = [Panel(name, curve, others.get(name), bars=True, note=f"mean {_mean(curve)}") for name, curve in shown]
    others = {} if reference is None else reference.running_coordination
    for name, curve in list(mine.running_coordination.items())[:MOST_PANELS]:
        end = mine.cutoff_of(name)
        if end is not None:
            stop = min(1.5 * end, float(curve.x[-1]))
            top = 1.05 * float(curve.y[curve.x <= stop][-1])
            panels.append(Panel(name, curve, others.get(name), x_range=(0.0, stop), y_top=top or None, mark=end))
    return panels


def _mean(curve: Curve) -> str:
    mean, stderr = curve.mean()
    return f"{mean:.3f}" if stderr is None else f"{mean:.3f} ± {stderr:.3f}"


def h_panels(mine: Observables, reference: Observables | None) -> list[Panel]:
    """h(r) alone."""
    if mine.h_of_r is None:
        return []
    (curve, own), (other, other_own) = (_h_curve(each) for each in (mine, reference))
    vectors = tuple(sorted({*own, *other_own}))
    return [Panel("h(r): all pairs", curve, other, x_range=(0.0, _farthest(mine)), own_images=vectors)]


def _h_curve(observables: Observables | None) -> tuple[Curve | None, tuple[float, ...]]:
    curves, own = ({}, ()) if observables is None else seen_curves(observables, "h_of_r")
    return curves.get(""), own


def msd_panels(mine: Observables, reference: Observables | None) -> list[Panel]:
    """Mean square displacement of each element with the line that gives D."""
    panels = []
    for name, curve in (mine.msd or {}).items():
        other = None if reference is None else (reference.msd or {}).get(name)
        fit = (mine.diffusion or {}).get(name)
        line, note = (None, "") if fit is None else (_fit_line(curve, fit), describe_diffusion(fit))
        panels.append(Panel(name, curve, other, line=line, note=note, x_range=(0.0, float(curve.x[-1]))))
    return panels


def _fit_line(curve: Curve, fit: Diffusion) -> tuple[Array, Array]:
    t = curve.x[(curve.x >= fit.fit_from_ps - 1e-9) & (curve.x <= fit.fit_to_ps + 1e-9)]
    slope, height = np.polyfit(t, np.interp(t, curve.x, curve.y), 1)
    ends = np.array([t[0], t[-1]])
    return ends, slope * ends + height


def describe_diffusion(fit: Diffusion) -> str:
    """D with its error, in words short enough for a panel."""
    value, stderr = 1e5 * fit.D_cm2_per_s, 1e5 * fit.stderr_cm2_per_s
    digits = 2 if not stderr > 0.0 else min(6, max(0, 1 - math.floor(math.log10(stderr))))
    text = f"D = ({value:.{digits}f} ± {stderr:.{digits}f})·10⁻⁵ cm²/s"
    return text if fit.diffusive else f"{text}\nnot diffusive (yet): MSD ~ t^{fit.exponent:.1f}"


def why_not_diffusive(fit: Diffusion) -> str:
    """What is wrong with a line as a diffusion coefficient, in words."""
    return f"MSD ~ t^{fit.exponent:.2f}, slope changes by {100 * fit.bend:+.0f} %"


def velocity_panels(mine: Observables, reference: Observables | None) -> list[Panel]:
    """Densities of states, then velocity autocorrelations."""
    panels = []
    others = {} if reference is None else reference.vdos or {}
    for name, curve in (mine.vdos or {}).items():
        power = np.cumsum(curve.y) / curve.y.sum()
        end = float(curve.x[min(len(power) - 1, int(np.searchsorted(power, SHOWN_POWER)))])
        title = "all elements" if name == "all" else name
        panels.append(Panel(title, curve, others.get(name), x_range=(0.0, 1.25 * end)))
    others = {} if reference is None else reference.vacf or {}
    panels += [
        Panel(name, curve, others.get(name), level=0.0, x_range=(0.0, float(curve.x[-1])))
        for name, curve in (mine.vacf or {}).items()
    ]
    return panels


def draw_panels(path: Path, panels: Sequence[Panel], names: tuple[str, str]) -> None:
    """Draw panels in rows of three."""
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    legend = any(panel.reference is not None for panel in panels)
    figure = new_figure(4.2 * columns + (1.6 if columns == 1 else 0.0), 3.1 * rows + 0.3 * legend)
    for position, panel in enumerate(panels):
        axes = new_axes(figure, rows, columns, position)
        _draw(axes, panel, names)
        curve = panel.mine or panel.reference
        assert curve is not None  # a panel is about something
        axes.set_title(panel.title, fontsize=10)
        axes.set_xlabel(str(curve.x_axis))
        axes.set_ylabel(str(curve.y_axis))
    if legend:
        handles, words = figure.axes[0].get_legend_handles_labels()
        # drawn last, named first
        figure.legend(handles[::-1], words[::-1], loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    save(figure, path)


def _draw(axes: Axes, panel: Panel, names: tuple[str, str]) -> None:
    if panel.level is not None:
        axes.axhline(panel.level, color=GREY, linewidth=0.7)
    if panel.mark is not None:
        axes.axvline(panel.mark, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    alone = panel.reference is None
    for curve, color, name, shift in (
        (panel.reference, REFERENCE, names[1], 0.18),
        (panel.mine, MINE, names[0], 0.0 if alone else -0.18),
    ):
        if curve is None:
            continue
        if panel.bars:
            _draw_bars(axes, curve, color, name, shift, 0.7 if alone else 0.34)
        else:
            _draw_line(axes, curve, color, name)
    if panel.line is not None:
        axes.plot(*panel.line, color="black", linewidth=1.2, linestyle=(0, (4, 2)))
    _limit(axes, panel)
    mark_own_images(axes, panel.own_images)


def mark_own_images(axes: Axes, distances: Sequence[float]) -> None:
    """Thin lines at cell vectors, the first with words; give the axes their limits before."""
    low, high = axes.get_xlim()
    for k, distance in enumerate(each for each in distances if low < each < high):
        axes.axvline(distance, color=GREY, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
        if k == 0:
            axes.annotate(
                "cell vector", (distance, 0.98), xycoords=axes.get_xaxis_transform(), xytext=(-2, 0),
                textcoords="offset points", rotation=90, ha="right", va="top", fontsize=7.5, color=GREY,
            )  # fmt: skip


def _draw_bars(axes: Axes, curve: Curve, color: str, name: str, shift: float, width: float) -> None:
    errors = 2.0 * curve.stderr if len(curve.blocks) > 1 else None
    style = {"linewidth": 0.8}
    axes.bar(curve.x + shift, curve.y, width=width, color=color, label=name, yerr=errors, error_kw=style)
    whole_ticks(axes.xaxis)


def _draw_line(axes: Axes, curve: Curve, color: str, name: str) -> None:
    axes.plot(curve.x, curve.y, color=color, linewidth=1.3, label=name)
    if len(curve.blocks) > 1:
        low, high = curve.y - 2.0 * curve.stderr, curve.y + 2.0 * curve.stderr
        axes.fill_between(curve.x, low, high, color=color, alpha=0.2, linewidth=0)


def _limit(axes: Axes, panel: Panel) -> None:
    """Ranges of the axes, with room for the words above the curves."""
    if panel.bars:
        seen = [curve.x[curve.y > 0.0] for curve in (panel.mine, panel.reference) if curve is not None]
        axes.set_xlim(min(x[0] for x in seen) - 0.7, max(x[-1] for x in seen) + 0.7)
    if panel.x_range is not None:
        axes.set_xlim(*panel.x_range)
    if panel.y_top is not None:
        axes.set_ylim(0.0, panel.y_top)
    elif panel.level != 0.0:
        axes.set_ylim(bottom=0.0)
    if panel.note:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.12 * (high - low) * (1 + panel.note.count("\n")))
        x, side = (0.97, "right") if panel.mark is not None else (0.03, "left")  # beside the peak that it is about
        axes.text(x, 0.97, panel.note, transform=axes.transAxes, va="top", ha=side, fontsize=8.5, color=GREY)
