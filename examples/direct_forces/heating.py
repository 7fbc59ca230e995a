"""Molecular dynamics at constant energy: temperatures and forces in time, heating rates, and where heat comes from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import Cell, Study

from ase_mlcalc import MLCalculator
from ase_mlcalc.analysis import TrajectoryFile, spurious_heat
from ase_mlcalc.md.thermo import read_thermo
from ase_mlcalc.plots import COLORS, new_axes, new_figure, save
from ase_mlcalc.study import GroupSummary, StudyJob, StudySummary, run_study

TEMPERATURES_K = (100.0, 200.0, 300.0)
HEATING_COLUMNS = (
    "molecule",
    "model",
    "T / K",
    "stable",
    "heating / K/ps",
    "standard error",
    "drift / meV/atom/ps",
    "standard error of drift",
)
EXPLAINED_COLUMNS = (
    "molecule",
    "model",
    "T / K",
    "rms error of a force component / meV/Å",
    "heating expected from it / K/ps",
    "standard error",
    "heating seen / K/ps",
    "standard error of that",
)


def _run(study: Study, folder: Path, start: Path, sources: Mapping[str, Path], **more: Any) -> StudySummary:
    changes = {
        "study.output": folder,
        "study.workers": study.workers,
        "study.models": {name: study.forces(path) for name, path in sources.items()},
        "study.structures": {start.stem: {"file": str(start)}},
        **more,
    }
    if study.quick:
        changes |= {"study.seeds": 1, "study.temperatures_K": [100], "study.equilibration": "none"}
        changes |= {"md.time_ps": 0.004, "md.frames_every_fs": 0.5}  # models that were hardly trained fall apart
    return run_study(study.job(StudyJob, "md.toml", changes))


def heat(study: Study, molecule: str, start: Path, sources: Mapping[str, Path]) -> list[list[Cell]]:
    """Run the protocol of the thesis for a molecule, draw its traces, and give rows of heating rates."""
    folder = study.out / "md" / molecule
    summary = _run(study, folder, start, sources)
    draw(study.out / "md" / f"traces_{molecule}.png", folder, summary)
    study.picture(study.out / "md" / f"traces_{molecule}.png")
    return [
        [
            molecule, f"`{group.model}`", group.temperature_K, f"{group.n_stable} of {group.n_runs}",
            group.heating_K_per_ps, group.heating_stderr,
            group.drift_meV_per_atom_per_ps, group.drift_stderr,
        ]
        for group in summary.groups
    ]  # fmt: skip


def draw(path: Path, folder: Path, summary: StudySummary) -> None:
    """Temperature above and mean force below, in time; a column for each temperature, a line for each seed."""
    temperatures = summary.temperatures_K
    figure = new_figure(3.4 * len(temperatures), 5.6)
    for column, temperature in enumerate(temperatures):
        above = new_axes(figure, 2, len(temperatures), column)
        below = new_axes(figure, 2, len(temperatures), len(temperatures) + column, sharex=above)
        for model, color in zip(summary.models, COLORS, strict=False):
            runs = [run for run in summary.runs if (run.model, run.temperature_K) == (model, temperature)]
            for number, run in enumerate(runs):
                if run.stage != "nve":
                    continue  # it failed before
                thermo = read_thermo(folder / run.folder / "thermo.csv")["nve"]
                label = model if number == 0 else None
                above.plot(thermo["time_ps"], _smooth(thermo["temperature_K"]), color=color, lw=0.8, label=label)
                if number == 0:
                    frames = list(TrajectoryFile(folder / run.folder / "nve.traj"))
                    times = [frame.info["time_ps"] for frame in frames]
                    below.plot(times, [np.abs(frame.get_forces()).mean() for frame in frames], color=color, lw=0.8)
        above.axhline(temperature, color="black", lw=0.6, ls=":")
        above.set_title(f"{temperature:g} K", fontsize=10)
        below.set_xlabel("time at constant energy / ps")
        if column == 0:
            above.set_ylabel("temperature / K, over 0.1 ps")
            below.set_ylabel("mean |force component| / eV/Å")
            above.legend(frameon=False, fontsize=8)
    save(figure, path)


def _smooth(values: np.ndarray, width: int = 20) -> np.ndarray:
    """Running mean over 20 rows, 0.1 ps: kinetic and potential energy are exchanged faster than that."""
    width = min(width, len(values))
    means: np.ndarray = np.convolve(values, np.ones(width) / width, mode="same")
    ends = np.convolve(np.ones_like(values), np.ones(width) / width, mode="same")
    return means / ends


def explain(study: Study, molecule: str, start: Path, sources: Mapping[str, Path]) -> list[list[Cell]]:
    """Expected heat of each model along trajectories of `equivariant`, beside what was seen."""
    folder = study.out / "work" / molecule
    reference = {"equivariant": sources["equivariant"]}
    summary = _run(study, folder, start, reference, **{"md.frames_every_fs": 1.0, "md.time_ps": 4.0})
    seen = {(row.model, row.temperature_K): row for row in _seen(study, molecule)}
    rows: list[list[Cell]] = []
    for model, source in sources.items():
        if model == "equivariant":
            continue
        calculator = MLCalculator(source)
        for temperature in summary.temperatures_K:
            runs = [run for run in summary.runs if run.temperature_K == temperature and run.status == "stable"]
            files = [TrajectoryFile(folder / run.folder / "nve.traj") for run in runs]
            if not files:
                continue
            found = spurious_heat(files, calculator, temperature)
            degrees = 3 * (runs[0].n_atoms or 0) - 6
            own = seen.get((model, temperature))
            rows.append(
                [
                    molecule, f"`{model}`", temperature, 1000 * found.force_error_rms, *found.rate_K_per_ps(degrees),
                    None if own is None else own.heating_K_per_ps, None if own is None else own.heating_stderr,
                ]
            )  # fmt: skip
    return rows


def _seen(study: Study, molecule: str) -> list[GroupSummary]:
    from ase_mlcalc.errors import DataError
    from ase_mlcalc.study import read_study

    try:
        return list(read_study(study.out / "md" / molecule).groups)
    except DataError:
        return []
