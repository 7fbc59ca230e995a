"""The training loop: from a job to a potential on disk, through any number of kills.

What a step does is in `_epoch`; everything that survives a step is in `TrainingState`; what ends a run is in `_last`.

Runs that are limited by ``max_epochs`` alone are functions of their configuration and data: on one kind of CPU with one
number of threads the weights are equal to the last bit, whether or not the run was interrupted.  With ``max_minutes``
the learning rate follows the clock, which is not reproducible.
"""

import copy
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ase.data import atomic_numbers

from ase_mlcalc import checkpoint
from ase_mlcalc.accelerate import with_kernels
from ase_mlcalc.accelerate.learning import kernel_slopes
from ase_mlcalc.data.audit import audit
from ase_mlcalc.data.baseline import fit_baseline
from ase_mlcalc.data.frames import Frame, Sample, collate, require, sources_of_labels, to_sample
from ase_mlcalc.data.levels import levels
from ase_mlcalc.errors import DataError, NumericalError
from ase_mlcalc.files import exclusive, make_folder, remove_leftovers, write_text
from ase_mlcalc.model import Model
from ase_mlcalc.plots import learning_curves
from ase_mlcalc.potential import Baseline, Derived, Potential, Slopes, derive
from ase_mlcalc.properties import Properties
from ase_mlcalc.training import delta, seen
from ase_mlcalc.training import state as states
from ase_mlcalc.training.config import TrainJob, resolved, to_toml
from ase_mlcalc.training.dataset import DataSet, load
from ase_mlcalc.training.ema import MovingAverage
from ase_mlcalc.training.figures import parity
from ase_mlcalc.training.log import log_row, log_text
from ase_mlcalc.training.loss import Loss, make_loss
from ase_mlcalc.training.metrics import Comparison, Metrics, compare, measure
from ase_mlcalc.training.optimizers import make_optimizer
from ase_mlcalc.training.progress import ProgressReport
from ase_mlcalc.training.reproducible import deterministic, find_device, seeded
from ase_mlcalc.training.schedule import Budget, learning_rate_factor
from ase_mlcalc.training.start import Start, freeze_all_but, in_words, resolve, take_over
from ase_mlcalc.training.state import CHECKPOINT_FILE, Fingerprint, TrainingState

CHECK_EVERY_STEPS = 20
"""Steps between two looks at whether the loss is still a number; looking makes a GPU wait."""
VALIDATION_SHARE = 0.05
"""Part of the time, for `TrainConfig.validate_every`; evaluating a structure takes a third of training on it."""
ATOMS_PER_STEP = 80
"""For `TrainConfig.batch_size`; more small steps learn faster in a given time than fewer large ones."""
MAX_BATCH = 32
PICTURES_S = 5.0
"""Kept free at the end of a run for pictures and files."""
MAX_RESERVE = 0.3
"""The largest part of `max_minutes` that is kept free for the evaluation at the end."""


class TrainResult(NamedTuple):
    """What a training run came to."""

    checkpoint: Path
    """``model.safetensors``: the moving average of the weights at the best validation."""
    metrics: Metrics
    """Errors of the checkpoint on all validation structures."""
    epochs: float
    """Passes over the training structures."""
    minutes: float
    """Wall time of all processes that worked on the run."""
    stopped: str
    """Why training ended."""
    test: Metrics | None = None
    """Errors on the test structures of the job, if it has some."""


class _Structures(NamedTuple):
    """What is read and built once, before the first step."""

    train: list[Sample]
    """On the device of the model."""
    validation: list[Sample]
    groups: list[str]
    """Of the validation structures."""
    watched: int
    """How many of the validation structures, from the front, are used while training goes on."""
    batch_size: int
    """Training structures per step."""


