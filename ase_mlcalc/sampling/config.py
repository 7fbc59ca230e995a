"""What sampling is told: `SampleJob`, the contents of its TOML file."""

import re
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from ase_mlcalc.config import Section
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.study.config import FOLDER_NAME, ModelSource, StructureSource, named_structures
from ase_mlcalc.workers import EXECUTOR_WORDS, Executor, available_cores

FILLED_IN = {"temperature_K": "temperatures_K", "seed": "seeds"}
"""Key of the molecular dynamics to the key of the sampling that fills it in."""


class SampleTable(Section):
    """What is varied, how much of it is kept, and where it is written."""

    output: Path = Field(Path("sample"), description="folder to write; the structures are in sample.extxyz")
    structures: dict[str, StructureSource] = Field(
        description='files that ASE reads as a list, "FILE@3" for the fourth structure of a file, or '
        "[sample.structures.NAME] tables with file and index"
    )
    temperatures_K: tuple[float, ...] = Field((300.0, 450.0, 600.0), description="of the thermostat, K")
    densities: tuple[float, ...] = Field(
        (1.0,), description="relative to that of the structure: cell and positions are scaled by density^(-1/3)"
    )
    seeds: tuple[int, ...] = Field((0,), description="a number of runs at each temperature and density, or seeds")
    discard_ps: float = Field(0.5, ge=0, description="of each run, until it has forgotten where it started, ps")
    n_structures: int = Field(200, ge=1, description="how many to choose of all frames")
    cutoff_A: float = Field(5.0, gt=0, description="how far atoms see in the comparison of structures, Å")
    workers: int | None = Field(None, ge=1, description="processes side by side; default: one for each core")
    threads: int = Field(1, ge=1, description="of each process")

    @field_validator("structures", mode="before")
    @classmethod
    def _structures_have_names(cls, value: Any) -> Any:
        return named_structures(value)

    @field_validator("temperatures_K", "densities", mode="before")
    @classmethod
    def _one_number_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) else value

    @field_validator("seeds", mode="before")
    @classmethod
    def _number_of_seeds(cls, value: Any) -> Any:
        return tuple(range(value)) if isinstance(value, int) else value

    @field_validator("structures", "temperatures_K", "densities", "seeds")
    @classmethod
    def _something_and_nothing_twice(cls, value: Any) -> Any:
        if not value:
            raise ValueError("the list is empty; give at least one")
        if len(set(value)) < len(value):
            raise ValueError("a value stands there twice; the runs would be the same")
        return value

    @field_validator("structures")
    @classmethod
    def _names_are_folder_names(cls, value: dict[str, StructureSource]) -> dict[str, StructureSource]:
        for name in value:
            if not re.fullmatch(FOLDER_NAME, name):
                raise ValueError(f"{name!r} becomes the name of a folder; use letters, digits, '_', '-', '+' and '.'")
        return value

    @field_validator("densities")
    @classmethod
    def _plausible_densities(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0.2 <= density <= 5.0 for density in value):
            raise ValueError("densities are relative to that of the structure, 0.95 or 1.05; from 0.2 to 5")
        return value

    @property
    def n_workers(self) -> int:
        """Processes side by side."""
        return available_cores() if self.workers is None else self.workers


class SampleJob(Section):
    """A sampling: ``[sample]``, ``[forces]`` and ``[md]``."""

    sample: SampleTable
    forces: ModelSource = Field(
        description="what drives the dynamics: the reference itself, a cheaper method, or a potential"
    )
    md: MDConfig = MDConfig()
    executor: Executor | None = Field(None, description=EXECUTOR_WORDS)

    @model_validator(mode="after")
    def _every_run_is_possible(self) -> Self:
        for key in sorted(set(FILLED_IN) & self.md.model_fields_set):
            raise ValueError(f"md.{key} is filled in from sample.{FILLED_IN[key]}; take it out")
        for temperature in self.sample.temperatures_K:
            try:
                self.stage(temperature, 0)
            except ValidationError as error:
                problem = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"a run at {temperature:g} K: {problem}") from error
        if self.md.ensemble == "npt" and self.sample.densities != (1.0,):
            raise ValueError('sample.densities are those of runs at constant volume, and md.ensemble is "npt"')
        if self.sample.discard_ps >= self.md.time_ps:
            raise ValueError(
                f"sample.discard_ps = {self.sample.discard_ps:g} leaves nothing of md.time_ps = {self.md.time_ps:g}"
            )
        return self

    def stage(self, temperature_K: float, seed: int) -> MDConfig:
        """The dynamics of one run."""
        filled = {"temperature_K": temperature_K, "seed": seed}
        return MDConfig.model_validate(self.md.model_dump(exclude_unset=True) | filled)
