"""Where training starts from, and what of a model it changes: transfer learning, fine-tuning, training in stages."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ase_mlcalc import checkpoint
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.model import Model, ModelConfig
from ase_mlcalc.potential import Baseline, Derived


class Start(NamedTuple):
    """A trained potential whose weights another one begins with."""

    path: Path
    weights: Mapping[str, Tensor]
    baseline: Baseline
    sha256: str
    """Of the weights."""

    def scaled(self, fitted: Baseline) -> Baseline:
        """Reference energies fitted to the new data, with the scales that the weights were trained for."""
        own = self.baseline
        return replace(
            fitted, energy_scale=own.energy_scale, force_scale=own.force_scale, stress_scale=own.stress_scale
        )


def read_start(path: Path, model_class: type[Model], config: ModelConfig) -> Start:
    """The potential of ``train.start_from``.

    Raises
    ------
    CheckpointError
        It cannot be read.
    ConfigError
        Another family of models, or other species: weights are stored by species.
    """
    potential = checkpoint.load(path)
    if not isinstance(potential, Derived):
        raise ConfigError(f"train.start_from = {path} holds a {type(potential).__name__}; give one of a single model")
    if potential.model.name != model_class.name:
        raise ConfigError(
            f"train.start_from = {path} holds a model {potential.model.name!r} and this job trains "
            f"{model_class.name!r}; start from a model of the same family"
        )
    if potential.species != config.species:
        raise ConfigError(
            f"train.start_from = {path} was trained for species {list(potential.species)}, this job is for "
            f"{list(config.species)}; set model.species to those of the checkpoint (it may know more elements than "
            "the data have), or start from a model of the same elements"
        )
    sha256 = checkpoint.read_header(path).weights_sha256 or "unknown"
    return Start(path, potential.model.state_dict(), potential.baseline, sha256)


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
