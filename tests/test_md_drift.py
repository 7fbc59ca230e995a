"""Energy drift: the slope is right and its error bar covers the truth for correlated series."""

import numpy as np
import pytest
from scipy.signal import lfilter

from ase_mlcalc.md.drift import energy_drift, fit_slope


def autoregressive(rng, n, phi):
    return lfilter([1.0], [1.0, -phi], rng.standard_normal(n + 300))[300:]


@pytest.mark.parametrize(("n", "phi"), [(400, 0.0), (400, 0.9), (1000, 0.97), (400, -0.5)])
def test_two_standard_errors_cover_the_true_slope(n, phi):
    rng = np.random.default_rng(5)
    time = 0.005 * np.arange(n)
    scores = []
    for _ in range(400):
        line = fit_slope(time, -4.7e5 + 0.3 * time + autoregressive(rng, n, phi))
        scores.append((line.slope - 0.3) / line.stderr)
    scores = np.array(scores)
    assert 0.9 < np.mean(np.abs(scores) < 2) < 0.99
    assert abs(scores.mean()) < 0.2


@pytest.mark.parametrize("period_ps", [0.011, 0.23])
def test_oscillation_is_not_taken_for_drift_nor_for_noise(period_ps):
    """Vibrations of steady amplitude but random phase leave the slope sharp: the error bar must see that."""
    rng = np.random.default_rng(6)
    time = 0.005 * np.arange(1200)
    lines = []
    for _ in range(100):
        phase = 2 * np.pi * rng.uniform() + 0.05 * np.cumsum(rng.standard_normal(1200))
        lines.append(fit_slope(time, np.cos(2 * np.pi * time / period_ps + phase)))
    assert np.mean([line.significant for line in lines]) <= 0.12
    spread = np.std([line.slope for line in lines])
    assert np.mean([line.stderr for line in lines]) < 3 * spread


def test_exact_line_and_units():
    time = np.linspace(0, 5, 101)
    drift = energy_drift(time, -100.0 + 2e-3 * time, n_atoms=4)
    assert drift.slope == pytest.approx(0.5, rel=1e-9)  # 2 meV/ps over 4 atoms
    assert drift.intercept == pytest.approx(-25000.0)
    assert drift.rms == pytest.approx(0, abs=1e-8)
    assert drift.significant


def test_energy_offset_does_not_matter():
    rng = np.random.default_rng(7)
    time = 0.01 * np.arange(500)
    noise = 1e-3 * rng.standard_normal(500)
    small, large = fit_slope(time, noise), fit_slope(time, noise - 4.7e5)
    assert small.slope == pytest.approx(large.slope, rel=1e-4)
    assert small.stderr == pytest.approx(large.stderr, rel=1e-4)


def test_too_little_to_say():
    time = np.arange(10.0)
    assert fit_slope(time, time) is None
    assert fit_slope(np.arange(50.0), np.full(50, np.nan)) is None
