"""Molecular dynamics at constant energy: temperatures and forces in time, heating rates, and where heat comes from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from common import Cell, Study

from ase_mlcalc import MLCalculator
from ase_mlcalc.analysis import TrajectoryFile, spurious_heat
from ase_mlcalc.md.thermo import Series, read_thermo
from ase_mlcalc.plots import COLORS, new_axes, new_figure, save
from ase_mlcalc.study import StudyJob, StudySummary, run_study

BEGINNING_PS = 0.2
SMOOTHED_PS, FORCES_SMOOTHED_PS = 0.5, 0.1
"""Running means of pictures: kinetic and potential energy are exchanged faster than the first."""
STARTS_PER_RUN = 4
"""Frames of a trajectory of 4 ps, a picosecond apart, that a direct model goes on from."""
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
    "heating along its own runs / K/ps",
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
    """Above how the temperature changes in time, means over seeds and thin lines for each seed of the first model.

    Below mean forces of one seed.  The first model is drawn over the others.
    """
    temperatures = summary.temperatures_K
    figure = new_figure(3.4 * len(temperatures), 5.6)
    for column, temperature in enumerate(temperatures):
        above = new_axes(figure, 2, len(temperatures), column)
        below = new_axes(figure, 2, len(temperatures), len(temperatures) + column, sharex=above)
        for model, color in reversed([*zip(summary.models, COLORS, strict=False)]):
            runs = [
                run
                for run in summary.runs
                if (run.model, run.temperature_K) == (model, temperature) and run.stage == "nve"  # others failed before
            ]
            traces = [_change(read_thermo(folder / run.folder / "thermo.csv")["nve"]) for run in runs]
            for times, changes in traces if model == summary.models[0] else ():
                above.plot(times, changes, color=color, lw=0.6, alpha=0.4)
            if traces:
                times, means = _mean(traces)
                above.plot(times, means, color=color, lw=1.8, label=model)
                frames = list(TrajectoryFile(folder / runs[0].folder / "nve.traj"))
                forces = np.array([np.abs(frame.get_forces()).mean() for frame in frames])
                times = np.array([frame.info["time_ps"] for frame in frames])
                below.plot(times, _smooth(forces, times, FORCES_SMOOTHED_PS), color=color, lw=0.8)
        above.axhline(0.0, color="black", lw=0.6, ls=":")
        above.set_title(f"{temperature:g} K", fontsize=10)
        below.set_xlabel("time at constant energy / ps")
        if column == 0:
            above.set_ylabel("change of temperature / K")
            below.set_ylabel("mean |force component| / eV/Å")
            handles, labels = above.get_legend_handles_labels()
    handles, labels = handles[::-1], labels[::-1]
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=9)
    save(figure, path)


def _change(thermo: Series) -> tuple[np.ndarray, np.ndarray]:
    """Times and by how much the temperature is above its mean over the first 0.2 ps."""
    times, values = thermo["time_ps"], thermo["temperature_K"]
    return times, _smooth(values, times, SMOOTHED_PS) - values[times <= BEGINNING_PS].mean()


def _mean(traces: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """As long as all of them last."""
    shortest = min(len(times) for times, _ in traces)
    return traces[0][0][:shortest], np.mean([changes[:shortest] for _, changes in traces], axis=0)


def _smooth(values: np.ndarray, times: np.ndarray, over_ps: float) -> np.ndarray:
    """Running mean, over what there is of it at the ends."""
    width = max(1, min(len(values), round(over_ps / max(times[-1] - times[0], 1e-9) * (len(times) - 1))))
    means: np.ndarray = np.convolve(values, np.ones(width) / width, mode="same")
    ends = np.convolve(np.ones_like(values), np.ones(width) / width, mode="same")
    return means / ends


def explain(study: Study, molecule: str, start: Path, sources: Mapping[str, Path]) -> list[list[Cell]]:
    """Expected heat of each model along trajectories of `equivariant`, beside what it gains when it goes on from them.

    Those are canonical starts, as the expectation presumes.
    """
    folder = study.out / "work" / molecule
    reference = {"equivariant": sources["equivariant"]}
    summary = _run(study, folder, start, reference, **{"md.frames_every_fs": 1.0, "md.time_ps": 4.0})
    others = {model: source for model, source in sources.items() if model != "equivariant"}
    judge = MLCalculator(sources["equivariant"])
    rows: list[list[Cell]] = []
    for temperature in summary.temperatures_K:
        runs = [run for run in summary.runs if run.temperature_K == temperature and run.status == "stable"]
        files = [TrajectoryFile(folder / run.folder / "nve.traj") for run in runs]
        if not files:
            continue
        degrees = 3 * (runs[0].n_atoms or 0) - 6
        gained = _gained(study, folder, files, temperature, others, judge)
        for model, source in others.items():
            can_compile = not study.quick and model != "tensor_field"
            found = spurious_heat(files, MLCalculator(source, compile=True if can_compile else None), temperature)
            rates = np.array(gained[model]) / (degrees * units.kB)
            own = (
                (float(rates.mean()), float(rates.std(ddof=1)) / len(rates) ** 0.5) if len(rates) > 1 else (None, None)
            )
            expected = found.rate_K_per_ps(degrees)
            rows.append([molecule, f"`{model}`", temperature, 1000 * found.force_error_rms, *expected, *own])
    return rows


def _gained(
    study: Study,
    folder: Path,
    files: Sequence[TrajectoryFile],
    temperature: float,
    sources: Mapping[str, Path],
    judge: MLCalculator,
) -> dict[str, list[float]]:
    """Runs of models from frames of others: slopes of the energy that `judge` sees, eV/ps.

    That energy changes by the work of the errors and by nothing else, so that it tells far smaller rates than the
    temperature does.
    """
    path = folder / f"starts-{temperature:g}K.extxyz"
    if not path.exists():
        ase.io.write(path, [frame for file in files for frame in _spread(list(file))])
    starts = {f"start{k}": {"file": str(path), "index": k} for k in range(STARTS_PER_RUN * len(files))}
    changes: dict[str, Any] = {
        "study.temperatures_K": [temperature],
        "study.seeds": 1,
        "study.equilibration": "none",
        "study.structures": starts,
        "md.initial_velocities": "keep",
        "md.frames_every_fs": 20.0,
    }
    own = folder / f"own-{temperature:g}K"
    slopes: dict[str, list[float]] = {model: [] for model in sources}
    for run in _run(study, own, path, sources, **changes).runs:
        if run.status == "stable":
            frames = list(TrajectoryFile(own / run.folder / "nve.traj"))
            energies = [judge.get_property("energy", frame) + frame.get_kinetic_energy() for frame in frames]
            slopes[run.model].append(float(np.polyfit([frame.info["time_ps"] for frame in frames], energies, 1)[0]))
    return slopes


def _spread(frames: Sequence[Atoms]) -> list[Atoms]:
    """Frames at equal distances, with velocities and without results."""
    chosen = [frames[k * len(frames) // STARTS_PER_RUN].copy() for k in range(STARTS_PER_RUN)]
    for atoms in chosen:
        atoms.info.clear()
    return chosen
