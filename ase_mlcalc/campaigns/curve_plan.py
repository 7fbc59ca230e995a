"""Which trainings a learning curve is made of, and whether each of them is possible."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ase_mlcalc.campaigns.config import LearningCurveJob
from ase_mlcalc.campaigns.trainings import Training
from ase_mlcalc.config import validate
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.geometry import is_isolated_atom
from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.model import Solvable, lookup
from ase_mlcalc.training.begin import ATOMS_PER_STEP, MAX_BATCH
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.dataset import DataSet, divide, read_files
from ase_mlcalc.training.start import resolve


class PlannedTraining(NamedTuple):
    """A point of a learning curve, for one seed."""

    model: str
    size: int
    seed: int
    training: Training


class CurvePlan(NamedTuple):
    """All trainings of a learning curve."""

    trainings: list[PlannedTraining]
    """From small to large, so that the curve is seen early."""
    steps: int | None
    """Of the optimiser in every training; ``None`` where time ends them, or nothing is stepped."""
    batch_size: int
    measured_on: str
    """Which structures the errors belong to."""
    n_measured: int
    """How many they are."""


def plan(job: LearningCurveJob) -> CurvePlan:
    """Read the data once and plan the trainings; nothing is trained.

    Every training makes the same number of steps of the optimiser with as many structures in each, so that sizes differ
    by what there is to learn from and not by how long it was learned.  Smaller sets are passed over more often.

    Raises
    ------
    ConfigError
        A key that a model does not have; trainings that would not end.
    DataError, ModelError, SpeciesError
        A training that is not possible, with its size and seed.
    """
    files = read_files(job.data)
    batch_size = job.train.batch_size or _batch_size(files.train)
    steps = _steps(job, batch_size)
    trainings: list[PlannedTraining] = []
    first: dict[str, tuple[Training, DataSet]] = {}  # of each model
    for size in job.learning_curve.sizes:
        for seed in job.learning_curve.seeds:
            data = job.data.model_copy(update={"n_train": size, "draw_seed": seed or None})
            try:
                divided = divide(data, files)
            except MLCalcError as error:
                raise type(error)(f"{size} training structures, seed {seed}: {error}") from error
            for name, table in job.models.items():
                training = _training(job, name, table, data, seed, _epochs(table, steps, size, batch_size), batch_size)
                first.setdefault(name, (training, divided))
                trainings.append(PlannedTraining(name, size, seed, training))
    for name, (training, divided) in first.items():
        try:
            resolve(training.job, [*divided.train, *divided.validation])
        except MLCalcError as error:
            raise type(error)(f"{name}: {error}") from error
    _, (_, divided) = next(iter(first.items()))
    held_back = divided.test or divided.validation
    measured_on = "test structures" if job.data.is_tested else "validation structures"
    return CurvePlan(trainings, steps, batch_size, measured_on, len(held_back))


def _training(
    job: LearningCurveJob, name: str, table: dict[str, Any], data: Any, seed: int, epochs: int | None, batch_size: int
) -> Training:
    folder = f"trainings/{name}/{data.n_train}/seed-{seed}"
    own = {"seed": job.train.seed + seed, "max_epochs": epochs, "batch_size": batch_size}
    raw = {
        "output": job.output / folder,
        "data": data,
        "model": table,
        "train": job.train.model_copy(update=own),
    }
    return Training(folder, validate(TrainJob, raw, f"model {name}"))


def _batch_size(frames: Sequence[Frame]) -> int:
    """What training would take for these structures; the same for all sizes."""
    sizes = [len(frame.atoms) for frame in frames if not is_isolated_atom(frame.atoms)]
    return min(MAX_BATCH, max(1, round(ATOMS_PER_STEP * len(sizes) / max(1, sum(sizes)))))


def _steps(job: LearningCurveJob, batch_size: int) -> int | None:
    if job.learning_curve.steps is not None:
        return job.learning_curve.steps
    if job.train.max_epochs is not None:
        return job.train.max_epochs * math.ceil(max(job.learning_curve.sizes) / batch_size)
    return None


def _epochs(table: dict[str, Any], steps: int | None, size: int, batch_size: int) -> int | None:
    """As many passes over so many structures as come next to a number of steps."""
    solved = "name" in table and issubclass(lookup(table["name"]), Solvable)
    if steps is None or solved:
        return None
    return max(1, round(steps / math.ceil(size / batch_size)))
