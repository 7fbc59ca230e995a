"""From what was measured to ``bench.json``, tables and the picture."""

from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from rich.table import Table

from ase_mlcalc.plots import COLORS, GREY, logarithmic, new_axes, new_figure, save
from peers.contenders import Contender

FORCE = "force_mae_meV_per_A"


def speed_table(report: Mapping[str, Any], contenders: Sequence[Contender], quantity: str) -> list[Table]:
    """Milliseconds of a call or step, and their ratio to the first contender; one table for each device and threads."""
    words = {"call": "energy and forces at new positions", "step": "step of molecular dynamics"}
    tables = []
    for device, threads in sorted({(part["device"], part["threads"]) for part in report["speed"]}, key=str):
        parts = [part for part in report["speed"] if (part["device"], part["threads"]) == (device, threads)]
        title = (
            f"{words[quantity]}: ms (ratio to {contenders[0].title}), {device}, {threads} thread{'s' * (threads > 1)}"
        )
        table = Table(title=title, min_width=len(title) + 4)
        table.add_column("")
        for part in parts:
            table.add_column(f"{part['structure']}\n{part['atoms']} atoms", justify="right")
        for contender in contenders:
            table.add_row(contender.title, *(_cell(part, contender.name, quantity) for part in parts))
        extra = {"step": "outside_model", "call": "everything_over_forces"}[quantity]
        table.add_section()
        for contender in contenders:
            shares = [part["models"].get(contender.name, {}).get(extra) for part in parts]
            if contender.ours and any(share is not None for share in shares):
                table.add_row(f"{contender.title}: {_EXTRA[extra]}", *map(_percent, shares))
        tables.append(table)
    return tables


_EXTRA = {"outside_model": "outside the model", "everything_over_forces": "with all stress"}


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _cell(part: Mapping[str, Any], name: str, quantity: str) -> str:
    if name in part["models"]:
        found = part["models"][name][quantity]
        ratio = f" ({found['ratio']:.3g})" if "ratio" in found else ""
        return f"{found['ms']:.3g}{ratio}"
    return "left out" if name in part["left_out"] else ""


def notes(report: Mapping[str, Any], contenders: Sequence[Contender]) -> list[str]:
    """Who could not be measured, and why."""
    titles = {contender.name: contender.title for contender in contenders}
    lines = [f"{program}: not installed: {why}" for program, why in report["missing"].items()]
    for part in report["speed"]:
        where = f"{part['structure']}, {part['device']}, {part['threads']} threads"
        lines += [f"{titles.get(name, name)}, {where}: left out: {why}" for name, why in part["left_out"].items()]
    lines += [
        f"{name}: not trained: {found['error']}" for name, found in report["accuracy"].items() if "error" in found
    ]
    return lines


def accuracy_table(report: Mapping[str, Any], contenders: Sequence[Contender]) -> Table:
    """Errors after training, with what was trained how long."""
    table = Table(title=f"after {report['minutes']:g} minutes of training on {report['trained_on']}")
    for title in ("", "minutes", "epochs", "force MAE / meV/Å", "ratio to ours", "energy MAE / meV/atom"):
        table.add_column(title, justify="right" if title else "left")
    ours = report["accuracy"].get(contenders[0].weights, {}).get(FORCE)
    for contender in _networks(contenders):
        found = report["accuracy"].get(contender.weights)
        if found is None or "error" in found:
            continue
        table.add_row(
            contender.label,
            f"{found['minutes']:.1f}",
            f"{found['epochs']:.0f}" if "epochs" in found else "",
            f"{found[FORCE]:.1f}",
            "" if ours is None else f"{found[FORCE] / ours:.2f}",
            f"{found['energy_mae_meV_per_atom']:.2f}",
        )
    return table


def _networks(contenders: Sequence[Contender]) -> list[Contender]:
    """One contender for each network, the first."""
    return list({contender.weights: contender for contender in reversed(contenders)}.values())[::-1]


# ----- the plane of accuracy and cost -----


class Point(NamedTuple):
    """One contender in the plane."""

    label: str
    """Of its network."""
    ms: float
    force_mae: float
    ours: bool
    compiled: bool


def points(report: Mapping[str, Any], contenders: Sequence[Contender], structure: str) -> list[Point]:
    """Cost of a step on the molecule of the training, and the force error, of everybody for whom both are known.

    From the first device, with the number of threads that is fastest for each contender.
    """
    device = report["speed"][0]["device"] if report["speed"] else "cpu"
    parts = [p for p in report["speed"] if p["structure"] == structure and p["device"] == device]
    found = []
    for contender in contenders:
        times = [part["models"][contender.name]["step"]["ms"] for part in parts if contender.name in part["models"]]
        error = report["accuracy"].get(contender.weights, {}).get(FORCE)
        if times and error is not None:
            found.append(Point(contender.label, min(times), error, contender.ours, contender.compiled))
    return found