@dataclass
class _Run:
    """A run in this process."""

    job: TrainJob
    fingerprint: Fingerprint
    structures: _Structures
    baseline: Baseline
    loss: Loss
    labels: dict[str, dict[str, list[str]]]
    """Where those that are trained on came from."""
    levels: list[str]
    """Of theory, as far as the training structures say."""
    seen: list[str]
    """Marks of all structures that weights or epoch are chosen by."""
    state: TrainingState
    slopes: Slopes | None
    """What differentiates the model in place of autograd, if anything does."""
    budget: Budget
    peak_rates: list[float]
    """Learning rates of the optimiser's parameter groups before the schedule."""
    report: ProgressReport


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
    make_folder(job.output)
    with exclusive(job.output):
        seen_before, data = data is not None, load(job.data) if data is None else data
        model_class, config, start = resolve(job, [*data.train, *data.validation])
        job = resolved(job, config)
        fingerprint = Fingerprint(delta.fingerprint(data, job.data), None if start is None else start.sha256)
        saved = states.read(job, fingerprint)
        remove_leftovers(job.output)
        with ProgressReport(f"training {job.model['name']}", shown=progress) as report:
            if saved is not None and saved["stopped"] and (job.output / "metrics.json").exists():
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
                run = _begin(job, data, fingerprint, model, start, budget, report)
                if saved is not None:
                    _resume(run, saved)
                _run_epochs(run)
                return _finish(run)


def point_out_problems(data: DataSet, report: ProgressReport) -> None:
    """Say what is wrong with the data.  Training goes on: its user may know better."""
    once = {id(frame): frame for frame in (*data.train, *data.validation)}  # a bootstrap sample repeats itself
    problems = audit(list(once.values())).problems
    for problem in problems:
        if problem.severity == "error":
            report.say(f"error in the data: {problem.message}")
    warnings = sum(problem.severity == "warning" for problem in problems)
    if warnings:
        report.say(f"{warnings} warning{'s' * (warnings > 1)} about the data, which `ase-mlcalc check-data` shows")


def _begin(
    job: TrainJob,
    data: DataSet,
    fingerprint: Fingerprint,
    model: Model,
    start: Start | None,
    budget: Budget,
    report: ProgressReport,
) -> _Run:
    """Everything as it is before the first step."""
    config = job.train
    fresh = [] if start is None else take_over(model, start)
    fixed = [] if config.learn is None else freeze_all_but(model, config.learn)
    isolated = {atomic_numbers[symbol]: energy for symbol, energy in job.data.isolated_energy_eV.items()}
    baseline = fit_baseline(data.train, isolated)
    if start is not None:
        baseline = start.scaled(baseline)
    loss = make_loss(config.loss, model.outputs, data.train, baseline)
    validation = _labelled_first(data.validation, loss)
    samples = _samples(data.train, model, loss)
    structures = _Structures(
        train=samples,
        validation=[to_sample(frame, model.config.cutoff) for frame in validation],
        groups=[frame.group for frame in validation],
        watched=min(config.validation_limit, len(validation)),
        batch_size=config.batch_size or _batch_size(samples),
    )
    slopes, why = kernel_slopes(model) if config.kernel else (None, "train.kernel is false")
    optimizer = make_optimizer(model, config)
    state = TrainingState(model, MovingAverage(model, config.ema_decay), optimizer)
    run = _Run(
        job=job,
        fingerprint=fingerprint,
        structures=structures,
        baseline=baseline,
        loss=loss,
        labels=sources_of_labels(data.train, loss.weights),
        levels=[level for level in levels(data.train) if level],
        seen=seen.marks([*data.train, *data.validation]),
        state=state,
        slopes=slopes,
        budget=budget,
        peak_rates=[group["lr"] for group in optimizer.param_groups],
        report=report,
    )
    budget.reserve_s = _seconds_at_end(run)
    write_text(job.output / "config.toml", to_toml(job))
    weights = ", ".join(f"{name} {weight:g}" for name, weight in loss.weights.items())
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    n_fixed = sum(model.get_parameter(name).numel() for name in fixed)
    if start is not None:
        new = f"; {len(fresh)} parameters begin at random ({in_words(fresh)})" if fresh else ""
        report.say(f"starting from {start.path}{_of_levels(start.levels, data.train)}{new}")
    if job.data.base is not None:
        report.say(f"learning the difference to {job.data.base.model or job.data.base.calculator}")
    some_fixed = f" ({n_fixed} fixed)" if fixed else ""
    report.say(
        f"{model.name}, {n_parameters} parameters{some_fixed}, {config.dtype} on {model.device}; "
        f"{len(structures.train)} training structures{_left_out(data, structures)}, "
        f"{structures.batch_size} per step, {len(validation)} for validation; loss: {weights}"
    )
    if model.name == "equivariant" and slopes is None and model.device.type == "cpu":
        report.say(f"trained by torch alone, which takes several times as long as by the kernel in C++: {why}")
    return run


