"""What active learning is told: `LearnJob`, the contents of its TOML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from ase_mlcalc.config import Section
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.model import Solvable, registered
from ase_mlcalc.study.config import MOST_SEEDS, StructureSource, StudyJob, named_structures
from ase_mlcalc.training.config import FROM_OTHER_WEIGHTS, TrainConfig, TrainJob
from ase_mlcalc.workers import EXECUTOR_WORDS, Executor, available_cores

TEST_FILE = "test.extxyz"
"""In the folder of the learning: the test structures."""
COMMITTEE = "committee"
"""Name of the only model of a round's study."""
FIRST_SHARE = 1 / 16
"""Of the full length, that of the runs of the first round."""


class ReferenceTable(Section):
    """What gives the labels."""

    calculator: str = Field(description='any ASE calculator, "package.module:Factory", or a checkpoint')
    calculator_arguments: dict[str, Any] = Field(default_factory=dict, description="of the calculator's factory")
    level_of_theory: str | None = Field(None, description="in words; default: method, program and its version")
    timeout_s: float | None = Field(None, gt=0, description="longest that the calculation of one structure may take, s")


class LearnTable(Section):
    """Where learning starts, when a structure is worth a label, and how much may be spent."""

    output: Path = Field(Path("learn"), description="folder to write; the committee is model.safetensors in it")
    start: tuple[Path, ...] = Field((), description="files of structures that the reference labels first")
    labelled: tuple[Path, ...] = Field((), description="files with labels of the reference, used as they are")
    test: tuple[Path, ...] = Field((), description="files with labels of the reference, to measure each round")
    rounds: int = Field(10, ge=1, description="most rounds; may be raised later")
    labels_per_round: int = Field(20, ge=1, description="most structures that a round asks the reference for")
    max_labels: int = Field(
        500, ge=1, description="most reference calculations in all, failed ones included; may be raised later"
    )
    threshold_eV_per_A: float | None = Field(
        None, gt=0, description="expected force error of an atom above which a structure is worth a label; default: "
        "three times the rms error on validation structures"
    )  # fmt: skip
    stop_eV_per_A: float | None = Field(
        None, gt=0, description="expected force error at which a run is stopped; default: three times the threshold, "
        "at least half of the root mean square force of an atom, and 0.5"
    )  # fmt: skip
    uncertain_percent: float = Field(
        10.0, ge=0, le=100, description="of the frames of a study without failures, how many may pass the threshold at "
        "the end of learning"
    )  # fmt: skip
    first_ps: float | None = Field(
        None, gt=0, description="length of the runs of the first round, ps; four times as long whenever all of them "
        "survive, up to md.time_ps; default: a sixteenth of it"
    )  # fmt: skip
    workers: int | None = Field(None, ge=1, description="processes side by side; default: one for each core")
    threads: int = Field(1, ge=1, description="of each process")
    reference: ReferenceTable = Field(description="what gives the labels")

    @field_validator("start", "labelled", "test", mode="before")
    @classmethod
    def _one_or_more(cls, paths: Any) -> Any:
        return [paths] if isinstance(paths, str | Path) else paths

    @model_validator(mode="after")
    def _can_begin(self) -> Self:
        if not (self.start or self.labelled):
            raise ValueError("nothing to start from; give start (structures to be labelled), labelled, or both")
        if self.threshold_eV_per_A and self.stop_eV_per_A and self.stop_eV_per_A <= self.threshold_eV_per_A:
            raise ValueError(
                f"stop_eV_per_A = {self.stop_eV_per_A:g} is not above threshold_eV_per_A = "
                f"{self.threshold_eV_per_A:g}, and between them lies what is labelled"
            )
        return self

    @property
    def n_workers(self) -> int:
        """Processes side by side."""
        return available_cores() if self.workers is None else self.workers


class CommitteeTraining(TrainConfig):
    """How the committee is trained in each round."""

    members: int = Field(4, ge=2, description="potentials of the committee")


class ExplorationTable(Section):
    """The runs that the committee makes in each round, with the keys of a study."""

    structures: dict[str, StructureSource] | None = Field(
        None, description='where runs start, as in a study: files, "FILE@3", or tables; default: the start structures, '
        "and of more than 8 those that differ most"
    )  # fmt: skip
    temperatures_K: tuple[float, ...] = Field((300.0,), description="of drawn velocities and of the thermostat, K")
    timesteps_fs: tuple[float, ...] = Field((0.5,), description="fs")
    seeds: tuple[int, ...] = Field(
        (0, 1), description="a number of seeds or a list of them, one run for each; other rounds take other seeds"
    )
    equilibration: str = Field("none", description='stages before the first: "none", "langevin" or "langevin-settle"')

    @field_validator("structures", mode="before")
    @classmethod
    def _structures_have_names(cls, value: Any) -> Any:
        return None if value is None else named_structures(value)

    @field_validator("temperatures_K", "timesteps_fs", mode="before")
    @classmethod
    def _one_number_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) else value

    @field_validator("seeds", mode="before")
    @classmethod
    def _number_of_seeds(cls, value: Any) -> Any:
        return tuple(range(value)) if isinstance(value, int) else value

    def seeds_of(self, number: int) -> tuple[int, ...]:
        """Of a round: no two rounds have the same, so that a study is a proof on runs that nothing was learned from."""
        step = max(self.seeds) + 1
        return tuple(seed + number * step for seed in self.seeds)