def draw_plane(path: Path, found: Sequence[Point], title: str) -> None:
    """Force error against cost, both logarithmic; a network that is evaluated in two ways is joined by a line."""
    figure = new_figure(7.6, 4.8)
    axes = new_axes(figure, 1, 1, 0)
    for label in dict.fromkeys(point.label for point in found):
        same = [point for point in found if point.label == label]
        axes.plot([p.ms for p in same], [p.force_mae for p in same], color=_color(same[0]), linewidth=1.2, zorder=2)
    for point in found:
        axes.plot(point.ms, point.force_mae, "o", markersize=8, zorder=3, **_face(point.ours, point.compiled))
    logarithmic(axes, x=True)
    logarithmic(axes)
    axes.set_xlabel("cost / ms per step of molecular dynamics")
    axes.set_ylabel("force error (MAE) / meV/Å")
    axes.set_title(title, fontsize=10, loc="left")
    ms, errors = [p.ms for p in found], [p.force_mae for p in found]
    axes.set_xlim(min(ms) / 1.6, max(ms) * 1.9)  # room for names
    axes.set_ylim(min(errors) / 1.45, max(errors) * 1.45)
    _add_legend(axes, found)
    _label(axes, found)
    save(figure, path)


def _color(point: Point) -> str:
    return COLORS[1] if point.ours else COLORS[0]


def _face(ours: bool, compiled: bool) -> dict[str, str]:
    color = COLORS[1] if ours else COLORS[0]
    return {"markeredgecolor": color, "markerfacecolor": color if compiled else "white"}


def _add_legend(axes: Axes, found: Sequence[Point]) -> None:
    if len({point.compiled for point in found}) == 1:
        return
    for compiled, word in ((True, "compiled"), (False, "eager")):
        face = {**_face(ours=False, compiled=compiled), "markeredgecolor": GREY}
        face["markerfacecolor"] = GREY if compiled else "white"
        axes.plot([], [], "o", markersize=7, label=word, **face)
    # between the axes and the title, where no point can be
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=9, borderaxespad=0.2)


class _Place(NamedTuple):
    """Where a name could stand."""

    text: Annotation
    box: Bbox
    price: float


def _label(axes: Axes, found: Sequence[Point]) -> None:
    """The name of each network beside one of its points, where names hide the least of each other and of the rest.

    Names are put down one after the other, each at its best place; of many orders the best one is taken.
    """
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    groups = [[p for p in found if p.label == label] for label in dict.fromkeys(point.label for point in found)]
    marks = [box for group in groups for box in _covered(axes, group)]
    places = [_places(axes, group, marks, renderer) for group in groups]
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(groups)).tolist() for _ in range(100)]
    _, chosen = min((_put_down(places, order) for order in orders), key=lambda attempt: attempt[0])
    for k, of_one in enumerate(places):
        for place in of_one:
            if place is not chosen[k]:
                place.text.remove()


def _places(axes: Axes, group: Sequence[Point], marks: Sequence[Bbox], renderer: Any) -> list[_Place]:
    places = []
    for point in group:
        for distance, (right, up) in product((9.0, 15.0), _DIRECTIONS):
            text = _write(axes, point, distance, right, up)
            box = text.get_window_extent(renderer).padded(2)
            outside = not all(axes.bbox.contains(x, y) for x, y in (box.min, box.max))
            hidden = sum(box.overlaps(mark) for mark in marks)
            places.append(_Place(text, box, hidden + 10 * outside + 0.01 * distance))
    return places


def _put_down(places: Sequence[Sequence[_Place]], order: Sequence[int]) -> tuple[float, dict[int, _Place]]:
    """What it costs to place names in this order, and the places."""
    chosen: dict[int, _Place] = {}
    total = 0.0
    for k in order:
        others = [place.box for place in chosen.values()]
        prices = [place.price + 10 * sum(place.box.overlaps(other) for other in others) for place in places[k]]
        best = int(np.argmin(prices))
        total += prices[best]
        chosen[k] = places[k][best]
    return total, chosen


_DIRECTIONS = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))


def _write(axes: Axes, point: Point, distance: float, right: int, up: int) -> Annotation:
    slanted = 0.75 if right and up else 1.0
    return axes.annotate(
        point.label,
        (point.ms, point.force_mae),
        (slanted * distance * right, slanted * distance * up),
        textcoords="offset points",
        ha={1: "left", 0: "center", -1: "right"}[right],
        va={1: "bottom", 0: "center", -1: "top"}[up],
        fontsize=9,
        fontweight="bold" if point.ours else "normal",
        color=_color(point),
        zorder=4,
    )


def _covered(axes: Axes, group: Sequence[Point]) -> list[Bbox]:
    """Pixels that the markers of a network and the line between them take, as boxes."""
    ends = np.array([axes.transData.transform((point.ms, point.force_mae)) for point in group])
    size = 6 * axes.figure.dpi / 72
    steps = np.linspace(0.0, 1.0, 30)[:, None]
    between = [ends[:1], *(a + steps * (b - a) for a, b in pairwise(ends))]
    return [Bbox([center - size, center + size]) for center in np.concatenate(between)]
