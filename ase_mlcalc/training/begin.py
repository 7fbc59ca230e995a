"""Everything as it is before the first step of a training run."""

import time
from collections.abc import Sequence

from ase.data import atomic_numbers

from ase_mlcalc.accelerate.learning import kernel_slopes
from ase_mlcalc.data.audit import audit
from ase_mlcalc.data.baseline import fit_baseline
from ase_mlcalc.data.definitions import refuse_other_definitions, what_is_not_named
from ase_mlcalc.data.frames import Frame, Sample, require, sources_of_labels, to_sample
from ase_mlcalc.data.levels import levels
from ase_mlcalc.errors import DataError
from ase_mlcalc.files import write_text
from ase_mlcalc.model import Model
from ase_mlcalc.properties import Properties
from ase_mlcalc.training import seen
from ase_mlcalc.training.config import TrainJob, to_toml
from ase_mlcalc.training.dataset import DataSet
from ase_mlcalc.training.ema import MovingAverage
from ase_mlcalc.training.loss import Loss, make_loss
from ase_mlcalc.training.metrics import compare
from ase_mlcalc.training.optimizers import make_optimizer
from ase_mlcalc.training.processes import Processes
from ase_mlcalc.training.progress import ProgressReport
from ase_mlcalc.training.run import Run, Structures, potential_of
from ase_mlcalc.training.schedule import Budget
from ase_mlcalc.training.start import Start, freeze_all_but, in_words, take_over
from ase_mlcalc.training.state import Fingerprint, TrainingState

ATOMS_PER_STEP = 80
"""For `TrainConfig.batch_size`; more small steps learn faster in a given time than fewer large ones."""
MAX_BATCH = 32
PICTURES_S = 5.0
"""Kept free at the end of a run for pictures and files."""
MAX_RESERVE = 0.3
"""The largest part of `max_minutes` that is kept free for the evaluation at the end."""


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


def begin(
    job: TrainJob,
    data: DataSet,
    fingerprint: Fingerprint,
    model: Model,
    start: Start | None,
    budget: Budget,
    report: ProgressReport,
    processes: Processes,
) -> Run:
    """Everything as it is before the first step."""
    config = job.train
    fresh = [] if start is None else take_over(model, start)
    fixed = [] if config.learn is None else freeze_all_but(model, config.learn)
    isolated = {atomic_numbers[symbol]: energy for symbol, energy in job.data.isolated_energy_eV.items()}
    baseline = fit_baseline(data.train, isolated)
    if start is not None:
        baseline = start.scaled(baseline)
    loss = make_loss(config.loss, model.outputs, data.train, baseline)
    if "stresses" in loss.weights:
        refuse_other_definitions([*data.train, *data.validation], model.outputs)
        unknown = what_is_not_named(data.train) if "stresses" in model.outputs else ""
        if unknown:
            report.say(f"warning: {unknown}")
    validation = _labelled_first(data.validation, loss)
    samples = _samples(data.train, model, loss)
    structures = Structures(
        train=samples,
        validation=[to_sample(frame, model.config.cutoff) for frame in validation],
        groups=[frame.group for frame in validation],
        watched=min(config.validation_limit, len(validation)),
        batch_size=config.batch_size or _batch_size(samples),
    )
    slopes, why = kernel_slopes(model, report.say) if config.kernel else (None, "train.kernel is false")
    optimizer = make_optimizer(model, config)
    state = TrainingState(model, MovingAverage(model, config.ema_decay), optimizer)
    run = Run(
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
        processes=processes,
    )
    budget.reserve_s = _seconds_at_end(run)
    if processes.first:
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
        f"{structures.batch_size} per step{_in_processes(processes)}, {len(validation)} for validation; "
        f"loss: {weights}"
    )
    if model.name == "equivariant" and slopes is None and model.device.type == "cpu":
        report.say(f"trained by torch alone, which takes several times as long as by the kernel in C++: {why}")
    return run


def _in_processes(processes: Processes) -> str:
    return f" by {processes.size} processes" if processes.size > 1 else ""


def _of_levels(before: Sequence[str], frames: Sequence[Frame]) -> str:
    """Levels of theory before and now, if both are known."""
    now = [level for level in levels(frames) if level]
    return f", from {' and '.join(before)} to {' and '.join(now)}" if before and now else ""


def _batch_size(samples: list[Sample]) -> int:
    atoms_each = sum(sample.graph.n_atoms for sample in samples) / len(samples)
    return min(MAX_BATCH, max(1, round(ATOMS_PER_STEP / atoms_each)))


def _left_out(data: DataSet, structures: Structures) -> str:
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


def _seconds_at_end(run: Run) -> float:
    """How long the last validation, the evaluation and the pictures will take, judged by one batch."""
    config = run.job.train
    if config.max_minutes is None:
        return 0.0
    batch = run.structures.validation[: config.evaluation_batch_size]
    begin = time.monotonic()
    compare(potential_of(run, run.state.average.model), batch, [""] * len(batch), len(batch))
    per_structure = (time.monotonic() - begin) / len(batch)
    expected = per_structure * (run.structures.watched + len(run.structures.validation)) + PICTURES_S
    return min(expected, MAX_RESERVE * 60 * config.max_minutes)
