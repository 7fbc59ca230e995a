"""What the committee thinks of the frames that it met: how unsure it is about each, and what each is like.

Runs are assessed in worker processes, each once.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.active.files import read_written
from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.files import atomic_path
from ase_mlcalc.md.config import JobFiles
from ase_mlcalc.md.frames import read_trajectory
from ase_mlcalc.md.kept import kept_calculator
from ase_mlcalc.md.monitors import Setting, Snapshot
from ase_mlcalc.md.monitors.config import DistancesConfig
from ase_mlcalc.md.monitors.distances import Distances
from ase_mlcalc.sampling.descriptor import StructureDescriptor
from ase_mlcalc.study.measure import latest_stage
from ase_mlcalc.study.plan import PlannedRun
from ase_mlcalc.workers import Task

ASSESSED_FILE = "assessed.npz"
CUTOFF_A = 5.0
"""How far atoms see in the comparison of structures."""


class Assessed(NamedTuple):
    """The frames of a run, of the stage in which it ended.  F frames."""

    features: NDArray[np.float64]
    """(F, d) vectors of a `StructureDescriptor`."""
    uncertainty_eV_per_A: NDArray[np.float64]
    """(F,) largest expected force error of an atom; NaN where the committee could not tell."""
    atom: NDArray[np.int64]
    """(F,) which atom that is."""
    step: NDArray[np.int64]
    time_ps: NDArray[np.float64]
    at_stop: NDArray[np.bool_]
    """(F,) of the frames that were kept around the end of a run that failed, not of the trajectory."""
    place: NDArray[np.int64]
    """(F,) where the frame stands in its file."""
    unphysical: NDArray[np.str_]
    """(F,) why the frame cannot be labelled; empty if it can."""


class _Row(NamedTuple):
    """One frame; see `Assessed`."""

    features: NDArray[np.float64] | None
    uncertainty: float
    atom: int
    step: int
    time_ps: float
    at_stop: bool
    place: int
    unphysical: str


class RunFiles(NamedTuple):
    """Where the frames of a run are."""

    folder: str
    stage: str

    @property
    def trajectory(self) -> Path:
        """Frames of the stage in which it ended."""
        return Path(self.folder) / f"{self.stage}.traj"

    @property
    def evidence(self) -> Path:
        """Frames around its failure; no such file where it did not fail."""
        return Path(self.folder) / f"{self.stage}-failure.extxyz"


def run_files(run: PlannedRun, study: Path) -> RunFiles | None:
    """The files of the stage in which a run ended; ``None`` if it never began."""
    folder = study / run.folder
    result = latest_stage(run, folder)
    return None if result is None else RunFiles(str(folder), result.name)


def assess_task(run: PlannedRun, files: RunFiles, species: tuple[int, ...]) -> Task:
    """To assess a run."""
    return Task.of(
        assess,
        job=run.job.job.model_dump(mode="json", exclude_unset=True),
        files=files._asdict(),
        species=species,
        distances=run.job.md[-1].monitors.distances.model_dump(mode="json"),
    )


def assess(job: dict[str, Any], files: dict[str, str], species: list[int], distances: dict[str, Any]) -> None:
    """Assess the frames of a run, in a worker."""
    run = RunFiles(**files)
    describe = StructureDescriptor(species, CUTOFF_A)
    rows: list[_Row] = []
    with kept_calculator(JobFiles.model_validate(job)) as calculator:
        too_close: Distances | None = None
        for atoms, place, at_stop in frames_of(run):
            if too_close is None:
                setting = Setting(atoms.copy(), (), "nvt", 0)
                too_close = Distances(DistancesConfig.model_validate(distances), setting)
            why = _unphysical(atoms, too_close)
            uncertainty, atom, features = np.nan, -1, None
            if not why:
                try:
                    uncertainty, atom = _most_uncertain(atoms, calculator)
                    features = describe(atoms)
                except MLCalcError as error:
                    why = f"the committee cannot evaluate it: {error}"
            moment = int(atoms.info["step"]), float(atoms.info["time_ps"])
            rows.append(_Row(features, uncertainty, atom, *moment, at_stop, place, why))
    _write(run, rows)


def frames_of(run: RunFiles) -> Iterator[tuple[Atoms, int, bool]]:
    """Frames with their place in their file, and whether that is the one around a failure; none twice.

    The frames around a failure count where both files have one.
    """
    around = read_written(run.evidence)
    steps = {int(atoms.info["step"]) for atoms in around}
    for place, atoms in enumerate(read_trajectory(run.trajectory)):
        if int(atoms.info["step"]) not in steps:
            yield atoms, place, False
    for place, atoms in enumerate(around):
        yield atoms, place, True


def read_assessed(run: RunFiles) -> Assessed | None:
    """What was found about a run; ``None`` if it is still to be assessed."""
    try:
        with np.load(Path(run.folder) / ASSESSED_FILE, allow_pickle=False) as stored:
            return Assessed(**{name: stored[name] for name in Assessed._fields})
    except (OSError, ValueError, KeyError):  # not there, or damaged
        return None


def _unphysical(atoms: Atoms, too_close: Distances) -> str:
    """Why nobody should calculate a structure; "" if nothing speaks against it."""
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        return "positions or the cell are not finite"
    finding = too_close.look(Snapshot(atoms, number=0))
    return "" if finding is None else finding.detail


def _most_uncertain(atoms: Atoms, calculator: Any) -> tuple[float, int]:
    """The largest expected force error, and whose it is; calibrated where the committee is, as its monitor has it."""
    bare = atoms.copy()
    bare.calc = calculator
    bare.get_forces()
    expected = calculator.extras.get("forces_uncertainty", calculator.extras["forces_spread"])
    atom = int(np.argmax(expected))
    return float(expected[atom]), atom


def _write(run: RunFiles, rows: Sequence[_Row]) -> None:
    size = next((len(row.features) for row in rows if row.features is not None), 0)
    features = [np.full(size, np.nan) if row.features is None else row.features for row in rows]
    found = Assessed(
        features=np.array(features, dtype=np.float64).reshape(len(rows), size),
        uncertainty_eV_per_A=np.array([row.uncertainty for row in rows], dtype=np.float64),
        atom=np.array([row.atom for row in rows], dtype=np.int64),
        step=np.array([row.step for row in rows], dtype=np.int64),
        time_ps=np.array([row.time_ps for row in rows], dtype=np.float64),
        at_stop=np.array([row.at_stop for row in rows], dtype=np.bool_),
        place=np.array([row.place for row in rows], dtype=np.int64),
        unphysical=np.array([row.unphysical for row in rows], dtype=np.str_),
    )
    arrays: dict[str, Any] = found._asdict()
    with atomic_path(Path(run.folder) / ASSESSED_FILE) as part, open(part, "wb") as file:
        np.savez(file, **arrays)
