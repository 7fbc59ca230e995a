"""The training loop: from a job to a potential on disk, through any number of kills.

What is there before the first step is made in `begin`; what a step does is in `steps`; everything that survives a step
is in `state.TrainingState`; what is left on disk in `written`; what ends a run is in `_last`.

Runs that are limited by ``max_epochs`` alone are functions of their configuration and data: on one kind of CPU with one
number of threads the weights are equal to the last bit, whether or not the run was interrupted.  With ``max_minutes``
the learning rate follows the clock, which is not reproducible.
"""

import math
import time
from contextlib import nullcontext

import torch

from ase_mlcalc.files import exclusive, make_folder, remove_leftovers
from ase_mlcalc.training import delta
from ase_mlcalc.training import state as states
from ase_mlcalc.training.begin import begin, point_out_problems
from ase_mlcalc.training.config import TrainJob, resolved
from ase_mlcalc.training.dataset import DataSet, load
from ase_mlcalc.training.log import log_row
from ase_mlcalc.training.metrics import measure
from ase_mlcalc.training.processes import here
from ase_mlcalc.training.progress import ProgressReport
from ase_mlcalc.training.reproducible import deterministic, find_device, seeded
from ase_mlcalc.training.result import TrainResult, read_result
from ase_mlcalc.training.run import Run, compared, out_of_time
from ase_mlcalc.training.schedule import Budget
from ase_mlcalc.training.start import resolve
from ase_mlcalc.training.state import Fingerprint
from ase_mlcalc.training.steps import run_epoch
from ase_mlcalc.training.written import finish, save, write_derived, write_log

VALIDATION_SHARE = 0.05
"""Part of the time, for `TrainConfig.validate_every`; evaluating a structure takes a third of training on it."""


def train(
    job: TrainJob, *, progress: bool = True, data: DataSet | None = None, started: float | None = None
) -> TrainResult:
    """Train a potential, or go on with a run that was killed.

    Writes into ``job.output``: ``model.safetensors``, ``log.csv``, ``config.toml`` (every value in use),
    ``learning_curves.png``, ``parity.png``, ``training_state.pt``, and last ``metrics.json``.  A finished run is left
    as it is.

    Parameters
    ----------
    job : TrainJob
    progress : bool
        Show a progress bar on a terminal, or else a line per validation.
    data : DataSet, optional
        What `load` makes of ``job.data``, if it has been read and looked at before.
    started : float, optional
        `time.monotonic` from when on time counts as spent on this run; default now.

    Raises
    ------
    ConfigError
        The folder holds a run with another configuration or other data, or is being written to; a wrong key of the
        model; a ``train.start_from`` or ``train.learn`` that does not fit it.
    DataError, StructureError, SpeciesError, ModelError
        Data or model that cannot be used; see `load`, `make_loss`, `start.resolve`.
    NumericalError
        The loss became NaN or Inf; the last good state and checkpoint are kept.
    """
    started = time.monotonic() if started is None else started
    processes = here()
    make_folder(job.output)
    with exclusive(job.output) if processes.first else nullcontext(), processes.together():
        seen_before, data = data is not None, load(job.data) if data is None else data
        model_class, config, start = resolve(job, [*data.train, *data.validation])
        job = resolved(job, config)
        fingerprint = Fingerprint(delta.fingerprint(data, job.data), None if start is None else start.sha256)
        saved = states.read(job, fingerprint)
        finished = saved is not None and bool(saved["stopped"]) and (job.output / "metrics.json").exists()
        processes.wait()  # all have looked before the first one writes
        if processes.first:
            remove_leftovers(job.output)
        with ProgressReport(f"training {job.model['name']}", shown=progress and processes.first) as report:
            if saved is not None and finished:
                report.say(
                    f"{job.output} holds a finished run ({saved['stopped']}); choose another folder to train anew"
                )
                return read_result(job.output)
            if saved is None and not seen_before:
                point_out_problems(data, report)
            data = delta.learned(data, job.data)
            device = find_device(job.train.device)
            with seeded([job.train.seed], device):
                model = model_class(config)
            model.to(device=device, dtype=getattr(torch, job.train.dtype))
            delta.try_out(model, job.data)
            with deterministic(device):
                budget = Budget(job.train.max_epochs, job.train.max_minutes, started)
                run = begin(job, data, fingerprint, model, start, budget, report, processes)
                if saved is not None:
                    _resume(run, saved)
                _run_epochs(run)
                return finish(run)


def _run_epochs(run: Run) -> None:
    config, state = run.job.train, run.state
    validate_every = config.validate_every or math.ceil(
        run.structures.watched / (3 * VALIDATION_SHARE * len(run.structures.train))
    )
    saved_at = -math.inf
    while state.stopped is None:
        train_loss, fraction = run_epoch(run)
        state.epoch += fraction == 1.0
        epochs = state.epoch + (fraction if fraction < 1.0 else 0.0)
        last = _last(run)
        if last is not None or state.epoch % validate_every == 0:
            _validate(run, epochs, train_loss)
            last = last or _impatient(run)
        state.stopped = last
        state.elapsed_s = run.budget.elapsed_s
        if last is not None or time.monotonic() - saved_at >= config.save_interval_s:
            save(run)
            saved_at = time.monotonic()


def _resume(run: Run, saved: dict[str, object]) -> None:
    """Go on where the state file was written, and bring checkpoint and log back to it."""
    run.state.restore(saved)
    run.budget.elapsed_before_s = run.state.elapsed_s
    write_derived(run)
    run.report.say(f"resumed after epoch {run.state.epoch} and {run.state.elapsed_s / 60:.1f} min")


def _last(run: Run) -> str | None:
    """Why no further epoch is begun, if so."""
    config = run.job.train
    if config.max_epochs is not None and run.state.epoch >= config.max_epochs:
        return f"{config.max_epochs} epochs done"
    if out_of_time(run):
        return f"{config.max_minutes:g} minutes used"
    return None


def _impatient(run: Run) -> str | None:
    config = run.job.train
    if config.patience is not None and run.state.since_best >= config.patience:
        return f"no improvement in {config.patience} validations"
    return None


def _validate(run: Run, epochs: float, train_loss: float) -> None:
    """Measure the moving average of the weights, note it in the log, and keep it if it is the best so far."""
    state, watched = run.state, run.structures.watched
    comparison = compared(
        run, run.state.average.model, run.structures.validation[:watched], run.structures.groups[:watched]
    )
    metrics = measure(comparison)
    score = float(run.loss(comparison.prediction, comparison.labels, comparison.system))
    best = score < state.best_score
    if best:
        state.best_weights = {name: tensor.clone() for name, tensor in state.average.model.state_dict().items()}
        state.best_score, state.best_epoch, state.since_best = score, epochs, 0
    else:
        state.since_best += 1
    row = log_row(
        metrics,
        epoch=round(epochs, 3),
        step=state.step,
        minutes=round(run.budget.elapsed_s / 60, 4),
        train_loss=train_loss,
        val_loss=score,
        learning_rate=state.optimizer.param_groups[0]["lr"],
    )
    state.rows.append(row)
    write_log(run)
    run.report.validated(row, run.budget.progress(epochs), best=best)
