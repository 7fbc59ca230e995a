"""Active learning against random sampling (``make bench-active``), with the extra ``xtb``.

Ethanol with GFN2-xTB, for a potential that is to hold from 150 to 1000 K.  All begin with the same 20 frames, of the
first picosecond of a run at 300 K.  Active learning is `ase_mlcalc.active.learn` with runs at 150, 300, 600 and
1000 K.  Random sampling takes frames of runs with the reference itself, as many a round as the committee asked for, or
20 where that had come to its end: of runs at all four temperatures, all of them as often, and of runs at 300 K, as the
frames are that all begin with.  Committee, epochs, rates and the part that is held back for validation are the same for
all in each round.

Errors are measured on frames of other runs with the reference, as many of each temperature.  The number of labels that
random sampling takes to the errors of active learning is interpolated on logarithmic axes.  Only labels are counted for
random sampling, not the steps of the runs with the reference that its frames come from.

A killed benchmark goes on where it stopped.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.build import molecule
from rich.console import Console
from rich.table import Table

from ase_mlcalc.active import Learned, LearnJob, learn
from ase_mlcalc.active.data import divide
from ase_mlcalc.active.files import read_written, write_structures
from ase_mlcalc.active.picture import draw_spread, draw_survival
from ase_mlcalc.config import validate
from ase_mlcalc.files import make_folder, write_text
from ase_mlcalc.labelling import label
from ase_mlcalc.labelling.structures import bare
from ase_mlcalc.md.frames import read_trajectory
from ase_mlcalc.plots import COLORS, GREY, logarithmic, new_axes, new_figure, save
from ase_mlcalc.study import StudyJob, run_study
from ase_mlcalc.training.train import train

CALCULATOR, ARGUMENTS = "tblite.ase:TBLite", {"method": "GFN2-xTB", "verbosity": 0}
TEMPERATURES_K = [150.0, 300.0, 600.0, 1000.0]
MODEL = {"name": "equivariant", "cutoff": 4.5, "l_max": 1, "features": 16, "edge_features": 8, "n_interactions": 1}
POOL, TEST = 0, 1
"""Seeds of the runs with the reference that frames are taken from."""
START_RUN = ("trans", 300.0)
"""Of the pool, whose first picosecond gives the frames to start from; the pool has those behind it."""
TIMESTEP_FS = 0.5
N_START, N_TEST_EACH = 20, 25
"""Test frames are so many of each run."""
Curve = list[dict[str, float]]
"""Labels and errors, round by round."""
MOST_OVER_ACTIVE = 1 / 0.6
"""Random sampling gives up after so many times the labels of active learning: that many are to be saved."""


def write_conformers(folder: Path) -> dict[str, dict[str, str]]:
    """Ethanol with its hydroxyl group trans and gauche, where all runs start."""
    trans = molecule("CH3CH2OH")
    gauche = trans.copy()
    gauche.rotate_dihedral(*_torsion(trans), 120.0, indices=[_torsion(trans)[-1]])
    found = {}
    for name, atoms in (("trans", trans), ("gauche", gauche)):
        path = folder / f"{name}.extxyz"
        if not path.exists():
            write_structures(path, [atoms])
        found[name] = {"file": str(path)}
    return found


def _torsion(atoms: Atoms) -> tuple[int, int, int, int]:
    """The atoms C-C-O-H of ethanol."""

    def nearest(center: int, number: int) -> int:
        others = [k for k in np.flatnonzero(atoms.numbers == number).tolist() if k != center]
        return min(others, key=lambda k: float(atoms.get_distance(center, k)))

    oxygen = atoms.symbols.indices()["O"].tolist()[0]
    carbon = nearest(oxygen, 6)
    return nearest(carbon, 6), carbon, oxygen, nearest(oxygen, 1)


class Frames(NamedTuple):
    """Of runs with the reference, unlabelled."""

    start: list[Atoms]
    pool: list[Atoms]
    test: list[Atoms]


def reference_frames(folder: Path, structures: dict[str, Any], options: argparse.Namespace) -> Frames:
    """Make runs with the reference, and take frames of them."""
    raw = {
        "study": {
            "output": folder / "reference",
            "models": {"gfn2": {"calculator": CALCULATOR, "calculator_arguments": ARGUMENTS}},
            "structures": structures,
            "temperatures_K": TEMPERATURES_K,
            "timesteps_fs": TIMESTEP_FS,
            "seeds": [POOL, TEST],
            "scans": False,
            "workers": options.workers,
        },
        "md": {"time_ps": options.reference_ps, "frames_every_fs": 20, "stresses_every_fs": 0},
    }
    found = Frames([], [], [])
    for run in run_study(validate(StudyJob, raw, "reference")).runs:
        if run.status != "stable":
            raise SystemExit(f"{run.folder}, a run with the reference, failed: {run.error or run.detail}")
        frames = list(read_trajectory(folder / "reference" / run.folder / "nvt.traj"))
        early, late = ([_bare(atoms, run.temperature_K) for atoms in part] for part in (frames[1:50], frames[50:]))
        if run.seed == TEST:
            found.test.extend(spaced(late, N_TEST_EACH))
        else:
            found.pool.extend(late)
        if run.seed == POOL and (run.structure, run.temperature_K) == START_RUN:
            found.start.extend(spaced(early, N_START))
    return found


def _bare(atoms: Atoms, temperature_K: float) -> Atoms:
    copy = bare(atoms)
    copy.set_momenta(None)
    copy.info = {"temperature_K": temperature_K, "config_type": f"{temperature_K:g} K"}
    return copy


def labelled(path: Path, frames: list[Atoms]) -> Path:
    """Frames with labels of the reference, in a file."""
    label(frames, CALCULATOR, path, arguments=ARGUMENTS, threads=1, progress=False)
    return path


def spaced(frames: list[Atoms], count: int) -> list[Atoms]:
    """So many of the frames, evenly over time."""
    return [frames[k] for k in np.linspace(0, len(frames) - 1, count).round().astype(int)]


def learn_job(
    folder: Path, structures: dict[str, Any], start: Path, test: Path, options: argparse.Namespace
) -> LearnJob:
    """The active learning."""
    raw = {
        "learn": {
            "output": folder / "active",
            "start": start,
            "test": test,
            "rounds": options.rounds,
            "labels_per_round": 20,
            "max_labels": options.max_labels,
            "uncertain_percent": options.uncertain_percent,
            "workers": options.workers,
            "reference": {"calculator": CALCULATOR, "calculator_arguments": ARGUMENTS},
        },
        "model": MODEL,
        "train": {"members": 3, "max_epochs": options.epochs, "batch_size": 5, "warmup_steps": 50},
        "tune": {"max_epochs": options.epochs // 2, "learning_rate": 2e-3},
        "study": {"structures": structures, "temperatures_K": TEMPERATURES_K, "timesteps_fs": TIMESTEP_FS, "seeds": 2},
        "md": {"time_ps": options.time_ps, "frames_every_fs": 50, "thermo_every_fs": 50, "stresses_every_fs": 0},
    }
    return validate(LearnJob, raw, "benchmark")


def random_sampling(folder: Path, job: LearnJob, start: Path, pool: list[Atoms], active: Learned) -> Curve:
    """Errors of committees that learn what is drawn at random, round by round, until they are as good."""
    goal = _test_error(active.rounds[-1])
    asked = [each.n_asked for each in active.rounds if each.trained]
    found: Curve = []
    known, used = read_written(start), 0
    predecessor: Path | None = None
    while True:
        number = len(found)
        if number:
            wanted = asked[number] if number < len(asked) else 20
            own = labelled(folder / f"round-{number:02d}.extxyz", pool[used : used + wanted])
            known, used = known + read_written(own), used + wanted
        training, validation = folder / f"training-{number:02d}.extxyz", folder / f"validation-{number:02d}.extxyz"
        if not training.exists():
            parts = divide(known)
            write_structures(validation, parts[1])
            write_structures(training, parts[0])
        result = train(
            job.training(folder / f"model-{number:02d}", [training], [validation], predecessor), progress=False
        )
        predecessor = result.checkpoint
        assert result.test is not None
        found.append({"labels": len(known), "force_mae_meV_per_A": float(result.test.force_mae_meV_per_A or np.nan)})
        print(f"{folder.name}: {len(known)} labels, {found[-1]['force_mae_meV_per_A']:.4g} meV/Å", flush=True)
        reached = found[-1]["force_mae_meV_per_A"] <= goal and number >= len(asked) - 1
        if reached or len(known) > MOST_OVER_ACTIVE * active.n_labels or used + 20 > len(pool):
            return found


def _test_error(each: Any) -> float:
    return float(each.test.force_mae_meV_per_A)


def labels_to_reach(curve: Curve, goal: float) -> float | None:
    """Labels at which a curve first falls to an error, interpolated on logarithmic axes; ``None`` if it does not."""
    before: dict[str, float] | None = None
    for point in curve:
        if point["force_mae_meV_per_A"] <= goal:
            if before is None:
                return point["labels"]
            x = np.log([before["force_mae_meV_per_A"], goal, point["force_mae_meV_per_A"]])
            share = (x[0] - x[1]) / (x[0] - x[2])
            low, high = np.log([before["labels"], point["labels"]])
            return float(np.exp(low + share * (high - low)))
        before = point
    return None


def draw(path: Path, active: Learned, curves: dict[str, Curve]) -> None:
    """Errors over labels of all, and how active learning went."""
    figure = new_figure(13.5, 3.9)
    axes = new_axes(figure, 1, 3, 0)
    for (name, curve), color in zip(curves.items(), (COLORS[0], GREY, COLORS[1]), strict=True):
        axes.plot(
            [p["labels"] for p in curve], [p["force_mae_meV_per_A"] for p in curve], "o-", color=color, label=name
        )
    axes.set(xlabel="reference calculations", ylabel="force MAE of test frames / meV/Å")
    logarithmic(axes)
    logarithmic(axes, x=True)
    axes.legend(frameon=False)
    draw_spread(new_axes(figure, 1, 3, 1), active.rounds)
    draw_survival(new_axes(figure, 1, 3, 2), active.rounds)
    save(figure, path)


def show(active: Learned, curves: dict[str, Curve]) -> None:
    """The curves, and the number of labels to the same errors."""
    console = Console()
    own, *others = curves
    heads = [column for name in others for column in (f"of {name}", "ratio")]
    table = Table(f"labels of {own}", "force MAE / meV/Å", *heads)
    for point in curves[own]:
        goal = point["force_mae_meV_per_A"]
        labels = labels_to_reach(curves[own], goal)
        row = [f"{point['labels']:.0f}", f"{goal:.1f}"]
        for name in others:
            taken = labels_to_reach(curves[name], goal)
            if taken is None or labels is None:
                most = curves[name][-1]["labels"]
                row += [f"more than {most:.0f}", "-" if labels is None else f"< {labels / most:.2f}"]
            else:
                row += [f"{taken:.0f}", f"{labels / taken:.2f}"]
        table.add_row(*row)
    console.print(table)
    console.print(active.verdict, markup=False)


def main() -> None:
    """Do what is left to do, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/active"), help="kept for going on")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--max-labels", type=int, default=400)
    parser.add_argument("--uncertain-percent", type=float, default=5.0)
    parser.add_argument("--time-ps", type=float, default=20.0, help="of runs that are to survive")
    parser.add_argument("--reference-ps", type=float, default=5.0, help="of runs with the reference")
    parser.add_argument("--epochs", type=int, default=200, help="of the first round; later ones take half as many")
    parser.add_argument("--workers", type=int, help="processes side by side; default: one for each core")
    options = parser.parse_args()
    folder: Path = options.out
    make_folder(folder)
    structures = write_conformers(folder)
    frames = reference_frames(folder, structures, options)
    test = labelled(folder / "test.extxyz", frames.test)
    start = folder / "start.extxyz"
    if not start.exists():
        write_structures(start, frames.start)
    job = learn_job(folder, structures, start, test, options)
    active = learn(job)
    pool = [frames.pool[k] for k in np.random.default_rng(0).permutation(len(frames.pool))]
    at_start = [atoms for atoms in pool if atoms.info["temperature_K"] == START_RUN[1]]
    samplings = {
        "random": ("random sampling", pool),
        "random-start": (f"random sampling, {START_RUN[1]:g} K", at_start),
    }
    first = job.learn.output / "round-00" / "labelled.extxyz"
    curve, labels = [], 0
    for each in active.rounds:
        labels += each.n_asked
        if each.trained:
            curve.append({"labels": float(labels), "force_mae_meV_per_A": _test_error(each)})
    curves = {"active learning": curve}
    for name, (title, frames_of) in samplings.items():
        make_folder(folder / name)
        curves[title] = random_sampling(folder / name, job, first, frames_of, active)
    write_text(folder / "active.json", json.dumps({"curves": curves, "verdict": active.verdict}, indent=1) + "\n")
    draw(folder / "active.png", active, curves)
    show(active, curves)
    steps = round(len(structures) * len(TEMPERATURES_K) * options.reference_ps * 1000 / TIMESTEP_FS)
    print(f"random sampling draws from runs of the reference of {steps} steps, which are not counted")


if __name__ == "__main__":
    main()
