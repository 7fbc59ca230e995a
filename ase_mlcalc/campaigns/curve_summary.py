"""What a learning curve found: the types of `LearningCurve`, and the files that hold it."""

from collections.abc import Sequence
from pathlib import Path

from ase_mlcalc.campaigns.config import LearningCurveJob, Quantity
from ase_mlcalc.campaigns.curve_plan import CurvePlan
from ase_mlcalc.campaigns.statistics import MAE, Mean, PowerLaw, errors_of, mean_of, plus_minus, power_law
from ase_mlcalc.campaigns.summaries import Cell, markdown, read_summary, write_csv, write_summary
from ase_mlcalc.campaigns.trainings import Trained, look_at
from ase_mlcalc.config import Section
from ase_mlcalc.files import write_text
from ase_mlcalc.training.metrics import Errors

CURVE_FILE = "learning_curve.json"


class CurveTraining(Trained):
    """A training of a learning curve."""

    model: str
    size: int
    seed: int

    @property
    def measured(self) -> Errors | None:
        """Errors on the test structures, or where there are none on the validation structures."""
        return self.test or self.validation


class CurvePoint(Section):
    """A model at a size, over its seeds."""

    model: str
    size: int
    errors: dict[Quantity, Mean]
    """Mean absolute errors in meV/Å, meV/atom and GPa; nothing for what could not be measured."""
    minutes: Mean | None = None
    epochs: Mean | None = None
    n_trained: int
    n_failed: int


class CurveFit(PowerLaw):
    """The power law that an error of a model follows."""

    model: str
    quantity: Quantity


class LearningCurve(Section):
    """Everything that a learning curve found; `read_learning_curve` reads it from ``learning_curve.json``."""

    measured_on: str
    """Which structures the errors belong to."""
    n_measured: int
    """How many they are."""
    steps: int | None
    """Of the optimiser in every training; ``None`` where ``train.max_minutes`` ends them."""
    max_minutes: float | None
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    models: tuple[str, ...]
    points: tuple[CurvePoint, ...]
    fits: tuple[CurveFit, ...]
    trainings: tuple[CurveTraining, ...]

    @property
    def quantities(self) -> list[Quantity]:
        """Of which errors were measured."""
        return [name for name in MAE if any(name in point.errors for point in self.points)]

    @property
    def failed(self) -> list[CurveTraining]:
        """Trainings that failed."""
        return [one for one in self.trainings if one.status == "failed"]

    def of(self, model: str) -> list[CurvePoint]:
        """The points of a model that anything is known of, by size."""
        return [point for point in self.points if point.model == model and point.errors]

    def fit(self, model: str, quantity: Quantity) -> CurveFit | None:
        """The power law of an error of a model, if there is one."""
        return next((fit for fit in self.fits if (fit.model, fit.quantity) == (model, quantity)), None)


def summarize(job: LearningCurveJob, plan: CurvePlan) -> LearningCurve:
    """What the trainings came to so far, from their files."""
    trainings = [
        CurveTraining(model=one.model, size=one.size, seed=one.seed, **look_at(one.training).model_dump())
        for one in plan.trainings
    ]
    models = tuple(job.models)
    points = [
        _point(model, size, [one for one in trainings if (one.model, one.size) == (model, size)])
        for model in models
        for size in job.learning_curve.sizes
    ]
    fits = [
        CurveFit(model=model, quantity=quantity, **law.model_dump())
        for model in models
        for quantity in MAE
        if (law := power_law(_by_seed(trainings, model, quantity))) is not None
    ]
    return LearningCurve(
        measured_on=plan.measured_on,
        n_measured=plan.n_measured,
        steps=plan.steps,
        max_minutes=job.train.max_minutes,
        sizes=job.learning_curve.sizes,
        seeds=job.learning_curve.seeds,
        models=models,
        points=tuple(points),
        fits=tuple(fits),
        trainings=tuple(trainings),
    )


