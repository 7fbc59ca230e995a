"""What a scan found: the types of `ScanSummary`, and the files that hold it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase_mlcalc.campaigns.config import Quantity, ScanJob
from ase_mlcalc.campaigns.cost import Cost, read_costs
from ase_mlcalc.campaigns.scan_plan import ScanPoint
from ase_mlcalc.campaigns.statistics import MAE, Mean, errors_of, mean_of, plus_minus
from ase_mlcalc.campaigns.summaries import Cell, markdown, read_summary, write_csv, write_summary
from ase_mlcalc.campaigns.trainings import Trained, look_at
from ase_mlcalc.config import Section, toml_value
from ase_mlcalc.files import write_text
from ase_mlcalc.training.metrics import Errors

SCAN_FILE = "scan.json"


class PointSummary(Section):
    """Values of the scanned keys and what came of them, over the seeds."""

    name: str
    values: dict[str, Any]
    validation: dict[Quantity, Mean]
    """Mean absolute errors in meV/Å, meV/atom and GPa; nothing for what could not be measured."""
    test: dict[Quantity, Mean]
    """The same on the test structures, if there are any."""
    minutes: Mean | None = None
    """Of a training."""
    cost: Cost | None = None
    n_trained: int
    n_failed: int
    trainings: tuple[Trained, ...]


class ScanSummary(Section):
    """Everything that a scan found; `read_scan` reads it from ``scan.json``."""

    keys: tuple[str, ...]
    method: str
    seeds: tuple[int, ...]
    objective: Quantity | None
    """The error on the validation structures that points are sorted by; ``None`` before there is one."""
    n_validation: int
    n_atoms_timed: int | None = None
    threads: int | None = None
    """Of the timed calls."""
    points: tuple[PointSummary, ...]
    """The best first; those of which not all seeds are trained last."""

    @property
    def failed(self) -> list[Trained]:
        """Trainings that failed."""
        return [one for point in self.points for one in point.trainings if one.status == "failed"]

    def score(self, point: PointSummary) -> Mean | None:
        """What a point is sorted by; ``None`` where not all of its seeds are trained."""
        if self.objective is None or point.n_trained < len(self.seeds):
            return None
        return point.validation.get(self.objective)


def summarize(job: ScanJob, points: Sequence[ScanPoint], n_validation: int) -> ScanSummary:
    """What the trainings came to so far, from their files."""
    costs = read_costs(job.output)
    trained = [[look_at(training) for training in each.trainings] for each in points]
    summaries = [
        PointSummary(
            name=each.name,
            values=each.values,
            validation=_means([one.validation for one in own]),
            test=_means([one.test for one in own]),
            minutes=mean_of([one.minutes for one in own]),
            cost=None if costs is None else costs.points.get(each.name),
            n_trained=sum(one.status == "trained" for one in own),
            n_failed=sum(one.status == "failed" for one in own),
            trainings=tuple(own),
        )
        for each, own in zip(points, trained, strict=True)
    ]
    found = ScanSummary(
        keys=tuple(job.scan.values),
        method=job.scan.method,
        seeds=job.scan.seeds,
        objective=_objective(job, trained),
        n_validation=n_validation,
        n_atoms_timed=None if costs is None else costs.n_atoms,
        threads=None if costs is None else costs.threads,
        points=tuple(summaries),
    )

    def order(point: PointSummary) -> float:
        score = found.score(point)
        return math.inf if score is None else score.mean

    return found.model_copy(update={"points": tuple(sorted(summaries, key=order))})


def scores(job: ScanJob, points: Sequence[ScanPoint]) -> list[float | None]:
    """Mean error over the seeds of each point; ``None`` where not all are trained or there is no such error."""
    trained = [[look_at(training) for training in each.trainings] for each in points]
    objective = _objective(job, trained)
    if objective is None:
        return [None] * len(points)
    errors = [[errors_of(objective, one.validation) for one in own] for own in trained]
    return [None if None in own else math.fsum(map(float, own)) / len(own) for own in errors]  # type: ignore[arg-type]


def _objective(job: ScanJob, trained: Sequence[Sequence[Trained]]) -> Quantity | None:
    """What the job names, or the first error that all trainings have that are over."""
    if job.scan.objective is not None:
        return job.scan.objective
    measured = [one.validation for own in trained for one in own if one.validation is not None]
    return next((name for name in MAE if measured and all(errors_of(name, one) is not None for one in measured)), None)


def _means(errors: Sequence[Errors | None]) -> dict[Quantity, Mean]:
    means = {name: mean_of([errors_of(name, one) for one in errors]) for name in MAE}
    return {name: mean for name, mean in means.items() if mean is not None}


def write_scan(scan: ScanSummary, folder: Path) -> None:
    """Write ``scan.csv`` (all digits), ``scan.md`` (a table to read) and ``scan.json`` (all of it)."""
    measured = [name for name in MAE if any(name in point.validation for point in scan.points)]
    tested = [name for name in MAE if any(name in point.test for point in scan.points)]
    columns = [
        *scan.keys, "trained", "failed",
        *(f"validation_{MAE[name][0]}{end}" for name in measured for end in ("", "_stderr")),
        *(f"test_{MAE[name][0]}{end}" for name in tested for end in ("", "_stderr")),
        "parameters", "minutes", "ms_per_call",
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for point in scan.points:
        errors = [point.validation.get(name) for name in measured] + [point.test.get(name) for name in tested]
        cells: list[Cell] = [_plain(point.values[key]) for key in scan.keys]
        cells += [point.n_trained, point.n_failed]
        for mean in errors:
            cells += [None, None] if mean is None else [mean.mean, mean.stderr]
        cells += [None if point.cost is None else point.cost.parameters]
        cells += [None if point.minutes is None else point.minutes.mean]
        cells += [None if point.cost is None else point.cost.ms_per_call]
        rows.append(cells)
    write_csv(folder / "scan.csv", columns, rows)
    write_text(folder / "scan.md", f"{heading(scan)}\n\n{markdown(*points_table(scan))}")
    write_summary(folder / SCAN_FILE, scan)


def read_scan(folder: Path | str) -> ScanSummary:
    """What the scan in a folder found.

    Raises
    ------
    DataError
        None there, or its file is damaged or of another version.
    """
    return read_summary(ScanSummary, Path(folder) / SCAN_FILE)


def heading(scan: ScanSummary) -> str:
    """What the numbers in the table are."""
    timed = f"; a call is for {scan.n_atoms_timed} atoms with {scan.threads} thread" if scan.n_atoms_timed else ""
    timed += "s" if timed and (scan.threads or 1) > 1 else ""
    return f"Mean absolute errors on {scan.n_validation} validation structures{timed}."


def points_table(scan: ScanSummary) -> tuple[list[str], list[list[str]]]:
    """Columns and rows, the best first."""
    measured = [name for name in MAE if any(name in point.validation for point in scan.points)]
    tested = scan.objective if any(scan.objective in point.test for point in scan.points) else None
    columns = [*scan.keys, *(f"{MAE[name][1]} / {MAE[name][2]}" for name in measured)]
    columns += [] if tested is None else [f"{MAE[tested][1]}, test structures"]
    columns += ["parameters", "minutes", "ms/call"]
    rows = []
    for point in scan.points:
        cells = [toml_value(point.values[key]) for key in scan.keys]
        cells += [_shown(point.validation.get(name)) for name in measured]
        cells += [] if tested is None else [_shown(point.test.get(tested))]
        cells += ["-" if point.cost is None else f"{point.cost.parameters}"]
        cells += [_remark(point, len(scan.seeds)) or ("-" if point.minutes is None else f"{point.minutes.mean:.2g}")]
        cells += ["-" if point.cost is None else f"{point.cost.ms_per_call:.3g}"]
        rows.append(cells)
    return columns, rows


def _remark(point: PointSummary, n_seeds: int) -> str:
    """What is missing of a point."""
    left = n_seeds - point.n_trained - point.n_failed
    parts = [f"{point.n_failed} failed"] * (point.n_failed > 0) + [f"{left} to train"] * (left > 0)
    return ", ".join(parts)


def _shown(mean: Mean | None) -> str:
    return "-" if mean is None else plus_minus(mean.mean, mean.stderr)


def _plain(value: Any) -> Cell:
    return value if isinstance(value, str | int | float) else toml_value(value)
