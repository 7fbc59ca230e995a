"""Motion with known answers: random walks, Langevin particles, harmonic oscillators, and sums written out."""

import numpy as np
import pytest
from ase import Atoms, units
from observables_cases import langevin, motion_of, oscillators, trajectory

from ase_mlcalc.analysis import measure_observables
from ase_mlcalc.analysis import motion as motions
from ase_mlcalc.analysis.gather import gather
from ase_mlcalc.analysis.motion import PER_CM_PER_FS, mean_square_displacement, motion_curves, periodograms
from ase_mlcalc.errors import ConfigError


def test_msd_is_the_direct_sum(monkeypatch):
    monkeypatch.setattr(motions, "_CHUNK_VALUES", 400)  # several chunks of atoms
    x = np.cumsum(np.random.default_rng(0).standard_normal((60, 5, 3)), axis=0) + 100.0
    direct = [np.mean(((x[lag:] - x[: 60 - lag]) ** 2).sum(axis=-1)) for lag in range(40)]
    np.testing.assert_allclose(mean_square_displacement(x, 40), direct, rtol=1e-9, atol=1e-9)
    assert direct[30] > 10.0


def walks(seed, n_atoms=20, n_frames=800, width=0.1):
    """Positions of a walk with D = width² / (2 step), wrapped into a small cell."""
    steps = width * np.random.default_rng(seed).standard_normal((n_frames, n_atoms, 3))
    return np.cumsum(steps, axis=0)


def test_error_bars_of_diffusion_cover():
    """Over many walks the deviation is what the error says; the centre of mass takes 1/N of D with it."""
    step_fs, width, n_atoms = 10.0, 0.1, 20
    exact = width**2 / (2 * step_fs / 1000.0) * 1e-4 * (1 - 1 / n_atoms)
    z = []
    for seed in range(60):
        found = motion_of(f"Ar{n_atoms}", walks(seed), step_fs=step_fs)[0].diffusion["Ar"]
        z.append((found.D_cm2_per_s - exact) / found.stderr_cm2_per_s)
        assert found.diffusive
    # Student's t with 7 degrees of freedom: standard deviation 1.18, 92 % within 2
    assert abs(np.mean(z)) < 0.5
    assert 0.7 < np.std(z) < 1.7
    assert np.mean(np.abs(z) < 2) > 0.8


def test_diffusion_through_boundaries():
    """The same walk, wrapped into a cell that it crosses many times."""
    path = walks(1, n_atoms=4, n_frames=300)
    wrapped = trajectory("Ar4", path, step_fs=10.0, cell=[2.0] * 3, pbc=True)
    for frame in wrapped:
        frame.wrap()
    assert np.abs(path).max() > 3.0
    expected = motion_of("Ar4", path, step_fs=10.0)[0].diffusion["Ar"]
    kept = gather(wrapped, r_max=1.0)
    found = motion_curves(kept, kept.series, n_blocks=8).diffusion["Ar"]
    assert found.D_cm2_per_s == pytest.approx(expected.D_cm2_per_s, rel=1e-9)


LANGEVIN = {"step_fs": 10.0, "friction_per_ps": 20.0, "temperature_K": 300.0, "mass": 18.0}


@pytest.fixture(scope="module")
def particles():
    x, v = langevin(40, 3000, seed=3, **LANGEVIN)
    return motion_of("Ar40", x, velocities=v, masses=[18.0] * 40, step_fs=10.0)


def test_langevin_particles_diffuse_by_einstein(particles):
    """D = kT / (m gamma), times 1 - 1/N in the frame of the centre of mass."""
    friction = LANGEVIN["friction_per_ps"] / (1000.0 * units.fs)
    exact = units.kB * 300.0 / (18.0 * friction) * (1000.0 * units.fs) * 1e-4 * (1 - 1 / 40)
    motion, kept = particles
    found = motion.diffusion["Ar"]
    assert abs(found.D_cm2_per_s - exact) < 3 * found.stderr_cm2_per_s
    assert 0.01 < found.stderr_cm2_per_s / exact < 0.1
    assert kept.temperature_K == pytest.approx(300.0, rel=0.02)
    assert motion.velocities_from == "momenta"


def test_velocities_of_langevin_particles_decay_exponentially(particles):
    curve = particles[0].vacf["Ar"]
    exact = np.exp(-LANGEVIN["friction_per_ps"] * curve.x)
    assert curve.y[0] == pytest.approx(1.0)
    early = slice(1, 12)
    assert (np.abs(curve.y - exact)[early] < 4 * curve.stderr[early] + 1e-3).all()
    assert curve.y[4] == pytest.approx(np.exp(-0.8), abs=0.03)


def test_density_of_states_of_langevin_particles(particles):
    """That of a series v' = c v + noise, to the highest wavenumber (a Lorentzian with what is folded onto it)."""
    motion, kept = particles
    curve, f, h = motion.vdos["Ar"], kept.degrees_of_freedom, LANGEVIN["step_fs"]
    c = np.exp(-LANGEVIN["friction_per_ps"] * h / 1000.0)
    nu = curve.x / PER_CM_PER_FS
    exact = f * 2 * h * (1 - c * c) / (1 - 2 * c * np.cos(2 * np.pi * nu * h) + c * c) / PER_CM_PER_FS
    assert curve.area == pytest.approx(f)
    z = ((curve.y - exact) / curve.stderr)[1:-1]
    assert abs(z.mean()) < 0.5
    assert z.std() < 1.6
    assert exact[1] > 20 * exact[-1]


SLOW_AND_FAST = ("Ar8H4", [300.0] * 8 + [1500.0] * 4, [40.0] * 8 + [2.0] * 4)


