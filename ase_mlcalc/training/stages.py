"""Training part by part: each stage is a run of its own that starts from the best weights of the one before.

Stages lie in ``stage-1-NAME/``, ``stage-2-NAME/``, ...; the last one in the folder of the job itself.  Each can be
killed and goes on when the job is started again.  What a stage learns is said by the model, in `Model.stages`.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.files import write_text
from ase_mlcalc.model import Model, Stage, lookup
from ase_mlcalc.training import loop
from ase_mlcalc.training.begin import point_out_problems
from ase_mlcalc.training.config import TrainJob, resolve_model, to_toml
from ase_mlcalc.training.dataset import load
from ase_mlcalc.training.processes import here
from ase_mlcalc.training.progress import ProgressReport
from ase_mlcalc.training.result import TrainResult

JOB_FILE = "stages.toml"
"""The whole job, in the folder of the job; ``config.toml`` there is that of the last stage."""


def wanted(job: TrainJob) -> bool:
    """Whether a job is to be trained in stages: its model has them, and the job does not say itself what to learn."""
    own_way = job.train.start_from is not None or job.train.learn is not None
    declares = lookup(job.model["name"]).stages.__func__ is not Model.stages.__func__  # type: ignore[attr-defined]
    return job.train.stages and declares and not own_way


def train(job: TrainJob, *, progress: bool = True) -> TrainResult:
    """Train a model in its stages, or go on with the stage that was killed; see `loop.train` for files and errors.

    ``max_minutes`` and ``max_epochs`` are shared out over the stages.  A stage that ends early leaves its time unused,
    so that all stages are the same whether or not they were interrupted.

    Returns
    -------
    TrainResult
        Of the last stage, with the epochs and minutes of all.
    """
    began = time.monotonic()
    data = load(job.data)
    model_class, config = resolve_model(job.model, [*data.train, *data.validation])
    plan = model_class.stages(config)
    if len(plan) == 1:
        return loop.train(job, progress=progress, started=began)
    folders = [job.output / f"stage-{k}-{stage.name}" for k, stage in enumerate(plan[:-1], start=1)] + [job.output]
    shares = shared_out(job, [stage.share for stage in plan])
    results: list[TrainResult] = []
    with ProgressReport("stages", shown=progress and here().first) as report:
        if not folders[0].exists():
            point_out_problems(data, report)
    reading_s = time.monotonic() - began
    for number, (stage, folder, (epochs, minutes)) in enumerate(zip(plan, folders, shares, strict=True), start=1):
        last = number == len(plan)
        done = (folder / "metrics.json").exists() and not last
        if progress and here().first:
            print(f"stage {number} of {len(plan)}: {stage.name}{f' is done, in {folder}' if done else ''}", flush=True)
        part = stage_job(job, stage, folder, results[-1].checkpoint if results else None, epochs, minutes)
        # the longest stage pays for reading the data, which would leave a short one nothing
        started = time.monotonic() - (reading_s if last else 0.0)
        try:
            results.append(loop.train(part, progress=progress and not done, data=data, started=started))
        except ConfigError as error:
            raise ConfigError(f"stage {number} ({stage.name}, its share of epochs and minutes): {error}") from error
    if here().first:
        write_text(job.output / JOB_FILE, to_toml(job))
    return results[-1]._replace(
        epochs=sum(each.epochs for each in results), minutes=sum(each.minutes for each in results)
    )


def stage_job(
    job: TrainJob, stage: Stage, folder: Path, start: Path | None, epochs: int | None, minutes: float | None
) -> TrainJob:
    """One stage as a job of its own.

    Parameters
    ----------
    job : TrainJob
        The whole.
    stage : Stage
    folder : Path
    start : Path or None
        Checkpoint of the stage before.
    epochs, minutes : or None
        Its share of the run.
    """
    limits = {"max_epochs": epochs, "max_minutes": minutes, "stages": False}
    return job.model_copy(
        update={
            "output": folder,
            "model": {"name": job.model["name"], **stage.config.model_dump(mode="json")},
            "train": job.train.model_copy(update={**limits, "start_from": start, "learn": stage.learned}),
        }
    )


def shared_out(job: TrainJob, shares: Sequence[float]) -> list[tuple[int | None, float | None]]:
    """Epochs and minutes of each stage; every stage has one epoch at least."""
    parts = [share / sum(shares) for share in shares]
    epochs, minutes = job.train.max_epochs, job.train.max_minutes
    return [
        (None if epochs is None else max(1, round(part * epochs)), None if minutes is None else part * minutes)
        for part in parts
    ]
