"""Every registered model against every check that applies to it."""

import pytest

from ase_mlcalc.model import registered
from ase_mlcalc.testing import ModelSubject, NotApplicable, applicable_checks

SUBJECTS = {name: ModelSubject(model_class) for name, model_class in registered().items()}
CASES = [
    pytest.param(name, check, id=f"{name}-{check.name}", marks=[pytest.mark.slow] * check.slow)
    for name, subject in SUBJECTS.items()
    for check in applicable_checks(subject.model_class, slow=True)
]


@pytest.mark.parametrize(("name", "check"), CASES)
def test_model(name, check):
    try:
        check.run(SUBJECTS[name])
    except NotApplicable as reason:
        pytest.skip(str(reason))
