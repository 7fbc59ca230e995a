"""Which runs a sampling consists of, and the structures that they start from."""

from pathlib import Path
from typing import NamedTuple

import ase.io
from ase import Atoms

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.files import atomic_path
from ase_mlcalc.labelling.structures import bare
from ase_mlcalc.md.job import read_structure
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.sampling.config import SampleJob

STARTS, RUNS = "starts", "runs"


class PlannedRun(NamedTuple):
    """One run: what tells it from the others, and its job."""

    structure: str
    temperature_K: float
    density: float
    seed: int
    name: str
    """Its folder, relative to that of all runs."""
    job: MDJob

    @property
    def steps(self) -> int:
        """How long it is."""
        return self.job.md[0].steps


def plan(job: SampleJob, structures: dict[str, Atoms]) -> list[PlannedRun]:
    """All runs in the order in which they are made; seeds come last among what is varied."""
    table = job.sample
    return [
        _planned(job, structure, temperature, density, seed)
        for seed in table.seeds
        for structure in structures
        for temperature in table.temperatures_K
        for density in table.densities
    ]


def _planned(job: SampleJob, structure: str, temperature_K: float, density: float, seed: int) -> PlannedRun:
    folder = job.sample.output
    name = f"{structure}/{temperature_K:g}K_{density:g}/seed{seed}"
    files = job.forces.files(structure=str(_start(folder, structure, density)), output=str(folder / RUNS / Path(name)))
    run = MDJob(job=files, md=(job.stage(temperature_K, seed),))
    return PlannedRun(structure, temperature_K, density, seed, name, run)


def read_starts(job: SampleJob) -> dict[str, Atoms]:
    """The starting structures by name.

    Raises
    ------
    DataError
        One that cannot be read.
    ConfigError
        Another density of a structure that has none.
    """
    found = {}
    for name, source in job.sample.structures.items():
        found[name] = bare(read_structure(job.forces.files(structure=source.file, index=source.index)))
        if job.sample.densities != (1.0,) and not (found[name].pbc.all() and found[name].cell.rank == 3):
            raise ConfigError(
                f"sample.densities = {list(job.sample.densities)} needs structures that are periodic in three "
                f"directions, and {source.file} is not; give [1.0]"
            )
    return found


def write_starts(job: SampleJob, structures: dict[str, Atoms]) -> None:
    """Write each structure at each density, where the runs read it."""
    for name, atoms in structures.items():
        for density in job.sample.densities:
            path = _start(job.sample.output, name, density)
            if path.exists():
                continue
            scaled = atoms.copy()
            if density != 1.0:
                scaled.set_cell(atoms.cell * density ** (-1.0 / 3.0), scale_atoms=True)
            with atomic_path(path) as part:
                ase.io.write(part, scaled, format="traj")


def _start(folder: Path, structure: str, density: float) -> Path:
    return folder / STARTS / f"{structure}_{density:g}.traj"
