"""What ``ase-mlcalc check`` checks, and how it shows the outcome."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ase.calculators.calculator import Calculator
from rich.markup import escape
from rich.table import Table

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.cli.potentials import file_of
from ase_mlcalc.config import apply_overrides
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.foreign import make_foreign
from ase_mlcalc.testing.everything import Groups
from ase_mlcalc.testing.scans.checks import ScanSubject


def calculator_of(
    source: str, arguments: Sequence[str], precision: Literal["float32", "float64"] | None, definition: str | None
) -> Calculator:
    """A checkpoint in a precision and with a definition of per-atom stress, or a calculator by import path.

    A folder of training stands for the checkpoint in it.  Without a precision, that of the checkpoint.

    Raises
    ------
    ConfigError, CheckpointError
        Neither; arguments that do not fit.
    """
    if ":" in source and not Path(source).exists():
        return make_foreign(source, apply_overrides({}, arguments), named=("MODEL", "its --argument"))
    if arguments:
        raise ConfigError(
            "--argument is for a calculator by import path, package.module:Factory; a checkpoint has none"
        )
    return MLCalculator(file_of(source), dtype=precision, stress_definition=definition or "edge")


def checks_table(groups: Groups) -> Table:
    """One row a check: how it ended, how close it was, and why it failed or was skipped."""
    table = Table("check", "", "largest deviation", "allowed", "", title_justify="left")
    for group, rows in groups.items():
        table.add_section()
        table.add_row(f"[bold]{group}[/bold]")
        for row in rows:
            numbers = ("", "") if row.deviation is None else (f"{row.deviation:.1e}", f"{row.tolerance:.0e}")
            style = {"passed": "green", "failed": "red", "skipped": "yellow"}[row.outcome]
            shown = f"[{style}]{row.outcome}[/{style}]"
            table.add_row(
                f"  {row.name.replace('_', ' ')}", shown, *numbers, escape(row.reason or row.meaning.replace("``", ""))
            )
    return table


MOST_NOTES = 12
"""Lines of notes that are printed; the JSON file has all."""


def scan_notes(scans: ScanSubject) -> list[str]:
    """What scans found that is no failure, the most within reach first."""
    notes = [each for scan in scans.made.values() if scan is not None for each in scan.defects if not each.serious]
    notes.sort(key=lambda defect: defect.barrier_eV)
    lines = [f"note: {defect.text}" for defect in notes[:MOST_NOTES]]
    return [*lines, f"and {len(notes) - MOST_NOTES} more notes"] if len(notes) > MOST_NOTES else lines
