"""`run_trainings`: several trainings side by side, each with a job of its own."""

from collections.abc import Sequence
from pathlib import Path

from ase_mlcalc.campaigns.config import CampaignTable
from ase_mlcalc.campaigns.trainings import Trained, Training, is_trained, look_at, make
from ase_mlcalc.config import changed_keys
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.files import exclusive, make_folder
from ase_mlcalc.identities import JOB_FILE, read_identity, write_identity
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.state import identity
from ase_mlcalc.workers import Executor, workers_lock


def run_trainings(
    jobs: Sequence[TrainJob],
    folder: Path | str,
    *,
    workers: int | None = None,
    threads: int = 1,
    executor: Executor | None = None,
    progress: bool = True,
) -> list[Trained]:
    """Train several potentials in worker processes, or go on where that was stopped.

    For trainings that differ by more than learning curves and scans vary: other data, models and lengths.  Those that
    are over are kept; one that fails stops no other, and the next call tries it again.

    Parameters
    ----------
    jobs : sequence of TrainJob
        Their outputs lie below `folder`, each in a folder of its own.
    folder : path
        ``logs/`` in it has what the processes printed.
    workers : int, optional
        Trainings side by side; default: one for each core, or one on a GPU.
    threads : int
        Of each training.
    executor : Executor, optional
        Where they are made; default: in processes of this machine.
    progress : bool
        Show a bar on a terminal, else a line for each training.

    Returns
    -------
    list of Trained
        In the order of the jobs.

    Raises
    ------
    ConfigError
        Outputs elsewhere, or twice the same; one holds a training that is over and had another configuration; another
        process is at work in the folder.
    MLCalcError
        Worker processes cannot be started.
    """
    folder = Path(folder)
    trainings = [Training(_name(job, folder), job) for job in jobs]
    names = [training.name for training in trainings]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"two trainings would be written to {folder / min(twice)}; give each an output of its own")
    make_folder(folder)
    table = CampaignTable(workers=workers, threads=threads)
    with exclusive(folder), workers_lock(folder) as lock:
        for job in jobs:
            _claim(job)
        make(trainings, len(trainings), table, folder, lock, executor=executor, shown=progress)
    return [look_at(training) for training in trainings]


def _name(job: TrainJob, folder: Path) -> str:
    inside = job.output.is_relative_to(folder) and job.output != folder
    if not inside:
        raise ConfigError(f"output = {job.output} is not below {folder}; give each training a folder in there")
    return job.output.relative_to(folder).as_posix()


def _claim(job: TrainJob) -> None:
    """Note what a training is in its folder; refuse one that is over and was another.

    One that is not over looks itself at what it goes on with.
    """
    path, new = job.output / JOB_FILE, identity(job)
    old = read_identity(path)
    if old == new:
        return
    if old is not None and is_trained(job):
        changes = changed_keys(old, new)
        raise ConfigError(
            f"{job.output} holds a training with another configuration: {'; '.join(changes)}; undo the change, remove "
            "that folder or choose another"
        )
    make_folder(job.output)
    write_identity(path, new)
