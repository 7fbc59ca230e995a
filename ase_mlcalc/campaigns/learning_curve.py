"""`run_learning_curve`: trainings on more and more structures, and how their errors fall."""

from typing import Any

from ase_mlcalc.campaigns.config import LearningCurveJob
from ase_mlcalc.campaigns.curve_plan import CurvePlan, plan
from ase_mlcalc.campaigns.curve_plot import draw_learning_curve
from ase_mlcalc.campaigns.curve_summary import LearningCurve, summarize, write_learning_curve
from ase_mlcalc.campaigns.identity import claim, identity
from ase_mlcalc.campaigns.trainings import make
from ase_mlcalc.files import exclusive, make_folder
from ase_mlcalc.workers import workers_lock

GROWING = ("learning_curve.sizes", "learning_curve.seeds", "learning_curve.models")
PICTURE = "learning_curve.png"
_FREE: dict[str, Any] = {
    "output": True,
    "executor": True,
    "model": True,
    "train": {"max_epochs"},
    "learning_curve": {"workers", "threads", "steps"},
}
"""Keys that change how a learning curve is made and not what its trainings are, or that others say."""


def run_learning_curve(job: LearningCurveJob, *, progress: bool = True) -> LearningCurve:
    """Make all trainings of a learning curve, or go on where it was stopped, and say how the errors fall.

    Trainings that are over are kept; those that were killed go on from their last state.  A training that fails, or
    whose process dies, is recorded and the others go on; the next call tries it again.

    Writes into the output folder: ``trainings/MODEL/SIZE/seed-SEED/`` with the files of each training, ``logs/`` with
    what the processes printed, ``job.json`` with what the campaign is, and ``learning_curve.json``, ``.csv``, ``.md``
    and ``.png`` with what came out.

    Parameters
    ----------
    job : LearningCurveJob
    progress : bool
        Show a bar on a terminal, else a line for each training.

    Raises
    ------
    ConfigError
        The folder holds another campaign, or another process is at work in it; a wrong key of a model.
    DataError, ModelError, SpeciesError
        Data or a model that cannot be used; see `curve_plan.plan`.
    MLCalcError
        Worker processes cannot be started.
    KeyboardInterrupt
        After the trainings at work were told to stop and the results say how far the campaign came.
    """
    planned = plan(job)
    folder = job.output
    make_folder(folder)
    with exclusive(folder), workers_lock(folder) as lock:
        claim(folder, _identity(job, planned), GROWING)
        trainings = [one.training for one in planned.trainings]
        try:
            make(trainings, len(trainings), job.learning_curve, folder, lock, executor=job.executor, shown=progress)
        finally:
            found = summarize(job, planned)
            write_learning_curve(found, folder)
            draw_learning_curve(folder / PICTURE, found)
    return found


def _identity(job: LearningCurveJob, planned: CurvePlan) -> dict[str, Any]:
    """Models by their names, however they were given, and what every training does."""
    raw = identity(job, _FREE)
    raw["learning_curve"] |= {"models": job.models, "steps": planned.steps}
    raw["train"]["batch_size"] = planned.batch_size
    return raw
