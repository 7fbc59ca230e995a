r"""Heat from forces that are no gradient: what an error of the forces does along trajectories at equilibrium.

Let δF be the difference of the forces of a potential from those of a conservative reference with energy H.  Under the
potential, H changes by the work of the difference,

.. math:: \frac{dH}{dt} = \sum_i \delta F_i \cdot v_i, \qquad w(t) = \int_0^t \sum_i \delta F_i \cdot v_i \, dt'

Forces that depend on positions alone conserve the volume of phase space, so that from canonical starts
<exp(-w / k_B T)> = 1, whatever δF is (C. Jarzynski, Phys. Rev. Lett. 78, 2690 (1997), whose derivation needs no more).
Hence <w> >= 0: errors heat and never cool, on average, and to second order in δF

.. math:: \langle w(t) \rangle = \frac{\langle w(t)^2 \rangle}{2 k_B T}

where the mean on the right is over trajectories of the reference.  If δF is itself a gradient, w(t) is the difference
of two values of a potential and stays bounded: no heat.  What grows with time is due to the part of δF that is none.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ase_mlcalc.errors import DataError

Array = NDArray[np.float64]


class SpuriousHeat(NamedTuple):
    """What the errors of the forces of a potential are expected to do; K lags."""

    lags_ps: Array
    """(K,)"""
    heat_eV: Array
    """(K,) mean energy that a run gains within the lag."""
    stderr_eV: Array
    """(K,) from the scatter of the runs; NaN for one run."""
    force_error_rms: float
    """Root mean square component of the difference of the forces, eV/Å."""

    def rate_K_per_ps(self, degrees_of_freedom: int) -> tuple[float, float]:
        """Slope of the temperature and its standard error, over the longest lag.

        Half of the heat is kinetic, as in harmonic vibrations.
        """
        unit = degrees_of_freedom * units.kB * float(self.lags_ps[-1])
        return float(self.heat_eV[-1]) / unit, float(self.stderr_eV[-1]) / unit


def spurious_heat(
    runs: Sequence[Iterable[Atoms]], calculator: Calculator, temperature_K: float, longest_ps: float | None = None
) -> SpuriousHeat:
    """Expected heat of a potential, from trajectories of a conservative reference.

    Parameters
    ----------
    runs : sequence of iterables of Atoms
        Frames of independent runs at equilibrium at constant energy, evenly spaced and close enough to follow the
        fastest vibration (1 fs with hydrogen): with ``info["time_ps"]``, momenta and the forces of the reference.
    calculator : Calculator
        Of the potential.
    temperature_K : float
        That the runs were equilibrated at.
    longest_ps : float, optional
        Longest lag; default: half of the shortest run, so that each run has several origins.

    Raises
    ------
    DataError
        No runs, runs shorter than four frames, uneven times, frames without forces.
    """
    followed = [_powers(frames, calculator) for frames in runs]
    if not followed:
        raise DataError("no runs; give the frames of at least one")
    step_ps = followed[0].step_ps
    shortest = min(len(each.power) for each in followed)
    most = shortest // 2 if longest_ps is None else round(longest_ps / step_ps)
    if not 1 <= most < shortest:
        raise DataError(
            f"a lag of {most * step_ps:g} ps does not fit into runs of {(shortest - 1) * step_ps:g} ps; run longer"
        )
    lags = np.unique(np.linspace(1, most, min(most, 100)).round().astype(int))
    squares = np.array([_mean_squares(_work(each.power, step_ps), lags) for each in followed])
    heat = squares / (2 * units.kB * temperature_K)
    stderr = heat.std(axis=0, ddof=1) / len(heat) ** 0.5 if len(heat) > 1 else np.full(len(lags), np.nan)
    rms = np.sqrt(np.mean([each.square for each in followed]))
    return SpuriousHeat(lags * step_ps, heat.mean(axis=0), stderr, float(rms))


class _Followed(NamedTuple):
    """A run."""

    step_ps: float
    power: Array
    """(F,) eV/ps of the difference of the forces, at each frame."""
    square: float
    """Mean squared component of the difference."""


def _powers(frames: Iterable[Atoms], calculator: Calculator) -> _Followed:
    times, powers, squares = [], [], []
    for frame in frames:
        if frame.calc is None or "time_ps" not in frame.info:
            raise DataError("a frame has no forces or no time_ps; give frames as `ase-mlcalc md` writes them")
        difference = calculator.get_property("forces", frame) - frame.get_forces(apply_constraint=False)
        times.append(frame.info["time_ps"])
        powers.append(float((difference * frame.get_velocities()).sum()) * 1000 * units.fs)
        squares.append(float(np.square(difference).mean()))
    steps = np.diff(times)
    if len(times) < 4 or not np.allclose(steps, steps[0], rtol=1e-3):
        raise DataError(f"a run of {len(times)} frames, expected at least 4 at even times; write frames more often")
    return _Followed(float(steps.mean()), np.array(powers), float(np.mean(squares)))


def _work(power: Array, step_ps: float) -> Array:
    """(F,) integral up to each frame, by trapezoids."""
    return np.concatenate([[0.0], np.cumsum(0.5 * step_ps * (power[1:] + power[:-1]))])


def _mean_squares(work: Array, lags: NDArray[np.int64]) -> Array:
    """(K,) mean over all origins of the squared work within each lag."""
    return np.array([np.square(work[lag:] - work[:-lag]).mean() for lag in lags])
