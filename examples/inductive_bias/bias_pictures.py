"""Pictures of the study: survival, energies against time, forces of pairs."""

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from common import Study

from ase_mlcalc import MLCalculator
from ase_mlcalc.analysis import PairForces, pair_forces
from ase_mlcalc.md.thermo import read_thermo
from ase_mlcalc.plots import COLORS, GREY, new_axes, new_figure, save
from ase_mlcalc.study import StudySummary

BIN_A = 0.1
"""Width of the bins that forces of pairs are averaged in, Å."""
FEWEST = 10
"""Pairs that a bin needs to be shown; in quick mode one."""


def survival(study: Study, material: str, name: str, found: StudySummary) -> None:
    """Kaplan-Meier curves of all models."""
    figure = new_figure(5.2, 3.4)
    axes = new_axes(figure, 1, 1, 0)
    for position, (group, color) in enumerate(zip(found.groups, COLORS, strict=False)):
        if group.survival is None:
            continue
        width = max(1.0, 3.4 - 0.8 * position)  # curves that lie on each other are all seen
        times, fractions = group.survival.times_ps, group.survival.survival
        axes.step(times, fractions, where="post", color=color, linewidth=width, label=group.model)
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel("time / ps")
    axes.set_ylabel("fraction of runs that survive")
    axes.set_title(f"{material}, {found.groups[0].temperature_K:g} K", fontsize=10)
    axes.legend(frameon=False)
    path = study.out / f"{material}-{name}-survival.png"
    save(figure, path)
    study.picture(path)


def energies(study: Study, material: str, name: str, folder: Path, found: StudySummary) -> None:
    """Potential energy of the first run of each model against time, to its end or failure."""
    figure = new_figure(5.2, 3.4)
    axes = new_axes(figure, 1, 1, 0)
    first = {run.model: run for run in reversed(found.runs) if run.n_atoms is not None}
    for model, color in zip(dict.fromkeys(group.model for group in found.groups), COLORS, strict=False):
        if model not in first:
            continue
        run = first[model]
        *_, series = read_thermo(folder / run.folder / "thermo.csv").values()
        energy = series["potential_eV"] / (run.n_atoms or 1)
        axes.plot(series["time_ps"], energy, color=color, linewidth=1.0, label=model)
    axes.set_xlabel("time / ps")
    axes.set_ylabel("potential energy / eV/atom")
    axes.set_title(f"{material}, one run of each model", fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    path = study.out / f"{material}-{name}-energy.png"
    save(figure, path)
    study.picture(path)


def pair_forces_of(study: Study, material: str, checkpoints: Mapping[str, Path], frames: Sequence[Atoms]) -> None:
    """Mean radial force against distance, a panel for each pair of elements, a line for each model."""
    found = {name: of_frames(MLCalculator(path), frames) for name, path in checkpoints.items()}
    elements = np.unique(frames[0].numbers).tolist()
    kinds = list(combinations_with_replacement(elements, 2))
    fewest = 1 if study.quick else FEWEST
    figure = new_figure(3.6 * len(kinds), 3.3)
    rows = []
    for position, (one, other) in enumerate(kinds):
        axes = new_axes(figure, 1, len(kinds), position)
        axes.axhline(0.0, color=GREY, linewidth=0.8)
        title = f"{chemical_symbols[one]}-{chemical_symbols[other]}"
        for (name, pairs), color in zip(found.items(), COLORS, strict=False):
            distance, mean = averaged(pairs, one, other, fewest)
            axes.plot(distance, mean, color=color, linewidth=1.3, label=name)
            low = int(np.nanargmin(mean))
            rows.append([title, f"`{name}`", float(-mean[low]), float(distance[low])])
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("distance / Å")
        if position == 0:
            axes.set_ylabel("mean radial force / eV/Å\n(> 0: repulsion)")
            axes.legend(frameon=False, fontsize=8)
    path = study.out / f"{material}-pairs.png"
    save(figure, path)
    study.picture(path)
    columns = ["pair", "model", "strongest mean attraction / eV/Å", "at / Å"]
    study.table(f"{material}-pairs", columns, rows)


def of_frames(calculator: MLCalculator, frames: Sequence[Atoms]) -> list[PairForces]:
    """Forces of all pairs of some frames."""
    return [pair_forces(calculator, atoms) for atoms in frames]


def averaged(found: Sequence[PairForces], one: int, other: int, fewest: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and mean radial forces of a pair of elements in bins; NaN, a gap in the line, where pairs are few."""
    distances = np.concatenate([pairs.distances[pairs.of(one, other)] for pairs in found])
    radial = np.concatenate([pairs.radial[pairs.of(one, other)] for pairs in found])
    bins = np.floor(distances / BIN_A).astype(int)
    count, total = np.bincount(bins), np.bincount(bins, weights=radial)
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count >= fewest)
    return (np.arange(len(count)) + 0.5) * BIN_A, mean
