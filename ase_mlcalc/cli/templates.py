"""Configuration files to start from: complete, commented, and runnable once they name the user's files."""

import re
from collections.abc import Callable, Iterable

from ase_mlcalc.config import template, toml_value
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.model import lookup
from ase_mlcalc.sampling.config import FILLED_IN as SAMPLE_FILLED_IN
from ase_mlcalc.sampling.config import SampleJob
from ase_mlcalc.study.config import FILLED_IN, StudyJob
from ase_mlcalc.training.config import FROM_OTHER_WEIGHTS, TrainJob
from ase_mlcalc.training.loss import DEFAULT_WEIGHTS

DEFAULT_MODEL = "equivariant"

TRAIN_VALUES = {
    "output": '"runs/{model}"',
    "train": '["train.extxyz"]',
    "max_minutes": "20.0",
}
TRANSFER_VALUES = {
    "output": '"runs/transfer"',
    "train": '["few-of-the-new-level.extxyz"]',
    "start_from": '"runs/equivariant/model.safetensors"',
    "max_epochs": "25",
}
MD_VALUES = {
    "structure": '"start.extxyz"',
    "model": '"runs/equivariant/model.safetensors"',
}
SAMPLE_VALUES = {
    "structures": '["start.extxyz"]',
    "calculator": '"tblite.ase:TBLite"',
}
STUDY_VALUES = {
    "models": '["runs/equivariant/model.safetensors", "ase.calculators.emt:EMT"]',
    "structures": '["start.extxyz"]',
}
EIGHT_SEEDS = f"seeds = {toml_value(tuple(range(8)))}"


def template_of(job: str, model: str | None = None) -> str:
    """The text of a configuration file.

    Parameters
    ----------
    job : "train", "transfer", "md", "study", "sample", "learn", "learning-curve" or "scan"
    model : str, optional
        Name of the model, for training.

    Raises
    ------
    ConfigError
        Another job; a model that has nothing to train, or one for molecular dynamics.
    ModelError
        Unknown model.
    """
    if job not in _TEMPLATES:
        known = list(_TEMPLATES)
        raise ConfigError(f"there are templates for {', '.join(known[:-1])} and {known[-1]}, got {job!r}")
    if model is not None and job in _HAS_ITS_MODEL:
        raise ConfigError(f"--model belongs to `template train`; {_HAS_ITS_MODEL[job]}")
    return _TEMPLATES[job](DEFAULT_MODEL if model is None else model)


def _train(name: str) -> str:
    model_class = lookup(name)
    if not model_class.trainable:
        raise ConfigError(f"model {name!r} is analytic and has nothing to train; see `ase-mlcalc models`")
    values = {key: value.format(model=name) for key, value in TRAIN_VALUES.items()}
    before, data_and_rest = _without_model_key(template(TrainJob)).split("\n\n[data]\n")
    data, training = data_and_rest.split("\n\n[train]\n")
    text = (
        "# Training: `ase-mlcalc train FILE`; the same command goes on with a killed run.  Name your data.\n\n"
        f"{before}\n\n[data]\n{data}\n\n{model_table(name)}\n\n[train]\n{training}"
    )
    return filled(with_weights(left_open(text, FROM_OTHER_WEIGHTS)), values)


def _sample() -> str:
    """What is filled in for each run is left out."""
    text = filled(template(SampleJob), SAMPLE_VALUES)
    for key in SAMPLE_FILLED_IN:
        text = re.sub(rf"\n#[^\n]*\n{key} = [^\n]*", "", text, count=1)
    return (
        "# Sampling: `ase-mlcalc sample FILE`; the same command goes on after a kill.  Name your structures, and what\n"
        "# drives the dynamics: the reference itself, a cheaper method, or a checkpoint.\n\n"
    ) + text


def _transfer() -> str:
    """A training that starts from other weights; the model, which is theirs, is left out."""
    text = (
        "# Transfer: `ase-mlcalc train FILE`, from a model of one level of theory to few structures of another.\n"
        "# Name your structures and your model; numbers are those that start_from has as defaults.\n\n"
    ) + _without_model_key(template(TrainJob))
    for key, value in FROM_OTHER_WEIGHTS.items():
        text = _with_value(text, key, value)
    return filled(with_weights(text), TRANSFER_VALUES)


