"""`run_scan`: trainings with other hyper-parameters, and which of them are best at which cost."""

from collections.abc import Iterable, Iterator
from typing import Any

from ase_mlcalc.campaigns import search
from ase_mlcalc.campaigns.config import ScanJob
from ase_mlcalc.campaigns.cost import measure_costs
from ase_mlcalc.campaigns.identity import claim, identity
from ase_mlcalc.campaigns.scan_plan import ScanPoint, check, corners, grid
from ase_mlcalc.campaigns.scan_plot import draw_scan
from ase_mlcalc.campaigns.scan_summary import ScanSummary, scores, summarize, write_scan
from ase_mlcalc.campaigns.trainings import make
from ase_mlcalc.files import exclusive, make_folder
from ase_mlcalc.workers import workers_lock

PICTURE = "scan.png"


def run_scan(job: ScanJob, *, progress: bool = True) -> ScanSummary:
    """Make all trainings of a scan, or go on where it was stopped, and sort them by their error.

    Trainings that are over are kept; those that were killed go on from their last state.  A training that fails, or
    whose process dies, is recorded and the others go on; the next call tries it again.

    Writes into the output folder: ``trainings/VALUES/seed-SEED/`` with the files of each training, ``logs/`` with what
    the processes printed, ``job.json`` with what the campaign is, ``costs.json``, and ``scan.json``, ``.csv``, ``.md``
    and ``.png`` with what came out.

    Parameters
    ----------
    job : ScanJob
    progress : bool
        Show a bar on a terminal, else a line for each training.

    Raises
    ------
    ConfigError
        The folder holds another campaign, or another process is at work in it; a key or a value that training or a
        model does not have; no Optuna for a search.
    DataError, ModelError, SpeciesError
        Data or a model that cannot be used; see `scan_plan.check`.
    MLCalcError
        Worker processes cannot be started.
    KeyboardInterrupt
        After the trainings at work were told to stop and the results say how far the campaign came.
    """
    searched = job.scan.method == "optuna"
    if searched:
        search.require_optuna()
    points = [] if searched else grid(job)
    possible = check(corners(job) if searched else points)
    make_folder(job.output)
    with exclusive(job.output), workers_lock(job.output) as lock:
        claim(job.output, _identity(job), _growing(job))
        proposed = _noted(search.trials(job, lambda earlier: scores(job, earlier)), points) if searched else points
        trainings = (training for each in proposed for training in each.trainings)
        total = (job.scan.trials or len(points)) * len(job.scan.seeds)
        try:
            make(trainings, total, job.scan, job.output, lock, executor=job.executor, shown=progress)
            measure_costs(job.output, points, possible.typical)
        finally:
            found = summarize(job, points, possible.n_measured)
            write_scan(found, job.output)
            draw_scan(job.output / PICTURE, found)
    return found


def _noted(proposed: Iterable[ScanPoint], points: list[ScanPoint]) -> Iterator[ScanPoint]:
    """Keep what a search proposes."""
    for each in proposed:
        points.append(each)
        yield each


def _identity(job: ScanJob) -> dict[str, Any]:
    """A search is also what it looks for; a table of a grid can be sorted by something else later."""
    free = {"workers", "threads", "trials"} | (set() if job.scan.method == "optuna" else {"objective"})
    return identity(job, {"output": True, "executor": True, "scan": free})


def _growing(job: ScanJob) -> set[str]:
    """Lists that may get longer.  A search would have gone another way with other values or seeds."""
    if job.scan.method == "optuna":
        return set()
    # a dotted key stands in the table of values as one name
    return {"scan.seeds", *(f"scan.values.{key}" for key in job.scan.values)}
