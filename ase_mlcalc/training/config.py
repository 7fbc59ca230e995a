"""What a training job is configured by: ``[data]``, ``[model]`` and ``[train]`` of a TOML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from ase_mlcalc.config import Section, toml_key, toml_value, validate
from ase_mlcalc.data.frames import Frame, elements
from ase_mlcalc.data.read import LabelKeys
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.model import Model, ModelConfig, Solvable, check_species, lookup, registered
from ase_mlcalc.training.loss import LossConfig
from ase_mlcalc.training.optimizers import OptimizerConfig
from ase_mlcalc.training.schedule import ScheduleName


class BaseConfig(Section):
    """What the labels are taken relative to, so that a difference is learned: a model, or any calculator."""

    model: Path | None = Field(None, description="checkpoint; the result is one potential, the sum of both")
    calculator: str | None = Field(
        None, description="any ASE calculator as package.module:Factory; the result is a correction to it"
    )
    arguments: dict[str, Any] = Field({}, description="of the calculator's factory")

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if (self.model is None) == (self.calculator is None):
            raise ValueError("give either model or calculator")
        if self.arguments and self.calculator is None:
            raise ValueError("arguments are for a calculator")
        return self


class DataConfig(Section):
    """Which structures are trained on and which are held back for validation."""

    train: tuple[Path, ...] = Field(
        min_length=1, description="files with labelled structures, any format that ASE reads or npz"
    )
    validation: tuple[Path, ...] | None = Field(
        None, min_length=1, description="files; if not given, validation structures are split off the training files"
    )
    n_train: int | None = Field(None, ge=1, description="how many training structures, drawn at random; default all")
    n_validation: int | None = Field(
        None,
        ge=1,
        description="how many validation structures; default all of its files, or a tenth to a twentieth of the data",
    )
    test: tuple[Path, ...] | None = Field(
        None, min_length=1, description="files that the result is measured on, which nothing has been chosen by"
    )
    n_test: int | None = Field(
        None, ge=1, description="how many test structures; default all of its files, or none if there are no files"
    )
    seed: int = Field(0, ge=0, description="of the split")
    draw_seed: int | None = Field(
        None, ge=0, description="draw other training structures with this seed; validation and test stay as they are"
    )
    bootstrap_seed: int | None = Field(
        None, ge=0, description="draw the training structures anew, with repetition, with this seed; default not"
    )
    index: str = Field(":", description="which structures of each file, as in ASE")
    format: str | None = Field(None, description="a format name of ASE, or npz; found out if not given")
    isolated_energy_eV: dict[str, float] = Field(
        {}, description="energies of isolated atoms by symbol; default from isolated atoms in the data, or fitted"
    )
    level_of_theory: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description='levels that are meant, also as "GFN2-xTB*", where files hold several; others are left out',
    )
    base: BaseConfig | None = Field(
        None, description="Δ-learning: { model = ... } or { calculator = ... }, which the labels are taken relative to"
    )
    keys: LabelKeys = Field(LabelKeys(), description="names of the labels in the files")

    @field_validator("train", "validation", "test", mode="before")
    @classmethod
    def _one_or_more(cls, paths: Any) -> Any:
        return [paths] if isinstance(paths, str | Path) else paths

    @field_validator("level_of_theory", mode="before")
    @classmethod
    def _one_or_more_levels(cls, levels: Any) -> Any:
        return [levels] if isinstance(levels, str) else levels

    @property
    def is_tested(self) -> bool:
        """Whether structures are held back that the result is measured on."""
        return self.test is not None or self.n_test is not None

    @field_validator("isolated_energy_eV")
    @classmethod
    def _symbols(cls, energies: dict[str, float]) -> dict[str, float]:
        unknown = sorted(energies.keys() - atomic_numbers.keys())
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not a chemical symbol")
        return energies


FROM_OTHER_WEIGHTS: dict[str, Any] = {"learning_rate": 5e-4}
"""Defaults that are others where training starts from weights that are good already.