def _with_value(text: str, key: str, value: object) -> str:
    """Another value for the key of that name, which stands there once."""
    lines = text.split("\n")
    place = next(k for k, line in enumerate(lines) if line.removeprefix("# ").startswith(f"{key} = "))
    lines[place] = f"{key} = {toml_value(value)}"
    return "\n".join(lines)


def left_open(text: str, keys: Iterable[str]) -> str:
    """Keys become comments, so that their defaults can depend on others."""
    return "\n".join(f"# {line}" if line.split(" = ")[0] in keys else line for line in text.split("\n"))


def with_weights(text: str) -> str:
    """The weights that a loss has where none are given, as comments, because some hold for some data only."""
    before, loss = text.split("[train.loss]\n", 1)
    for name, weight in DEFAULT_WEIGHTS.items():
        loss = loss.replace(f"# {name} = ...\n", f"# {name} = {toml_value(weight)}\n", 1)
    return f"{before}[train.loss]\n{loss}"


def _without_model_key(text: str) -> str:
    """Top-level keys other than ``model``, which gets a table of its own."""
    lines = text.split("\n")
    place = next(k for k, line in enumerate(lines) if line.startswith("model = "))
    return "\n".join(lines[: place - 1] + lines[place + 1 :])


def model_table(name: str) -> str:
    """The model's keys stay comments: what is not set follows the data and the defaults of the installed version."""
    keys = template(lookup(name).Config)
    commented = "\n".join(line if line.startswith("#") else f"# {line}" for line in keys.split("\n"))
    return (
        f'[model]\nname = "{name}"\n'
        "# Keys of this model with their defaults; take away the first # to set one.  Species, and numbers that can\n"
        "# be found in the data (average neighbours, scales, the order of atoms), are taken from there if not set.\n"
        f"{commented}"
    )


def without_what_is_filled_in(text: str) -> str:
    """Keys of a stage that the study fills in are comments that say from where."""
    before, after = text.split("\n[[md]]\n", 1)
    lines = after.split("\n")
    for key, source in FILLED_IN.items():
        place = next(k for k, line in enumerate(lines) if line.startswith(f"{key} = "))
        lines[place - 1 : place + 1] = [f"# {key} comes from study.{source}"]
    return "\n[[md]]\n".join([before, "\n".join(lines)])


def filled(text: str, values: dict[str, str]) -> str:
    """The first key of each name gets a value in place of three dots."""
    for key, value in values.items():
        text = text.replace(f"\n# {key} = ...\n", f"\n{key} = {value}\n", 1)
    return text.rstrip("\n") + "\n"


def _md(_: str) -> str:
    return (
        "# Molecular dynamics: `ase-mlcalc md FILE`.  Name your structure and your checkpoint.\n"
        "# Another [[md]] table at the end is a stage that continues the one before it.  --set md.0.time_ps=1 changes\n"
        "# the first, --set md.1.time_ps=1 the second.\n\n"
    ) + filled(template(MDJob), MD_VALUES)


def _study(_: str) -> str:
    return (
        "# A stability study: `ase-mlcalc study FILE`.  Name your models and structures.  The last [[md]] is\n"
        "# production, which is judged; one before it is equilibration.\n\n"
    ) + without_what_is_filled_in(filled(template(StudyJob), STUDY_VALUES)).replace(EIGHT_SEEDS, "seeds = 8")


def _learn(model: str) -> str:
    from ase_mlcalc.cli.learn_template import learn_template

    return learn_template(model_table(model))


def _campaign(job: str, model: str) -> str:
    from ase_mlcalc.cli.campaign_templates import campaign_template

    return campaign_template(job, _train(model))


_TEMPLATES: dict[str, Callable[[str], str]] = {
    "train": _train,
    "transfer": lambda _: _transfer(),
    "md": _md,
    "study": _study,
    "sample": lambda _: _sample(),
    "learn": _learn,
    "learning-curve": lambda model: _campaign("learning-curve", model),
    "scan": lambda model: _campaign("scan", model),
}
"""Job to what makes its template for a model."""
_HAS_ITS_MODEL = {
    "transfer": "a transfer has the model that it starts from",
    "md": "molecular dynamics names a checkpoint in the file",
    "study": "a study names its models in the file",
    "sample": "a sampling names what drives it in the file",
}
