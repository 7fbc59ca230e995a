"""What campaigns are told: a training job with one more table, ``[learning_curve]`` or ``[scan]``."""

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from ase_mlcalc.config import Section
from ase_mlcalc.training.config import DataConfig, TrainConfig
from ase_mlcalc.workers import EXECUTOR_WORDS, Executor

Quantity = Literal["forces", "energy", "stress", "stresses"]

MOST_SEEDS = 1000
"""Also the step between the seeds of two members of an ensemble, so that no two trainings share one."""
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"


class CampaignTable(Section):
    """What learning curves and scans have in common."""

    seeds: tuple[int, ...] = Field(
        (0,), description="a number of seeds or a list of them; each draws its own training structures and weights"
    )
    workers: int | None = Field(
        None, ge=1, description="trainings side by side; default: one for each core, or one on a GPU"
    )
    threads: int = Field(1, ge=1, description="of each training")

    @field_validator("seeds", mode="before")
    @classmethod
    def _number_of_seeds(cls, value: Any) -> Any:
        return tuple(range(value)) if isinstance(value, int) else value

    @field_validator("seeds")
    @classmethod
    def _seeds_in_range(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) < len(value) or not all(0 <= seed < MOST_SEEDS for seed in value):
            raise ValueError(f"give at least one seed, each once and from 0 to {MOST_SEEDS - 1}")
        return value


