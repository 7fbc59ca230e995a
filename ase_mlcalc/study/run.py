"""`run_study`: all runs of a study in worker processes, then what they say together."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ase_mlcalc.files import exclusive, make_folder, write_text
from ase_mlcalc.md.engines import require_engine
from ase_mlcalc.study.batches import batches
from ase_mlcalc.study.config import StudyJob
from ase_mlcalc.study.identity import claim
from ase_mlcalc.study.measure import ERROR_FILE, is_over, measure_run
from ase_mlcalc.study.plan import PlannedRun, plan
from ase_mlcalc.study.progress import StudyProgress
from ase_mlcalc.study.scans import is_scanned, scan_jobs, write_scan
from ase_mlcalc.study.summarize import summarize
from ase_mlcalc.study.summary import StudySummary, write_study
from ase_mlcalc.study.tasks import batch_task, run_task, scan_task
from ase_mlcalc.workers import Task, work_on, workers_lock

LOGS = "logs"


def run_study(job: StudyJob, *, progress: bool = True) -> StudySummary:
    """Make all runs of a study, or go on where it was stopped, and say what they found.

    Runs that came to an end are kept; those that were killed continue from their checkpoint.  A run that cannot be
    made, or whose process dies, is recorded and the others go on; the next call tries it again.

    Writes into the output folder: ``runs/MODEL/STRUCTURE/TEMPERATURE_TIMESTEP/SEED/`` with the files of each run,
    ``scans/`` with the scores of quick scans, ``logs/`` with what the workers printed, ``job.json`` with what the study
    is, and ``study.json`` with what it found.

    Parameters
    ----------
    job : StudyJob
    progress : bool
        Show a bar on a terminal, else a line for each run.

    Raises
    ------
    ConfigError
        The engine is not installed; the folder holds another study, or another process is at work in it.
    DataError
        A file of a model or a structure is not there.
    MLCalcError
        Worker processes cannot be started.
    KeyboardInterrupt
        After the runs at work have written their checkpoints and ``study.json`` says how far the study came.
    """
    require_engine(job.study.engine)
    folder = job.study.output
    make_folder(folder)
    with exclusive(folder), workers_lock(folder) as lock:
        claim(job)
        runs = plan(job)
        try:
            _make(job, runs, lock, progress)
        finally:
            summary = summarize(job, runs)
            write_study(summary, folder)
    return summary


def _make(job: StudyJob, runs: Sequence[PlannedRun], lock: IO[str] | None, progress: bool) -> None:
    """Do what is left to be done."""
    folder = job.study.output
    over = {position for position, run in enumerate(runs) if is_over(run, folder / run.folder)}
    scans = [files for files in scan_jobs(job) if not is_scanned(files)] if job.study.scans else []
    todo = [position for position in range(len(runs)) if position not in over]
    for position in todo:
        (folder / runs[position].folder / ERROR_FILE).unlink(missing_ok=True)
    together = [[position] for position in todo]
    if job.study.engine != "ase":
        together = batches(runs, todo, job.study.n_workers)
    tasks = [scan_task(files) for files in scans] + [_task(job, runs, members) for members in together]
    if not tasks:
        return

    def positions(numbers: set[int]) -> set[int]:
        return {position for number in numbers if number >= len(scans) for position in together[number - len(scans)]}

    with (
        StudyProgress(runs, over, folder, shown=progress) as shown,
        work_on(
            tasks,
            job.study.n_workers,
            job.study.threads,
            folder / LOGS,
            lock,
            lambda now: shown.tick(positions(now)),
            executor=job.executor,
        ) as work,
    ):
        for done in work:
            if done.number < len(scans):
                if done.error is not None:
                    write_scan(Path(scans[done.number].output), {}, done.error)
                continue
            members = together[done.number - len(scans)]
            batch = job.study.engine != "ase" and done.error is None
            errors = done.result if batch else [done.error] * len(members)
            for position, error in zip(members, errors, strict=True):
                run = runs[position]
                if error is not None:
                    write_text(folder / run.folder / ERROR_FILE, error + "\n")
                shown.over(position, measure_run(run, folder), positions(done.at_work))


def _task(job: StudyJob, runs: Sequence[PlannedRun], members: Sequence[int]) -> Task:
    if job.study.engine == "ase":
        (alone,) = members
        return run_task(runs[alone].job)
    return batch_task([runs[position].job for position in members])