Chosen with 50 frames of water16, GFN1-xTB to GFN2-xTB: of 2e-4, 5e-4, 1e-3 and 2e-3 this rate had the smallest errors;
AdamW in place of Muon, and weights drawn back to those of the start (L2-SP; Li et al., ICML 2018), had larger ones.
"""


class TrainConfig(OptimizerConfig):
    """How a model is trained.  Give `max_epochs`, `max_minutes` or both; whichever comes first ends the run."""

    max_epochs: int | None = Field(None, ge=1, description="passes over the training structures")
    max_minutes: float | None = Field(
        None, gt=0, description="wall time of the whole command, evaluation and interrupted parts included"
    )
    batch_size: int | None = Field(
        None, ge=1, description="structures per step; default so many that a step has about 80 atoms"
    )
    loss: LossConfig = Field(LossConfig(), description="what is minimised")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="of the moving average of the weights, which is the result")
    gradient_clip: float = Field(10.0, ge=0, description="largest norm of the gradient of the loss; 0: not clipped")
    schedule: ScheduleName = Field("linear", description="how the learning rate decays: cosine, linear or constant")
    warmup_steps: int = Field(100, ge=0, description="steps in which the learning rate rises")
    decay_from: float = Field(0.0, ge=0, lt=1, description="fraction of the run after which the learning rate decays")
    patience: int | None = Field(None, ge=1, description="stop after so many validations without improvement")
    validate_every: int | None = Field(
        None, ge=1, description="epochs between validations; default so that they take about 5 % of the time"
    )
    validation_limit: int = Field(
        200, ge=1, description="validation structures used during training; the end uses all of them"
    )
    evaluation_batch_size: int = Field(16, ge=1, description="structures evaluated at once")
    seed: int = Field(0, ge=0, description="of the initial weights and of the order of the structures")
    dtype: Literal["float32", "float64"] = Field("float32", description="precision of the model")
    device: str = Field("auto", description="cpu, cuda, cuda:1, ...; auto is a GPU if there is one")
    kernel: bool = Field(
        True, description="train by kernels in C++ where the model has some and a compiler is there; the same, faster"
    )
    save_interval_s: float = Field(15.0, ge=0, description="at least so long between two saved training states")
    start_from: Path | None = Field(
        None, description="checkpoint of the same model; weights of the same name and shape are taken to begin with"
    )
    start_member: int | None = Field(
        None, ge=1, description="which potential of start_from, if that is an ensemble; set for members of an ensemble"
    )
    learn: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description='names of parts of the model, or patterns such as "*.bias"; the rest stays fixed',
    )
    stages: bool = Field(
        True, description="models that are learned part by part: in their stages, each with its share of the run"
    )
    members: int = Field(
        1, ge=1, description="potentials of an ensemble, trained from different seeds; 1 is no ensemble"
    )
    bootstrap: bool = Field(
        False, description="each member of the ensemble draws its training structures anew, with repetition"
    )
    workers: int = Field(
        1, ge=1, description="members that are trained at once, each in a process with its share of cores"
    )

    @model_validator(mode="before")
    @classmethod
    def _gently_from_other_weights(cls, raw: Any) -> Any:
        started = isinstance(raw, dict) and raw.get("start_from") is not None
        return {**FROM_OTHER_WEIGHTS, **raw} if started else raw

    @model_validator(mode="after")
    def _is_an_ensemble(self) -> Self:
        if self.members == 1 and (self.bootstrap or self.workers > 1):
            raise ValueError("bootstrap and workers are for ensembles; give members (for example 4)")
        return self


class TrainJob(Section):
    """A training job: the contents of its configuration file.

    Relative paths are taken from the working directory.
    """

    output: Path = Field(description="folder that the results are written to; the same command resumes a killed run")
    data: DataConfig
    model: dict[str, Any] = Field(
        {},
        description="name of the model and its own keys; species default to those of the data, and everything to what "
        "train.start_from has",
    )
    train: TrainConfig = Field(TrainConfig(), description="how it is trained")

    @model_validator(mode="after")
    def _has_a_model(self) -> Self:
        name = self.model.get("name")
        if not (isinstance(name, str) or (name is None and self.train.start_from is not None)):
            raise ValueError('model: needs name = "...", see `ase-mlcalc models`')
        return self

    @model_validator(mode="after")
    def _ends_some_time(self) -> Self:
        known = registered().get(self.model.get("name", ""))
        in_steps = known is None or not issubclass(known, Solvable)  # a model in closed form ends by itself
        if in_steps and self.train.max_epochs is None and self.train.max_minutes is None:
            raise ValueError("train: give max_minutes (for example 20) or max_epochs, or training would never end")
        return self


def resolve_model(
    table: dict[str, Any], frames: Sequence[Frame], trained: ModelConfig | None = None
) -> tuple[type[Model], ModelConfig]:
    """The model class of a ``[model]`` table and its checked configuration.

    Parameters
    ----------
    table : dict
        ``name`` and any keys of that model's ``Config``.
    frames : sequence of Frame
        Structures of the job.  What the table does not say is taken from them: the species, and what the model's
        `ModelConfig.from_structures` finds, such as the average number of neighbours.
    trained : ModelConfig, optional
        Of the weights that training starts from.  What the table does not say is taken from it, also what would be
        found in the structures: the weights were trained with these numbers and mean something else with others.

    Raises
    ------
    ModelError
        Unknown name.
    ConfigError
        A key that this model does not have, with the likely one; a model that has nothing to train.
    SpeciesError
        The table leaves out an element of the data.
    DataError
        Different atoms or another order in some structures, for a model of one molecule.
    """
    model_class = lookup(table["name"])
    if not model_class.trainable:
        raise ConfigError(f"model {model_class.name!r} is analytic and has nothing to train; use it as it is")
    keys = {key: value for key, value in table.items() if key != "name"}
    present = elements(frames)
    if trained is not None:
        left = {key: value for key, value in trained if key not in keys}
        where = f"[model] of {model_class.name!r}, the rest as train.start_from has it"
        config = validate(model_class.Config, {**left, **keys}, where)
        check_species(present, config.species, "model.species, or the model of train.start_from,")
        config.from_structures([frame.atoms for frame in frames])  # refuses structures that do not fit
        return model_class, config
    config = validate(model_class.Config, {"species": present, **keys}, f"[model] of {model_class.name!r}")
    check_species(present, config.species, "model.species")
    found = config.from_structures([frame.atoms for frame in frames])
    return model_class, config.model_copy(update={key: value for key, value in found.items() if key not in keys})


def resolved(job: TrainJob, config: ModelConfig) -> TrainJob:
    """The same job with every key of its model filled in."""
    return job.model_copy(update={"model": {"name": job.model["name"], **config.model_dump(mode="json")}})


def to_toml(job: TrainJob) -> str:
    """A job as the text of a configuration file, with every value that is in use."""
    return "\n".join(_table(job.model_dump(mode="json", exclude_none=True), ""))


def _table(values: dict[str, Any], path: str) -> list[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict) and value is not None}
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines = [f"[{path}]"] if path and plain else []
    lines += [f"{toml_key(key)} = {toml_value(value)}" for key, value in plain.items()]
    lines += [""] if plain else []
    for key, value in tables.items():
        lines += _table(value, f"{path}.{toml_key(key)}" if path else toml_key(key))
    return lines
