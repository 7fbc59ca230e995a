"""Public conformance suites: what every model and every calculator has to satisfy.

``check_model(MyModel)`` and ``check_calculator(calculator, atoms)`` run plain functions ``check_*``, each of which
tests one fact of physics or one promise of the contract and raises `CheckFailure` where it does not hold.
``check_mechanics(calculator, atoms)`` and ``check_stresses(calculator, atoms)`` return tables instead.
``scan_bonds(calculator, atoms)`` and ``scan_dimers(calculator, atoms)`` deform a structure and say what is wrong with
energy and force on the way.
"""

from ase_mlcalc.testing.calculators import CALCULATOR_CHECKS, CalculatorSubject, check_calculator
from ase_mlcalc.testing.everything import check_everything
from ase_mlcalc.testing.measured import Measured
from ase_mlcalc.testing.mechanics import MECHANICS_CHECKS, check_mechanics
from ase_mlcalc.testing.models import MODEL_CHECKS, ModelCheck, applicable_checks, check_model
from ase_mlcalc.testing.outcome import CheckFailure, CheckResult, NotApplicable
from ase_mlcalc.testing.scans import BondScan, DimerScan, scan_bonds, scan_dimers
from ase_mlcalc.testing.scans.checks import SCAN_CHECKS, scan_scores
from ase_mlcalc.testing.stresses import STRESS_CHECKS, check_stresses
from ase_mlcalc.testing.subject import ModelSubject, temporary_models

__all__ = [
    "CALCULATOR_CHECKS",
    "MECHANICS_CHECKS",
    "MODEL_CHECKS",
    "SCAN_CHECKS",
    "STRESS_CHECKS",
    "BondScan",
    "CalculatorSubject",
    "CheckFailure",
    "CheckResult",
    "DimerScan",
    "Measured",
    "ModelCheck",
    "ModelSubject",
    "NotApplicable",
    "applicable_checks",
    "check_calculator",
    "check_everything",
    "check_mechanics",
    "check_model",
    "check_stresses",
    "scan_bonds",
    "scan_dimers",
    "scan_scores",
    "temporary_models",
]
