r"""How long runs survive: Kaplan-Meier curves, the median, and the log-rank test of two models.

A run that fails at a time is an event; one that ends without failing (it reached its end, or was interrupted) is
censored there: it says only that the failure would have come later.  The Kaplan-Meier estimate of the probability to
survive beyond t uses both (J. Am. Stat. Assoc. 53, 457 (1958), eq. 2b),

.. math:: \hat S(t) = \prod_{t_i \le t} \left( 1 - \frac{d_i}{n_i} \right)

with d_i failures at t_i among the n_i runs observed until then.
"""

import math
import warnings
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ase_mlcalc.study.summary import SurvivalCurve

Array = NDArray[np.float64]

CONFIDENCE = 0.95
LISTED, DRAWN = 200_000, 100_000
"""Ways to exchange runs that are all looked at, up to 10 against 10, and how many are drawn of more."""


class Lifetimes(NamedTuple):
    """How long the runs of one group were observed, in ps."""

    failed_ps: Sequence[float]
    """Times of failure."""
    censored_ps: Sequence[float]
    """Times at which runs ended without having failed."""


class LogRank(NamedTuple):
    """Log-rank test of two samples; see `log_rank`."""

    failed_a: int
    failed_b: int
    expected_a: float
    statistic: float | None
    p_value: float | None


def survival_curve(lifetimes: Lifetimes) -> SurvivalCurve | None:
    """Kaplan-Meier estimate with pointwise 95 % bands; ``None`` without runs.

    The bands are those of the logarithm of the cumulative hazard, log(-log S), with the variance of Greenwood: they
    stay between 0 and 1 (Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 2nd ed., eq. 1.18).
    """
    failed, censored = (np.asarray(times, dtype=float) for times in lifetimes)
    if not len(failed) + len(censored):
        return None
    found = stats.ecdf(stats.CensoredData(uncensored=failed, right=censored)).sf
    times, survival = np.asarray(found.quantiles), np.asarray(found.probabilities)
    low, high = _bands(found)
    at_risk = [_at_risk(lifetimes, time) for time in times]
    if times[0] > 0.0:
        times, survival = np.append(0.0, times), np.append(1.0, survival)
        low, high, at_risk = [None, *low], [None, *high], [len(failed) + len(censored), *at_risk]
    return SurvivalCurve(
        times_ps=tuple(times.tolist()),
        survival=tuple(survival.tolist()),
        low=tuple(low),
        high=tuple(high),
        at_risk=tuple(at_risk),
        censored_ps=tuple(sorted(censored.tolist())),
    )


def _bands(found: Any) -> tuple[list[float | None], list[float | None]]:
    """Of a survival function of scipy; ``None`` where it is 1 or 0."""
    survival = np.asarray(found.probabilities)
    inside = (survival > 0.0) & (survival < 1.0)
    if not inside.any():
        return [None] * len(survival), [None] * len(survival)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)  # where not `inside`
        interval = found.confidence_interval(CONFIDENCE, method="log-log")
    low, high = np.asarray(interval.low.probabilities), np.asarray(interval.high.probabilities)
    return (
        [float(value) if here else None for value, here in zip(low, inside, strict=True)],
        [float(value) if here else None for value, here in zip(high, inside, strict=True)],
    )


def _at_risk(lifetimes: Lifetimes, time: float) -> int:
    return sum(observed >= time for observed in (*lifetimes.failed_ps, *lifetimes.censored_ps))


def median_time(curve: SurvivalCurve) -> float | None:
    """First time at which survival is one half or less; ``None`` if the curve stays above."""
    for time, survival in zip(curve.times_ps, curve.survival, strict=True):
        if survival <= 0.5 + 1e-12:  # 1 - 4/8 in floating point
            return time
    return None


def restricted_mean(curve: SurvivalCurve, until_ps: float) -> float | None:
    """Area under the curve up to a time, the mean time survived until then.

    ``None`` if the curve ends earlier, with runs that were still alive.
    """
    times, survival = np.array(curve.times_ps), np.array(curve.survival)
    if times[-1] < until_ps * (1.0 - 1e-9) and survival[-1] > 0.0:
        return None
    edges = np.clip(np.append(times, max(until_ps, times[-1])), 0.0, until_ps)
    return float(np.diff(edges) @ survival)


