"""Training an ensemble: each member an ordinary run in a folder of its own, then one potential of all.

Members differ by their seed (initial weights, order of the structures) and, if asked for, by a bootstrap sample of the
training structures.  The validation structures are the same for all, so that the ensemble is measured and calibrated on
structures that no member was trained on.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from ase_mlcalc import checkpoint
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ConfigError, MLCalcError
from ase_mlcalc.files import exclusive, make_folder, write_text
from ase_mlcalc.training import closed_form
from ase_mlcalc.training.calibration import calibrations, compare_members, scales, write_calibration
from ase_mlcalc.training.config import TrainJob, resolved, to_toml
from ase_mlcalc.training.dataset import DataSet, load
from ase_mlcalc.training.delta import measured
from ase_mlcalc.training.figures import parity
from ase_mlcalc.training.metrics import Metrics, measure
from ase_mlcalc.training.progress import ProgressReport
from ase_mlcalc.training.result import TrainResult, read_result
from ase_mlcalc.training.start import members_in, resolve
from ase_mlcalc.training.state import CHECKPOINT_FILE, STATE_FILE
from ase_mlcalc.workers import Task, work_on, workers_lock

SEED_STEP = 1000
"""Between the seeds of two members, so that ensembles of neighbouring seeds share none."""
EVALUATION_SHARE = 0.05
"""Of `max_minutes`, kept for the evaluation of the ensemble."""
TRAIN_IN_WORKER = "ase_mlcalc.training.worker:train_member_here"
"""By its name: it imports what imports this module."""


class TrainOne(Protocol):
    """Trains a single potential."""

    def __call__(self, job: TrainJob, *, progress: bool = True) -> TrainResult:
        """See `ase_mlcalc.training.train`."""


def train(job: TrainJob, train_one: TrainOne, *, progress: bool = True) -> TrainResult:
    """Train the members of an ensemble, or go on where they were killed, and make one potential of them.

    Writes ``member-1/``, ``member-2/`` and so on into ``job.output``, then ``model.safetensors``, ``config.toml``,
    ``parity.png``, ``calibration.png`` and ``calibration.json`` where something that can be calibrated is labelled, and
    last ``metrics.json`` of the ensemble on the validation structures.  Finished members are not trained again.

    Parameters
    ----------
    job : TrainJob
        With ``train.members`` of at least 2.
    train_one : callable
        Trains one member.
    progress : bool
        Show what goes on.

    Returns
    -------
    TrainResult
        Of the ensemble; epochs are the mean, minutes the sum over the members.

    Raises
    ------
    ConfigError
        The folder holds a run of a single model, members with another configuration, or is being written to; members
        that nothing would make different.
    MLCalcError
        What training a member raises, with its number.
    """
    _refuse_equal_members(job)
    make_folder(job.output)
    with exclusive(job.output):
        _refuse_a_single_model(job.output)
        data = load(job.data)
        _, config, _ = resolve(member_jobs(job)[0], [*data.train, *data.validation])
        job = resolved(job, config)
        jobs = member_jobs(job)
        report = ProgressReport("", shown=progress)
        results = _train_all(job, jobs, train_one, report)
        write_text(job.output / "config.toml", to_toml(job))
        return _combine(job, jobs, results, data, report)


def _refuse_equal_members(job: TrainJob) -> None:
    if closed_form.wanted(job) and not job.train.bootstrap:
        raise ConfigError(
            f"model {job.model['name']!r} is solved in closed form, so that all members would be the same and their "
            "spread zero; set train.bootstrap = true, which gives each its own structures"
        )


def _refuse_a_single_model(folder: Path) -> None:
    made = folder / CHECKPOINT_FILE
    single = made.exists() and not isinstance(checkpoint.read_header(made), checkpoint.EnsembleHeader)
    if single or (folder / STATE_FILE).exists():
        raise ConfigError(f"{folder} holds the run of a single model; choose another output folder for an ensemble")


def member_jobs(job: TrainJob) -> list[TrainJob]:
    """The job of each member: its folder, its seed, its share of the time, and the one that it starts from.

    Raises
    ------
    ConfigError
        ``train.start_from`` is an ensemble of another size.
    """
    config = job.train
    starts = None if config.start_from is None else members_in(config.start_from)
    if starts not in (None, config.members):
        raise ConfigError(
            f"train.start_from = {config.start_from} holds {starts} potentials and train.members is {config.members}; "
            f"set it to {starts}, so that each member starts from its own"
        )
    rounds = -(-config.members // config.workers)
    minutes = None if config.max_minutes is None else config.max_minutes * (1 - EVALUATION_SHARE) / rounds
    jobs = []
    for number in range(1, config.members + 1):
        seed = config.seed + SEED_STEP * (number - 1)
        alone = {"seed": seed, "max_minutes": minutes, "members": 1, "bootstrap": False, "workers": 1}
        if starts is not None:
            alone["start_member"] = number
        data = job.data.model_copy(update={"bootstrap_seed": seed}) if config.bootstrap else job.data
        own = {"output": job.output / f"member-{number}", "data": data, "train": config.model_copy(update=alone)}
        jobs.append(job.model_copy(update=own))
    return jobs


def _train_all(
    job: TrainJob, jobs: Sequence[TrainJob], train_one: TrainOne, report: ProgressReport
) -> list[TrainResult]:
    if job.train.workers > 1:
        _train_at_once(job.output, jobs, job.train.workers, report)
    results = []
    for number, member in enumerate(jobs, 1):
        fresh = not _is_finished(member)
        if fresh:
            report.say(f"member {number} of {len(jobs)}, seed {member.train.seed}, into {member.output}")
        try:
            results.append(train_one(member, progress=report.shown and fresh))
        except MLCalcError as error:
            raise type(error)(f"member {number}: {error}") from error
    return results


def _is_finished(job: TrainJob) -> bool:
    return (job.output / "metrics.json").exists()


def _train_at_once(folder: Path, jobs: Sequence[TrainJob], workers: int, report: ProgressReport) -> None:
    """Several members side by side, each in a process with its share of the threads."""
    waiting = [(number, member) for number, member in enumerate(jobs, 1) if not _is_finished(member)]

    def tasks() -> Iterator[Task]:
        for number, member in waiting:
            report.say(f"member {number} of {len(jobs)}, seed {member.train.seed}; follow it in {member.output}")
            yield Task(TRAIN_IN_WORKER, {"job": member.model_dump(mode="json")})

    threads = max(1, torch.get_num_threads() // workers)
    with (
        workers_lock(folder) as lock,
        work_on(tasks(), workers, threads, folder / "logs", lock, lambda _: None) as work,
    ):
        for done in work:
            number, member = waiting[done.number]
            if done.error is not None:
                raise MLCalcError(f"member {number}: {done.error}; what it said before is in {member.output}")
            report.say(f"member {number} is trained")


def _combine(
    job: TrainJob, jobs: Sequence[TrainJob], results: Sequence[TrainResult], data: DataSet, report: ProgressReport
) -> TrainResult:
    """The ensemble of what was trained: evaluated, calibrated, written."""
    folder = job.output
    headers = [checkpoint.read_header(result.checkpoint) for result in results]
    weights = [header.weights_sha256 for header in headers]
    earlier = _finished(folder, weights)
    if earlier is not None:
        report.say(f"{folder} holds a finished ensemble; choose another folder to train anew")
        return earlier
    members = [checkpoint.load(result.checkpoint) for result in results]
    validation = measured(data.validation, job.data)
    compared = compare_members(Ensemble(members), validation, job.train.evaluation_batch_size)
    found = calibrations(compared)
    metrics = measure(compared.mean)
    each = [
        {
            "folder": one.output.name,
            "seed": one.train.seed,
            "weights_sha256": digest,
            **{name: getattr(own, name) for name in Metrics.model_fields if "_mae_" in name or "_rmse_" in name},
        }
        for one, digest, own in zip(jobs, weights, map(measure, compared.members), strict=True)
    ]
    provenance = {
        "data": [str(path) for path in job.data.train],
        "train": job.train.model_dump(mode="json"),
        "members": [header.provenance for header in headers],
    }
    checkpoint.save(Ensemble(members, scales(found)), folder / CHECKPOINT_FILE, provenance)
    parity(folder / "parity.png", compared.mean)
    if found:
        write_calibration(folder, compared, found, data="validation structures", n_members=len(members))
    result = TrainResult(
        folder / CHECKPOINT_FILE,
        metrics,
        sum(one.epochs for one in results) / len(results),
        sum(one.minutes for one in results),
        "; ".join(sorted({one.stopped for one in results})),
    )
    metrics.write(
        folder / "metrics.json", epochs=result.epochs, minutes=result.minutes, stopped=result.stopped, members=each
    )
    for name, one in found.items():
        rank = "" if one.rank_correlation is None else f", rank correlation with the error {one.rank_correlation:.2f}"
        report.say(f"spread of the {name}: rescaled by {one.scale:.3g}{rank}")
    report.say(f"wrote {result.checkpoint}, an ensemble of {len(members)}")
    return result


def _finished(folder: Path, weights: Sequence[str | None]) -> TrainResult | None:
    """The result of an earlier command, if it was made of the same members."""
    path = folder / "metrics.json"
    if not (path.exists() and (folder / CHECKPOINT_FILE).exists()):
        return None
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if [member["weights_sha256"] for member in raw["members"]] != list(weights):
        return None
    return read_result(folder)
