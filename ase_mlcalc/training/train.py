"""Training, whatever the model: which of the ways to train a job takes."""

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.training import closed_form, loop, members, stages
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.held_out import measure_test
from ase_mlcalc.training.processes import here
from ase_mlcalc.training.result import TrainResult
from ase_mlcalc.training.start import named


def train(job: TrainJob, *, progress: bool = True) -> TrainResult:
    """Train a potential or an ensemble, or go on with a run that was killed.

    For the files and errors see `loop.train`, for models in closed form `closed_form.train`, and for ``train.members``
    above 1 `members.train`.  Where the job has test structures, ``test.json`` is written last.  In each of several
    processes that `processes.joined` has brought together, a single potential is trained by all of them.

    Parameters
    ----------
    job : TrainJob
    progress : bool
        Show a progress bar on a terminal, or else a line per validation.
    """
    job = named(job)
    processes = here()
    _refuse_several(job, processes.size)
    if job.train.members > 1:
        result = members.train(job, train_one, progress=progress)
    else:
        result = train_one(job, progress=progress)
    return result._replace(test=measure_test(job)) if processes.first else result


def train_one(job: TrainJob, *, progress: bool = True) -> TrainResult:
    """Train a single potential, without a look at test structures."""
    if closed_form.wanted(job):
        return closed_form.train(job, progress=progress)
    if stages.wanted(job):
        return stages.train(job, progress=progress)
    return loop.train(job, progress=progress)


def _refuse_several(job: TrainJob, processes: int) -> None:
    if processes > 1 and job.train.members > 1:
        raise ConfigError(
            f"{processes} processes cannot share an ensemble; train its members side by side in one command with "
            "train.workers, or each by a torchrun of its own"
        )
    if processes > 1 and closed_form.wanted(job):
        raise ConfigError(f"model {job.model['name']!r} is solved by one process with threads; leave torchrun out")