def _of_levels(before: Sequence[str], frames: Sequence[Frame]) -> str:
    """Levels of theory before and now, if both are known."""
    now = [level for level in levels(frames) if level]
    return f", from {' and '.join(before)} to {' and '.join(now)}" if before and now else ""


def _batch_size(samples: list[Sample]) -> int:
    atoms_each = sum(sample.graph.n_atoms for sample in samples) / len(samples)
    return min(MAX_BATCH, max(1, round(ATOMS_PER_STEP / atoms_each)))


def _left_out(data: DataSet, structures: _Structures) -> str:
    count = len(data.train) - len(structures.train)
    return f" ({count} more have no label that is used)" if count else ""


def _labelled_first(validation: list[Frame], loss: Loss) -> list[Frame]:
    """Validation structures with those in front that have a label of the loss; there must be some.

    Without one, no weights could be called the best.
    """
    order = sorted(validation, key=lambda frame: not frame.labels.given() & loss.weights.keys())
    if not order[0].labels.given() & loss.weights.keys():
        require(validation, frozenset(loss.weights))
    return order


def _samples(frames: list[Frame], model: Model, loss: Loss) -> list[Sample]:
    """Graphs on the device of the model, with those labels only that the loss uses."""
    samples = []
    for frame in frames:
        graph, labels = to_sample(frame, model.config.cutoff)
        used = {name: getattr(labels, name) for name in loss.weights}
        kept = Properties(**{name: None if label is None else label.to(model.device) for name, label in used.items()})
        if kept.given():
            samples.append(Sample(graph.to(model.device), kept))
    if not samples:
        raise DataError("no training structure has a label that the loss uses")
    return samples


def _seconds_at_end(run: _Run) -> float:
    """How long the last validation, the evaluation and the pictures will take, judged by one batch."""
    config = run.job.train
    if config.max_minutes is None:
        return 0.0
    batch = run.structures.validation[: config.evaluation_batch_size]
    begin = time.monotonic()
    compare(_potential(run, run.state.average.model), batch, [""] * len(batch), len(batch))
    per_structure = (time.monotonic() - begin) / len(batch)
    expected = per_structure * (run.structures.watched + len(run.structures.validation)) + PICTURES_S
    return min(expected, MAX_RESERVE * 60 * config.max_minutes)


def _resume(run: _Run, saved: dict[str, object]) -> None:
    """Go on where the state file was written, and bring checkpoint and log back to it."""
    run.state.restore(saved)
    run.budget.elapsed_before_s = run.state.elapsed_s
    _write_derived(run)
    run.report.say(f"resumed after epoch {run.state.epoch} and {run.state.elapsed_s / 60:.1f} min")


