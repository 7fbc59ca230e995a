"""Training, whatever the model: which of the ways to train a job takes."""

from ase_mlcalc.training import closed_form, loop, members, stages
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.held_out import measure_test
from ase_mlcalc.training.loop import TrainResult
from ase_mlcalc.training.start import named


def train(job: TrainJob, *, progress: bool = True) -> TrainResult:
    """Train a potential or an ensemble, or go on with a run that was killed.

    For the files and errors see `loop.train`, for models in closed form `closed_form.train`, and for ``train.members``
    above 1 `members.train`.  Where the job has test structures, ``test.json`` is written last.

    Parameters
    ----------
    job : TrainJob
    progress : bool
        Show a progress bar on a terminal, or else a line per validation.
    """
    job = named(job)
    if job.train.members > 1:
        result = members.train(job, train_one, progress=progress)
    else:
        result = train_one(job, progress=progress)
    return result._replace(test=measure_test(job))


def train_one(job: TrainJob, *, progress: bool = True) -> TrainResult:
    """Train a single potential, without a look at test structures."""
    if closed_form.wanted(job):
        return closed_form.train(job, progress=progress)
    if stages.wanted(job):
        return stages.train(job, progress=progress)
    return loop.train(job, progress=progress)