class LearningCurveTable(CampaignTable):
    """Which models are trained on how many structures."""

    sizes: tuple[int, ...] = Field(description="numbers of training structures; a larger set contains the smaller ones")
    seeds: tuple[int, ...] = Field(
        (0, 1, 2), description="a number of seeds or a list of them; each draws its own training structures and weights"
    )
    models: dict[str, dict[str, Any]] | None = Field(
        None,
        description="several models: names as a list, or [learning_curve.models.NAME] tables with the keys of [model], "
        "which is left out then",
    )
    steps: int | None = Field(
        None,
        ge=1,
        description="of the optimiser in every training, whatever its size; default: those that train.max_epochs makes "
        "at the largest size",
    )

    @field_validator("sizes", mode="before")
    @classmethod
    def _one_size_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @field_validator("sizes")
    @classmethod
    def _sizes_ascend(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1 or len(set(value)) < len(value):
            raise ValueError("give at least one size, each once and from 1 on")
        return tuple(sorted(value))

    @field_validator("models", mode="before")
    @classmethod
    def _models_have_names(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            tables = [{"name": entry} if isinstance(entry, str) else entry for entry in value]
            names = [table.get("name") if isinstance(table, dict) else None for table in tables]
            if len(set(names)) < len(names):
                raise ValueError("a model stands there twice; give [learning_curve.models.NAME] tables")
            return {str(name): table for name, table in zip(names, tables, strict=True)}
        return value

    @field_validator("models")
    @classmethod
    def _names_are_folder_names(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in value or ():
            if not re.fullmatch(_NAME, name):
                raise ValueError(f"{name!r} becomes the name of a folder; use letters, digits, '_', '-', '+' and '.'")
        if value == {}:
            raise ValueError("there is none; give at least one, or a [model] table instead")
        return value


class CampaignJob(Section):
    """The tables of a training job."""

    output: Path = Field(description="folder that everything is written to; the same command goes on after a kill")
    data: DataConfig
    train: TrainConfig = Field(TrainConfig(), description="how each is trained")
    executor: Executor | None = Field(None, description=EXECUTOR_WORDS)


class LearningCurveJob(CampaignJob):
    """Errors against the number of training structures: the contents of its configuration file."""

    model: dict[str, Any] | None = Field(None, description="name of the model and its own keys")
    learning_curve: LearningCurveTable

    @model_validator(mode="after")
    def _is_one_question(self) -> Self:
        given = [key for key in ("n_train", "draw_seed", "bootstrap_seed") if getattr(self.data, key) is not None]
        if given:
            raise ValueError(f"data.{given[0]} is filled in from learning_curve.sizes and .seeds; take it out")
        one, several = self.model is not None, self.learning_curve.models is not None
        if (one and several) or not (one or several or self.train.start_from is not None):
            raise ValueError("give either a [model] table or learning_curve.models")
        if self.learning_curve.steps is not None and self.train.max_epochs is not None:
            raise ValueError("learning_curve.steps and train.max_epochs both say how long trainings are; take one out")
        return self

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """Model tables by the names that they have in the learning curve."""
        if self.learning_curve.models is not None:
            return {name: {"name": name, **table} for name, table in self.learning_curve.models.items()}
        table = self.model or {}
        return {str(table.get("name", "model")): table}


class Range(Section):
    """Where a search may look for the best value of a number."""

    low: int | float
    high: int | float
    log: bool = Field(False, description="values are drawn by their logarithm")

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low is below high, and above 0 if log is true")
        return self

    @property
    def is_integer(self) -> bool:
        """Both ends are whole numbers, and so is what is drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class ScanTable(CampaignTable):
    """What is varied.

    In a file the keys of ``values`` stand in ``[scan]`` itself: ``"model.cutoff" = [4.0, 5.0]``.
    """

    values: dict[str, list[Any] | Range] = Field(
        description='keys of the job with the values that they take, "model.cutoff" = [4.0, 5.0]; searches also take '
        '"train.learning_rate" = { low = 1e-4, high = 1e-2, log = true }'
    )
    method: Literal["grid", "zip", "optuna"] = Field(
        "grid", description="all combinations; or the first values together, then the second ones; or a search"
    )
    trials: int | None = Field(None, ge=1, description="trainings of a search")
    objective: Quantity | None = Field(
        None, description="error that is to be small; default the first of these that the validation structures have"
    )

    @model_validator(mode="before")
    @classmethod
    def _dotted_keys_are_values(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        varied = {key: value for key, value in raw.items() if key.split(".")[0] in ("data", "model", "train")}
        kept = {key: value for key, value in raw.items() if key not in varied}
        return {**kept, "values": {**kept.get("values", {}), **_flat(varied)}}

    @field_validator("values", mode="before")
    @classmethod
    def _lists_or_ranges(cls, values: Any) -> Any:
        found: dict[str, Any] = {}
        for key, value in values.items():
            try:
                found[key] = Range.model_validate(value) if isinstance(value, dict) else list(value)
            except (ValidationError, TypeError) as error:
                raise ValueError(
                    f"{key} = {value!r} is no list of values and no range, {{ low = 1, high = 2, log = true }}"
                ) from error
        return found

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if not self.values:
            raise ValueError('nothing is varied; give keys with lists of values, "model.cutoff" = [4.0, 5.0]')
        for key, value in self.values.items():
            if isinstance(value, Range):
                if self.method != "optuna":
                    raise ValueError(f'{key} is a range, which is for method = "optuna"; give a list of values')
            elif not value or (self.method != "zip" and any(value.count(one) > 1 for one in value)):
                raise ValueError(f"{key} = {value} is to have at least one value, and each once")
        if (self.trials is None) == (self.method == "optuna"):
            raise ValueError('trials belongs to method = "optuna", which needs it')
        lengths = {key: len(value) for key, value in self.values.items() if isinstance(value, list)}
        if self.method == "zip" and len(set(lengths.values())) > 1:
            raise ValueError(f'method = "zip" takes values that stand beside each other, got lists of {lengths}')
        if self.method == "zip":
            rows = list(zip(*(value for value in self.values.values() if isinstance(value, list)), strict=True))
            if twice := [row for row in rows if rows.count(row) > 1]:
                raise ValueError(f"values {twice[0]} stand beside each other twice; these trainings would be the same")
        return self


def _flat(table: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Tables as dotted keys, down to lists and ranges."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, dict) and not {"low", "high"} & value.keys():
            found |= _flat(value, name)
        else:
            found[name] = value
    return found


class ScanJob(CampaignJob):
    """Trainings with other hyper-parameters: the contents of its configuration file."""

    model: dict[str, Any] = Field({}, description="name of the model and its own keys")
    scan: ScanTable

    @model_validator(mode="after")
    def _varies_keys_of_a_training(self) -> Self:
        for key in self.scan.values:
            table, _, rest = key.partition(".")
            if table not in ("data", "model", "train") or not rest:
                raise ValueError(f"scan: {key!r} is no key of [data], [model] or [train], such as model.cutoff")
        if seeded := {"data.draw_seed", "train.seed"} & self.scan.values.keys():
            raise ValueError(f"scan: {min(seeded)} is filled in from scan.seeds; take it out")
        return self