def _run_epochs(run: _Run) -> None:
    config, state = run.job.train, run.state
    validate_every = config.validate_every or math.ceil(
        run.structures.watched / (3 * VALIDATION_SHARE * len(run.structures.train))
    )
    saved_at = -math.inf
    while state.stopped is None:
        train_loss, fraction = _epoch(run)
        state.epoch += fraction == 1.0
        epochs = state.epoch + (fraction if fraction < 1.0 else 0.0)
        last = _last(run)
        if last is not None or state.epoch % validate_every == 0:
            _validate(run, epochs, train_loss)
            last = last or _impatient(run)
        state.stopped = last
        state.elapsed_s = run.budget.elapsed_s
        if last is not None or time.monotonic() - saved_at >= config.save_interval_s:
            _save(run)
            saved_at = time.monotonic()


def _last(run: _Run) -> str | None:
    """Why no further epoch is begun, if so."""
    config = run.job.train
    if config.max_epochs is not None and run.state.epoch >= config.max_epochs:
        return f"{config.max_epochs} epochs done"
    if run.budget.out_of_time:
        return f"{config.max_minutes:g} minutes used"
    return None


def _impatient(run: _Run) -> str | None:
    config = run.job.train
    if config.patience is not None and run.state.since_best >= config.patience:
        return f"no improvement in {config.patience} validations"
    return None


def _epoch(run: _Run) -> tuple[float, float]:
    """One pass over the training structures; returns the mean loss and how much was done before time ran out."""
    config, state, samples = run.job.train, run.state, run.structures.train
    order = np.random.default_rng([config.seed, state.epoch]).permutation(len(samples))
    batches = np.array_split(order, math.ceil(len(samples) / run.structures.batch_size))  # no tiny batch at the end
    watch = torch.zeros(2, dtype=torch.float64, device=state.model.device)  # sums of loss and gradient norm
    state.model.train()
    with seeded([config.seed, state.epoch, 1], state.model.device):
        for done, batch in enumerate(batches):
            progress = run.budget.progress(state.epoch + done / len(batches))
            _set_learning_rate(run, progress)
            watch += _step(run, collate([samples[k] for k in batch.tolist()]))
            state.average.update(state.step)
            state.step += 1
            run.report.update(progress)
            fraction = (done + 1) / len(batches)
            out_of_time = run.budget.out_of_time
            if (done + 1) % CHECK_EVERY_STEPS == 0 or fraction == 1.0 or out_of_time:
                _require_finite(run, watch)
            if out_of_time:
                break
    return float(watch[0]) / (done + 1), fraction


def _set_learning_rate(run: _Run, progress: float) -> None:
    config = run.job.train
    factor = learning_rate_factor(
        progress,
        run.state.step,
        schedule=config.schedule,
        warmup_steps=config.warmup_steps,
        decay_from=config.decay_from,
    )
    for group, peak in zip(run.state.optimizer.param_groups, run.peak_rates, strict=True):
        group["lr"] = peak * factor


def _step(run: _Run, batch: Sample) -> torch.Tensor:
    """One step of the optimiser; returns loss and gradient norm (2,)."""
    model, optimizer = run.state.model, run.state.optimizer
    optimizer.zero_grad(set_to_none=True)
    prediction = derive(model, batch.graph, run.baseline, create_graph=True, slopes=run.slopes)
    loss = run.loss(prediction, batch.labels, batch.graph.system)
    if not loss.requires_grad:  # isolated atoms only: nothing in the batch depends on the weights
        return torch.stack([loss, torch.zeros_like(loss)])
    # by name, so that nothing is computed for edge vectors and fixed parameters
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss.backward(inputs=learned)
    clip = run.job.train.gradient_clip or math.inf
    norm = torch.nn.utils.clip_grad_norm_(learned, clip)
    optimizer.step()
    return torch.stack([loss.detach(), norm.double()])


