"""Scans of bonds and dimers as checks with a verdict, and as scores for a study."""

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from ase_mlcalc.testing.measured import Measured, measure_all
from ase_mlcalc.testing.outcome import Comparison, Judge, NotApplicable
from ase_mlcalc.testing.scans.bonds import BondCurve, BondScan, scan_bonds
from ase_mlcalc.testing.scans.defects import (
    ENERGY_JUMP_EV,
    FALL_EV,
    FALLS,
    FORCE_ERROR,
    FORCE_JUMP_EV_PER_A,
    NOTES,
    NOTHING,
    REACH_EV,
    Defect,
    Kind,
)
from ase_mlcalc.testing.scans.dimers import DimerScan, scan_dimers

Scan = BondScan | DimerScan
Made = TypeVar("Made", BondScan, DimerScan)


class ScanSubject:
    """A calculator and a structure whose scans are made when they are first asked for.

    Parameters
    ----------
    calculator : Calculator
    atoms : ase.Atoms
        Not rattled: a bond is scanned as it is.
    """

    def __init__(self, calculator: Calculator, atoms: Atoms) -> None:
        self.calculator, self.atoms = calculator, atoms

    @property
    def bonds(self) -> BondScan:
        """Of its bonds; raises the reason where there is none, each time it is asked."""
        return _or_raise(self._bonds)

    @property
    def dimers(self) -> DimerScan:
        """Of its pairs of elements; raises likewise."""
        return _or_raise(self._dimers)

    @property
    def made(self) -> dict[str, Scan | None]:
        """The scans by name, ``None`` where one could not be made; why not is what the checks say."""
        scans = {"bond_scan": self._bonds, "dimer_scan": self._dimers}
        return {name: None if isinstance(scan, Exception) else scan for name, scan in scans.items()}

    @cached_property
    def _bonds(self) -> BondScan | Exception:
        return _made(scan_bonds, self.calculator, self.atoms)

    @cached_property
    def _dimers(self) -> DimerScan | Exception:
        return _made(scan_dimers, self.calculator, self.atoms)


def _made(scan: Callable[[Calculator, Atoms], Made], calculator: Calculator, atoms: Atoms) -> Made | Exception:
    """A scan, or why there is none; made once, and told by every check of it."""
    try:
        return scan(calculator, atoms)
    except Exception as error:  # noqa: BLE001  # calculators raise whatever they like
        return error


def _or_raise(scan: Made | Exception) -> Made:
    if isinstance(scan, Exception):
        raise scan
    return scan


def check_bond_energies(subject: ScanSubject, judge: Judge) -> None:
    """Energies are continuous while bonds are stretched and compressed; eV."""
    _energy_jumps(judge, subject.bonds)


def check_bond_forces(subject: ScanSubject, judge: Judge) -> None:
    """Forces are continuous while bonds are stretched and compressed; eV/Å."""
    _force_jumps(judge, subject.bonds)


def check_bond_derivatives(subject: ScanSubject, judge: Judge) -> None:
    """Forces are minus the derivative of the energy along bonds; eV/Å, above 1 eV/Å a fraction of the force."""
    _force_errors(judge, subject.bonds)


def check_bond_walls(subject: ScanSubject, judge: Judge) -> None:
    """Compressing a bond takes energy all the way: no hole, no second minimum; eV."""
    _falls(judge, subject.bonds, compressed=True)


def check_bond_stretching(subject: ScanSubject, judge: Judge) -> None:
    """Stretching a bond takes energy: no second minimum, no early dissociation; eV."""
    _falls(judge, subject.bonds, compressed=False)


def check_bonds_defined(subject: ScanSubject, judge: Judge) -> None:
    """Bonds can be stretched and compressed without NaN or refusal, up to 0.75 eV."""
    _defined(judge, subject.bonds)


def check_dimer_energies(subject: ScanSubject, judge: Judge) -> None:
    """Energies of two atoms alone are continuous, cutoff included; eV."""
    _energy_jumps(judge, subject.dimers)


def check_dimer_forces(subject: ScanSubject, judge: Judge) -> None:
    """Forces between two atoms alone are continuous, cutoff included; eV/Å."""
    _force_jumps(judge, subject.dimers)


def check_dimer_derivatives(subject: ScanSubject, judge: Judge) -> None:
    """Forces between two atoms are minus the derivative of the energy; eV/Å, above 1 eV/Å a fraction of the force."""
    _force_errors(judge, subject.dimers)


def check_dimer_walls(subject: ScanSubject, judge: Judge) -> None:
    """Two atoms of any two elements repel each other at short distance, and are bound at none below a bond; eV."""
    _falls(judge, subject.dimers, compressed=None)


