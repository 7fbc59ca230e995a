"""How a check ends, the comparisons that checks are made of, and their tolerances."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar

import numpy as np

# A tolerance is relative to the largest number of the quantity that it guards, unless its name says otherwise.
SUMS = 1e-10
"""Sum rules and batches: the same numbers added in another order."""
RELABELLED = 1e-9
"""Permuted, translated or repeated structures."""
ROTATED = 1e-8
"""Rotated structures: the angles are rounded, too."""
FINITE_DIFFERENCE = 1e-6
"""Derivatives against five-point central differences in float64."""
SINGLE_PRECISION = 1e-4
"""Float32 against float64."""
CONTINUITY = 1e-6
"""What may be left of energies and forces 1e-8 Å inside the cutoff, relative to half the cutoff."""
PARAMETER_GRADIENT = 1e-5
"""Second derivatives (forces by parameters) against central differences."""
COMPILED = 1e-6
"""Compiled and exported against eager."""

FORCE_FLOOR = 1e-3
"""eV/Å: a check of forces below this would test nothing."""
STRESS_FLOOR = 1e-6
"""eV/Å³: a check of stress below this would test nothing."""


class CheckFailure(AssertionError):  # noqa: N818  (a failed check, not an error of the program)
    """A check that does not hold.

    Attributes
    ----------
    name : str
        The check, without ``check_``.
    what : str
        What was compared.
    got, tolerance
        The number found and the largest (or smallest) one allowed; None where the check is not a comparison.
    """

    def __init__(self, name: str, what: str, got: Any = None, tolerance: Any = None) -> None:
        self.name, self.what, self.got, self.tolerance = name, what, got, tolerance
        numbers = "" if got is None else f": got {got}" + ("" if tolerance is None else f", allowed {tolerance}")
        super().__init__(f"{name}: {what}{numbers}")


class NotApplicable(Exception):  # noqa: N818
    """Raised by a check that cannot be made on this subject; the message is the reason."""


class CheckResult(NamedTuple):
    """How one check of a suite ended (failures are raised, not returned)."""

    name: str
    outcome: Literal["passed", "skipped"]
    reason: str = ""


class Comparison(NamedTuple):
    """Two sets of numbers that a check compared."""

    what: str
    deviation: float
    """Largest difference, relative to the scale of the numbers."""
    tolerance: float


Subject = TypeVar("Subject")


class Judge:
    """The comparisons of one check, which fail under its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.comparisons: list[Comparison] = []
        """What was compared so far, for tables that show how close it was."""

    def fail(self, what: str, got: Any = None, tolerance: Any = None) -> NoReturn:
        """Raise the failure."""
        raise CheckFailure(self.name, what, got, tolerance)

    def require(self, condition: Any, what: str, got: Any = None, tolerance: Any = None) -> None:
        """Fail unless `condition` holds."""
        if not bool(condition):
            self.fail(what, got, tolerance)

    def above(self, what: str, values: Any, floor: float) -> None:
        """Fail unless the largest magnitude reaches the floor: the signal that the check needs."""
        largest = float(np.abs(array(values)).max(initial=0.0))
        if not largest > floor:
            self.fail(f"{what} is too small to test anything", f"{largest:.3e}", f"more than {floor:.0e}")

    def close(self, what: str, got: Any, expected: Any, relative: float, scale: float | None = None) -> None:
        """Fail if shapes, NaNs or any number differ by more than `relative` times the scale (default: the largest).

        Inf is a failure on either side: there is no difference of it to measure.
        """
        a, b = array(got), array(expected)
        if a.shape != b.shape:
            self.fail(f"{what}: shape", a.shape, b.shape)
        if (np.isnan(a) != np.isnan(b)).any():
            self.fail(f"{what}: NaN in other places than expected", int(np.isnan(a).sum()), int(np.isnan(b).sum()))
        if np.isinf(a).any() or np.isinf(b).any():
            self.fail(f"{what}: Inf", int(np.isinf(a).sum()), int(np.isinf(b).sum()))
        size = float(np.nanmax(np.abs(b), initial=0.0)) if scale is None else scale
        difference = float(np.nanmax(np.abs(a - b), initial=0.0))
        self.comparisons.append(Comparison(what, difference / max(size, 1e-12), relative))
        if not difference <= relative * max(size, 1e-12):
            self.fail(f"{what} differs (largest number {size:.3e})", f"{difference:.3e}", f"{relative * size:.1e}")

    def identical(self, what: str, got: Any, expected: Any) -> None:
        """Fail unless equal bit by bit (NaN equals NaN)."""
        a, b = array(got), array(expected)
        if a.shape != b.shape or not np.array_equal(a, b, equal_nan=True):
            detail = "shapes" if a.shape != b.shape else f"{float(np.nanmax(np.abs(a - b), initial=0.0)):.3e}"
            self.fail(f"{what} is not the same bit by bit", detail, "no difference")


def fails(check: Callable[[Subject, Judge], None], subject: Subject) -> bool:
    """Whether a check does not hold; what the subject itself raises is passed on."""
    try:
        check(subject, Judge(check.__name__.removeprefix("check_")))
    except CheckFailure:
        return True
    return False


def run_check(name: str, check: Callable[[Subject, Judge], None], subject: Subject, whose: str) -> CheckResult:
    """Run one check on a subject, which is called `whose` where it raises by itself.

    Raises
    ------
    CheckFailure
        The check does not hold, or the subject raised.
    """
    try:
        check(subject, Judge(name))
    except NotApplicable as reason:
        return CheckResult(name, "skipped", str(reason))
    except CheckFailure:
        raise
    except Exception as error:
        raise CheckFailure(name, f"{whose} raised {type(error).__name__}: {error}") from error
    return CheckResult(name, "passed")


def array(values: Any) -> np.ndarray[Any, Any]:
    """Tensors, sequences and numbers as a float64 array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
