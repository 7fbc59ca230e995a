"""A committee beside runs of one potential that breaks bonds: does its spread rise before, and how early?

Members are direct force networks trained on few structures, so that bonds break.  One of them drives; afterwards the
committee looks at the frames.  It warns at the first frame where its largest spread of a force is above everything that
it had on test structures, or above twice that.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import Cell, LeftOut, Study

from ase_mlcalc import MLCalculator
from ase_mlcalc.analysis import TrajectoryFile
from ase_mlcalc.config import validate
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.plots import COLORS, GREY, logarithmic, new_axes, new_figure, save
from ase_mlcalc.study import StudyJob, run_study
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.train import train

MEMBERS, N_TRAIN, EPOCHS = 4, 100, 150
TEMPERATURES_K = [300, 500]
WINDOW_PS = 0.1
FACTORS = (1.0, 2.0)
"""Thresholds over the largest spread on test structures."""
COLUMNS = (
    "T / K",
    "runs",
    "broke",
    "of these warned before",
    "median time from warning to break / ps",
    "shortest",
    "survived, with a warning",
    "threshold / eV/Å",
)


class Watched(NamedTuple):
    """A run as the committee saw it."""

    times_ps: np.ndarray
    spread: np.ndarray
    """Largest over the atoms, eV/Å."""
    broke_ps: float | None


def show(study: Study, data: dict[str, Any], start: Path) -> None:
    """Train, run, look, and write the table and the picture."""
    folder = study.out / "warning"
    raw = {
        "output": folder / "committee",
        "data": {**data, "n_train": 8 if study.quick else N_TRAIN},
        "model": study.model("tensor_field"),
        "train": {
            "members": 2 if study.quick else MEMBERS,
            "max_epochs": 1 if study.quick else EPOCHS,
            "workers": 1 if study.quick else study.workers,
        },
    }
    result = train(validate(TrainJob, raw, "committee"))
    calculator = MLCalculator(result.checkpoint)
    tested = [frame.atoms for frame in read_frames([data["test"]])]
    threshold = max(_spread(calculator, atoms) for atoms in tested)
    driver = result.checkpoint.parent / "member-1" / "model.safetensors"
    changes = {
        "study.output": folder / "runs",
        "study.workers": study.workers,
        "study.models": {"member": study.forces(driver)},
        "study.structures": {start.stem: {"file": str(start)}},
        "study.temperatures_K": TEMPERATURES_K,
        "md.time_ps": 5.0,
        "md.frames_every_fs": 4.0,
    }
    if study.quick:
        changes |= {"study.seeds": 1, "study.temperatures_K": [300], "study.equilibration": "none"}
        changes |= {"md.time_ps": 0.02, "md.frames_every_fs": 1.0}
    summary = run_study(study.job(StudyJob, "md.toml", changes))
    watched: dict[float, list[Watched]] = {}
    for run in summary.runs:
        path = folder / "runs" / run.folder / "nve.traj"
        if run.status in ("stable", "failed") and path.exists():
            broke = run.time_ps if run.status == "failed" else None
            watched.setdefault(run.temperature_K, []).append(_watch(calculator, path, broke))
    if not watched:
        raise LeftOut("no run came to constant energy; train the committee longer")
    rows = [_row(temperature, runs, factor * threshold) for factor in FACTORS for temperature, runs in watched.items()]
    study.table("warning", COLUMNS, rows)
    draw(folder / "spread.png", watched, threshold)
    study.picture(folder / "spread.png")


def _spread(calculator: MLCalculator, atoms: Any) -> float:
    calculator.get_property("forces", atoms)
    return float(np.max(calculator.extras["forces_spread"]))


def _watch(calculator: MLCalculator, path: Path, broke_ps: float | None) -> Watched:
    times, spread = [], []
    for frame in TrajectoryFile(path):
        times.append(frame.info["time_ps"])
        spread.append(_spread(calculator, frame))
    return Watched(np.array(times), np.array(spread), broke_ps)


def warned_ps(run: Watched, threshold: float) -> float | None:
    """First time above the threshold."""
    above = np.nonzero(run.spread > threshold)[0]
    return float(run.times_ps[above[0]]) if len(above) else None


def _row(temperature: float, runs: list[Watched], threshold: float) -> list[Cell]:
    warned = [warned_ps(run, threshold) for run in runs]
    ahead = [
        run.broke_ps - early
        for run, early in zip(runs, warned, strict=True)
        if run.broke_ps is not None and early is not None and early < run.broke_ps
    ]
    broke = sum(run.broke_ps is not None for run in runs)
    false_alarms = sum(early is not None for run, early in zip(runs, warned, strict=True) if run.broke_ps is None)
    return [
        temperature, len(runs), broke, len(ahead),
        float(np.median(ahead)) if ahead else None, min(ahead, default=None),
        f"{false_alarms} of {len(runs) - broke}", threshold,
    ]  # fmt: skip


def draw(path: Path, watched: dict[float, list[Watched]], threshold: float) -> None:
    """Largest spread of each `WINDOW_PS` in time; runs that broke end with a cross, at the upper edge or below it."""
    figure = new_figure(4.4 * len(watched), 3.6)
    lowest, highest = 0.8 * min(run.spread.min() for runs in watched.values() for run in runs), 20 * threshold
    for position, (temperature, runs) in enumerate(watched.items()):
        axes = new_axes(figure, 1, len(watched), position)
        for run in runs:
            color = GREY if run.broke_ps is None else COLORS[1]
            axes.plot(*_largest(run), color=color, lw=0.9)
            if run.broke_ps is not None:
                last = min(run.spread[-1], 0.8 * highest)
                axes.plot(run.times_ps[-1], last, "x", color=COLORS[1], markersize=7, label="a bond broke")
        axes.axhline(threshold, color=COLORS[0], ls="--", lw=1.0, label="largest on test structures")
        axes.axhline(2 * threshold, color=COLORS[0], ls=":", lw=1.0, label="twice that")
        axes.set_ylim(lowest, highest)
        logarithmic(axes)
        axes.set_title(f"{temperature:g} K", fontsize=10)
        axes.set_xlabel("time at constant energy / ps")
        axes.set_ylabel(f"largest spread of a force in {WINDOW_PS:g} ps / eV/Å")
        handles, labels = axes.get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        axes.legend(once.values(), once, loc="upper left", frameon=False, fontsize=8)
    save(figure, path)


def _largest(run: Watched) -> tuple[np.ndarray, np.ndarray]:
    """Ends of intervals of `WINDOW_PS`, and the largest spread in each; the first one has both of its ends."""
    number = np.maximum(1, np.ceil(run.times_ps / WINDOW_PS - 1e-6)).astype(int)
    present = np.unique(number)
    return present * WINDOW_PS, np.array([run.spread[number == k].max() for k in present])
