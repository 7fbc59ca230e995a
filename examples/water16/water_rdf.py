"""Radial distribution functions of the runs of a study, pooled over seeds, beside those of the reference."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ase import Atoms

from ase_mlcalc.analysis import Observables, TrajectoryFile, compare_observables, measure_observables
from ase_mlcalc.plots import COLORS, new_axes, new_figure, save
from ase_mlcalc.study import StudySummary

PAIRS = ("O-O", "H-O", "H-H")
LAST_A = 3.9
"""Half of the box: beyond, there are images of the same neighbours."""


def observables(summary: StudySummary, folder: Path, model: str) -> Observables | None:
    """Structure over all stable runs of a model; ``None`` without any."""
    runs = [run for run in summary.runs if run.model == model and run.status == "stable"]
    files = [TrajectoryFile(folder / run.folder / "nvt.traj") for run in runs]
    return measure_observables(_structures(files)) if files else None


def _structures(files: list[TrajectoryFile]) -> Iterator[Atoms]:
    """Frames of several runs without their times, which begin anew in each."""
    for file in files:
        for frame in file:
            frame.info.pop("time_ps", None)
            yield frame


def distances(own: Observables, reference: Observables) -> list[str]:
    """L1 distance of g(r) for each pair, with what chance makes of it in brackets."""
    rows = {row.label: row.l1 for row in compare_observables(own, reference) if row.observable == "rdf"}
    shown = []
    for pair in PAIRS:
        noise = rows[pair].noise
        shown.append(f"{rows[pair].value:.2f} ({'-' if noise is None else f'{noise:.2f}'})")
    return shown


def draw(path: Path, measured: Mapping[str, Observables]) -> None:
    """A panel for each pair; the reference in black."""
    figure = new_figure(10.0, 3.3)
    colors = dict(zip([name for name in measured if name != "reference"], COLORS, strict=False))
    for position, pair in enumerate(PAIRS):
        axes = new_axes(figure, 1, len(PAIRS), position)
        peak = 0.0
        for name, own in measured.items():
            curve = (own.rdf or {})[pair]
            inside = curve.x < LAST_A
            black = name == "reference"
            axes.plot(
                curve.x[inside], curve.y[inside], "-" if black else "--", color=colors.get(name, "black"),
                linewidth=2.2 if black else 1.3, zorder=1 if black else 2, label="GFN1-xTB" if black else name,
            )  # fmt: skip
            beyond_bonds = inside & (curve.x > (1.25 if pair == "H-O" else 2.0))
            peak = max(peak, float(curve.y[beyond_bonds].max()))
        axes.set_ylim(0, 1.25 * peak)  # bonds within molecules stick out
        axes.set_xlim(0.8 if pair == "H-O" else 1.2, LAST_A)
        axes.set_xlabel("r / Å")
        axes.set_ylabel(f"g(r), {pair}")
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)
