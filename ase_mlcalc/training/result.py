"""What a training run came to, and where that is read again."""

import json
from pathlib import Path
from typing import NamedTuple

from ase_mlcalc.training.metrics import Metrics
from ase_mlcalc.training.state import CHECKPOINT_FILE


class TrainResult(NamedTuple):
    """What a training run came to."""

    checkpoint: Path
    """``model.safetensors``: the moving average of the weights at the best validation."""
    metrics: Metrics
    """Errors of the checkpoint on all validation structures."""
    epochs: float
    """Passes over the training structures."""
    minutes: float
    """Wall time of all processes that worked on the run."""
    stopped: str
    """Why training ended."""
    test: Metrics | None = None
    """Errors on the test structures of the job, if it has some."""


def read_result(folder: Path) -> TrainResult:
    """The result of a run that ended earlier."""
    raw = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics = Metrics.model_validate(raw)
    return TrainResult(folder / CHECKPOINT_FILE, metrics, raw["epochs"], raw["minutes"], raw["stopped"])