def test_oscillators_have_their_peaks_and_their_degrees_of_freedom():
    """Eight atoms at 300/cm and four light ones at 1500/cm; the centre of mass takes 3 m / M of each element."""
    symbols, wavenumbers, masses = SLOW_AND_FAST
    x, v = oscillators(wavenumbers, masses, 4000, 2.0)
    motion, kept = motion_of(symbols, x, velocities=v, masses=masses, step_fs=2.0)
    assert motion.vdos is not None, motion.notes
    assert kept.degrees_of_freedom == 33
    for name, place, count, mass in (("Ar", 300.0, 8, 40.0), ("H", 1500.0, 4, 2.0)):
        curve = motion.vdos[name]
        assert curve.x[np.argmax(curve.y)] == pytest.approx(place, abs=curve.step)
        near = np.abs(curve.x - place) < 60.0
        assert curve.y[near].sum() > 0.97 * curve.y.sum()
        assert curve.area == pytest.approx(3 * count - 3 * count * mass / sum(masses), rel=0.05)
    assert motion.vdos["all"].area == pytest.approx(33.0)


def test_velocities_from_positions_lose_nothing():
    """Differences over an interval are smaller for fast vibrations; the spectrum is corrected for that."""
    symbols, wavenumbers, masses = SLOW_AND_FAST
    x, v = oscillators(wavenumbers, masses, 3000, 4.0)
    with_momenta, _ = motion_of(symbols, x, velocities=v, masses=masses, step_fs=4.0)
    without, kept = motion_of(symbols, x, masses=masses, step_fs=4.0)
    assert without.velocities_from == "positions"
    assert any("differences of positions" in note for note in without.notes)
    for name in ("Ar", "H"):
        np.testing.assert_allclose(without.vdos[name].area, with_momenta.vdos[name].area, rtol=0.01)
    assert np.sinc(1500.0 / PER_CM_PER_FS * 4.0) ** 2 < 0.9  # there was something to correct
    assert kept.temperature_K is None


@pytest.mark.parametrize("momenta", [True, False])
def test_vibrations_faster_than_the_frames_are_noticed(momenta):
    """1500/cm has a period of 22 fs: in frames 20 fs apart it would show up at 168/cm.

    Without momenta only what comes out close to the highest wavenumber is noticed.
    """
    step = 20.0 if momenta else 12.0
    x, v = oscillators([1500.0] * 6, [2.0] * 6, 2000, step)
    found, _ = motion_of("H6", x, velocities=v if momenta else None, masses=[2.0] * 6, step_fs=step)
    assert found.vdos is None
    assert any("too rare" in note for note in found.notes)
    assert found.msd is not None


@pytest.mark.parametrize("length", [100, 101])
def test_periodogram_keeps_the_energy(length):
    """The sum over frequencies is the windowed mean of the kinetic energy, of white noise and of a steady flow."""
    masses = np.array([1.0, 2.0, 3.0])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    for v in (np.random.default_rng(0).standard_normal((length, 3, 3)), np.ones((length, 3, 3))):
        expected = window**2 @ np.einsum("tnc,n->t", v**2, masses) / (window @ window)
        np.testing.assert_allclose(periodograms(v, masses, length).sum(axis=1), expected)


def test_flight_is_not_diffusion():
    x = np.arange(200)[:, None, None] * 0.01 * np.random.default_rng(0).standard_normal((1, 10, 3))
    found = motion_of("Ar10", x, step_fs=1.0)[0].diffusion["Ar"]
    assert found.exponent == pytest.approx(2.0)
    assert not found.diffusive


def test_yeh_hummer_by_hand():
    x, v = langevin(20, 400, seed=0, **LANGEVIN)
    how = {"velocities": v, "masses": [18.0] * 20, "step_fs": 10.0}
    plain = motion_of("Ar20", x, cell=[15.0] * 3, **how)[0].diffusion["Ar"]
    motion, kept = motion_of("Ar20", x, cell=[15.0] * 3, viscosity_mPa_s=0.9, **how)
    # 2.837297 kT / (6 pi eta L) in SI, for 298.15 K, 0.9 mPa s, 15 Å: 4.59e-10 m²/s
    expected = 4.590e-6 * kept.temperature_K / 298.15
    corrected = motion.diffusion["Ar"]
    assert corrected.finite_size_correction_cm2_per_s == pytest.approx(expected, rel=1e-3)
    assert corrected.D_cm2_per_s - plain.D_cm2_per_s == pytest.approx(expected, rel=1e-3)
    for wrong in ({"cell": [15.0, 15.0, 20.0]}, {"pbc": False}, {"viscosity_mPa_s": 0.0}, {"velocities": None}):
        with pytest.raises(ConfigError, match="cubic"):
            motion_of("Ar20", x, **({"cell": [15.0] * 3, "viscosity_mPa_s": 0.9} | how | wrong))


def test_fit_window():
    found = motion_of("Ar20", walks(0), step_fs=10.0, fit_ps=(0.2, 0.4))[0].diffusion["Ar"]
    assert (found.fit_from_ps, found.fit_to_ps) == pytest.approx((0.2, 0.4))
    with pytest.raises(ConfigError, match="window"):
        motion_of("Ar20", walks(0), step_fs=10.0, fit_ps=(0.2, 5.0))


def test_too_few_frames_for_motion():
    found = measure_observables([Atoms("Ar2", [[0, 0, 0], [0, 0, 3]])] * 10, interval_fs=1.0)
    assert found.msd is None
    assert found.vdos is None
    assert any("too few" in note for note in found.notes)
    assert found.h_of_r is not None