def _require_finite(run: _Run, watch: torch.Tensor) -> None:
    if bool(watch.isfinite().all()):
        return
    what = "gradient of the loss" if bool(watch[0].isfinite()) else "loss"
    saved = (run.job.output / CHECKPOINT_FILE).exists()
    kept = f"what was saved before is kept in {run.job.output}" if saved else "nothing was saved"
    raise NumericalError(
        f"the {what} became NaN or Inf in epoch {run.state.epoch + 1} (step {run.state.step}); {kept}: lower "
        f"train.learning_rate (now {run.job.train.learning_rate:g}) or train.gradient_clip in a new folder, and look "
        "for outliers with `ase-mlcalc check-data`"
    )


def _validate(run: _Run, epochs: float, train_loss: float) -> None:
    """Measure the moving average of the weights, note it in the log, and keep it if it is the best so far."""
    state, watched = run.state, run.structures.watched
    comparison = _compare(
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
    _write_log(run)
    run.report.validated(row, run.budget.progress(epochs), best=best)


def _compare(run: _Run, model: Model, samples: list[Sample], groups: list[str]) -> Comparison:
    return compare(_potential(run, model), samples, groups, run.job.train.evaluation_batch_size)


def _potential(run: _Run, model: Model) -> Potential:
    """A model with its weights as they are now."""
    potential = Derived(model, run.baseline)
    return potential if run.slopes is None else with_kernels(potential)


def _write_log(run: _Run) -> None:
    if run.state.rows:
        write_text(run.job.output / "log.csv", log_text(run.state.rows))


def _save(run: _Run) -> None:
    run.state.write(run.job.output, run.job, run.fingerprint)
    _write_derived(run)


def _write_derived(run: _Run) -> None:
    """Checkpoint and log as the state has them."""
    _write_log(run)
    if run.state.best_weights is not None:
        whole = delta.completed(Derived(_best_model(run), run.baseline), run.job.data)
        checkpoint.save(whole, run.job.output / CHECKPOINT_FILE, _provenance(run))


def _best_model(run: _Run) -> Model:
    assert run.state.best_weights is not None  # there is a validation before every end
    model = copy.deepcopy(run.state.average.model)
    model.load_state_dict(run.state.best_weights)
    return model


def _provenance(run: _Run) -> dict[str, object]:
    return {
        "data": [str(path) for path in run.job.data.train],
        "data_sha256": run.fingerprint.data,
        "started_from_sha256": run.fingerprint.start,
        "n_training_structures": len(run.structures.train),
        "labels": run.labels,
        "level_of_theory": run.levels,
        seen.KEY: run.seen,
        "base": None if run.job.data.base is None else run.job.data.base.model_dump(mode="json"),
        "label_keys": run.job.data.keys.model_dump(mode="json"),
        "loss_weights": dict(run.loss.weights),
        "best_epoch": run.state.best_epoch,
        "train": run.job.train.model_dump(mode="json"),
    }


def _finish(run: _Run) -> TrainResult:
    """Evaluate the best weights on all validation structures and draw the pictures; metrics come last."""
    folder, state = run.job.output, run.state
    comparison = _compare(run, _best_model(run), run.structures.validation, run.structures.groups)
    metrics = measure(comparison)
    parity(folder / "parity.png", comparison)
    learning_curves(folder / "learning_curves.png", state.rows)
    minutes = run.budget.elapsed_s / 60
    epochs = state.rows[-1]["epoch"]
    metrics.write(
        folder / "metrics.json", epochs=epochs, best_epoch=state.best_epoch, minutes=minutes, stopped=state.stopped
    )
    run.report.say(
        f"{state.stopped}; best after epoch {state.best_epoch:g}; {minutes:.1f} min; wrote {folder / CHECKPOINT_FILE}"
    )
    assert state.stopped is not None
    return TrainResult(folder / CHECKPOINT_FILE, metrics, epochs, minutes, state.stopped)


def read_result(folder: Path) -> TrainResult:
    """The result of a run that ended earlier."""
    raw = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics = Metrics.model_validate(raw)
    return TrainResult(folder / CHECKPOINT_FILE, metrics, raw["epochs"], raw["minutes"], raw["stopped"])
