"""`Stage`: a stretch of molecular dynamics as a page shows it, from a run of this package or from any trajectory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.errors import DataError
from ase_mlcalc.md.drift import Slope
from ase_mlcalc.md.frames import read_trajectory
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.result import UNFINISHED, RunResult, read_results
from ase_mlcalc.md.thermo import THERMO_FILE, Series, read_thermo

Array = NDArray[np.float64]


class Event(NamedTuple):
    """What a monitor found."""

    monitor: str
    outcome: Outcome
    detail: str
    stops: bool
    """It ended the run, or would have."""
    time_ps: float | None = None
    """Within the stage."""
    step: int | None = None
    value: float | None = None
    threshold: float | None = None
    atoms: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A stretch of molecular dynamics; ``None`` for what is not known."""

    name: str
    formula: str
    n_atoms: int
    ensemble: Literal["nve", "nvt", "npt"] | None
    outcome: Outcome
    detail: str
    time_ps: float | None
    """How far it came."""
    planned_ps: float | None
    start_ps: float
    """Where it begins on the time axis of all stages."""
    steps: int | None
    timestep_fs: float | None
    degrees_of_freedom: int | None
    rows: Series | None
    """Columns of ``thermo.csv``."""
    target_K: Array | None
    """Temperature of the thermostat at each row; ``None`` at constant energy."""
    drift: Slope | None
    """Of the conserved energy, meV/atom/ps."""
    heating: Slope | None
    """Of the temperature at constant energy, K/ps."""
    frames: Callable[[], Iterator[Atoms]]
    """Reads the frames, from the first one, each time it is called."""
    evidence: Sequence[Atoms] = ()
    """Frames around a failure, the failing one last."""
    events: Sequence[Event] = ()
    notes: Sequence[str] = ()
    """Doubts about what was asked for."""
    watched: bool = False
    """Whether monitors looked at it."""
    n_frames: int | None = None
    """Of a trajectory that was made elsewhere."""
    failed_at: float | None = None
    """Where on the axis of the rows it failed."""
    time_axis: str = "time / ps"
    """What the column ``time_ps`` of the rows is: frames of a trajectory may not know their time."""
    description: str = ""
    """Ensemble and integrator in words."""
    stress_definition: str | None = None
    calculator: str | None = None
    ms_per_step: float | None = None
    ns_per_day: float | None = None
    result: RunResult | None = field(default=None, repr=False)

    @property
    def failed(self) -> bool:
        """It came to an end that speaks against the potential or its use."""
        return self.outcome not in UNFINISHED and self.outcome is not Outcome.COMPLETED

    def column(self, name: str) -> Array | None:
        """A column of the rows; ``None`` if it is absent or empty."""
        values = None if self.rows is None else self.rows.get(name)
        return values if values is not None and np.isfinite(values).any() else None

    @property
    def end_ps(self) -> float:
        """Where it ends on the time axis of all stages, the rows after a failure included."""
        rows = self.rows["time_ps"] if self.rows is not None else np.zeros(0)
        return self.start_ps + max(self.time_ps or 0.0, float(rows[-1]) if len(rows) else 0.0)

    @property
    def conserved_eV(self) -> Array | None:
        """What the equations of motion conserve; the total energy at constant energy."""
        found = self.column("conserved_eV")
        return self.column("total_eV") if found is None and self.ensemble == "nve" else found

    @property
    def constant_target_K(self) -> float | None:
        """Temperature of the thermostat; ``None`` without one, and in a ramp."""
        if self.target_K is None or not len(self.target_K) or np.ptp(self.target_K) > 0:
            return None
        return float(self.target_K[0])


def stages_of_run(folder: Path) -> list[Stage]:
    """The stages of a run folder in order, on one time axis; one that is at work or was killed as far as it came.

    Raises
    ------
    DataError
        The folder holds no run, or its files are damaged.
    """
    results = read_results(folder)
    if not results:
        raise DataError(f"no result.json in {folder}, so it holds no run; give the folder that a run was written to")
    thermo = read_thermo(folder / THERMO_FILE)
    stages: list[Stage] = []
    start = 0.0
    for result in results:
        stage = _of_result(result, thermo.get(result.name), start)
        stages.append(stage)
        start += stage.time_ps or 0.0
    return stages


def _of_result(result: RunResult, rows: Series | None, start_ps: float) -> Stage:
    config = result.config
    steps, time_ps = result.steps_done, result.time_ps
    if result.outcome is Outcome.RUNNING and rows is not None:
        # it wrote no numbers of its own yet
        steps, time_ps = int(rows["step"][-1]), float(rows["time_ps"][-1])
    targets = None
    if rows is not None and config.ensemble != "nve":
        targets = np.array([config.target_K(int(step)) for step in rows["step"]], dtype=float)
    return Stage(
        name=result.name,
        formula=result.formula,
        n_atoms=result.n_atoms,
        ensemble=config.ensemble,
        outcome=result.outcome,
        detail=result.detail,
        time_ps=time_ps,
        planned_ps=config.steps * config.timestep_fs / 1000.0,
        start_ps=start_ps,
        steps=steps,
        timestep_fs=config.timestep_fs,
        degrees_of_freedom=result.degrees_of_freedom,
        rows=rows,
        target_K=targets,
        drift=result.drift,
        heating=result.heating,
        frames=lambda: read_trajectory(result.trajectory),
        evidence=evidence_of(result),
        events=events_of(result),
        notes=result.notes,
        watched=config.monitors_every_fs > 0,
        failed_at=time_ps,
        description=_description(result),
        stress_definition=result.stress_definition,
        calculator=result.calculator,
        ms_per_step=result.ms_per_step,
        ns_per_day=result.ns_per_day,
        result=result,
    )


def evidence_of(result: RunResult) -> Sequence[Atoms]:
    """Frames around the failure of a stage, the failing one last; none if it did not fail."""
    path = result.folder / f"{result.name}-failure.extxyz"
    if not path.exists():
        return ()
    try:
        return list(ase.io.iread(path, index=":", format="extxyz"))
    except Exception:  # noqa: BLE001  # a file cut short raises whatever its last line suggests
        return ()


def events_of(result: RunResult) -> Sequence[Event]:
    """What monitors found in a stage."""
    return tuple(
        Event(
            monitor=event.monitor,
            outcome=event.outcome,
            detail=event.detail,
            stops=event.stops,
            time_ps=event.time_ps,
            step=event.step,
            value=event.value,
            threshold=event.threshold,
            atoms=event.atoms,
        )
        for event in result.events
    )


def _description(result: RunResult) -> str:
    config = result.config
    if config.ensemble == "nve":
        return "NVE, velocity Verlet"
    if config.ensemble == "npt":
        return f"NPT, Martyna-Tobias-Klein, {config.pressure_GPa:g} GPa"
    if config.thermostat == "langevin":
        return f"NVT, Langevin {config.friction_per_ps:g}/ps"
    name = {"bussi": "Bussi", "nose-hoover": "Nosé-Hoover chain"}[config.thermostat]
    return f"NVT, {name} {config.thermostat_time_fs:g} fs"
