"""The picture of a scan: error against cost, and along each scanned key."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from ase_mlcalc.campaigns.scan_summary import PointSummary, ScanSummary
from ase_mlcalc.campaigns.statistics import MAE, Mean
from ase_mlcalc.config import toml_value
from ase_mlcalc.plots import COLORS, GREY, logarithmic, new_axes, new_figure, save

LOGARITHMIC_FROM = 8.0
"""Ratio of the largest to the smallest value of a key from which on its axis is logarithmic."""
MOST_TICKS = 8
"""Values of a key that are all written at its axis."""
BEST, OTHERS = COLORS[1], COLORS[0]
FEW = (BEST, OTHERS, *COLORS[2:])
"""Colours of up to as many points, by which each is known in all panels."""

Scored = Sequence[tuple[PointSummary, Mean]]


def draw_scan(path: Path, scan: ScanSummary) -> None:
    """Draw all points that are trained; nothing is written before there is one.

    Dots are points, the large one is the best; a few of them have colours and names.  A line joins the best points at
    each value of a key, if all its values were combined with the same others, or in the panel of the costs those that
    no cheaper one beats.
    """
    scored = [(point, score) for point in scan.points if (score := scan.score(point)) is not None]
    if not scored or scan.objective is None:
        return
    panels = len(scan.keys) + 1
    columns = 2 if panels in (2, 4) else min(3, panels)
    rows = math.ceil(panels / columns)
    figure = new_figure(4.4 * columns, 3.7 * rows)
    _, name, unit = MAE[scan.objective]
    for position in range(panels):
        axes = new_axes(figure, rows, columns, position)
        if position == 0:
            _draw_cost(axes, scan, scored)
        else:
            _draw_key(axes, scan.keys[position - 1], scored, joined=scan.method != "zip")
        if all(score.mean > 0 for _, score in scored):
            logarithmic(axes)
        axes.set_ylabel(f"validation {name} / {unit}")
    save(figure, path)


def _draw_cost(axes: Axes, scan: ScanSummary, scored: Scored) -> None:
    timed = [(point.cost.ms_per_call, point, score) for point, score in scored if point.cost is not None]
    if not timed:  # interrupted before the end
        timed = [(point.minutes.mean, point, score) for point, score in scored if point.minutes is not None]
        axes.set_xlabel("minutes of training")
    else:
        axes.set_xlabel(f"time of a call on {scan.n_atoms_timed} atoms / ms")
    front: list[tuple[float, float]] = []
    for cost, score in sorted((cost, score.mean) for cost, _, score in timed):
        if not front or score < front[-1][1]:
            front.append((cost, score))
    axes.plot(*zip(*front, strict=True), color=GREY, linewidth=1.0, drawstyle="steps-post", zorder=1)
    _dots(axes, [cost for cost, *_ in timed], [score for *_, score in timed], [point.name for _, point, _ in timed])
    if all(cost > 0 for cost, *_ in timed):
        logarithmic(axes, x=True)
    axes.set_title("accuracy over cost", loc="left", fontsize=10)


def _draw_key(axes: Axes, key: str, scored: Scored, *, joined: bool) -> None:
    values = [point.values[key] for point, _ in scored]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    shown = list(dict.fromkeys(map(toml_value, sorted(values) if numbers else values)))
    places: list[float] = [float(value) if numbers else float(shown.index(toml_value(value))) for value in values]
    best: dict[float, float] = {}
    for place, (_, score) in zip(places, scored, strict=True):
        best[place] = min(score.mean, best.get(place, math.inf))
    if joined and len(best) < len(scored):  # several points at a value
        axes.plot(*zip(*sorted(best.items()), strict=True), color=GREY, linewidth=1.0, zorder=1)
    _dots(axes, places, [score for _, score in scored])
    if not numbers:
        axes.set_xticks(range(len(shown)), [_short(text) for text in shown])
        axes.set_xlim(-0.5, len(shown) - 0.5)
    else:
        if min(places) > 0 and max(places) >= LOGARITHMIC_FROM * min(places):
            logarithmic(axes, x=True)
        if len(shown) <= MOST_TICKS:
            axes.set_xticks(sorted(best), [f"{place:g}" for place in sorted(best)])
            axes.set_xticks([], minor=True)
    axes.set_title(key, loc="left", fontsize=10)


def _dots(axes: Axes, places: Sequence[float], scores: Sequence[Mean], names: Sequence[str] = ()) -> None:
    """The first is the best.  With names, and few of them, a legend."""
    few = len(scores) <= len(FEW)
    for k, (place, score) in enumerate(zip(places, scores, strict=True)):
        look: dict[str, Any] = {"color": BEST, "markersize": 8, "zorder": 3}
        if k > 0:
            look = {"color": FEW[k] if few else OTHERS, "markersize": 5, "alpha": 0.9 if few else 0.6}
        if few and names:
            look["label"] = _short(names[k], 48)
        axes.errorbar(place, score.mean, yerr=score.stderr, fmt="o", capsize=2, linewidth=1.0, **look)
    if few and len(names) > 1:
        axes.legend(fontsize=7, frameon=False)


def _short(text: str, most: int = 14) -> str:
    text = text.strip('"')
    return text if len(text) <= most else f"{text[: most - 1]}…"