def check_dimers_defined(subject: ScanSubject, judge: Judge) -> None:
    """Two atoms alone have energies and forces without NaN or refusal, up to 0.75 eV."""
    _defined(judge, subject.dimers)


SCAN_CHECKS: tuple[Callable[[ScanSubject, Judge], None], ...] = (
    check_bond_energies,
    check_bond_forces,
    check_bond_derivatives,
    check_bond_walls,
    check_bond_stretching,
    check_bonds_defined,
    check_dimer_energies,
    check_dimer_forces,
    check_dimer_derivatives,
    check_dimer_walls,
    check_dimers_defined,
)


def check_scans(subject: ScanSubject) -> list[Measured]:
    """A row for each check of the two scans; deviations and tolerances are in the unit that its meaning names."""
    return measure_all(SCAN_CHECKS, subject)


def scan_scores(calculator: Calculator, atoms: Atoms) -> dict[str, float]:
    """What scans of bonds and dimers say about a potential, as numbers to hold against its stability in dynamics.

    Parameters
    ----------
    calculator : Calculator
        Of ASE, with energy, forces or both.
    atoms : ase.Atoms
        As for `scan_bonds`.

    Returns
    -------
    dict of str to float
        ``bond_`` and ``dimer_`` followed by the names of `Measures`, each with its unit: the worst over the bonds or
        pairs.  Bigger is worse.  NaN where it cannot be told: dimers of a model of one molecule, errors of the force
        without an energy.

    Raises
    ------
    Exception
        What the calculator raises for the structure itself.
    """
    scores: dict[str, float] = {}
    for name, scan in (("bond", scan_bonds), ("dimer", scan_dimers)):
        try:
            measures = scan(calculator, atoms).measures
        except NotApplicable:
            measures = NOTHING
        scores |= {f"{name}_{key}": float(value) for key, value in measures._asdict().items()}
    return scores


# ----- helpers --------------------------------------------------------------------------------------------------------


def _energy_jumps(judge: Judge, scan: Scan) -> None:
    largest = _known(scan, "energy_jump_eV", "energy")
    _allow(judge, scan, ("energy_jump",), "jump of the energy, eV", largest, ENERGY_JUMP_EV)


def _force_jumps(judge: Judge, scan: Scan) -> None:
    largest = _known(scan, "force_jump_eV_per_A", "forces")
    _allow(judge, scan, ("force_jump",), "jump of the force, eV/Å", largest, FORCE_JUMP_EV_PER_A)


def _force_errors(judge: Judge, scan: Scan) -> None:
    largest = _known(scan, "force_error_eV_per_A", "energy or forces")
    _allow(judge, scan, ("force_not_derivative",), "F + dE/dr, eV/Å", largest, FORCE_ERROR)


def _falls(judge: Judge, scan: Scan, *, compressed: bool | None) -> None:
    """Falls of the energy; of bonds those on one side of their minimum."""
    falls = []
    for curve in scan.curves:
        for defect in curve.verdict.defects:
            if defect.kind not in FALLS or defect.kind in NOTES:
                continue
            if isinstance(curve, BondCurve) and (defect.from_A < curve.minimum_A) != compressed:
                continue
            falls.append(defect)
    near = [defect.size or 0.0 for defect in falls if defect.barrier_eV < REACH_EV]
    judge.comparisons.append(Comparison("fall of the energy, eV", max(near, default=0.0), FALL_EV))
    _fail_on(judge, [defect for defect in falls if defect.serious])


def _defined(judge: Judge, scan: Scan) -> None:
    _fail_on(judge, [defect for defect in scan.defects if defect.kind == "undefined" and defect.serious])


def _allow(judge: Judge, scan: Scan, kinds: tuple[Kind, ...], what: str, largest: float, allowed: float) -> None:
    judge.comparisons.append(Comparison(what, largest, allowed))
    _fail_on(judge, [defect for defect in scan.defects if defect.kind in kinds and defect.serious])


def _known(scan: Scan, name: str, needs: str) -> float:
    """The worst over a scan; skips the check where no curve has it."""
    value = float(getattr(scan.measures, name))
    if np.isnan(value):
        raise NotApplicable(f"{needs}: not implemented")
    return value


def _fail_on(judge: Judge, serious: list[Defect]) -> None:
    if serious:
        worst = max(serious, key=lambda defect: abs(defect.size or 0.0))
        more = f" (and {len(serious) - 1} more)" if len(serious) > 1 else ""
        judge.fail(f"{worst.text}{more}")
