"""Checks as rows of a table: how close each comparison was, failures included instead of raised."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from ase_mlcalc.testing.outcome import CheckFailure, Judge, NotApplicable, Subject


class Measured(NamedTuple):
    """One row: a check, how it ended, and its closest call."""

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    deviation: float | None
    """Of the comparison that came closest to its tolerance, relative to the largest number compared; ``None`` where
    nothing was compared."""
    tolerance: float | None
    what: str
    """What was compared there."""
    reason: str
    """Why it failed or was skipped."""
    meaning: str
    """What the check is about, in one line."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return self._asdict()


def measure(check: Callable[[Subject, Judge], None], subject: Subject) -> Measured:
    """Run one check and say how it went, whatever happens."""
    name = check.__name__.removeprefix("check_")
    meaning = (check.__doc__ or "").strip().splitlines()[0]
    judge = Judge(name)
    outcome: Literal["passed", "failed", "skipped"] = "passed"
    reason = ""
    try:
        check(subject, judge)
    except NotApplicable as why:
        outcome, reason = "skipped", str(why)
    except CheckFailure as failure:
        outcome, reason = "failed", str(failure).removeprefix(f"{name}: ")
    except Exception as error:  # noqa: BLE001  # calculators raise whatever they like
        outcome, reason = "failed", f"the calculator raised {type(error).__name__}: {error}"
    if outcome == "skipped" or not judge.comparisons:
        return Measured(name, outcome, None, None, "", reason, meaning)
    closest = max(judge.comparisons, key=lambda each: each.deviation / each.tolerance)
    return Measured(name, outcome, float(closest.deviation), float(closest.tolerance), closest.what, reason, meaning)


def measure_all(checks: Sequence[Callable[[Subject, Judge], None]], subject: Subject) -> list[Measured]:
    """Run checks one after the other; none keeps the others from being run."""
    return [measure(check, subject) for check in checks]
