"""What a study is told: `StudyJob`, the contents of its TOML file.

A study runs each model on each structure at each temperature and time step, once per seed.  The ``[[md]]`` stages are
those of `ase_mlcalc.md.MDConfig`; temperature, time step and seed are filled in by the study.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from ase_mlcalc.config import Section
from ase_mlcalc.md.config import JobFiles, MDConfig
from ase_mlcalc.md.engines import EngineName, why_not_torchsim
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.workers import EXECUTOR_WORDS, Executor, available_cores

FILLED_IN = {"temperature_K": "temperatures_K", "timestep_fs": "timesteps_fs", "seed": "seeds"}
"""Key of a stage to the key of a study that fills it in."""
MOST_SEEDS = 100_000
"""Also the step between the seeds of two stages, so that no two runs share the noise of a thermostat."""
FOLDER_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"


class ModelSource(Section):
    """Where the forces come from: a checkpoint, or any ASE calculator by the import path of its factory."""

    model: str | None = Field(None, description="checkpoint of the potential; or give `calculator`")
    dtype: Literal["float32", "float64"] | None = Field(None, description="precision of the model; default: as stored")
    device: str | None = Field(None, description='device of the model, "cpu" or "cuda"')
    compile: bool = Field(False, description="evaluate with code compiled for this machine, made once and kept")
    calculator: str | None = Field(None, description='any ASE calculator, "package.module:Factory"')
    calculator_arguments: dict[str, Any] = Field(default_factory=dict, description="of the calculator's factory")

    @model_validator(mode="after")
    def _one_source_of_forces(self) -> Self:
        try:
            self.files(structure="", output="")
        except ValidationError as error:  # which says what is wrong with the two of them
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
        return self

    def files(self, **run: Any) -> JobFiles:
        """The files of one run with this model; `run` has the other keys of a job."""
        return JobFiles(**(self.model_dump(exclude_unset=True) | run))


class StructureSource(Section):
    """A starting structure."""

    file: str = Field(description="any format that ASE reads")
    index: int = Field(-1, description="which structure of the file; -1 is the last")
    reference: str | None = Field(None, description="trajectory that is taken for right, for monitors and observables")


class StudyTable(Section):
    """What is varied, and where the study is written."""

    output: Path = Field(Path("study"), description="folder to write")
    models: dict[str, ModelSource] = Field(
        description="checkpoints or package.module:Factory as a list, or [study.models.NAME] tables with the keys of a "
        "job: model, dtype, device, compile, or calculator, calculator_arguments"
    )
    structures: dict[str, StructureSource] = Field(
        description='files that ASE reads as a list, "FILE@3" for the fourth structure of a file, or '
        "[study.structures.NAME] tables with file, index and reference"
    )
    temperatures_K: tuple[float, ...] = Field(
        (300.0,), description="of drawn velocities and of the thermostat, in every stage that gives none itself, K"
    )
    timesteps_fs: tuple[float, ...] = Field((0.5,), description="fs; two or more also check the dt² law")
    seeds: tuple[int, ...] = Field(
        tuple(range(8)), description="a number of seeds or a list of them; one run of each model for each"
    )
    equilibration: Literal["none", "langevin", "langevin-settle"] = Field(
        "none",
        description='stages before the first: "langevin": 1 ps with a thermostat; "langevin-settle": strong friction, '
        "then weak until the temperature is within 5 % of its target",
    )
    scans: bool = Field(True, description="also scan bonds and dimers, and see how well that predicted survival")
    engine: EngineName = Field(
        "ase",
        description='who makes the time steps: "ase", run by run; "torchsim", all runs of a process at once, which is '
        "faster for small structures of models that torch evaluates",
    )
    workers: int | None = Field(None, ge=1, description="processes side by side; default: one for each core")
    threads: int = Field(1, ge=1, description="of each process")

    @field_validator("models", mode="before")
    @classmethod
    def _models_have_names(cls, value: Any) -> Any:
        return named_models(value)

    @field_validator("structures", mode="before")
    @classmethod
    def _structures_have_names(cls, value: Any) -> Any:
        return named_structures(value)

    @field_validator("temperatures_K", "timesteps_fs", mode="before")
    @classmethod
    def _one_number_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) else value

    @field_validator("seeds", mode="before")
    @classmethod
    def _number_of_seeds(cls, value: Any) -> Any:
        return tuple(range(value)) if isinstance(value, int) else value

    @field_validator("models", "structures")
    @classmethod
    def _names_are_folder_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            raise ValueError("there is none; give at least one")
        for name in value:
            if not re.fullmatch(FOLDER_NAME, name):
                raise ValueError(
                    f"{name!r} becomes the name of a folder; use letters, digits, '_', '-', '+' and '.' "
                    "(in a table: [study.models.NAME])"
                )
        return value

    @field_validator("temperatures_K", "timesteps_fs", "seeds")
    @classmethod
    def _each_value_once(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value:
            raise ValueError("the list is empty; give at least one")
        if len(set(value)) < len(value):
            raise ValueError("a value stands there twice; the runs would be the same")
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds_in_range(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(0 <= seed < MOST_SEEDS for seed in value):
            raise ValueError(f"seeds are from 0 to {MOST_SEEDS - 1}")
        return value

    @property
    def n_workers(self) -> int:
        """Processes side by side."""
        return available_cores() if self.workers is None else self.workers


class StudyJob(Section):
    """A study: ``[study]`` and one ``[md]``, or several ``[[md]]`` stages of which the last is production.

    Survival, drift and temperatures are measured in production.  A stage before it may have a temperature and a time
    step of its own.
    """

    study: StudyTable
    md: tuple[MDConfig, ...] = Field((MDConfig(),), description="stages, run in sequence")
    executor: Executor | None = Field(None, description=EXECUTOR_WORDS)

    @field_validator("md", mode="before")
    @classmethod
    def _one_stage_is_a_list_of_one(cls, value: Any) -> Any:
        if value in ([], ()):
            raise ValueError("a study has at least one stage; leave md out for the default one")
        return (value,) if isinstance(value, dict | MDConfig) else value

    @model_validator(mode="after")
    def _every_run_is_possible(self) -> Self:
        for position, stage in enumerate(self.md):
            refused = {"seed"} if position < len(self.md) - 1 else set(FILLED_IN)
            for key in sorted(refused & stage.model_fields_set):
                raise ValueError(f"md.{position}.{key} is filled in from study.{FILLED_IN[key]}; take it out")
        for temperature in self.study.temperatures_K:
            for timestep in self.study.timesteps_fs:
                try:
                    self.stages(temperature, timestep, 0)
                except ValidationError as error:
                    problem = error.errors()[0]
                    raise ValueError(
                        f"a run at {temperature:g} K with a time step of {timestep:g} fs: "
                        f"{'.'.join(map(str, problem['loc']))} {problem['msg'].removeprefix('Value error, ')}"
                    ) from error
        if len(self.study.seeds) > 1 and self._seeds_change_nothing():
            raise ValueError(
                'all seeds would give the same run: with initial_velocities = "keep" and nve nothing is drawn; '
                "give study.seeds = [0]"
            )
        return self

    @model_validator(mode="after")
    def _the_engine_can_do_it(self) -> Self:
        if self.study.engine == "ase":
            return self
        for name, source in self.study.models.items():
            if source.model is None:
                raise ValueError(
                    f"engine = {self.study.engine!r} runs models of this package, and {name!r} is another ASE "
                    "calculator; use engine = 'ase'"
                )
        for position, stage in enumerate(self.md):
            if why := why_not_torchsim(stage):
                raise ValueError(f"md.{position}: {why}")
        return self

    def _seeds_change_nothing(self) -> bool:
        first = self.md[0]
        drawn = first.initial_velocities == "thermal" or self.study.equilibration != "none"
        return not drawn and not any(stage.driver in ("langevin", "bussi") for stage in self.md)

    def stages(self, temperature_K: float, timestep_fs: float, seed: int) -> tuple[MDConfig, ...]:
        """The stages of one run, with what the study fills in.

        A stage that gives its own temperature or time step keeps it.
        """
        filled = []
        for position, stage in enumerate(self.md):
            given = {"temperature_K": temperature_K, "timestep_fs": timestep_fs} | stage.model_dump(exclude_unset=True)
            filled.append(MDConfig.model_validate(given | {"seed": seed + MOST_SEEDS * position}))
        return tuple(filled)

    def run_job(
        self, model: str, structure: str, temperature_K: float, timestep_fs: float, seed: int, output: Path
    ) -> MDJob:
        """The job of one run."""
        source = self.study.structures[structure]
        files = self.study.models[model].files(
            structure=source.file,
            index=source.index,
            reference=source.reference,
            equilibration=self.study.equilibration,
            output=str(output),
        )
        return MDJob(job=files, md=self.stages(temperature_K, timestep_fs, seed))

    @property
    def production(self) -> MDConfig:
        """The stage that is judged; its temperature, time step and seed are not filled in."""
        return self.md[-1]


def named_models(value: Any) -> Any:
    """Checkpoints and import paths, in a list, as tables with names; what is no list of such stays as it is."""
    entries = _named(value, _stem_of_model)
    return {name: _source_of(entry) for name, entry in entries.items()} if isinstance(entries, dict) else entries


def named_structures(value: Any) -> Any:
    """Files, in a list, as tables with names; what is no list of such stays as it is."""
    entries = _named(value, structure_name)
    return {name: _structure_of(entry) for name, entry in entries.items()} if isinstance(entries, dict) else entries


def _named(value: Any, stem: Callable[[str, int], str]) -> Any:
    """A list as a dictionary, named by what tells its entries apart."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
        return value
    twice = [entry for entry, count in Counter(value).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice")
    short = [stem(entry, 0) for entry in value]
    names = [name if short.count(name) == 1 else stem(entry, 1) for name, entry in zip(short, value, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError(f"the entries cannot be told apart by their names ({', '.join(names)}); give them as a table")
    return dict(zip(names, value, strict=True))


def _stem_of_model(entry: str, folders: int) -> str:
    """``mace`` of ``models/mace.safetensors``, ``EMT`` of ``ase.calculators.emt:EMT``; longer with its folder."""
    if _is_import_path(entry):
        module, _, factory = entry.partition(":")
        return factory if not folders else f"{module}.{factory}"
    path = Path(entry)
    return "-".join((*path.parts[-1 - folders : -1], path.stem))


def structure_name(entry: str, folders: int = 0) -> str:
    """``water`` of ``data/water.extxyz@3``; with its folder and its index where that is needed."""
    file, index = split_index(entry)
    path = Path(file)
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    parent = path.parts[-2:-1] if folders else ()
    number = () if index is None else (str(index),)
    return "-".join((*parent, stem, *(number if folders else ())))


def _source_of(entry: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    return {"calculator": entry} if _is_import_path(entry) else {"model": entry}


def _structure_of(entry: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    file, index = split_index(entry)
    return {"file": file} if index is None else {"file": file, "index": index}


def _is_import_path(entry: str) -> bool:
    return ":" in entry and not Path(entry).exists()


def split_index(entry: str) -> tuple[str, int | None]:
    """``("water.extxyz", 3)`` of ``water.extxyz@3``."""
    file, separator, index = entry.rpartition("@")
    if separator and index.lstrip("-").isdigit() and not Path(entry).exists():
        return file, int(index)
    return entry, None
