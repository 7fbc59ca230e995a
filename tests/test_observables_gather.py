"""Reading trajectories for observables: unwrapping, times, what is left out and said."""

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from observables_cases import gas, trajectory

from ase_mlcalc.analysis import gather as gathering
from ase_mlcalc.analysis.gather import gather
from ase_mlcalc.analysis.unwrap import Unwrapper
from ase_mlcalc.errors import ConfigError, DataError

SKEWED = np.array([[5.0, 0.0, 0.0], [1.5, 6.0, 0.0], [-1.0, 2.0, 7.0]])


def walk(n_frames, n_atoms, width, seed=0):
    rng = np.random.default_rng(seed)
    return np.cumsum(width * rng.standard_normal((n_frames, n_atoms, 3)), axis=0)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
def test_unwrapping_undoes_wrapping(pbc):
    path = walk(400, 5, 0.4)
    unwrap, start, crossed = Unwrapper(), None, 0
    for k, x in enumerate(path):
        atoms = Atoms("Ar5", positions=x, cell=SKEWED, pbc=pbc)
        atoms.wrap(eps=0)
        crossed += not np.allclose(atoms.positions, x)
        found = unwrap(atoms)
        start = atoms.positions - x if k == 0 else start
        np.testing.assert_allclose(found, x + start, atol=1e-9)
    assert crossed > 100 or not any(pbc)  # there was something to undo
    step = np.abs(np.diff(path, axis=0) @ np.linalg.inv(SKEWED))
    assert unwrap.farthest == pytest.approx(step[..., list(pbc)].max() if any(pbc) else 0.0, rel=0.02)


def test_atoms_that_go_with_the_cell_stay_where_they_are():
    """A barostat that breathes moves images far from the origin; that is no diffusion."""
    rng = np.random.default_rng(1)
    fractional = rng.random((6, 3)) + 40.0  # has come far
    unwrap, first = Unwrapper(), None
    for _ in range(50):
        cell = SKEWED * rng.uniform(0.95, 1.05)
        found = unwrap(Atoms("Ar6", positions=fractional @ cell, cell=cell, pbc=True))
        first = found.copy() if first is None else first
    np.testing.assert_allclose(found, first, atol=1e-9)


def test_motion_in_a_changing_cell_is_that_relative_to_it():
    """The displacement is the sum of fractional steps times the mean cell, through boundaries too."""
    rng = np.random.default_rng(2)
    fractional = np.cumsum(0.1 * rng.standard_normal((200, 4, 3)), axis=0)
    cells = [SKEWED * (1 + 0.03 * np.sin(k / 7)) for k in range(200)]
    unwrap, expected = Unwrapper(), np.zeros((4, 3))
    for k, (s, cell) in enumerate(zip(fractional, cells, strict=True)):
        found = unwrap(Atoms("Ar4", positions=(s % 1.0) @ cell, cell=cell, pbc=True))
        if k:
            expected = expected + (s - fractional[k - 1]) @ (cell + cells[k - 1]) / 2
        else:
            start = found.copy()
    np.testing.assert_allclose(found - start, expected, atol=1e-9)
    assert np.abs(expected).max() > 7.0  # more than a cell


@pytest.mark.parametrize(("step", "motion", "word"), [(0.48, False, "cannot be told"), (0.4, True, "would be wrong")])
def test_frames_that_are_too_far_apart(step, motion, word):
    positions = np.zeros((20, 2, 3))
    positions[:, 1] = 1.0
    positions[7:, 0, 0] = step * 10.0
    found = gather(trajectory("Ar2", positions, cell=[10.0] * 3, pbc=True, step_fs=1.0), r_max=5.0)
    assert (found.series is not None) == motion
    assert any(word in note for note in found.notes)


def test_the_centre_of_mass_is_taken_out():
    positions = walk(30, 3, 0.1) + np.arange(30)[:, None, None] * np.array([0.3, 0.0, -0.2])
    found = gather(trajectory("OArH", positions, step_fs=1.0), r_max=5.0)
    masses = found.masses / found.masses.sum()
    np.testing.assert_allclose(np.einsum("n,tnc->tc", masses, found.series.positions), 0.0, atol=1e-12)
    inner = positions - np.einsum("n,tnc->tc", masses, positions)[:, None]
    np.testing.assert_allclose(found.series.positions, inner, atol=1e-12)


def test_fixed_atoms_are_the_frame_of_reference():
    positions = walk(30, 3, 0.1)
    positions[:, 0] = 0.0
    frames = trajectory("ArArAr", positions, step_fs=1.0)
    for frame in frames:
        frame.set_constraint(FixAtoms([0]))
    found = gather(frames, r_max=5.0)
    np.testing.assert_allclose(found.series.positions, positions, atol=1e-12)
    assert found.degrees_of_freedom == 6