def stable_interval(n_stable: int, n_failed: int) -> tuple[float, float, float] | None:
    """Fraction of runs that were stable and its exact 95 % interval (Clopper and Pearson, Biometrika 26, 404 (1934)).

    Of runs that ended one way or the other; ``None`` if none did.
    """
    n = n_stable + n_failed
    if n == 0:
        return None
    interval = stats.binomtest(n_stable, n).proportion_ci(CONFIDENCE, method="exact")
    return n_stable / n, float(interval.low), float(interval.high)


def log_rank(strata: Sequence[tuple[Lifetimes, Lifetimes]]) -> LogRank:
    r"""Test that runs a and b fail at the same rate, in one or several strata.

    At each time of failure t_i, d_i of n_i runs fail, of which n_{ai} are a.  If both fail at the same rate, the
    failures among a are hypergeometric, and

    .. math:: Z = \sum_i (d_{ai} - e_i) \Big/ \sqrt{\sum_i v_i}, \qquad e_i = \frac{d_i n_{ai}}{n_i}, \qquad
              v_i = e_i \frac{n_{bi}}{n_i} \frac{n_i - d_i}{n_i - 1}

    is about standard normal for many runs (Mantel, Cancer Chemother. Rep. 50, 163 (1966)).  Sums over strata
    (temperatures, say) compare a only with b of the same stratum.  With one stratum it is `scipy.stats.logrank`.

    For the few runs of a study the p-value of a normal Z is far too small (3 of 3 against 1 of 3 failures can be
    "p = 0.025").  Here it is the fraction of all ways to call as many runs of each stratum a for which the sum of
    d_{ai} - e_i is as large: exact where they can be listed, from `DRAWN` random ones otherwise.
    """
    failed_a = sum(len(a.failed_ps) for a, _ in strata)
    failed_b = sum(len(b.failed_ps) for _, b in strata)
    expected = variance = 0.0
    for a, b in strata:
        for time in sorted({*a.failed_ps, *b.failed_ps}):
            n_a, n_b = _at_risk(a, time), _at_risk(b, time)
            n = n_a + n_b
            d = list(a.failed_ps).count(time) + list(b.failed_ps).count(time)
            here = d * n_a / n
            expected += here
            variance += here * n_b / n * (n - d) / (n - 1) if n > 1 else 0.0
    if variance == 0.0:
        return LogRank(failed_a, failed_b, expected, None, None)
    statistic = (failed_a - expected) / math.sqrt(variance)
    return LogRank(failed_a, failed_b, expected, statistic, _permutation_p(strata, failed_a - expected))


def _permutation_p(strata: Sequence[tuple[Lifetimes, Lifetimes]], excess: float) -> float:
    """Two-sided p-value of failures among a in excess of those expected, if names a and b mean nothing."""
    rng = np.random.default_rng(0)
    possible = [_excesses(a, b, rng) for a, b in strata]
    if math.prod(map(len, possible)) <= LISTED and all(_is_listed(a, b) for a, b in strata):
        total = np.zeros(1)
        for each in possible:
            total = np.add.outer(total, each).ravel()
        return float((np.abs(total) > abs(excess) - 1e-9).mean())
    total = np.sum([rng.choice(each, DRAWN) for each in possible], axis=0)
    return float((1 + (np.abs(total) > abs(excess) - 1e-9).sum()) / (1 + DRAWN))


def _excesses(a: Lifetimes, b: Lifetimes, rng: np.random.Generator) -> Array:
    """Failures in excess for all choices, or many random ones, of as many runs as a has: sums of what runs add to it.

    A run adds 1 if it failed, less the failures expected of it while it was observed, the sum of d_i / n_i.
    """
    runs = [(time, 1.0) for time in (*a.failed_ps, *b.failed_ps)]
    runs += [(time, 0.0) for time in (*a.censored_ps, *b.censored_ps)]
    times, failed = np.array(runs).T
    expected = np.array([sum(1 / (times >= t).sum() for t in times[(failed > 0) & (times <= end)]) for end in times])
    own, n_a = failed - expected, sum(map(len, a))
    if _is_listed(a, b):
        chosen = np.array(list(combinations(range(len(own)), n_a)))
    else:
        chosen = rng.permuted(np.tile(np.arange(len(own)), (DRAWN, 1)), axis=1)[:, :n_a]
    sums: Array = own[chosen].sum(axis=1)
    return sums


def _is_listed(a: Lifetimes, b: Lifetimes) -> bool:
    n_a, n_b = sum(map(len, a)), sum(map(len, b))
    return math.comb(n_a + n_b, n_a) <= LISTED
