"""Section: structure and motion of trajectories, over those of a reference where there is one."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from ase_mlcalc.analysis.curves import Curve
from ase_mlcalc.analysis.observables import (
    KINDS,
    ComparisonRow,
    Observables,
    compare_observables,
    measure_observables,
)
from ase_mlcalc.analysis.observables_files import TrajectoryFile
from ase_mlcalc.analysis.observables_plots import is_like, mark_own_images, seen_curves
from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.plots import COLORS, new_axes, new_figure, whole_ticks
from ase_mlcalc.report.page import PANEL, Block, Gallery, Picture, Remark, Section, Table, Verdict, Words, picture
from ase_mlcalc.report.stage import Stage
from ase_mlcalc.report.study_groups import file_words
from ase_mlcalc.report.words import UNKNOWN, counted, number, plus_minus, sentence

FEWEST_FRAMES = 20
"""Fewer frames say nothing about an average."""

EQUILIBRATION = 0.2
"""Share of a stage that is left out at its start if no other stage came before it."""

_SHOWN: Mapping[str, tuple[str, int, str]] = {
    "rdf": ("Radial distribution function g(r)", 6, "Number of neighbours at a distance over that of a uniform gas."),
    "distances": ("Distances between atoms", 6, "Probability density of the distances between atoms of two elements."),
    "angles": ("Angles between bonds", 6, "Probability density of the angle at the middle atom between its bonds."),
    "coordination": ("Coordination numbers", 6, "Part of the atoms with so many bonds."),
    "h_of_r": ("Distribution of all distances h(r)", 1, "Probability density of all distances, whatever the elements."),
    "msd": ("Mean square displacement", 4, "Of atoms, averaged over all time origins, without the centre of mass."),
    "vdos": (
        "Vibrational density of states",
        4,
        "From the spectrum of velocities; the area is the degrees of freedom.",
    ),
}
"""Observable to its title, how many curves are shown, and its definition."""


class Measured(NamedTuple):
    """Observables of trajectories by name, and those of a reference."""

    of: Mapping[str, Observables]
    reference: Observables | None
    notes: Sequence[str] = ()
    title: str = ""
    """What the trajectories have in common, for names of pictures."""
    problem: str = ""
    """Why there are none."""

    def rows(self) -> list[tuple[str, ComparisonRow]]:
        """Distances from the reference: name and row."""
        if self.reference is None:
            return []
        return [(name, row) for name, mine in self.of.items() for row in compare_observables(mine, self.reference)]


def measure_stage(
    stages: Sequence[Stage], reference: Observables | None = None, interval_fs: float | None = None
) -> Measured | None:
    """Observables of the last stage; ``None`` where it has too few frames."""
    last = stages[-1]
    alone = len(stages) == 1 and last.ensemble != "nve"
    discard = EQUILIBRATION * (last.time_ps or 0.0) if alone else 0.0
    if sum(1 for _, _ in zip(last.frames(), range(FEWEST_FRAMES), strict=False)) < FEWEST_FRAMES:
        return None
    try:
        found = measure_observables(last.frames(), interval_fs=interval_fs, discard_ps=discard, like=reference)
    except MLCalcError as error:
        return Measured({}, None, problem=str(error))
    if found.n_frames < FEWEST_FRAMES:
        return None
    left_out = (f"the first {number(discard)} ps are left out as equilibration",) if discard else ()
    return Measured({last.name: found}, reference, (*left_out, *found.notes))


def measure_reference(trajectory: Path | str, interval_fs: float | None = None) -> Observables:
    """Observables of a trajectory that is taken for right.

    Raises
    ------
    DataError
        It cannot be read, or is no trajectory.
    """
    return measure_observables(TrajectoryFile(trajectory), interval_fs=interval_fs)


def observables_section(measured: Measured | None) -> Section | None:
    """Curves of everything that was measured, and distances from the reference in a table."""
    if measured is None:
        return None
    blocks = observable_blocks(measured)
    return Section("Structure and motion", blocks) if blocks else None


def observable_blocks(measured: Measured) -> list[Block]:
    """The blocks of such a section; none if nothing was measured."""
    if measured.problem:
        return [Remark(Verdict("note", sentence(f"structure and motion were not measured: {measured.problem}")))]
    pictures = [each for name in _SHOWN for each in _pictures(measured, name)]
    if not pictures:
        return []
    blocks: list[Block] = [Gallery(pictures)]
    if measured.reference is not None:
        blocks.append(_comparison(measured))
    if diffusion := _diffusion(measured):
        blocks.append(diffusion)
    lengths = "; ".join(
        f"{name}: {counted(each.n_frames, 'frame')}"
        + ("" if each.length_ps is None else f", {number(each.length_ps)} ps")
        + ("" if each.temperature_K is None else f", {number(each.temperature_K)} K")
        for name, each in _everything(measured).items()
    )
    text = f"{lengths}. Bands are two standard errors, from the scatter of consecutive blocks."
    notes = [sentence(note) for note in dict.fromkeys(measured.notes)]
    return [Words(" ".join([text, *notes])), *blocks]


def observable_numbers(measured: Measured | None) -> dict[str, Any] | None:
    """Distances from the reference and diffusion coefficients, for ``report.json``."""
    if measured is None:
        return None
    diffusion = {
        name: {element: asdict(each) for element, each in (observables.diffusion or {}).items()}
        for name, observables in measured.of.items()
    }
    rows = [
        {
            "of": name,
            "observable": row.observable,
            "label": row.label,
            "l1": row.l1._asdict(),
            "w1": None if row.w1 is None else row.w1._asdict(),
            "significant": row.significant,
        }
        for name, row in measured.rows()
    ]
    return {"diffusion": diffusion, "comparison": rows if measured.reference is not None else None}


def _pictures(measured: Measured, name: str) -> list[Picture]:
    """One panel with all labels of a single trajectory; with more to compare, one panel a label."""
    title, most, definition = _SHOWN[name]
    seen = {key: seen_curves(each, name) for key, each in measured.of.items()}
    curves = {key: each for key, (each, _) in seen.items()}
    reference: Mapping[str, Curve] = {}
    vectors = {distance for _, distances in seen.values() for distance in distances}
    if measured.reference is not None:
        reference, others = seen_curves(measured.reference, name)
        vectors |= set(others)
    labels = list(dict.fromkeys(label for each in (reference, *curves.values()) for label in each))[:most]
    if not labels:
        return []
    if len(curves) == 1 and not reference:
        (own,) = curves.values()
        named = {label or "all pairs": own[label] for label in labels}
        return [_panel(file_words(*_file(measured, name)), title, named, None, definition, sorted(vectors))]
    found = []
    for label in labels:
        mine = {key: each[label] for key, each in curves.items() if label in each}
        if mine:
            head = f"{title}, {label}" if label else title
            file = file_words(*_file(measured, name), *([label] if label else []))
            marks = sorted(vectors) if is_like(label) else ()
            found.append(_panel(file, head, mine, reference.get(label), definition, marks))
    return found


def _everything(measured: Measured) -> dict[str, Observables]:
    return dict(measured.of) | ({} if measured.reference is None else {"reference": measured.reference})


def _file(measured: Measured, name: str) -> list[str]:
    return [name, *([measured.title] if measured.title else [])]


def _panel(
    name: str,
    title: str,
    curves: Mapping[str, Curve],
    reference: Curve | None,
    definition: str,
    own_images: Sequence[float] = (),
) -> Picture:
    figure = new_figure(*PANEL)
    axes = new_axes(figure, 1, 1, 0)
    if reference is not None:
        _draw(axes, reference, "reference", "black", zorder=2)
    for position, (label, curve) in enumerate(curves.items()):
        _draw(axes, curve, label, COLORS[position % (len(COLORS) - 1)], zorder=3)
    first = next(iter(curves.values()))
    counts = name.startswith("coordination")
    axes.set(xlabel=str(first.x_axis), ylabel=str(first.y_axis))
    axes.set_title(title, fontsize=11, loc="left")
    _focus(axes, name, [*curves.values(), *([] if reference is None else [reference])])
    mark_own_images(axes, own_images)
    if len(curves) > 1 or reference is not None or next(iter(curves)) not in ("", "all pairs"):
        # curves of coordination numbers leave no room
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if counts else {"loc": "best"}
        axes.legend(**place, frameon=False, fontsize=8.5)
    over = " over the reference" if reference is not None else ""
    words = ", ".join(f"{label} with its maximum at {number(_peak(curve))}" for label, curve in curves.items())
    caption = definition + (" Black: reference." if reference is not None else "")
    if own_images:
        caption += " Dotted: a cell vector, where atoms meet their own images, which are left out."
    return picture(figure, name, alt=f"{title}{over}: {words} {first.x_axis.unit}", caption=caption)


def _draw(axes: Axes, curve: Curve, label: str, color: str, zorder: int) -> None:
    marker = "o" if len(curve.x) < 25 else ""
    axes.plot(curve.x, curve.y, color=color, linewidth=1.4, marker=marker, markersize=4, label=label, zorder=zorder)
    error = curve.stderr
    if np.isfinite(error).any():
        axes.fill_between(
            curve.x, curve.y - 2 * error, curve.y + 2 * error, color=color, alpha=0.18, linewidth=0, zorder=zorder
        )


def _focus(axes: Axes, name: str, curves: Sequence[Curve]) -> None:
    """The range in which there is something to be seen."""
    high = max(float(curve.x[np.flatnonzero(curve.y > 1e-3 * curve.y.max())[-1]]) for curve in curves if curve.y.any())
    low = 0.0
    if name.startswith(("rdf", "distances", "h_of_r", "angles")):
        low = min(
            float(curve.x[np.flatnonzero(curve.y > 1e-3 * curve.y.max())[0]]) for curve in curves if curve.y.any()
        )
        low = max(0.0, low - 0.1 * (high - low))
    axes.set_xlim(low, high)
    axes.set_ylim(bottom=0.0)
    if name.startswith("coordination"):
        last = max(float(curve.x[-1]) for curve in curves)
        axes.set_xlim(low - 0.5, min(high + 1.0, last) + 0.5)  # points at the ends are whole, and the last of all zero
        whole_ticks(axes.xaxis)


def _peak(curve: Curve) -> float:
    return float(curve.x[int(np.argmax(curve.y))])


def _comparison(measured: Measured) -> Table:
    several = len(measured.of) > 1
    rows = []
    for name, row in measured.rows():
        significant = UNKNOWN if row.significant is None else ("differs" if row.significant else "within noise")
        told = row.w1 if row.w1 is not None else row.l1
        rows.append(
            [
                *([name] * several),
                f"{KINDS[row.observable].title} {row.label}".strip(),
                f"{plus_minus(row.l1.value, row.l1.stderr, sign=False)} {row.l1.unit}".strip(),
                UNKNOWN if row.w1 is None else f"{plus_minus(row.w1.value, row.w1.stderr, sign=False)} {row.w1.unit}",
                f"{number(told.noise, 2)} {told.unit}".strip(),
                significant,
            ]
        )
    columns = (*(["run"] * several), "observable", "L1", "W1", "noise", "verdict")
    caption = (
        "Distance from the reference ± standard error by bootstrap over blocks. L1: integral of the absolute "
        "difference. W1: distance of Wasserstein, how far things have moved. Noise: what chance exceeds in one of "
        "twenty comparisons when nothing differs, of W1 where there is one."
    )
    return Table(columns, rows, caption, words=("observable", "verdict"))


def _diffusion(measured: Measured) -> Table | None:
    several = len(measured.of) > 1 or measured.reference is not None
    rows = [
        [
            *([name] * several),
            element,
            f"{plus_minus(each.D_cm2_per_s * 1e5, each.stderr_cm2_per_s * 1e5, sign=False)}",
            f"{number(each.fit_from_ps, 2)}–{number(each.fit_to_ps, 2)}",
            number(each.exponent, 2) + ("" if each.diffusive else ", not diffusive"),
        ]
        for name, observables in _everything(measured).items()
        for element, each in (observables.diffusion or {}).items()
    ]
    if not rows:
        return None
    columns = (*(["run"] * several), "element", "D / 10⁻⁵ cm²/s", "fitted / ps", "exponent")
    caption = (
        "Self-diffusion from the slope of the mean square displacement ± standard error over blocks. Exponent: power "
        "of time in the mean square displacement there; only where it is near 1 is D a diffusion coefficient."
    )
    return Table(columns, rows, caption)
