"""Every registered model against every check that applies to it."""

import pytest

from ase_mlcalc.model import registered
from ase_mlcalc.testing import ModelSubject, applicable_checks

SUBJECTS = {name: ModelSubject(model_class) for name, model_class in registered().items()}
CASES = [
    pytest.param(name, check, id=f"{name}-{check.name}", marks=[pytest.mark.slow] * check.slow)
    for name, subject in SUBJECTS.items()
    for check in applicable_checks(subject.model_class, slow=True)
]


@pytest.mark.parametrize(("name", "check"), CASES)
def test_model(name, check):
    result = check.run(SUBJECTS[name])
    if result.outcome == "skipped":
        pytest.skip(result.reason)
