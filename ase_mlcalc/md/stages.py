"""`MDJob`: a job file, and the stages that it comes down to."""

from typing import Any

from pydantic import Field, field_validator

from ase_mlcalc.config import Section
from ase_mlcalc.md.config import JobFiles, MDConfig
from ase_mlcalc.md.protocols import EQUILIBRATIONS

EQUILIBRATION_SEEDS = 1_000_000
"""Seeds of stages that prepare, above that of the production: no noise is used twice."""


class MDJob(Section):
    """A job file: ``[job]`` and one ``[md]``, or several ``[[md]]`` stages that continue one another.

    A stage after the first keeps the velocities and takes the next seed, unless it says otherwise.
    """

    job: JobFiles
    md: tuple[MDConfig, ...] = Field((MDConfig(),), description="stages, run in sequence")

    @field_validator("md", mode="before")
    @classmethod
    def _one_stage_is_a_list_of_one(cls, value: Any) -> Any:
        if value in ([], ()):
            raise ValueError("a job has at least one stage; leave md out for the default one")
        return (value,) if isinstance(value, dict | MDConfig) else value

    def stages(self) -> list[tuple[str, MDConfig]]:
        """Names and configurations in order; names are the ensembles, numbered where they repeat."""
        before = () if self.job.equilibration == "none" else EQUILIBRATIONS[self.job.equilibration](self.md[0])
        kinds = ["equilibration"] * len(before) + [stage.ensemble for stage in self.md]
        named: list[tuple[str, MDConfig]] = []
        for position, (kind, stage) in enumerate(zip(kinds, (*before, *self.md), strict=True)):
            prepares = position < len(before)
            given = set() if prepares else stage.model_fields_set
            changes: dict[str, Any] = {}
            if position and "initial_velocities" not in given:
                changes["initial_velocities"] = "keep"
            if prepares:
                changes["seed"] = self.md[0].seed + EQUILIBRATION_SEEDS + position
            elif position and "seed" not in given:
                changes["seed"] = self.md[0].seed + position
            repeats = kinds[:position].count(kind)
            named.append((f"{kind}-{repeats + 1}" if repeats else kind, stage.model_copy(update=changes)))
        return named
