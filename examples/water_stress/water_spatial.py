"""Stages of the study that are not about atoms one by one: stress in space, and what a frame costs."""

import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.units import GPa
from common import Study

from ase_mlcalc import MLCalculator, keep_memory
from ase_mlcalc.plots import COLORS, GREY, logarithmic, new_axes, new_figure, save
from ase_mlcalc.stress import Binned, Grid, IrvingKirkwood, Planes, Stored, StressField, local_stress
from ase_mlcalc.stress.pictures import profile_plot

LAMMPS = "LAMMPS"
BINS = (2, 4, 8)
"""Bins along each side of the box, which is 35.2 Å long."""
REPEATS = {1: (1, 1, 1), 4: (2, 2, 1), 8: (2, 2, 2), 16: (4, 2, 2), 32: (4, 4, 2)}
"""Copies of the box of 375 atoms that are timed, up to 12 000 atoms."""


def calculators(study: Study) -> dict[str, Calculator]:
    """What gives per-atom stress: the labels, the regressor, and a model of the energy."""
    return {
        LAMMPS: Stored(),
        "stress_equivariant": MLCalculator(study.checkpoint("equivariant", "potential-part")),
        "equivariant (energy)": MLCalculator(study.checkpoint("energy", "equivariant")),
    }


def fields(study: Study, trajectory: Path) -> None:
    """Total stress of bins of each frame against that of LAMMPS, and profiles averaged over frames."""
    frames = ase.io.read(trajectory, ":")
    found = calculators(study)
    rows = []
    for n in (2,) if study.quick else BINS:
        binned = {name: by_frame(Binned(Grid((n, n, n))), calc, frames) for name, calc in found.items()}
        reference = binned.pop(LAMMPS)
        for name, values in binned.items():
            spread = reference.std(axis=(0, 1))  # of each component over frames and bins
            r2 = 1 - ((values - reference) ** 2).mean(axis=(0, 1)) / spread**2
            side = frames[0].cell.lengths()[0] / n
            rows.append([name, f"{n}³", float(side), float(spread.mean() / GPa), float(r2.mean())])
    study.table("bins", ["model", "bins", "side / Å", "std of LAMMPS / GPa", "R² of a bin"], rows)
    profiles(study, found, frames)


def by_frame(localisation: Binned, calc: Calculator, frames: list[Atoms]) -> np.ndarray:
    """(frames, bins, 9) eV/Å³, kinetic part included."""
    each = [local_stress(localisation, calc, [atoms]).stress.total for atoms in frames]
    return np.stack([total.reshape(-1, total.shape[-1]) for total in each])


def profiles(study: Study, found: dict[str, Calculator], frames: list[Atoms]) -> None:
    """Normal stress along z: in a liquid at rest the same everywhere, as far as a short trajectory has it."""
    n = 6 if study.quick else 24
    energy = found["equivariant (energy)"]
    lines: dict[str, StressField] = {
        "LAMMPS, atoms in bins": local_stress(Binned(Grid.along(2, n)), found[LAMMPS], frames),
        "stress_equivariant, atoms in bins": local_stress(
            Binned(Grid.along(2, n)), found["stress_equivariant"], frames
        ),
        "equivariant, Irving-Kirkwood": local_stress(IrvingKirkwood(Grid.along(2, n)), energy, frames),
        "equivariant, planes": local_stress(Planes(axis=2, n=n), energy, frames),
    }
    rows = []
    for name, field in lines.items():
        assert field.normal is not None
        values, stderr = field.normal.total / GPa, field.normal.total_stderr
        error = None if stderr is None else float(np.sqrt((stderr**2).mean()) / GPa)
        rows.append([name, float(values.mean()), float(values.std()), error])
    study.table("profiles", ["σ_zz along z", "mean / GPa", "std over z / GPa", "standard error / GPa"], rows)
    path = study.out / "profiles.png"
    profile_plot(path, lines)
    study.picture(path)


def cost(study: Study, trajectory: Path) -> None:
    """Processor time of the stress of all atoms at a new geometry, one thread, in turn."""
    from make_data import Water

    torch.set_num_threads(1)
    keep_memory()
    box = ase.io.read(trajectory, 0)
    models = {name: calc for name, calc in calculators(study).items() if name != LAMMPS}
    times: dict[str, list[float]] = {name: [] for name in (LAMMPS, *models)}
    sizes = []
    for repeats in [(1, 1, 1), (2, 1, 1)] if study.quick else REPEATS.values():
        atoms = box * repeats
        water = Water(atoms, study.out / "data")
        calls: dict[str, Callable[[], object]] = {LAMMPS: water.frame}
        rng = np.random.default_rng(0)

        def moved(calc: Calculator, atoms: Atoms = atoms, rng: np.random.Generator = rng) -> object:
            other = atoms.copy()
            other.positions += rng.normal(scale=0.01, size=other.positions.shape)
            other.calc = calc
            return other.get_stresses()

        calls |= {name: (lambda calc=calc: moved(calc)) for name, calc in models.items()}
        sizes.append(len(atoms))
        for name, ms in in_turn(calls, turns=2 if study.quick else 5).items():
            times[name].append(ms)
        water.close()
    rows = []
    for name, each in times.items():
        power = float(np.polyfit(np.log(sizes), np.log(each), 1)[0])
        rows.append([name, *(float(ms / n) for ms, n in zip(each, sizes, strict=True)), power])
    study.table("cost", ["ms per atom", *(f"{n} atoms" for n in sizes), "time grows as N to the power"], rows)
    picture(study, sizes, times)


def in_turn(calls: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median milliseconds of processor of each call, after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            begin = time.process_time()
            call()
            if turn:
                taken[name].append(1e3 * (time.process_time() - begin))
    return {name: float(np.median(each)) for name, each in taken.items()}


def picture(study: Study, sizes: list[int], times: dict[str, list[float]]) -> None:
    """Time against atoms, with what the earlier study held the direct computation to cost."""
    figure = new_figure(5.4, 3.8)
    axes = new_axes(figure, 1, 1, 0)
    for (name, each), color in zip(times.items(), COLORS, strict=False):
        axes.plot(sizes, np.array(each) / 1e3, "o-", color=color, label=name)
    start = min(each[0] for each in times.values()) / 1e3
    top = axes.get_ylim()[1]
    for power, style in ((1, "-"), (2, "--"), (4, ":")):
        axes.plot(sizes, start * (np.array(sizes) / sizes[0]) ** power, style, color=GREY, lw=0.9, label=f"N^{power}")
    logarithmic(axes)
    logarithmic(axes, x=True)
    axes.set_ylim(start / 2, 30 * top)
    axes.set_xlabel("atoms")
    axes.set_ylabel("processor time of a frame / s")
    axes.legend(fontsize=8, frameon=False)
    path = study.out / "cost.png"
    save(figure, path)
    study.picture(path)
