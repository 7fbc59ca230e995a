"""Trajectories with known observables, for the tests of observables."""

import numpy as np
from ase import Atoms, units
from scipy import signal

from ase_mlcalc.analysis.gather import Gathered, Samples, Series
from ase_mlcalc.analysis.motion import motion_curves


def gas(n_frames, symbols="Ar40", cell=(9.0, 9.5, 10.0), seed=0, pbc=True):
    """Uniformly random positions, new in each frame."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        atoms = Atoms(symbols, cell=cell, pbc=pbc)
        atoms.set_scaled_positions(rng.random((len(atoms), 3)))
        frames.append(atoms)
    return frames


def trajectory(symbols, positions, *, velocities=None, masses=None, cell=None, pbc=False, step_fs=None):
    """Frames from (T, N, 3) positions in Å and velocities in ASE's unit."""
    frames = []
    for k, x in enumerate(positions):
        atoms = Atoms(symbols, positions=x, cell=cell, pbc=pbc)
        if masses is not None:
            atoms.set_masses(masses)
        if velocities is not None:
            atoms.set_velocities(velocities[k])
        if step_fs is not None:
            atoms.info["time_ps"] = k * step_fs / 1000.0
        frames.append(atoms)
    return frames


def langevin(n_atoms, n_steps, *, step_fs, friction_per_ps, temperature_K, mass, seed):
    """Free Langevin particles, (T, n, 3) positions and velocities, by the exact joint update.

    D. T. Gillespie, Phys. Rev. E 54, 2084 (1996).
    """
    rng = np.random.default_rng(seed)
    g, h = friction_per_ps / (1000.0 * units.fs), step_fs * units.fs
    variance, c = units.kB * temperature_K / mass, np.exp(-friction_per_ps * step_fs / 1000.0)
    vv, xv = variance * (1 - c * c), variance / g * (1 - c) ** 2
    xx = variance / g**2 * (2 * g * h - 3 + 4 * c - c * c)
    z = rng.standard_normal((2, n_steps, n_atoms, 3))
    kick = np.sqrt(vv) * z[0]
    kick[0] = np.sqrt(variance) * z[0, 0]
    v = signal.lfilter([1.0], [1.0, -c], kick, axis=0)
    noise = xv / np.sqrt(vv) * z[0] + np.sqrt(xx - xv**2 / vv) * z[1]
    step = v[:-1] * (1 - c) / g + noise[1:]
    x = np.concatenate([np.zeros((1, n_atoms, 3)), np.cumsum(step, axis=0)])
    return x + 10.0 * rng.random((n_atoms, 3)), v


def oscillators(wavenumbers, masses, n_steps, step_fs, *, temperature_K=300.0, seed=0):
    """(T, N, 3) positions and velocities of independent harmonic atoms of kinetic energy 3/2 kT on average."""
    rng = np.random.default_rng(seed)
    omega = 2.0 * np.pi * 2.99792458e-5 * np.asarray(wavenumbers)[:, None] / units.fs  # per ASE's unit of time
    amplitude = np.sqrt(2.0 * units.kB * temperature_K / np.asarray(masses))[:, None] / omega
    phase = 2.0 * np.pi * rng.random((len(omega), 3))
    t = np.arange(n_steps)[:, None, None] * step_fs * units.fs
    x = amplitude * np.cos(omega * t + phase)
    v = -amplitude * omega * np.sin(omega * t + phase)
    return x + 4.0 * np.arange(len(omega))[:, None], v


def gathered(symbols, positions, *, velocities=None, masses=None, step_fs, cell=(20.0,) * 3, pbc=True, degrees=None):
    """What `gather` keeps of such a trajectory, without making a structure of every frame."""
    atoms = Atoms(symbols)
    masses = atoms.get_masses() if masses is None else np.asarray(masses)
    weights = masses / masses.sum()

    def inner(values):
        return values - np.einsum("n,tnc->tc", weights, values)[:, None]

    series = Series(step_fs, inner(positions), None if velocities is None else inner(velocities), np.arange(len(atoms)))
    degrees = 3 * len(atoms) - 3 if degrees is None else degrees
    temperature = None
    if velocities is not None:
        mean = np.einsum("n,tnc,tnc->", masses, series.velocities, series.velocities) / len(positions)
        temperature = mean / (degrees * units.kB)
    return Gathered(
        n_frames=len(positions),
        formula=symbols,
        numbers=atoms.numbers,
        masses=masses,
        pbc=np.array([pbc] * 3),
        samples=Samples(positions[:1], np.array([np.diag(cell)])),
        series=series,
        mean_cell=np.diag(cell),
        temperature_K=temperature,
        degrees_of_freedom=degrees,
        notes=(),
    )


def motion_of(symbols, positions, **how):
    """Everything about the motion of such a trajectory."""
    options = {name: how.pop(name) for name in ("fit_ps", "viscosity_mPa_s") if name in how}
    kept = gathered(symbols, positions, **how)
    return motion_curves(kept, kept.series, n_blocks=8, **options), kept
