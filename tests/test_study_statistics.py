"""Statistics of studies against published numbers, hand calculations and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from ase_mlcalc.study.averages import (
    Estimate,
    agreement,
    fluctuation,
    kinetic_variance_ratio,
    mean_of,
    pooled,
)
from ase_mlcalc.study.scans import rank_correlation
from ase_mlcalc.study.survival import (
    Lifetimes,
    log_rank,
    median_time,
    restricted_mean,
    stable_interval,
    survival_curve,
)

# remission of leukemia, weeks: Freireich et al., Blood 21, 699 (1963), the example of most textbooks
TREATED = Lifetimes([6, 6, 6, 7, 10, 13, 16, 22, 23], [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35])
PLACEBO = Lifetimes([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23], [])


def at(curve, time):
    return dict(zip(curve.times_ps, curve.survival, strict=True))[time]


def test_kaplan_meier_by_hand():
    # five runs: failures at 1, 2, 4; one left at 2 (still at risk there), one at 5
    curve = survival_curve(Lifetimes([1.0, 2.0, 4.0], [2.0, 5.0]))
    assert curve.times_ps == (0.0, 1.0, 2.0, 4.0, 5.0)
    assert curve.survival == pytest.approx([1, 4 / 5, 4 / 5 * 3 / 4, 4 / 5 * 3 / 4 * 1 / 2, 4 / 5 * 3 / 4 * 1 / 2])
    assert curve.at_risk == (5, 5, 4, 2, 1)
    assert curve.censored_ps == (2.0, 5.0)
    assert median_time(curve) == 4.0
    area = 1 * 1 + 0.8 * 1 + 0.6 * 2 + 0.3 * 1
    assert restricted_mean(curve, 5.0) == pytest.approx(area)
    assert restricted_mean(curve, 3.0) == pytest.approx(1 + 0.8 + 0.6)
    assert restricted_mean(curve, 6.0) is None, "nobody was watched that long"


def test_kaplan_meier_of_a_textbook():
    curve = survival_curve(TREATED)
    for time, survival in {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}.items():
        assert at(curve, time) == pytest.approx(survival, abs=5e-4)
    assert median_time(curve) == 23
    assert median_time(survival_curve(PLACEBO)) == 8


def test_bands_are_those_of_the_log_of_the_hazard():
    curve = survival_curve(TREATED)
    k = curve.times_ps.index(10)
    # Greenwood: sum of d / (n (n - d)) over 6 (3 of 21), 7 (1 of 17), 10 (1 of 15)
    greenwood = 3 / (21 * 18) + 1 / (17 * 16) + 1 / (15 * 14)
    survival = curve.survival[k]
    width = stats.norm.ppf(0.975) * math.sqrt(greenwood) / abs(math.log(survival))
    assert curve.low[k] == pytest.approx(survival ** math.exp(width), rel=1e-6)
    assert curve.high[k] == pytest.approx(survival ** math.exp(-width), rel=1e-6)


def test_curves_without_failures_and_without_survivors():
    curve = survival_curve(Lifetimes([], [5.0, 5.0]))
    assert (curve.times_ps, curve.survival, curve.low) == ((0.0, 5.0), (1.0, 1.0), (None, None))
    assert median_time(curve) is None
    assert restricted_mean(curve, 5.0) == 5.0
    curve = survival_curve(Lifetimes([0.0, 0.0], []))
    assert curve.survival == (0.0,)
    assert (median_time(curve), restricted_mean(curve, 5.0)) == (0.0, 0.0)
    assert survival_curve(Lifetimes([], [])) is None


def test_median_is_reached_at_one_half():
    assert median_time(survival_curve(Lifetimes([1.0, 2.0, 3.0, 4.0], [9.0] * 4))) == 4.0
    assert median_time(survival_curve(Lifetimes([1.0, 2.0, 3.0], [9.0] * 4))) is None


def test_interval_of_a_fraction():
    fraction, low, high = stable_interval(16, 0)
    assert (fraction, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 16))
    assert stable_interval(0, 0) is None


def test_log_rank_of_a_textbook():
    test = log_rank([(TREATED, PLACEBO)])
    assert (test.failed_a, test.failed_b) == (9, 21)
    assert test.expected_a == pytest.approx(19.25, abs=5e-3)
    assert test.statistic**2 == pytest.approx(16.79, abs=5e-3)
    assert test.statistic < 0, "the treated fail less"


def test_log_rank_is_that_of_scipy():
    rng = np.random.default_rng(1)
    for _ in range(5):
        times = [np.minimum(np.ceil(rng.exponential(scale, 60) * 4) / 4, 2.5) for scale in (1.0, 1.4)]
        samples = [Lifetimes(list(t[t < 2.5]), list(t[t == 2.5])) for t in times]
        censored = [stats.CensoredData(uncensored=s.failed_ps, right=s.censored_ps) for s in samples]
        expected = stats.logrank(*censored)
        test = log_rank([tuple(samples)])
        assert test.statistic == pytest.approx(expected.statistic, abs=1e-10)
        assert test.p_value == pytest.approx(expected.pvalue, rel=0.2), "of many runs, so that the normal one is near"


def test_p_value_is_that_of_all_exchanges():
    """Of the 20 ways to call three of six runs a, two are as extreme as the first three to fail against the others."""
    assert log_rank([(Lifetimes([1, 2, 3], []), Lifetimes([4], [5, 5]))]).p_value == pytest.approx(2 / 20)
    eight = Lifetimes([], [5.0] * 8)
    four, five = (Lifetimes(list(np.arange(n) + 1.0), [5.5] * (8 - n)) for n in (4, 5))
    assert log_rank([(eight, four)]).p_value == pytest.approx(0.077, abs=5e-4)
    assert log_rank([(eight, five)]).p_value == pytest.approx(0.026, abs=5e-4)
    many = Lifetimes([], [5.0] * 11), Lifetimes(list(np.arange(5) + 1.0), [5.5] * 6)
    drawn, exact = log_rank([many]).p_value, 2 * math.comb(17, 11) / math.comb(22, 11)
    assert drawn == pytest.approx(exact, rel=0.1), "drawn, not listed"


def test_p_values_are_uniform_where_models_are_equal():
    rng, found = np.random.default_rng(3), []
    for _ in range(400):
        times = rng.exponential(1.0, (2, 2, 4))  # strata, models, runs
        strata = [tuple(Lifetimes(list(t[t < 1.5]), [1.5] * int((t >= 1.5).sum())) for t in pair) for pair in times]
        found.append(log_rank(strata).p_value)
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(np.array(found) < 0.5) == pytest.approx(0.5, abs=0.1)


def test_strata_are_compared_within_themselves():
    # in each stratum a and b are alike; pooled without strata, a would look worse, for it has more of the short-lived
    short, long = Lifetimes([1.0] * 8, []), Lifetimes([9.0] * 8, [])
    few_short, few_long = Lifetimes([1.0] * 2, []), Lifetimes([9.0] * 2, [])
    apart = log_rank([(short, few_short), (few_long, long)])
    together = log_rank([(Lifetimes([1.0] * 8 + [9.0] * 2, []), Lifetimes([1.0] * 2 + [9.0] * 8, []))])
    assert together.p_value < 0.05
    assert apart.p_value is None or apart.p_value > 0.5
    one = (Lifetimes([1, 2, 3], [5]), Lifetimes([4, 5], [5, 5]))
    twice = log_rank([one, one])
    assert twice.statistic == pytest.approx(math.sqrt(2) * log_rank([one]).statistic)


def test_nothing_failed_is_not_tested():
    alive = Lifetimes([], [5.0] * 4)
    assert log_rank([(alive, alive)]).p_value is None


# ----- averages -----


def correlated(rng, n, tau):
    """A stationary series with unit variance whose correlation decays over tau rows."""
    decay = math.exp(-1.0 / tau)
    noise = rng.standard_normal(n) * math.sqrt(1.0 - decay**2)
    noise[0] = rng.standard_normal()
    from scipy.signal import lfilter

    return lfilter([1.0], [1.0, -decay], noise)


def test_error_of_a_mean_covers():
    rng = np.random.default_rng(2)
    found = [mean_of(5.0 + correlated(rng, 1200, 20.0)) for _ in range(400)]
    inside = np.mean([abs(one.value - 5.0) < 2.0 * one.stderr for one in found])
    assert 0.9 <= inside <= 0.99
    naive = 1.0 / math.sqrt(1200)
    assert np.median([one.stderr for one in found]) > 4.0 * naive, "correlation is seen"


def test_too_short_series_have_no_mean():
    assert mean_of(np.ones(10)) is None
    assert mean_of(np.full(100, np.nan)) is None
    assert mean_of(np.ones(100)) == Estimate(1.0, 0.0)


def test_fluctuation_of_a_sine_on_a_slope():
    t = np.linspace(0.0, 10.0, 2001)
    found = fluctuation(t, -17600.0 + 3e-3 * t + 2e-4 * np.sin(40.0 * t))
    assert found.value == pytest.approx(2e-4 / math.sqrt(2), rel=2e-3)
    assert found.stderr < 0.05 * found.value


@pytest.mark.parametrize("degrees", [6, 60])
def test_variance_of_the_kinetic_energy(degrees):
    rng = np.random.default_rng(3)
    temperatures = 300.0 * rng.chisquare(degrees, size=4000) / degrees
    found = kinetic_variance_ratio(temperatures, 300.0, degrees)
    assert abs(found.value - 1.0) < 3.0 * found.stderr
    assert found.stderr < 0.1
    # a thermostat that suppresses fluctuations, as Berendsen's does
    calm = kinetic_variance_ratio(300.0 + 0.5 * (temperatures - 300.0), 300.0, degrees)
    assert calm.value == pytest.approx(0.25, abs=0.03)


def test_pooling_covers_where_runs_differ_by_more_than_their_errors():
    rng = np.random.default_rng(4)
    hits = alone = 0
    for _ in range(400):
        errors = rng.uniform(0.5, 1.5, 8)
        values = 3.0 + 4.0 * rng.standard_normal(8) + errors * rng.standard_normal(8)
        found = pooled([Estimate(*pair) for pair in zip(values, errors, strict=True)])
        hits += abs(found.value - 3.0) < 2.36 * found.stderr  # 95 % of Student's t, 7 degrees of freedom
        alone += abs(np.average(values, weights=errors**-2) - 3.0) < 1.96 * (errors**-2).sum() ** -0.5
    assert 0.92 <= hits / 400 <= 0.98
    assert alone / 400 < 0.7, "there is scatter to be seen"


def test_pooling_weights_by_errors_where_runs_agree():
    found = pooled([Estimate(1.0, 0.1), Estimate(1.3, 0.3)])
    assert found.value == pytest.approx((1.0 / 0.01 + 1.3 / 0.09) / (1 / 0.01 + 1 / 0.09))
    assert found.stderr == pytest.approx((1 / 0.01 + 1 / 0.09) ** -0.5)
    assert pooled([Estimate(2.0, 0.5)]).stderr == 0.5
    assert pooled([]) is None


def test_verdicts():
    assert agreement(2.05, 0.04, 2.0, 0.2) == "agrees"
    assert agreement(1.0, 0.04, 2.0, 0.2) == "differs"
    assert agreement(1.7, 0.3, 2.0, 0.2) == "undecided"


def test_rank_correlation_of_few_models():
    correlation, p_value = rank_correlation(np.array([1.0, 5.0, 9.0, 11.0]), np.array([0.9, 0.8, 0.3, 0.1]))
    assert correlation == pytest.approx(-1.0)
    assert p_value == pytest.approx(2 / 24), "two of all 24 orders are as extreme"
