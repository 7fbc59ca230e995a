"""All checks of a calculator on one structure, in groups: what ``ase-mlcalc check`` prints."""

from typing import Any, Literal

from ase import Atoms
from ase.calculators.calculator import Calculator

from ase_mlcalc.testing.calculators import measure_calculator
from ase_mlcalc.testing.measured import Measured
from ase_mlcalc.testing.mechanics import MECHANICS_CHECKS, check_mechanics
from ase_mlcalc.testing.scans.checks import ScanSubject, check_scans
from ase_mlcalc.testing.stresses import check_stresses

Groups = dict[str, list[Measured]]


def check_everything(
    calculator: Calculator,
    atoms: Atoms,
    *,
    precision: Literal["float64", "float32"] = "float64",
    definition: str | None = None,
    scans: ScanSubject | None = None,
) -> Groups:
    """Conventions of ASE, energy and forces, stress and per-atom stress, and scans of bonds and dimers.

    Parameters
    ----------
    calculator, atoms, precision, definition
        As for `check_stresses`.
    scans : ScanSubject, optional
        Of the same calculator and structure; it keeps the scans, for pictures.  ``None`` leaves them out.
    """
    mechanics = check_mechanics(calculator, atoms, precision=precision)
    stresses = check_stresses(calculator, atoms, precision=precision, definition=definition)
    elsewhere = {check.__name__.removeprefix("check_") for check in MECHANICS_CHECKS} | {"stress"}
    conventions = measure_calculator(calculator, atoms, precision=precision)
    groups = {
        "calculator": [row for row in conventions if row.name not in elsewhere],
        "energy and forces": mechanics,
        "stress": stresses,
    }
    return groups if scans is None else groups | {"bonds and dimers": check_scans(scans)}


def failures(groups: Groups) -> list[Measured]:
    """Rows of the checks that failed."""
    return [row for rows in groups.values() for row in rows if row.outcome == "failed"]


def to_dict(groups: Groups, scans: ScanSubject | None = None) -> dict[str, Any]:
    """Plain values, for JSON; with scans also all that they found, failures or not."""
    checks = [{"group": group, **row.to_dict()} for group, rows in groups.items() for row in rows]
    result: dict[str, Any] = {"passed": not failures(groups), "checks": checks}
    if scans is not None:
        result |= {name: None if scan is None else scan.to_dict() for name, scan in scans.made.items()}
    return result
