"""A training run in this process: what it holds from its first to its last step."""

from dataclasses import dataclass
from typing import NamedTuple

from ase_mlcalc.accelerate import with_kernels
from ase_mlcalc.data.frames import Sample
from ase_mlcalc.model import Model
from ase_mlcalc.potential import Baseline, Derived, Potential
from ase_mlcalc.slopes import Slopes
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.loss import Loss
from ase_mlcalc.training.metrics import Comparison, compare
from ase_mlcalc.training.processes import Processes
from ase_mlcalc.training.progress import ProgressReport
from ase_mlcalc.training.schedule import Budget
from ase_mlcalc.training.state import Fingerprint, TrainingState


class Structures(NamedTuple):
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
class Run:
    """A run in this process."""

    job: TrainJob
    fingerprint: Fingerprint
    structures: Structures
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
    processes: Processes
    """That share the work; the first one writes files."""


def progress_of(run: Run, epochs: float) -> float:
    """How much of the run is done after so many epochs, in the eyes of the process that looks at the clock."""
    progress = run.budget.progress(epochs)
    return progress if run.budget.max_minutes is None else run.processes.from_first(progress)


def out_of_time(run: Run) -> bool:
    """Whether training has to stop now, in the same eyes."""
    out = run.budget.out_of_time
    return out if run.budget.max_minutes is None else bool(run.processes.from_first(out))


def potential_of(run: Run, model: Model) -> Potential:
    """A model with its weights as they are now."""
    potential = Derived(model, run.baseline)
    return potential if run.slopes is None else with_kernels(potential)


def compared(run: Run, model: Model, samples: list[Sample], groups: list[str]) -> Comparison:
    """Predictions of a model beside labels; the processes share the work."""
    return compare(potential_of(run, model), samples, groups, run.job.train.evaluation_batch_size, run.processes)
