r"""How atoms move: mean square displacement and diffusion, velocity autocorrelation, vibrational density of states.

All are per element and seen from the centre of mass.

.. math::

    \mathrm{MSD}(t) &= \langle |x_i(t_0 + t) - x_i(t_0)|^2 \rangle, \qquad
    D = \frac{1}{6} \frac{d}{dt} \mathrm{MSD}(t)

    C(t) &= \langle v_i(t_0) \cdot v_i(t_0 + t) \rangle / \langle v_i^2 \rangle

    D(\nu) &= \frac{2}{k_B T} \sum_i m_i \int_{-\infty}^{\infty} \langle v_i(0) \cdot v_i(t) \rangle
    e^{-2 \pi i \nu t} \, dt, \qquad \int_0^\infty D(\nu) \, d\nu = f

Averages are over atoms and all time origins t_0.  The MSD comes from Fourier transforms (G. R. Kneller et al., Comput.
Phys. Commun. 91, 191 (1995); V. Calandrini et al., Collection SFN 12, 201 (2011), section 4.2).  The density of states
comes from periodograms of half overlapping stretches under a Hann window (P. D. Welch, IEEE Trans. Audio
Electroacoust. 15, 70 (1967)); its normalisation to the f degrees of freedom is that of P. H. Berens et al., J. Chem.
Phys. 79, 2375 (1983), with the temperature that the atoms have, so that the integral of one element is 2 <K> / k_B T.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from ase import units
from numpy.typing import NDArray
from scipy import constants, fft

from ase_mlcalc.analysis.curves import Axis, Curve
from ase_mlcalc.analysis.gather import Gathered, Series
from ase_mlcalc.analysis.species import Species
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.transport.green_kubo import autocorrelation

Array = NDArray[np.float64]
Source = Literal["momenta", "positions"]
Advance = Callable[[], None]

LAG = Axis("time", "ps")
SQUARE = Axis("mean square displacement", "Å²")
CORRELATION = Axis("velocity autocorrelation", "")
WAVENUMBER = Axis("wavenumber", "1/cm")
STATES = Axis("density of states", "cm")

PER_CM_PER_FS = 1e13 / constants.c
"""A frequency of 1/fs as a wavenumber in 1/cm."""
CM2_PER_S_PER_A2_PER_PS = 1e-4
MIN_BLOCK = 4
"""Frames in a block."""
LONGEST_VACF_PS = 2.0
LONGEST_STRETCH_PS = 4.0
"""Of the density of states: 12/cm between points that are told apart (Hann window)."""
FIT_FROM, FIT_TO = 0.125, 0.5
"""Where the line for D is fitted, in parts of a block."""
DIFFUSIVE = 0.25
"""How far the power of t in MSD(t) may be from 1."""
STRAIGHT = 0.3
"""How far MSD(t) may be bent, see `Diffusion.bend`."""
YEH_HUMMER = 2.837297
"""Of a cubic cell: I.-C. Yeh and G. Hummer, J. Phys. Chem. B 108, 15873 (2004), eq. 12."""
FOLDED = 1.25
"""Velocities whose spectrum says that atoms move farther between frames than they do, squared."""
TOP_BAND, MOST_IN_TOP_BAND = 0.8, 0.02
"""From which part of the highest wavenumber on there should be at most which part of the power."""
_CHUNK_VALUES = 1_000_000
"""Values that are Fourier transformed at once."""


@dataclass(frozen=True)
class Diffusion:
    """A coefficient of self-diffusion from the slope of the mean square displacement."""

    D_cm2_per_s: float
    stderr_cm2_per_s: float
    """From the slopes in the blocks of the trajectory."""
    fit_from_ps: float
    fit_to_ps: float
    exponent: float
    """The power of t in MSD(t) there: 1 if atoms diffuse, 2 if they fly, 0 if they stay."""
    bend: float
    """Slope in the second half of the window less that in the first, in parts of the whole: 0 for a straight line."""
    bend_stderr: float
    n_blocks: int
    finite_size_correction_cm2_per_s: float | None = None
    """What was added for the periodic cell; ``None``: nothing."""

    @property
    def diffusive(self) -> bool:
        """The mean square displacement is close to a straight line through zero where it was fitted."""
        straight = abs(self.bend) <= max(STRAIGHT, 2.0 * self.bend_stderr)
        return straight and abs(self.exponent - 1.0) <= DIFFUSIVE


class MotionCurves(NamedTuple):
    """By element; ``None`` where it cannot be measured, for the reason that `notes` gives."""

    msd: dict[str, Curve] | None
    diffusion: dict[str, Diffusion] | None
    vacf: dict[str, Curve] | None
    vdos: dict[str, Curve] | None
    """By element, and with several elements their sum as "all"."""
    velocities_from: Source | None
    notes: tuple[str, ...]


def motion_curves(
    gathered: Gathered,
    series: Series,
    *,
    n_blocks: int,
    fit_ps: tuple[float, float] | None = None,
    stretch_ps: float | None = None,
    viscosity_mPa_s: float | None = None,
    advance: Advance = lambda: None,
) -> MotionCurves:
    """Everything that needs times.

    Parameters
    ----------
    gathered, series
        What was kept of the trajectory.
    n_blocks : int
        Stretches whose scatter gives standard errors.
    fit_ps : (float, float), optional
        Lags between which the line for D is fitted; default: an eighth to a half of a block.
    stretch_ps : float, optional
        Length of what is Fourier transformed for the density of states; default: 4 ps, or less so that there are
        `n_blocks` of them.
    viscosity_mPa_s : float, optional
        Corrects D for the periodic images of a cubic cell.
    advance : callable
        Called once per element.

    Raises
    ------
    ConfigError
        A fit window outside the lags; a viscosity where the correction does not apply.
    """
    species = Species(gathered.numbers[series.atoms])
    length = len(series.positions) // n_blocks
    if length < MIN_BLOCK:
        least = MIN_BLOCK * n_blocks
        note = f"{len(series.positions)} frames are too few to follow motion in {n_blocks} blocks; {least} would do"
        return MotionCurves(None, None, None, None, None, (note,))
    velocities = series.velocities
    source: Source = "momenta"
    if velocities is None:
        velocities, source = np.diff(series.positions, axis=0) / (series.step_fs * units.fs), "positions"
    notes = []
    msd, diffusion, vacf = {}, {}, {}
    correction = None if viscosity_mPa_s is None else _finite_size(gathered, viscosity_mPa_s)
    for kind, symbol in enumerate(species.symbols):
        mine = np.flatnonzero(species.kinds == kind)
        msd[symbol] = _msd_curve(series, mine, n_blocks, length)
        diffusion[symbol] = _diffusion(msd[symbol], fit_ps, correction)
        vacf[symbol] = _vacf_curve(velocities[:, mine], series.step_fs, n_blocks)
        advance()
    vdos, complaint = _density_of_states(gathered, series, velocities, source, species, n_blocks, stretch_ps)
    notes += [complaint] if complaint else []
    if source == "positions":
        notes.append("velocities are differences of positions, for the frames have no momenta")
    if gathered.mean_cell[gathered.pbc].size and not gathered.pbc.all():
        notes.append("D is a sixth of the slope of the MSD also where some directions are open")
    return MotionCurves(msd, diffusion, vacf, vdos, source, tuple(notes))


# ----- displacement -----


def mean_square_displacement(positions: Array, n_lags: int) -> Array:
    """(T, n, 3) continuous positions in Å to (n_lags,) Å², averaged over atoms and over all time origins.

    Written out, the square has a part that recursion gives and one that is an autocorrelation (see the module).
    """
    n_times, n_atoms, _ = positions.shape
    total = np.zeros(n_lags)
    per_chunk = max(1, _CHUNK_VALUES // (3 * n_times))
    origins = n_times - np.arange(n_lags)
    for start in range(0, n_atoms, per_chunk):
        x_tnc = positions[:, start : start + per_chunk]
        x_tnc = x_tnc - x_tnc.mean(axis=0)  # small numbers, so that little is lost in the difference below
        product = autocorrelation(np.moveaxis(x_tnc, 0, -1), n_lags).sum(axis=(0, 1))
        square = np.concatenate([[0.0], np.cumsum(np.einsum("tnc,tnc->t", x_tnc, x_tnc))])
        # sum over origins of x(t0)² + x(t0 + lag)²: the first and the last `origins` frames
        both = square[origins] + square[-1] - square[n_times - origins]
        total += both / origins - 2.0 * product
    msd: Array = total / n_atoms
    msd[0] = 0.0
    return msd


def _msd_curve(series: Series, mine: NDArray[np.int64], n_blocks: int, length: int) -> Curve:
    """All time origins for lags up to the length of a block; each block on its own for the error."""
    positions = series.positions[:, mine]
    blocks = [mean_square_displacement(positions[k * length : (k + 1) * length], length) for k in range(n_blocks)]
    lags = (series.step_fs / 1000.0) * np.arange(length, dtype=np.float64)
    return Curve(lags, mean_square_displacement(positions, length), np.array(blocks), LAG, SQUARE)


def _diffusion(msd: Curve, fit_ps: tuple[float, float] | None, correction: float | None) -> Diffusion:
    low, high = (FIT_FROM * msd.x[-1], FIT_TO * msd.x[-1]) if fit_ps is None else fit_ps
    chosen = np.flatnonzero((msd.x >= low * (1 - 1e-9)) & (msd.x <= high * (1 + 1e-9)) & (msd.x > 0.0))
    if fit_ps is None and len(chosen) < 2:
        chosen = np.arange(1, max(3, len(msd.x) // 2 + 1))
    if len(chosen) < 2 or high > msd.x[-1] * (1 + 1e-9):
        raise ConfigError(
            f"D is fitted between {low:g} and {high:g} ps, but lags go from 0 to {msd.x[-1]:.4g} ps in steps of "
            f"{msd.step:.4g} ps: choose a window with at least two of them, or fewer blocks"
        )
    t = msd.x[chosen]
    to_D = CM2_PER_S_PER_A2_PER_PS / 6.0
    whole, bend = _slope_and_bend(t, msd.y[chosen])
    own = np.array([_slope_and_bend(t, block[chosen]) for block in msd.blocks])
    stderr, bend_stderr = np.std(own, axis=0, ddof=1) / math.sqrt(len(own)) if len(own) > 1 else (math.nan, math.nan)
    scale = abs(whole) or 1.0
    positive = bool((msd.y[chosen] > 0.0).all())
    exponent = float(np.polyfit(np.log(t), np.log(msd.y[chosen]), 1)[0]) if positive else 0.0
    return Diffusion(
        D_cm2_per_s=to_D * whole + (correction or 0.0),
        stderr_cm2_per_s=to_D * float(stderr),
        fit_from_ps=float(t[0]),
        fit_to_ps=float(t[-1]),
        exponent=exponent,
        bend=bend / scale,
        bend_stderr=float(bend_stderr) / scale,
        n_blocks=len(own),
        finite_size_correction_cm2_per_s=correction,
    )


def _slope_and_bend(t: Array, y: Array) -> tuple[float, float]:
    """Slope of a line, and by how much it is larger in the second half; 0 where there are too few points for halves."""
    half = len(t) // 2
    whole = float(np.polyfit(t, y, 1)[0])
    if half < 2:
        return whole, 0.0
    return whole, float(np.polyfit(t[-half:], y[-half:], 1)[0] - np.polyfit(t[:half], y[:half], 1)[0])


def _finite_size(gathered: Gathered, viscosity_mPa_s: float) -> float:
    r"""cm²/s, :math:`\xi k_B T / (6 \pi \eta L)` of a cubic cell."""
    cell = gathered.mean_cell
    lengths = np.linalg.norm(cell, axis=1)
    cubic = gathered.pbc.all() and np.allclose(cell @ cell.T, lengths[0] ** 2 * np.eye(3), atol=1e-2 * lengths[0] ** 2)
    if not cubic or gathered.temperature_K is None or not viscosity_mPa_s > 0.0:
        raise ConfigError(
            "the finite-size correction of D needs a viscosity above zero, a periodic cubic cell and momenta for the "
            f"temperature; got {viscosity_mPa_s:g} mPa s, cell {cell.round(3).tolist()} Å, temperature "
            f"{gathered.temperature_K} K: leave the viscosity out"
        )
    in_m2_per_s = (
        YEH_HUMMER
        * constants.k
        * gathered.temperature_K
        / (6.0 * math.pi * viscosity_mPa_s * 1e-3 * lengths[0] * 1e-10)
    )
    return 1e4 * in_m2_per_s


# ----- velocity -----


def _vacf_curve(velocities: Array, step_fs: float, n_blocks: int) -> Curve:
    """Autocorrelation over its value at zero lag, up to half a block and at most 2 ps."""
    length = len(velocities) // n_blocks
    n_lags = max(2, min(length // 2, int(1000.0 * LONGEST_VACF_PS / step_fs)) + 1)
    blocks = []
    for k in range(n_blocks):
        v_tnc = velocities[k * length : (k + 1) * length]
        per_chunk = max(1, _CHUNK_VALUES // (3 * length))
        parts = [
            autocorrelation(np.moveaxis(v_tnc[:, start : start + per_chunk], 0, -1), n_lags).sum(axis=(0, 1))
            for start in range(0, v_tnc.shape[1], per_chunk)
        ]
        blocks.append(np.sum(parts, axis=0))
    raw = np.array(blocks)
    scale = raw[:, 0].mean() or 1.0
    lags = (step_fs / 1000.0) * np.arange(n_lags, dtype=np.float64)
    return Curve(lags, raw.mean(axis=0) / scale, raw / scale, LAG, CORRELATION)


def _density_of_states(
    gathered: Gathered,
    series: Series,
    velocities: Array,
    source: Source,
    species: Species,
    n_blocks: int,
    stretch_ps: float | None,
) -> tuple[dict[str, Curve] | None, str]:
    """Curves, or why there are none."""
    n_times = len(velocities)
    wanted = round(1000.0 * (LONGEST_STRETCH_PS if stretch_ps is None else stretch_ps) / series.step_fs)
    length = min(wanted, 2 * n_times // (n_blocks + 1))
    if length < 2 * MIN_BLOCK:
        return None, f"{n_times} frames are too few for a density of states"
    frequencies = fft.rfftfreq(length, series.step_fs)  # 1/fs
    response = np.sinc(frequencies * series.step_fs) ** 2  # of a difference of positions to a velocity
    spectra = {}
    for kind, symbol in enumerate(species.symbols):
        mine = np.flatnonzero(species.kinds == kind)
        masses = gathered.masses[series.atoms[mine]]
        share = int((gathered.numbers == gathered.numbers[series.atoms[mine[0]]]).sum()) / len(mine)
        power = share * periodograms(velocities[:, mine], masses, length)
        complaint = _folded(series, mine, masses, share, power, response, source)
        if complaint:
            return None, f"{symbol}: {complaint}"
        spectra[symbol] = power / response if source == "positions" else power
    total = np.sum([power.mean(axis=0).sum() for power in spectra.values()])
    if not total > 0.0:
        return None, "nothing moves, so there is no density of states"
    wavenumbers = frequencies * PER_CM_PER_FS
    scale = gathered.degrees_of_freedom / (total * (wavenumbers[1] - wavenumbers[0]))
    if len(spectra) > 1:
        spectra["all"] = np.sum(list(spectra.values()), axis=0)
    curves = {
        name: Curve(wavenumbers, scale * power.mean(axis=0), scale * power, WAVENUMBER, STATES)
        for name, power in spectra.items()
    }
    return curves, ""


def periodograms(velocities: Array, masses: Array, length: int) -> Array:
    """(M, length // 2 + 1) power at frequencies from zero on, for half overlapping stretches under a Hann window.

    The sum over frequencies is the mean of Σ m v² in a stretch.

    Parameters
    ----------
    velocities : (T, n, 3)
    masses : (n,)
    length : int
        Samples in a stretch.
    """
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / length)
    sides = np.full(length // 2 + 1, 2.0)  # frequencies stand for their negatives, too
    sides[0] = 1.0
    if length % 2 == 0:
        sides[-1] = 1.0
    scale = sides / (length * (window @ window))
    found = []
    for start in range(0, len(velocities) - length + 1, max(1, length // 2)):
        v_tnc = velocities[start : start + length]
        power = np.zeros(len(sides))
        per_chunk = max(1, _CHUNK_VALUES // (3 * length))
        for first in range(0, len(masses), per_chunk):
            part = slice(first, first + per_chunk)
            amplitude = fft.rfft(v_tnc[:, part] * window[:, None, None], axis=0)
            power += np.einsum("fnc,n->f", amplitude.real**2 + amplitude.imag**2, masses[part])
        found.append(power * scale)
    return np.array(found)


def _folded(
    series: Series, mine: NDArray[np.int64], masses: Array, share: float, power: Array, response: Array, source: Source
) -> str:
    """Why a spectrum is not that of the motion: vibrations faster than the frames show up at lower wavenumbers.

    Two vibrations that look the same in velocities at the frames do not move atoms equally far between frames, so the
    mean square displacement over one interval tells them apart.  Without momenta all power near the end is suspicious.
    """
    advice = f"frames {series.step_fs:.3g} fs apart are too rare for a density of states; write them more often"
    mean = power.mean(axis=0)
    if not mean.sum() > 0.0:
        return ""
    if source == "positions":
        top = mean[int(TOP_BAND * len(mean)) :].sum() / mean.sum()
        return advice if top > MOST_IN_TOP_BAND else ""
    moved = np.diff(series.positions[:, mine], axis=0) / (series.step_fs * units.fs)
    true = share * float(np.einsum("tnc,tnc,n->", moved, moved, masses)) / len(moved)
    return advice if (mean * response).sum() > FOLDED * true else ""