def _point(model: str, size: int, trainings: Sequence[CurveTraining]) -> CurvePoint:
    means = {quantity: mean_of([errors_of(quantity, one.measured) for one in trainings]) for quantity in MAE}
    return CurvePoint(
        model=model,
        size=size,
        errors={quantity: mean for quantity, mean in means.items() if mean is not None},
        minutes=mean_of([one.minutes for one in trainings]),
        epochs=mean_of([one.epochs for one in trainings]),
        n_trained=sum(one.status == "trained" for one in trainings),
        n_failed=sum(one.status == "failed" for one in trainings),
    )


def _by_seed(trainings: Sequence[CurveTraining], model: str, quantity: Quantity) -> dict[int, dict[int, float]]:
    found: dict[int, dict[int, float]] = {}
    for one in trainings:
        error = errors_of(quantity, one.measured)
        if one.model == model and error is not None:
            found.setdefault(one.seed, {})[one.size] = error
    return found


def write_learning_curve(curve: LearningCurve, folder: Path) -> None:
    """Write ``learning_curve.csv`` (a row for each training), ``.md`` (means over seeds) and ``.json`` (all of it)."""
    columns = ["model", "size", "seed", "status", *(MAE[name][0] for name in curve.quantities), "epochs", "minutes"]
    rows: list[list[Cell]] = [
        [
            one.model, one.size, one.seed, one.status,
            *(errors_of(name, one.measured) for name in curve.quantities), one.epochs, one.minutes,
        ]
        for one in curve.trainings
    ]  # fmt: skip
    write_csv(folder / "learning_curve.csv", columns, rows)
    lines = [f"Mean absolute errors on {curve.n_measured} {curve.measured_on}; {budget(curve)}.\n\n"]
    lines += [markdown(*points_table(curve)), "\n", *(f"- {line}\n" for line in describe_fits(curve))]
    write_text(folder / "learning_curve.md", "".join(lines))
    write_summary(folder / CURVE_FILE, curve)


def read_learning_curve(folder: Path | str) -> LearningCurve:
    """What the learning curve in a folder found.

    Raises
    ------
    DataError
        None there, or its file is damaged or of another version.
    """
    return read_summary(LearningCurve, Path(folder) / CURVE_FILE)


def budget(curve: LearningCurve) -> str:
    """How long every training was."""
    parts = [] if curve.steps is None else [f"{curve.steps} steps of the optimiser"]
    parts += [] if curve.max_minutes is None else [f"at most {curve.max_minutes:g} minutes"]
    return f"every training has {' and '.join(parts)}" if parts else "trained in closed form"


def points_table(curve: LearningCurve) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of means over seeds, a row for each model and size."""
    columns = ["model", "structures", "seeds", *(f"{MAE[name][1]} / {MAE[name][2]}" for name in curve.quantities)]
    rows = [
        [
            point.model,
            f"{point.size}",
            f"{point.n_trained}" + (f" ({point.n_failed} failed)" if point.n_failed else ""),
            *(_shown(point.errors.get(name)) for name in curve.quantities),
            "-" if point.minutes is None else f"{point.minutes.mean:.2g}",
        ]
        for point in curve.points
    ]
    return [*columns, "minutes"], rows


def _shown(mean: Mean | None) -> str:
    return "-" if mean is None else plus_minus(mean.mean, mean.stderr)


def describe_fits(curve: LearningCurve) -> list[str]:
    """Each power law in a line."""
    return [
        f"{fit.model}, {MAE[fit.quantity][1]}: {'falls as' if fit.exponent > 0 else 'does not fall:'} n^-b with "
        f"b = {plus_minus(fit.exponent, fit.exponent_stderr)}"
        f" ({fit.n_sizes} sizes, {fit.n_seeds} seeds; points are {100 * fit.rms_residual:.1f} % off the line)"
        for fit in curve.fits
    ]