def test_temperature_is_that_of_the_degrees_of_freedom():
    """A molecule without rotation has 3N - 6, one that rotates 3N - 3, a liquid 3N - 3."""
    rng = np.random.default_rng(0)
    start = Atoms("H2O", positions=[[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    frames = []
    for _ in range(40):
        frame = start.copy()
        frame.set_momenta(rng.standard_normal((3, 3)))
        frames.append(frame)
    rotating = gather(frames, r_max=3.0)
    assert rotating.degrees_of_freedom == 6
    from ase.md.velocitydistribution import Stationary, ZeroRotation

    for frame in frames:
        Stationary(frame, preserve_temperature=False)
        ZeroRotation(frame, preserve_temperature=False)
    still = gather(frames, r_max=3.0)
    assert still.degrees_of_freedom == 3
    kinetic = np.mean([frame.get_kinetic_energy() for frame in frames])
    assert still.temperature_K == pytest.approx(2 * kinetic / (3 * 8.617333e-5), rel=1e-5)
    for frame in frames:
        frame.set_cell([4.0] * 3)
        frame.pbc = True
    assert gather(frames, r_max=3.0).degrees_of_freedom == 6


# ----- times -----


def with_times(times_ps):
    frames = gas(len(times_ps), "Ar3")
    for k, (frame, time) in enumerate(zip(frames, times_ps, strict=True)):
        frame.positions[:] = 0.01 * k + np.eye(3)
        frame.info["time_ps"] = time
    return frames


def test_frames_between_the_regular_ones_are_left_out():
    found = gather(with_times([0, 0.05, 0.07, 0.1, 0.15, 0.2, 0.21, 0.25, 0.28]), r_max=3.0)
    assert found.series.step_fs == pytest.approx(50.0)
    assert len(found.series.positions) == 6
    assert any("6 of 9 frames" in note for note in found.notes)


def test_a_gap_leaves_the_longest_stretch():
    found = gather(with_times([0.0, 0.1, 0.2, 0.5, 0.6, 0.7, 0.8, 1.2]), r_max=3.0)
    assert len(found.series.positions) == 4
    assert found.series.step_fs == pytest.approx(100.0)


@pytest.mark.parametrize("step_fs", [0.4837768, 1 / 3, 0.5])
def test_even_frames_are_kept_at_any_interval(step_fs):
    """Also where decimals of a ps do not hold the interval, or the times are rounded to them."""
    times = np.arange(20_000) * step_fs / 1000.0
    assert len(gathering._regular(times)) == 20_000
    assert len(gathering._regular(np.round(times, 9))) == 20_000
    extra = np.insert(times, 7_000, times[7_000] - 0.4 * step_fs / 1000.0)
    assert np.array_equal(np.delete(np.arange(20_001), 7_000), gathering._regular(extra))


def test_repeated_frames_of_a_restart_are_left_out():
    found = gather(with_times([0.0, 0.1, 0.2, 0.2, 0.3]), r_max=3.0)
    assert found.n_frames == 4
    assert len(found.series.positions) == 4
    assert any("restart" in note for note in found.notes)


def test_given_interval_and_discarded_time():
    frames = gas(20, "Ar3", cell=(50.0,) * 3)
    for k, frame in enumerate(frames):
        frame.positions[:] = np.eye(3) + 0.01 * k
    found = gather(frames, r_max=3.0, interval_fs=2.0, discard_ps=0.01)
    assert found.n_frames == 15
    assert found.series.step_fs == pytest.approx(2.0)
    assert found.samples.positions[0, 0, 1] == pytest.approx(0.05)


def test_without_times_there_is_no_motion():
    found = gather(gas(5), r_max=3.0)
    assert found.series is None
    assert any("interval_fs" in note for note in found.notes)


def test_frames_after_a_nan_are_left_out():
    frames = with_times([0.0, 0.1, 0.2, 0.3])
    frames[2].positions[1, 1] = np.nan
    found = gather(frames, r_max=3.0)
    assert found.n_frames == 2
    assert any("frame 2" in note for note in found.notes)


def test_refused():
    with pytest.raises(DataError, match="no frames"):
        gather([], r_max=3.0)
    with pytest.raises(DataError, match="another order"):
        gather([Atoms("HO", [[0, 0, 0], [0, 0, 1]]), Atoms("OH", [[0, 0, 0], [0, 0, 1]])], r_max=3.0)
    with pytest.raises(DataError, match="pbc"):
        gather([Atoms("H"), Atoms("H", cell=[3, 3, 3], pbc=True)], r_max=3.0)
    with pytest.raises(ConfigError, match="interval_fs"):
        gather(gas(3), r_max=3.0, discard_ps=1.0)
    with pytest.raises(ConfigError, match="positive"):
        gather(gas(3), r_max=3.0, interval_fs=0.0)


# ----- bounded memory -----


def test_frames_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr(gathering, "MIN_FRAMES", 10)
    monkeypatch.setattr(gathering, "MAX_DISTANCES", 1)
    frames = with_times(np.arange(73) * 0.1)
    found = gather(iter(frames), r_max=3.0)
    first = found.samples.positions[:, 0, 1]
    assert 10 <= len(first) < 20
    assert np.ptp(np.diff(first)) < 1e-12
    assert first[-1] > 0.01 * 60  # to the end
    assert len(found.series.positions) == 73
    assert any("of 73 frames" in note for note in found.notes)


def test_atoms_are_thinned_in_each_element(monkeypatch):
    monkeypatch.setattr(gathering, "MAX_SERIES", 3000)
    positions = walk(100, 64 + 9, 0.1) + 3.0 * np.arange(73)[:, None]
    found = gather(trajectory("Ar64Ne9", positions, step_fs=1.0), r_max=3.0)
    kept = found.series.atoms
    assert len(kept) * 100 <= 3000
    assert (kept >= 64).sum() == 9  # a rare element stays
    weights = found.masses / found.masses.sum()
    inner = positions - np.einsum("n,tnc->tc", weights, positions)[:, None]
    np.testing.assert_allclose(found.series.positions, inner[:, kept], atol=1e-10)
    assert any("of 73 atoms" in note for note in found.notes)
    assert not any("in memory" in note for note in found.notes)


def test_small_molecules_are_kept_and_that_is_said(monkeypatch):
    monkeypatch.setattr(gathering, "MAX_SERIES", 3000)
    found = gather(trajectory("C6H6", walk(400, 12, 0.01) + np.arange(12)[:, None], step_fs=1.0), r_max=3.0)
    assert found.series.positions.shape == (400, 12, 3)
    assert any("4800 positions, all in memory" in note for note in found.notes)
