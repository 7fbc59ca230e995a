"""Training, whatever the model: which of the ways to train a job takes."""

from ase_mlcalc.training import loop
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.loop import TrainResult


def train(job: TrainJob, *, progress: bool = True) -> TrainResult:
    """Train a potential, or go on with a run that was killed; see `loop.train` for the files and errors.

    Parameters
    ----------
    job : TrainJob
    progress : bool
        Show a progress bar on a terminal, or else a line per validation.
    """
    return loop.train(job, progress=progress)
