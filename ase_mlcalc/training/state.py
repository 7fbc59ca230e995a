"""Everything that a training run is in the middle of, in one file, so that a killed run goes on as if nothing had been.

The file is replaced atomically and is the only truth: checkpoint and log are written after it and again from it on
resuming.  Order of structures and random numbers are functions of seed and epoch, so they need no state.
"""

import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ase_mlcalc.config import changed_keys
from ase_mlcalc.errors import CheckpointError, ConfigError
from ase_mlcalc.files import atomic_path
from ase_mlcalc.model import Model
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.ema import MovingAverage
from ase_mlcalc.training.log import LogRow

STATE_FILE = "training_state.pt"
CHECKPOINT_FILE = "model.safetensors"
FORMAT_VERSION = 1


class Fingerprint(NamedTuple):
    """What a run depends on beside its configuration: contents of files."""

    data: str
    """Hash of structures and labels."""
    start: str | None = None
    """Hash of the weights of ``train.start_from``."""


@dataclass
class TrainingState:
    """A run after some number of complete epochs."""

    model: Model
    average: MovingAverage
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    """Complete epochs."""
    step: int = 0
    """Steps taken."""
    elapsed_s: float = 0.0
    """Wall time spent, over all processes."""
    best_weights: dict[str, Tensor] | None = None
    """Moving average at the best validation so far."""
    best_score: float = math.inf
    """Loss of `best_weights` on the validation structures."""
    best_epoch: float = 0.0
    since_best: int = 0
    """Validations since then."""
    rows: list[LogRow] = field(default_factory=list)
    """The log."""
    stopped: str | None = None
    """Why training ended; ``None`` while it goes on."""

    PLAIN = ("epoch", "step", "elapsed_s", "best_weights", "best_score", "best_epoch", "since_best", "rows", "stopped")

    def write(self, folder: Path, job: TrainJob, fingerprint: Fingerprint) -> None:
        """Replace the state file."""
        contents = {
            "format_version": FORMAT_VERSION,
            "job": json.dumps(identity(job)),
            "fingerprint": fingerprint.data,
            "start": fingerprint.start,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in self.PLAIN},
        }
        packed = io.BytesIO()  # torch.save hides a full disk behind a RuntimeError; writing bytes does not
        torch.save(contents, packed)
        with atomic_path(folder / STATE_FILE) as part:
            part.write_bytes(packed.getbuffer())

    def restore(self, contents: dict[str, Any]) -> None:
        """Take over what `read` returned."""
        self.model.load_state_dict(contents["model"])
        self.average.model.load_state_dict(contents["average"])
        self.optimizer.load_state_dict(contents["optimizer"])
        for name in self.PLAIN:
            setattr(self, name, contents[name])


def read(job: TrainJob, fingerprint: Fingerprint) -> dict[str, Any] | None:
    """The saved state of a job, or ``None`` if it has not begun; never unpickles objects.

    Raises
    ------
    ConfigError
        The folder holds a run with another configuration or other data, or a model without its training state.
    CheckpointError
        The state file is corrupt.
    """
    path = job.output / STATE_FILE
    if not path.exists():
        if (job.output / CHECKPOINT_FILE).exists():
            raise ConfigError(
                f"{job.output} holds {CHECKPOINT_FILE} but no {STATE_FILE}, so it is not a run that can go on; "
                "choose another output folder"
            )
        return None
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
        version, saved = contents["format_version"], json.loads(contents["job"])
    except Exception as error:  # torch.load raises anything on a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path} is corrupt or foreign ({reason}); remove it and {CHECKPOINT_FILE} to start over"
        ) from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {version}, this version reads {FORMAT_VERSION}; train in another folder"
        )
    changes = changed_keys(saved, identity(job))
    if changes:
        raise ConfigError(
            f"{job.output} holds a run with another configuration: {'; '.join(changes)}; "
            "undo the change to resume it, or choose another output folder"
        )
    if contents.get("start") != fingerprint.start:
        raise ConfigError(
            f"{job.output} holds a run that started from other weights than train.start_from ({job.train.start_from}) "
            "gives now; restore them, or choose another output folder"
        )
    if contents["fingerprint"] != fingerprint.data:
        raise ConfigError(
            f"{job.output} holds a run on other data: the structures or labels in "
            f"{', '.join(map(str, job.data.train))}{_base(job)} changed since; restore them, or choose another output "
            "folder"
        )
    return contents


def _base(job: TrainJob) -> str:
    base = job.data.base
    return "" if base is None or base.model is None else f", or the model {base.model} that they are taken relative to,"


def identity(job: TrainJob) -> dict[str, Any]:
    """What makes a run this run: all of its configuration but where it and the weights it starts from are stored.

    Files of test structures can be added to a run that is finished.
    """
    return job.model_dump(
        mode="json", exclude={"output": True, "data": {"test": True, "base": {"model"}}, "train": {"start_from"}}
    )
