"""A search for good hyper-parameters by Optuna's tree-structured Parzen estimator (Bergstra et al., NIPS 2011).

What was tried is kept in the folder of each trial, and nowhere else: a study of Optuna is made from it anew before each
trial.  So a killed search goes on with the same trials, and a trial depends on those before it alone.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ase_mlcalc.campaigns.config import Range, ScanJob
from ase_mlcalc.campaigns.scan_plan import ScanPoint, point
from ase_mlcalc.campaigns.trainings import look_at
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.files import write_text

if TYPE_CHECKING:
    import optuna

POINT_FILE = "point.json"


def require_optuna() -> None:
    """Raise `ConfigError` where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            'scan.method = "optuna" needs the package optuna: pip install "ase-mlcalc[search]"'
        ) from error


def trials(job: ScanJob, score: Callable[[Sequence[ScanPoint]], list[float | None]]) -> Iterator[ScanPoint]:
    """The trials of a search: those that were proposed before, then new ones, each when it is asked for.

    Parameters
    ----------
    job : ScanJob
    score : callable
        The error of each of some points; ``None`` where there is none yet, or no more.
    """
    earlier: list[ScanPoint] = []
    for number in range(job.scan.trials or 0):
        name = f"trial-{number + 1:04d}"
        file = job.output / "trainings" / name / POINT_FILE
        if file.exists():
            values = _read(job, file.read_text(encoding="utf-8"), str(file))
        else:
            values = propose(job, [each.values for each in earlier], _outcomes(earlier, score(earlier)))
            write_text(file, json.dumps(values, ensure_ascii=False) + "\n")
        earlier.append(point(job, name, values))
        yield earlier[-1]


def _read(job: ScanJob, text: str, where: str) -> dict[str, Any]:
    try:
        stored = json.loads(text)
        values = {key: stored[key] for key in job.scan.values}
        for key, value in values.items():
            _index(job, key, value)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where} is damaged ({error}); remove it to have the trial proposed anew") from error
    return values


def _outcomes(points: Sequence[ScanPoint], scores: Sequence[float | None]) -> list[float | bool]:
    """Error of each trial; ``True`` while it goes on, ``False`` where it failed or has no such error."""
    found: list[float | bool] = []
    for each, score in zip(points, scores, strict=True):
        statuses = {look_at(training).status for training in each.trainings}
        found.append(score if score is not None else "failed" not in statuses and "waiting" in statuses)
    return found


def propose(job: ScanJob, values: Sequence[dict[str, Any]], outcomes: Sequence[float | bool]) -> dict[str, Any]:
    """Values of the next trial.

    Parameters
    ----------
    job : ScanJob
    values : sequence of dict
        Of all trials before.
    outcomes : sequence
        Their errors; ``True`` for trials that go on, ``False`` for those that failed.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    space = {key: _distribution(value) for key, value in job.scan.values.items()}
    with _quiet():
        sampler = optuna.samplers.TPESampler(seed=job.train.seed + len(values), constant_liar=True)
        study = optuna.create_study(sampler=sampler)
        for own, outcome in zip(values, outcomes, strict=True):
            known = not isinstance(outcome, bool)
            state = TrialState.COMPLETE if known else TrialState.RUNNING if outcome else TrialState.FAIL
            parameters = {key: _index(job, key, value) for key, value in own.items()}
            study.add_trial(
                create_trial(params=parameters, distributions=space, value=outcome if known else None, state=state)
            )
        asked = study.ask(space).params
    return {key: _value(job, key, asked[key]) for key in job.scan.values}


def _distribution(value: list[Any] | Range) -> "optuna.distributions.BaseDistribution":
    """Values of a list are known to Optuna by their positions, so that they can be anything."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(value, list):
        return CategoricalDistribution(tuple(range(len(value))))
    if value.is_integer:
        return IntDistribution(int(value.low), int(value.high), log=value.log)
    return FloatDistribution(value.low, value.high, log=value.log)


def _index(job: ScanJob, key: str, value: Any) -> Any:
    listed = job.scan.values[key]
    return listed.index(value) if isinstance(listed, list) else value


def _value(job: ScanJob, key: str, index: Any) -> Any:
    listed = job.scan.values[key]
    return listed[index] if isinstance(listed, list) else index


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's words about a study that nobody sees, and about what it calls experimental."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
