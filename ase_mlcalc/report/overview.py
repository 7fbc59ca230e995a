"""One picture of a potential from training to molecular dynamics, made from files alone."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.data import atomic_numbers
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ase_mlcalc.errors import DataError
from ase_mlcalc.md.frames import read_trajectory
from ase_mlcalc.md.result import RunResult, read_results
from ase_mlcalc.md.thermo import THERMO_FILE, read_thermo
from ase_mlcalc.plots import COLORS, GREY, draw_histogram, logarithmic, new_axes, new_figure, save
from ase_mlcalc.report.stresses import gather_stresses
from ase_mlcalc.stress.invariants import pressure

Array = NDArray[np.float64]

ELEMENT_COLORS = {"H": COLORS[5], "O": COLORS[1], "C": "#000000", "N": COLORS[0], "Si": COLORS[2]}
"""Light hydrogen and reddish oxygen, as chemists expect; other elements take what is left of the palette."""


def write_overview(path: Path, *, predictions: Path, log: Path, run_folder: Path, stage: str) -> None:
    """Draw force parity, learning curve, total energy and per-atom pressure of one potential.

    Parameters
    ----------
    path : Path
        PNG file to write.
    predictions : Path
        ``predictions.extxyz`` as `write_predictions` writes it: forces as results, labels as ``REF_forces``.
    log : Path
        ``log.csv`` of the training run.
    run_folder : Path
        Molecular dynamics, as `run_md` writes it.
    stage : str
        Name of its constant-energy stage.

    Raises
    ------
    DataError
        The run has no such stage.
    """
    results = {result.name: result for result in read_results(run_folder)}
    if stage not in results:
        raise DataError(f"{run_folder} has no stage {stage!r}; it has {', '.join(results) or 'none'}")
    figure = new_figure(10.5, 7.6)
    _forces(new_axes(figure, 2, 2, 0), predictions)
    _learning(new_axes(figure, 2, 2, 1), log)
    _energy(new_axes(figure, 2, 2, 2), results[stage])
    _pressures(new_axes(figure, 2, 2, 3), results[stage])
    save(figure, path)


def _forces(axes: Axes, predictions: Path) -> None:
    """Predicted over labelled force components, coloured by element."""
    frames = ase.io.read(predictions, index=":", format="extxyz")
    labels = np.concatenate([frame.arrays["REF_forces"] for frame in frames])
    predicted = np.concatenate([frame.get_forces() for frame in frames])
    symbols = np.concatenate([frame.get_chemical_symbols() for frame in frames])
    low, high = 1.05 * float(labels.min()), 1.05 * float(labels.max())
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8)
    colors = dict(_colored(symbols))
    order = np.random.default_rng(0).permutation(len(symbols))  # no element lies on top of the others
    axes.scatter(
        labels[order].ravel(), predicted[order].ravel(), c=np.repeat([colors[z] for z in symbols[order]], 3),
        s=5, alpha=0.5, linewidths=0, rasterized=True,
    )  # fmt: skip
    for symbol, color in colors.items():
        axes.plot([], [], ".", color=color, label=symbol)
    error = 1000.0 * np.abs(predicted - labels).mean()
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="reference / eV/Å", ylabel="predicted / eV/Å")
    axes.set_title(f"Forces on structures held back\nMAE {error:.3g} meV/Å", fontsize=11)
    axes.legend(loc="upper left", frameon=False, markerscale=2, handletextpad=0.1)


def _learning(axes: Axes, log: Path) -> None:
    """Validation errors against minutes of training."""
    with open(log, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    minutes = np.array([float(row["minutes"]) for row in rows])
    curves = (
        ("val_force_mae_meV_per_A", "forces", "meV/Å", COLORS[0]),
        ("val_energy_mae_meV_per_atom", "energy", "meV/atom", COLORS[2]),
    )
    for column, name, unit, color in curves:
        values = np.array([float(row[column] or math.nan) for row in rows])
        given = values[np.isfinite(values)]
        if len(given):
            label = f"{name}, at the end {given[-1]:.3g} {unit}"
            axes.plot(minutes, values, color=color, linewidth=1.6, marker="." if len(rows) < 30 else "", label=label)
    axes.legend(loc="upper right", frameon=False)
    logarithmic(axes)
    axes.margins(y=0.2)
    axes.set(xlabel="training time / minutes", ylabel="MAE")
    axes.set_title("Learning", fontsize=11)


def _energy(axes: Axes, result: RunResult) -> None:
    """Total energy per atom at constant energy with its line, on the scale of the kinetic energy's fluctuation."""
    rows = read_thermo(result.folder / THERMO_FILE)[result.name]
    time = rows["time_ps"]
    for name, label, color, width in (("kinetic_eV", "kinetic", COLORS[4], 0.7), ("total_eV", "total", COLORS[0], 1.4)):
        values = 1000.0 * rows[name] / result.n_atoms
        axes.plot(time, values - values.mean(), color=color, linewidth=width, label=label)
    title = "Constant-energy dynamics"
    if result.drift is not None:
        title += f"\ndrift of the total energy {result.drift.slope:+.2g} ± {result.drift.stderr:.1g} meV/atom/ps"
    axes.set(xlabel="time / ps", ylabel="energy less its mean / meV/atom", xlim=(time[0], time[-1]))
    axes.set_title(title.replace("-", "−").replace("Constant−", "Constant-"), fontsize=11)
    axes.margins(y=0.18)
    axes.legend(loc="upper right", frameon=False, ncols=2)


def _pressures(axes: Axes, result: RunResult) -> None:
    """Distribution of the per-atom pressure by element."""
    axes.set_title("Per-atom stress along the run", fontsize=11)
    sample = gather_stresses(read_trajectory(result.trajectory))
    if sample is None:
        axes.text(0.5, 0.5, "no per-atom stress", transform=axes.transAxes, ha="center", color=GREY)
        return
    values = pressure(sample.stresses_GPa)
    colors = dict(_colored(sample.symbols))
    draw_histogram(axes, {symbol: values[sample.symbols == symbol] for symbol in colors}, list(colors.values()))
    axes.set(xlabel="pressure of an atom / GPa", ylabel="probability density / 1/GPa")
    axes.legend(loc="best", frameon=False)


def _colored(symbols: Sequence[str] | NDArray[Any]) -> list[tuple[str, str]]:
    """Elements in the order of the periodic table, each with its colour."""
    elements = sorted({str(symbol) for symbol in symbols}, key=lambda symbol: int(atomic_numbers[symbol]))
    free = [color for color in COLORS if color not in ELEMENT_COLORS.values()] * len(elements)
    return [(symbol, ELEMENT_COLORS.get(symbol) or free.pop(0)) for symbol in elements]
