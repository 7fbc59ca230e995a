"""What ``learning-curve`` and ``scan`` are told on the command line, and how they show what was found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from ase_mlcalc.campaigns import LearningCurve, LearningCurveJob, ScanJob, ScanSummary, curve_summary, scan_summary
from ase_mlcalc.campaigns.trainings import Trained
from ase_mlcalc.cli.console import new_console
from ase_mlcalc.config import apply_overrides, read_toml, validate
from ase_mlcalc.errors import ConfigError, MLCalcError


def curve_job(
    file: Path, sizes: str | None, seeds: str | None, workers: int | None, out: str | None, overrides: Sequence[str]
) -> LearningCurveJob:
    """A learning curve from a file; options take the place of what it says."""
    wishes = {
        "sizes": _whole(sizes, "--sizes reads whole numbers with commas, 200,400"),
        "seeds": seeds_of(seeds),
        "workers": workers,
    }
    return validate(LearningCurveJob, _raw(file, "learning_curve", wishes, out, overrides), str(file))


def scan_job(file: Path, seeds: str | None, workers: int | None, out: str | None, overrides: Sequence[str]) -> ScanJob:
    """A scan from a file; options take the place of what it says."""
    raw = _raw(file, "scan", {"seeds": seeds_of(seeds), "workers": workers}, out, overrides)
    return validate(ScanJob, raw, str(file))


def _raw(file: Path, table: str, wishes: dict[str, Any], out: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    raw = read_toml(file)
    raw[table] = {**raw.get(table, {}), **{key: value for key, value in wishes.items() if value is not None}}
    return apply_overrides(raw | ({} if out is None else {"output": out}), overrides)


def _whole(text: str | None, expected: str) -> list[int] | None:
    """``200,400`` as numbers."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"{expected}; got {text!r}") from error


def seeds_of(text: str | None) -> int | list[int] | None:
    """A number of seeds, or with a comma a list of them."""
    numbers = _whole(text, "--seeds reads how many, 8, or a list of them, 3,4,5")
    return numbers if numbers is None or len(numbers) != 1 or "," in (text or "") else numbers[0]


def show_curve(curve: LearningCurve) -> None:
    """The table of means over seeds, then the power laws."""
    caption = f"mean absolute errors on {curve.n_measured} {curve.measured_on}; {curve_summary.budget(curve)}"
    _show(curve_summary.points_table(curve), caption, curve_summary.describe_fits(curve))


def show_scan(scan: ScanSummary) -> None:
    """The table, the best first."""
    _show(scan_summary.points_table(scan), scan_summary.heading(scan), ())


def _show(table: tuple[list[str], list[list[str]]], caption: str, lines: Sequence[str]) -> None:
    columns, rows = table
    shown = Table(caption=escape(caption), caption_justify="left")
    for name in columns:
        shown.add_column(escape(name), overflow="fold")  # nothing is cut off where the terminal is narrow
    for row in rows:
        shown.add_row(*map(escape, row))
    console = new_console()
    console.print(shown)
    for line in lines:
        console.print(line, markup=False, highlight=False)


def require_success(failed: Sequence[Trained], total: int) -> None:
    """Raise `MLCalcError` where trainings failed."""
    if failed:
        raise MLCalcError(
            f"{len(failed)} of {total} trainings failed, and the same command tries them again; the first, "
            f"{failed[0].folder}: {failed[0].error}"
        )
