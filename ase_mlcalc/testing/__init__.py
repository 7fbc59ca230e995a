"""Public conformance suites: what every model and every calculator has to satisfy.

``check_model(MyModel)`` and ``check_calculator(calculator, atoms)`` run plain functions ``check_*``, each of which
tests one fact of physics or one promise of the contract and raises `CheckFailure` where it does not hold.
"""

from ase_mlcalc.testing.calculators import CALCULATOR_CHECKS, CalculatorSubject, check_calculator
from ase_mlcalc.testing.models import MODEL_CHECKS, ModelCheck, applicable_checks, check_model
from ase_mlcalc.testing.outcome import CheckFailure, CheckResult, NotApplicable
from ase_mlcalc.testing.subject import ModelSubject, temporary_models

__all__ = [
    "CALCULATOR_CHECKS",
    "MODEL_CHECKS",
    "CalculatorSubject",
    "CheckFailure",
    "CheckResult",
    "ModelCheck",
    "ModelSubject",
    "NotApplicable",
    "applicable_checks",
    "check_calculator",
    "check_model",
    "temporary_models",
]