class LearnJob(Section):
    """Active learning: ``[learn]``; ``[model]``, ``[train]`` of the committee; ``[study]``, ``[[md]]`` of its runs.

    The runs of a round are a study, the last ``[[md]]`` of which is production.
    """

    learn: LearnTable
    model: dict[str, Any] = Field({}, description="name of the model and its own keys")
    train: CommitteeTraining = Field(CommitteeTraining(), description="how the committee is trained in each round")
    tune: dict[str, Any] = Field(
        {}, description="keys of [train] that are others after the first round, where members go on from what they know"
    )
    study: ExplorationTable = ExplorationTable()
    md: tuple[MDConfig, ...] = Field((MDConfig(),), description="stages, run in sequence")
    executor: Executor | None = Field(None, description=f"of labels and runs: {EXECUTOR_WORDS}")

    @field_validator("md", mode="before")
    @classmethod
    def _one_stage_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, dict | MDConfig) else value

    @model_validator(mode="after")
    def _every_round_is_possible(self) -> Self:
        for position, stage in enumerate(self.md):
            if not stage.monitors_every_fs:
                raise ValueError(f"md.{position}.monitors_every_fs = 0: without monitors nothing is found")
            if "committee" in stage.monitors.model_fields_set:
                raise ValueError(f"md.{position}.monitors.committee is filled in from learn.stop_eV_per_A; take it out")
        if self.learn.first_ps is not None and self.learn.first_ps > self.full_ps:
            raise ValueError(f"learn.first_ps = {self.learn.first_ps:g} is above md.time_ps = {self.full_ps:g}")
        if not self.study.seeds:
            raise ValueError("study.seeds: the list is empty; give at least one")
        last = max(self.study.seeds) + 1
        if last * self.learn.rounds > MOST_SEEDS:
            raise ValueError(
                f"study.seeds up to {last - 1} in {self.learn.rounds} rounds need seeds above {MOST_SEEDS}; give "
                "smaller ones"
            )
        anything = {"any": StructureSource(file="any")}
        try:
            self.training(Path("any"), [Path("any")], [Path("any")], None)
            self.training(Path("any"), [Path("any")], [Path("any")], Path("any"))
            self.exploration(Path("any"), Path("any"), self.study.structures or anything, 0, self.full_ps, 1.0)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{where}: {message}" if where else message) from error
        return self

    @property
    def full_ps(self) -> float:
        """Length of the runs that are to survive, ps."""
        return self.md[-1].time_ps

    @property
    def first_ps(self) -> float:
        """Length of the runs of the first round, ps."""
        return self.full_ps * FIRST_SHARE if self.learn.first_ps is None else self.learn.first_ps

    def training(
        self, output: Path, train: Sequence[Path], validation: Sequence[Path], predecessor: Path | None
    ) -> TrainJob:
        """The training of a round, from the committee of the round before if there is one."""
        given = self.train.model_dump(exclude_unset=True)
        given.setdefault("workers", min(self.train.members, self.learn.n_workers))
        known = registered().get(self.model.get("name", ""))
        if predecessor is not None and not (known is not None and issubclass(known, Solvable)):
            # a rate for random weights would undo what was learned
            given = {key: value for key, value in given.items() if key not in FROM_OTHER_WEIGHTS}
            given |= {**self.tune, "start_from": predecessor}
        return TrainJob.model_validate(
            {
                "output": output,
                "data": {"train": train, "validation": validation, "test": self._test_file},
                "model": self.model,
                "train": {**given, "members": self.train.members},
            }
        )

    @property
    def _test_file(self) -> Path | None:
        return self.learn.output / TEST_FILE if self.learn.test else None

    def exploration(
        self,
        output: Path,
        model: Path,
        structures: dict[str, StructureSource],
        number: int,
        planned_ps: float,
        stop_eV_per_A: float,
    ) -> StudyJob:
        """The study of a round: runs of a length that are stopped where the committee is lost."""
        committee = {"use": True, "action": "stop", "max_spread_eV_per_A": stop_eV_per_A}
        stages = []
        for stage in self.md:
            raw = stage.model_dump(exclude_unset=True)
            stages.append(raw | {"monitors": {**raw.get("monitors", {}), "committee": committee}})
        stages[-1]["time_ps"] = planned_ps
        return StudyJob.model_validate(
            {
                "study": {
                    "output": output,
                    "models": {COMMITTEE: {"model": str(model)}},
                    "structures": {name: source.model_dump() for name, source in structures.items()},
                    "temperatures_K": self.study.temperatures_K,
                    "timesteps_fs": self.study.timesteps_fs,
                    "seeds": self.study.seeds_of(number),
                    "equilibration": self.study.equilibration,
                    "scans": False,
                    "workers": self.learn.workers,
                    "threads": self.learn.threads,
                },
                "md": stages,
                "executor": self.executor,
            }
        )
