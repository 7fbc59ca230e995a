"""Configuration files to start from: complete, commented, and runnable once they name the user's files."""

from ase_mlcalc.config import template
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.md.config import MDJob
from ase_mlcalc.model import lookup
from ase_mlcalc.training.config import TrainJob

DEFAULT_MODEL = "equivariant"

TRAIN_VALUES = {
    "output": '"runs/{model}"',
    "train": '["train.extxyz"]',
    "max_minutes": "20.0",
}
MD_VALUES = {
    "structure": '"start.extxyz"',
    "model": '"runs/equivariant/model.safetensors"',
}


def template_of(job: str, model: str | None = None) -> str:
    """The text of a configuration file.

    Parameters
    ----------
    job : "train" or "md"
    model : str, optional
        Name of the model, for training.

    Raises
    ------
    ConfigError
        Another job; a model that has nothing to train, or one for molecular dynamics.
    ModelError
        Unknown model.
    """
    if job == "train":
        return _train(DEFAULT_MODEL if model is None else model)
    if job == "md":
        if model is not None:
            raise ConfigError("--model belongs to `template train`; molecular dynamics names a checkpoint in the file")
        return (
            "# Molecular dynamics: `ase-mlcalc md FILE`.  Name your structure and your checkpoint.\n"
            "# Another [[md]] table at the end is a stage that continues the one before it.\n\n"
        ) + _filled(template(MDJob), MD_VALUES)
    raise ConfigError(f"there are templates for train and md, got {job!r}")


def _train(name: str) -> str:
    model_class = lookup(name)
    if not model_class.trainable:
        raise ConfigError(f"model {name!r} is analytic and has nothing to train; see `ase-mlcalc models`")
    values = {key: value.format(model=name) for key, value in TRAIN_VALUES.items()}
    before, data_and_rest = _without_model_key(template(TrainJob)).split("\n\n[data]\n")
    data, training = data_and_rest.split("\n\n[train]\n")
    text = (
        "# Training: `ase-mlcalc train FILE`; the same command goes on with a killed run.  Name your data.\n\n"
        f"{before}\n\n[data]\n{data}\n\n{_model_table(name)}\n\n[train]\n{training}"
    )
    return _filled(text, values)


def _without_model_key(text: str) -> str:
    """Top-level keys other than ``model``, which gets a table of its own."""
    lines = text.split("\n")
    place = lines.index("# model = ...")
    return "\n".join(lines[: place - 1] + lines[place + 1 :])


def _model_table(name: str) -> str:
    """The model's keys stay comments: what is not set follows the data and the defaults of the installed version."""
    keys = template(lookup(name).Config)
    commented = "\n".join(line if line.startswith("#") else f"# {line}" for line in keys.split("\n"))
    return (
        f'[model]\nname = "{name}"\n'
        "# Keys of this model with their defaults; take away the first # to set one.  Species, and numbers that can\n"
        "# be found in the data (average neighbours, scales, the order of atoms), are taken from there if not set.\n"
        f"{commented}"
    )


def _filled(text: str, values: dict[str, str]) -> str:
    """The first key of each name gets a value in place of three dots."""
    for key, value in values.items():
        text = text.replace(f"\n# {key} = ...\n", f"\n{key} = {value}\n", 1)
    return text.rstrip("\n") + "\n"
