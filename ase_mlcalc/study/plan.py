"""Which runs a study consists of, and where each is written."""

from pathlib import Path
from typing import NamedTuple

from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.study.config import StudyJob

RUNS = "runs"


class PlannedRun(NamedTuple):
    """One run of a study: what tells it from the others, and its job."""

    model: str
    structure: str
    temperature_K: float
    timestep_fs: float
    seed: int
    folder: str
    """Relative to the folder of the study."""
    job: MDJob

    @property
    def production(self) -> str:
        """Name of the stage that is judged."""
        return self.job.stages()[-1][0]

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for _, stage in self.job.stages())


def plan(job: StudyJob) -> list[PlannedRun]:
    """All runs of a study in the order in which they are made.

    Seeds come last among what is varied: after a part of the runs, each group has as many of them as any other, so
    that a study can be looked at while it goes on.
    """
    table = job.study
    runs = []
    for seed in table.seeds:
        for model in table.models:
            for structure in table.structures:
                for temperature in table.temperatures_K:
                    for timestep in table.timesteps_fs:
                        folder = f"{RUNS}/{model}/{structure}/{temperature:g}K_{timestep:g}fs/seed{seed}"
                        run = job.run_job(model, structure, temperature, timestep, seed, table.output / Path(folder))
                        runs.append(PlannedRun(model, structure, temperature, timestep, seed, folder, run))
    return runs
