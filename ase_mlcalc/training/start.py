"""Where training starts from, and what of a model it changes: transfer learning, fine-tuning, training in stages."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ase_mlcalc import checkpoint
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.ensemble import Ensemble, derived_members
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.model import Model, ModelConfig
from ase_mlcalc.models.sum import Sum
from ase_mlcalc.potential import Baseline
from ase_mlcalc.sums import parts_of
from ase_mlcalc.training.config import TrainJob, resolve_model


class Start(NamedTuple):
    """A trained potential whose weights another one begins with."""

    path: Path
    family: str
    """Name of its model."""
    config: ModelConfig
    weights: Mapping[str, Tensor]
    baseline: Baseline
    sha256: str
    """Of the weights."""
    levels: tuple[str, ...] = ()
    """Of theory, that it was trained at, as far as its data said."""

    def scaled(self, fitted: Baseline) -> Baseline:
        """The scales that the weights were trained for, with reference energies fitted to the new data.

        Elements whose reference energies the new data do not tell keep the old ones.
        """
        return replace(self.baseline, species_energy={**self.baseline.species_energy, **fitted.species_energy})


def named(job: TrainJob) -> TrainJob:
    """The same job with the name of its model, which it may leave to the checkpoint that it starts from.

    Raises
    ------
    CheckpointError
        ``train.start_from`` cannot be read.
    """
    if "name" in job.model or job.train.start_from is None:
        return job
    header = checkpoint.read_header(job.train.start_from)
    first = header.members[0] if isinstance(header, checkpoint.EnsembleHeader) else header
    name = first.config["parts"][-1]["model"] if first.model == Sum.name and _is_correction(job) else first.model
    return job.model_copy(update={"model": {"name": name, **job.model}})


def members_in(path: Path) -> int | None:
    """How many potentials a checkpoint holds; ``None`` if it is no ensemble."""
    header = checkpoint.read_header(path)
    return len(header.members) if isinstance(header, checkpoint.EnsembleHeader) else None


def _is_correction(job: TrainJob) -> bool:
    return job.data.base is not None


def resolve(job: TrainJob, frames: Sequence[Frame]) -> tuple[type[Model], ModelConfig, Start | None]:
    """The model of a job, its checked configuration, and the potential of ``train.start_from``.

    Raises
    ------
    CheckpointError
        ``train.start_from`` cannot be read.
    ConfigError
        It is of another family of models, or for other species: weights are stored by species.
    ModelError, SpeciesError, DataError
        See `resolve_model`.
    """
    path = job.train.start_from
    if path is None:
        return *resolve_model(job.model, frames), None
    start = read_start(path, job.train.start_member, correction=_is_correction(job))
    if start.family != job.model["name"]:
        raise ConfigError(
            f"train.start_from = {start.path} holds a model {start.family!r} and this job trains "
            f"{job.model['name']!r}; start from a model of the same family"
        )
    model_class, config = resolve_model(job.model, frames, start.config)
    if start.config.species != config.species:
        raise ConfigError(
            f"train.start_from = {start.path} was trained for species {list(start.config.species)}, this job is for "
            f"{list(config.species)}; set model.species to those of the checkpoint (it may know more elements than "
            "the data have), or start from a model of the same elements"
        )
    return model_class, config, start


def read_start(path: Path, member: int | None = None, *, correction: bool = False) -> Start:
    """A checkpoint as what another potential begins with.

    Parameters
    ----------
    path : Path
    member : int, optional
        Which potential of an ensemble, counted from 1.
    correction : bool
        Of a sum, as Δ-learning makes it, take what was learned on top.

    Raises
    ------
    CheckpointError
        It cannot be read.
    ConfigError
        It holds an ensemble and no member is named, or the sum of several models, or no such member.
    """
    potential, header = checkpoint.load(path), checkpoint.read_header(path)
    if isinstance(potential, Ensemble):
        members = derived_members(potential)
        if member is None or member > len(members):
            raise ConfigError(
                f"train.start_from = {path} holds an ensemble of {len(members)}; train as many members "
                f"(train.members = {len(members)}), each of which starts from its own, or name one of them with "
                f"train.start_member (1 to {len(members)}, got {member})"
            )
        potential = members[member - 1]
    elif member is not None:
        raise ConfigError(f"train.start_member = {member} is for an ensemble, and {path} holds one potential")
    if isinstance(potential.model, Sum) and correction:
        potential = parts_of(potential)[-1]
    model = potential.model
    if isinstance(model, Sum):
        raise ConfigError(
            f"train.start_from = {path} holds the sum of {', '.join(part.model for part in model.config.parts)}; learn "
            "a difference to it (data.base = { model = ... }), or start from one of the potentials that it was made of"
        )
    sha256 = header.weights_sha256 or "unknown"
    levels = tuple(map(str, header.provenance.get("level_of_theory") or ()))
    return Start(path, model.name, model.config, model.state_dict(), potential.baseline, sha256, levels)


def take_over(model: Model, start: Start) -> list[str]:
    """Copy the weights of same name and shape into a model; returns the names of its parameters that had none.

    Raises
    ------
    ConfigError
        Nothing fits.
    """
    own = model.state_dict()
    fitting = {name: value for name, value in start.weights.items() if name in own and own[name].shape == value.shape}
    parameters = [name for name, _ in model.named_parameters()]
    if not any(name in fitting and fitting[name].numel() > 1 for name in parameters):  # one number fits anywhere
        raise ConfigError(
            f"train.start_from = {start.path} has no parameter of the name and shape of one in this model; "
            "take the [model] table of the config.toml beside it"
        )
    with torch.no_grad():
        for name, value in fitting.items():
            own[name].copy_(value)  # a state dict holds the tensors themselves
    return [name for name in parameters if name not in fitting]


def freeze_all_but(model: Model, learned: Sequence[str]) -> list[str]:
    """Leave only some parameters to be learned; returns the names of the others.

    Parameters
    ----------
    model : Model
    learned : sequence of str
        Names of parts (``readout`` means all of ``readout.0.weight``, ...) or patterns with ``*``.

    Raises
    ------
    ConfigError
        One of them fits no parameter.
    """
    parameters = dict(model.named_parameters())
    for pattern in learned:
        if not any(_fits(name, pattern) for name in parameters):
            raise ConfigError(
                f"train.learn: no parameter of {model.name!r} fits {pattern!r}; there are {_parts(parameters)}"
            )
    frozen = [name for name in parameters if not any(_fits(name, pattern) for pattern in learned)]
    for name in frozen:
        parameters[name].requires_grad_(False)
    return frozen


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)


def _parts(names: Mapping[str, object], most: int = 40) -> str:
    """Parameter names, or where they are many the parts that they belong to."""
    whole = sorted(names)
    if len(whole) > most:
        whole = sorted({".".join(name.split(".")[:-1]) for name in names})
    if len(whole) > most:
        whole = sorted({name.split(".")[0] for name in names})
    return ", ".join(whole)


def in_words(names: Sequence[str], most: int = 4) -> str:
    """Some parameter names, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
