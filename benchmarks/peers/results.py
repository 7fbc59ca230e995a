"""From what was measured to ``bench.json``, tables and the picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
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
        title = f"{words[quantity]}: ms (ratio), {device}, {threads} thread{'s' * (threads > 1)}"
        table = Table(title=title, min_width=len(title) + 4)
        table.add_column("")
        for part in parts:
            table.add_column(f"{part['structure']}\n{part['atoms']} atoms", justify="right")
        for contender in contenders:
            table.add_row(contender.label, *(_cell(part, contender.name, quantity) for part in parts))
        extra = {"step": "outside_model", "call": "everything_over_forces"}[quantity]
        table.add_section()
        for contender in contenders:
            shares = [part["models"].get(contender.name, {}).get(extra) for part in parts]
            if contender.ours and any(share is not None for share in shares):
                table.add_row(f"{contender.label}: {_EXTRA[extra]}", *map(_percent, shares))
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
    labels = {contender.name: contender.label for contender in contenders}
    lines = [f"{program}: not installed: {why}" for program, why in report["missing"].items()]
    for part in report["speed"]:
        where = f"{part['structure']}, {part['device']}, {part['threads']} threads"
        lines += [f"{labels.get(name, name)}, {where}: left out: {why}" for name, why in part["left_out"].items()]
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
    ms: float
    force_mae: float
    ours: bool
    weights: str


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
            found.append(Point(contender.label, min(times), error, contender.ours, contender.weights))
    return found


def draw_plane(path: Path, found: Sequence[Point], subtitle: str) -> None:
    """Force error against cost, both logarithmic; the same network evaluated in two ways is joined by a line."""
    figure = new_figure(7.2, 4.6)
    axes = new_axes(figure, 1, 1, 0)
    for point in found:
        color = COLORS[1] if point.ours else COLORS[0]
        axes.plot(point.ms, point.force_mae, "o", color=color, markersize=9 if point.ours else 7, zorder=3)
    for weights in {point.weights for point in found}:
        same = [point for point in found if point.weights == weights]
        axes.plot([p.ms for p in same], [p.force_mae for p in same], color=GREY, linewidth=0.9, zorder=2)
    logarithmic(axes, x=True)
    logarithmic(axes)
    axes.set_xlabel("cost / ms per step of molecular dynamics")
    axes.set_ylabel("force error (MAE) / meV/Å")
    axes.set_title(subtitle, fontsize=10, loc="left")
    _set_limits(axes, found)
    _label(axes, found)
    save(figure, path)


def _set_limits(axes: Any, found: Sequence[Point]) -> None:
    """Room for labels around the points."""
    ms, errors = [p.ms for p in found], [p.force_mae for p in found]
    axes.set_xlim(min(ms) / 1.6, max(ms) * 2.2)
    axes.set_ylim(min(errors) / 1.5, max(errors) * 1.4)


def _label(axes: Any, found: Sequence[Point]) -> None:
    """Names beside the points, at whichever of eight places hides the least of other names and points."""
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    taken = [_around(axes.transData.transform((point.ms, point.force_mae)), 9) for point in found]
    for point in sorted(found, key=lambda point: point.ms):
        best = None
        for dx, dy, ha, va in _PLACES:
            text = axes.annotate(
                point.label, (point.ms, point.force_mae), (dx, dy), textcoords="offset points",
                ha=ha, va=va, fontsize=9, color="black" if point.ours else "#374151",
                fontweight="bold" if point.ours else "normal", zorder=4,
            )  # fmt: skip
            box = text.get_window_extent(renderer).padded(2)
            outside = not all(axes.bbox.contains(x, y) for x, y in (box.min, box.max))
            hidden = sum(box.overlaps(other) for other in taken) + 2 * outside
            if best is None or hidden < best[0]:
                if best is not None:
                    best[1].remove()
                best = (hidden, text, box)
            else:
                text.remove()
        assert best is not None
        taken.append(best[2])


_PLACES = (
    (9, 0, "left", "center"), (0, 9, "center", "bottom"), (0, -9, "center", "top"), (-9, 0, "right", "center"),
    (7, 7, "left", "bottom"), (7, -7, "left", "top"), (-7, 7, "right", "bottom"), (-7, -7, "right", "top"),
)  # fmt: skip


def _around(center: Any, radius: float) -> Any:
    x, y = center
    return Bbox([[x - radius, y - radius], [x + radius, y + radius]])
