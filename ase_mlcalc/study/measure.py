"""What one run of a study says, from the files in its folder."""

from pathlib import Path

import numpy as np

from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.result import UNFINISHED, RunResult, read_results
from ase_mlcalc.md.thermo import THERMO_FILE, Series, read_thermo
from ase_mlcalc.study.averages import Estimate, fluctuation, kinetic_variance_ratio, mean_of
from ase_mlcalc.study.plan import PlannedRun
from ase_mlcalc.study.summary import RunSummary, Status

ERROR_FILE = "error.txt"
"""In the folder of a run that could not be made: why."""
SETTLING = 0.2
"""Share of production that temperatures leave out at its start, where a run without equilibration is not at rest."""


def measure_run(run: PlannedRun, study: Path) -> RunSummary:
    """Summarise one run, finished or not."""
    folder = study / run.folder
    result = latest_stage(run, folder)
    error = read_error(folder)
    production = run.job.md[-1]
    known = {
        "model": run.model,
        "structure": run.structure,
        "temperature_K": run.temperature_K,
        "timestep_fs": run.timestep_fs,
        "seed": run.seed,
        "folder": run.folder,
        "planned_ps": production.steps * production.timestep_fs / 1000.0,
        "ensemble": production.ensemble,
        "status": _status(run, result, error),
        "error": error,
    }
    if result is None:
        return RunSummary(**known)
    in_production = result.name == run.production
    rows = _rows(folder, run.production) if in_production else None
    return RunSummary(
        **known,
        outcome=result.outcome.name,
        stage=result.name,
        time_ps=_time_ps(result, rows) if in_production else 0.0,
        monitor=_monitor(result),
        detail=result.detail,
        notes=result.notes,
        n_atoms=result.n_atoms,
        formula=result.formula,
        ms_per_step=result.ms_per_step,
        ns_per_day=result.ns_per_day,
        **(_measured(result, rows) if rows is not None and in_production and result.completed else {}),
    )


def latest_stage(run: PlannedRun, folder: Path) -> RunResult | None:
    """The stage that a run ended in or is at, or ``None`` if it has not started."""
    by_name = {result.name: result for result in read_results(folder)}
    latest = None
    for name, _ in run.job.stages():
        if name not in by_name:
            break
        latest = by_name[name]
        if not latest.completed:
            break
    return latest


def is_over(run: PlannedRun, folder: Path) -> bool:
    """Nothing is left to be done: production completed, or something went wrong with the potential."""
    result = latest_stage(run, folder)
    if result is None or result.outcome in UNFINISHED:
        return False
    return not result.completed or _is_whole(run, result)


def _is_whole(run: PlannedRun, result: RunResult) -> bool:
    """Production, and as long as it is to be."""
    return result.name == run.production and result.config.steps >= run.job.md[-1].steps


def read_error(folder: Path) -> str | None:
    """Why a run could not be made, if that happened when it was last tried."""
    path = folder / ERROR_FILE
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def _status(run: PlannedRun, result: RunResult | None, error: str | None) -> Status:
    if error is not None:
        return "error"
    if result is None:
        return "waiting"
    if result.completed:
        return "stable" if _is_whole(run, result) else "unfinished"
    return "unfinished" if result.outcome in UNFINISHED else "failed"


def _rows(folder: Path, stage: str) -> Series | None:
    path = folder / THERMO_FILE
    return read_thermo(path).get(stage) if path.exists() else None


def _time_ps(result: RunResult, rows: Series | None) -> float:
    """Time survived; of a run that was killed, that of its last row."""
    if result.outcome is Outcome.RUNNING and rows is not None:
        return float(rows["time_ps"][-1])
    return result.time_ps


def _monitor(result: RunResult) -> str | None:
    """The monitor that stopped a run."""
    if result.completed or result.outcome in UNFINISHED:
        return None
    return next((event.monitor for event in result.events if event.stops), None)


def _measured(result: RunResult, rows: Series) -> dict[str, float | None]:
    """Numbers of a production stage that came to its end."""
    config = result.config
    settled = slice(int(SETTLING * len(rows["time_ps"])), None)
    drift, heating = result.drift, result.heating
    conserved = 1000.0 * rows["conserved_eV"] / result.n_atoms
    rms = fluctuation(rows["time_ps"], conserved)
    temperatures = rows["temperature_K"][settled]
    mean = mean_of(temperatures)
    variance: Estimate | None = None
    if config.ensemble != "nve" and config.temperature_end_K is None:
        variance = kinetic_variance_ratio(temperatures, config.temperature_K, result.degrees_of_freedom)
    return {
        "drift_meV_per_atom_per_ps": None if drift is None else drift.slope,
        "drift_stderr": None if drift is None else drift.stderr,
        "heating_K_per_ps": None if heating is None else heating.slope,
        "heating_stderr": None if heating is None else heating.stderr,
        "fluctuation_meV_per_atom": None if rms is None else rms.value,
        "fluctuation_stderr": None if rms is None else rms.stderr,
        "temperature_mean_K": _mean(temperatures) if mean is None else mean.value,
        "temperature_stderr_K": None if mean is None else mean.stderr,
        "kinetic_variance_ratio": None if variance is None else variance.value,
        "kinetic_variance_stderr": None if variance is None else variance.stderr,
    }


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
