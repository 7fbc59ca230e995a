"""What worker processes of a sampling do: a run, then its frames as vectors."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.errors import DataError, MLCalcError
from ase_mlcalc.files import atomic_path
from ase_mlcalc.md.frames import read_trajectory
from ase_mlcalc.md.job import run_job
from ase_mlcalc.md.kept import kept_calculator
from ase_mlcalc.md.result import RunResult, read_results
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.sampling.descriptor import StructureDescriptor
from ase_mlcalc.workers import Task

CANDIDATES_FILE = "candidates.npz"


class Wanted(NamedTuple):
    """How frames become candidates."""

    species: tuple[int, ...]
    """Atomic numbers of all elements of the sampling."""
    cutoff_A: float
    discard_ps: float

    def key(self) -> str:
        """To tell vectors of other numbers from these."""
        return json.dumps(self)


class Candidates(NamedTuple):
    """Frames of a run.  F frames."""

    features: NDArray[np.float64]
    """(F, d)."""
    frames: NDArray[np.int64]
    """(F,) their places in the trajectory."""
    energies_eV_per_atom: NDArray[np.float64]
    """(F,) of what drove the run; NaN where it has no energy."""


def run_task(job: MDJob, wanted: Wanted) -> Task:
    """To make a run, or go on with it."""
    return Task.of(make_candidates, job=job.model_dump(mode="json", exclude_unset=True), wanted=wanted._asdict())


def make_candidates(job: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Make a run and describe its frames, in a worker.

    Raises
    ------
    MLCalcError
        The run did not come to its end, for whatever reason; frames before a failure are not to be trusted.
    """
    checked = MDJob.model_validate(job)
    asked = Wanted(tuple(wanted["species"]), wanted["cutoff_A"], wanted["discard_ps"])
    folder = Path(checked.job.output)
    with kept_calculator(checked.job) as calculator:
        result = run_job(checked, progress=False, calculator=calculator)[-1]
    if not result.completed:
        raise MLCalcError(result.message)
    describe = StructureDescriptor(asked.species, asked.cutoff_A)
    found = [(describe(atoms), k, _energy(atoms)) for k, atoms in kept_frames(result, asked.discard_ps)]
    features, places, energies = zip(*found, strict=True)
    with atomic_path(folder / CANDIDATES_FILE) as part, open(part, "wb") as file:
        np.savez(
            file,
            key=np.array(asked.key()),
            features=np.array(features),
            frames=np.array(places, dtype=np.int64),
            energies=np.array(energies),
        )


def kept_frames(result: RunResult, discard_ps: float) -> Iterator[tuple[int, Atoms]]:
    """Frames of a run behind its beginning, with their places.

    Raises
    ------
    DataError
        There is none.
    """
    none = True
    for k, atoms in enumerate(read_trajectory(result.trajectory)):
        if atoms.info["time_ps"] > discard_ps - 1e-9 and k:  # the first frame is what was given
            none = False
            yield k, atoms
    if none:
        raise DataError(f"{result.trajectory} holds no frame after {discard_ps:g} ps; write frames more often")


def read_candidates(folder: Path, wanted: Wanted) -> Candidates | None:
    """What a run gave; ``None`` if it is still to be made or described."""
    try:
        with np.load(folder / CANDIDATES_FILE, allow_pickle=False) as stored:
            if str(stored["key"]) != wanted.key():
                return None
            return Candidates(stored["features"], stored["frames"], stored["energies"])
    except (OSError, ValueError, KeyError):  # not there, or damaged
        return None


def frames_of(folder: Path) -> dict[int, Atoms]:
    """All frames of a finished run by their places."""
    return dict(enumerate(read_trajectory(read_results(folder)[-1].trajectory)))


def _energy(atoms: Atoms) -> float:
    results = {} if atoms.calc is None else atoms.calc.results
    return float(results.get("energy", np.nan)) / len(atoms)
