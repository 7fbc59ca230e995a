"""`write_trajectory_report`: monitors, thermodynamics, structure and motion of the trajectory of any program."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import ase.io
import numpy as np
from ase import Atoms, units

from ase_mlcalc.analysis.observables_files import TrajectoryFile
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.files import atomic_path, make_folder, write_text
from ase_mlcalc.graph import has_volume
from ase_mlcalc.md.drift import energy_drift, fit_slope
from ase_mlcalc.md.monitors.inspect import Inspection, inspect
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.provenance import provenance
from ase_mlcalc.md.thermo import Series
from ase_mlcalc.md.velocities import degrees_of_freedom
from ase_mlcalc.report.observables import measure_reference, measure_stage
from ase_mlcalc.report.outcome import verdicts
from ase_mlcalc.report.page import NUMBERS_FILE, Page, write_page
from ase_mlcalc.report.provenance import provenance_section
from ase_mlcalc.report.run_report import numbers, sections
from ase_mlcalc.report.stage import Event, Stage
from ase_mlcalc.report.stresses import last_stresses
from ase_mlcalc.report.words import counted

Ensemble = Literal["nve", "nvt", "npt"]

_AT_REST = 1e-6
"""Square of the total momentum over the sum of squares: what rounding in files leaves."""

_EVIDENCE = 4
"""Frames before a failure that are looked at again."""


def write_trajectory_report(
    trajectory: Path | str,
    out: Path | str,
    *,
    interval_fs: float | None = None,
    temperature_K: float | None = None,
    ensemble: Ensemble | None = None,
    reference: Path | str | None = None,
) -> Path:
    """Write ``report.html``, ``report.json`` and pictures about a trajectory that was made elsewhere.

    What frames do not hold is left out: no temperature without momenta, no drift without energies.

    Parameters
    ----------
    trajectory : path
        Anything that ASE reads; frame by frame, several times.
    out : path
        Folder for the page.
    interval_fs : float, optional
        Time between frames that do not say their own (``info["time_ps"]``).
    temperature_K : float, optional
        Of the thermostat.
    ensemble : "nve", "nvt" or "npt", optional
        Only of "nve" it is known what is conserved, so that a drift can be measured.
    reference : path, optional
        A trajectory that is taken for right, for monitors and to compare structure and motion with.

    Returns
    -------
    Path
        The HTML page.

    Raises
    ------
    DataError
        A trajectory without frames, of changing atoms, or that ASE cannot read.
    ConfigError
        The folder cannot be made; an interval that is not positive.
    """
    if interval_fs is not None and not 0.0 < interval_fs < math.inf:
        raise ConfigError(f"the interval between frames has to be a positive time in fs, got {interval_fs!r}")
    frames = TrajectoryFile(trajectory)
    make_folder(Path(out))
    inspection = inspect(
        frames,
        reference=() if reference is None else list(TrajectoryFile(reference)),
        ensemble=ensemble,
        frame_interval_fs=interval_fs,
        target_K=temperature_K,
    )
    stage = _stage(frames, inspection, interval_fs, temperature_K, ensemble)
    if stage.evidence:
        with atomic_path(Path(out) / f"{stage.name}-failure.extxyz") as new:
            ase.io.write(new, list(stage.evidence), format="extxyz")
    known = None if reference is None else measure_reference(reference, interval_fs)
    observables = measure_stage([stage], known, interval_fs)
    stresses = last_stresses([stage])
    facts: dict[str, Any] = provenance().model_dump(mode="json") | {
        "trajectory": frames.path.name,
        "SHA-256": _sha256(frames.path),
        "reference": None if reference is None else Path(reference).name,
        "interval_fs": interval_fs,
        "temperature_K": temperature_K,
        "ensemble": ensemble,
        "monitors": inspection.monitors,
    }
    page = Page(
        title=frames.path.name,
        subtitle=f"Trajectory of {stage.formula}, {counted(stage.n_atoms, 'atom')}",
        verdicts=verdicts([stage]),
        sections=[*sections([stage], stresses, observables), provenance_section(facts, ())],
    )
    write_text(Path(out) / NUMBERS_FILE, numbers([stage], stresses, observables))
    return write_page(page, Path(out))


def _stage(
    frames: TrajectoryFile,
    inspection: Inspection,
    interval_fs: float | None,
    temperature_K: float | None,
    ensemble: Ensemble | None,
) -> Stage:
    first = next(iter(frames))
    freedom = degrees_of_freedom(first, all_momenta=_drifts(first))
    rows, timed = _rows(frames, interval_fs, freedom, ensemble)
    failure, failed_at = inspection.failure, inspection.failed_at
    end = None if not timed else float(rows["time_ps"][-1 if failed_at is None else failed_at])
    good = timed and ensemble == "nve" and failure is None

    def until_failure() -> Iterator[Atoms]:
        return islice(iter(frames), failed_at)

    return Stage(
        name=frames.path.stem,
        formula=first.get_chemical_formula(),
        n_atoms=len(first),
        ensemble=ensemble,
        outcome=Outcome.COMPLETED if failure is None else failure.outcome,
        detail="" if failure is None else failure.detail,
        time_ps=end,
        failed_at=None if failed_at is None else float(rows["time_ps"][failed_at]),
        planned_ps=None,
        start_ps=0.0,
        steps=None,
        timestep_fs=None,
        degrees_of_freedom=freedom,
        rows=rows,
        target_K=None if temperature_K is None else np.full(len(rows["time_ps"]), temperature_K),
        drift=energy_drift(rows["time_ps"], rows["total_eV"], len(first)) if good else None,
        heating=fit_slope(rows["time_ps"], rows["temperature_K"]) if good else None,
        frames=until_failure,
        evidence=() if failed_at is None else _evidence(frames, failed_at, interval_fs),
        events=_events(inspection),
        watched=True,
        n_frames=len(rows["time_ps"]) if failed_at is None else failed_at,
        time_axis="time / ps" if timed else "frame",
        description="" if ensemble is None else ensemble.upper(),
    )


def _rows(
    frames: TrajectoryFile, interval_fs: float | None, freedom: int, ensemble: Ensemble | None
) -> tuple[Series, bool]:
    """Columns as in ``thermo.csv``, NaN where frames hold nothing; and whether times are known."""
    measured = [_row(frame, number, interval_fs) for number, frame in enumerate(frames)]
    columns = {name: np.array([row[name] for row in measured], dtype=float) for name in measured[0]}
    timed = bool(np.isfinite(columns["time_ps"]).all())
    if not timed:
        columns["time_ps"] = columns["step"].copy()
    columns["temperature_K"] = 2.0 * columns["kinetic_eV"] / (max(freedom, 1) * units.kB)
    columns["total_eV"] = columns["potential_eV"] + columns["kinetic_eV"]
    columns["conserved_eV"] = columns["total_eV"] if ensemble == "nve" else np.full(len(measured), np.nan)
    return columns, timed


def _drifts(frame: Atoms) -> bool:
    """Whether the total momentum is not zero, as under a Langevin thermostat, so that all momenta are free."""
    momenta = frame.get_momenta()
    return float((momenta.sum(axis=0) ** 2).sum()) > _AT_REST * float((momenta**2).sum())


def _row(frame: Atoms, number: int, interval_fs: float | None) -> dict[str, float]:
    results = {} if frame.calc is None else frame.calc.results
    momenta = frame.arrays.get("momenta")
    kinetic = float(frame.get_kinetic_energy()) if momenta is not None and momenta.any() else np.nan
    volume = float(frame.get_volume()) if has_volume(frame) else np.nan
    forces, pressure = results.get("forces"), np.nan
    if "stress" in results and frame.pbc.all():
        stress = np.asarray(results["stress"], dtype=float)
        trace = float(np.trace(stress) if stress.ndim == 2 else stress[:3].sum())
        pressure = (2.0 * kinetic / (3.0 * volume) - trace / 3.0) / units.GPa
    return {
        "step": number,
        "time_ps": _time_ps(frame, number, interval_fs),
        "kinetic_eV": kinetic,
        "potential_eV": float(results.get("energy", np.nan)),
        "volume_A3": volume,
        "pressure_GPa": pressure,
        "max_force_eV_per_A": np.nan if forces is None else float(np.linalg.norm(forces, axis=1).max()),
    }


def _time_ps(frame: Atoms, number: int, interval_fs: float | None) -> float:
    known = frame.info.get("time_ps")
    if known is not None:
        return float(known)
    return np.nan if interval_fs is None else number * interval_fs / 1000.0


def _evidence(frames: TrajectoryFile, failed_at: int, interval_fs: float | None) -> Sequence[Atoms]:
    """The failing frame and a few before it, each with its time if that is known."""
    begin = max(0, failed_at - _EVIDENCE)
    around = []
    for number, frame in enumerate(islice(iter(frames), begin, failed_at + 1), start=begin):
        copy = frame.copy()
        time = _time_ps(frame, number, interval_fs)
        copy.info = {"frame": number} | ({"time_ps": time} if np.isfinite(time) else {})
        around.append(copy)
    return around


def _events(inspection: Inspection) -> Sequence[Event]:
    return tuple(
        Event(
            monitor=alarm.monitor,
            outcome=alarm.outcome,
            detail=alarm.detail,
            stops=alarm is inspection.failure,
            time_ps=alarm.moment.time_ps,
            step=alarm.moment.number,
            value=alarm.value,
            threshold=alarm.threshold,
            atoms=alarm.atoms,
        )
        for alarm in inspection.alarms
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
