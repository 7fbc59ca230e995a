r"""Green-Kubo integrals: transport coefficients from the fluctuations of a system in equilibrium.

.. math::

    \eta    &= \frac{V}{k_B T}   \int_0^\infty \langle P_c(0) \, P_c(t) \rangle \, dt

    \zeta   &= \frac{V}{k_B T}   \int_0^\infty \langle \delta p(0) \, \delta p(t) \rangle \, dt

    \kappa  &= \frac{V}{3 k_B T^2} \int_0^\infty \langle J(0) \cdot J(t) \rangle \, dt

with :math:`P_c` each of the five independent components of the traceless pressure tensor, :math:`p` a third of its
trace, and :math:`J` the heat flux per volume.  The series must come from a run at constant energy (or one whose
thermostat is slow against the correlations), and the pressure includes its kinetic part.

References: R. Kubo, J. Phys. Soc. Jpn. 12, 570 (1957); P. J. Daivis and D. J. Evans, J. Chem. Phys. 100, 541 (1994),
for the use of all components of the pressure tensor.
"""

from typing import NamedTuple

import numpy as np
from ase import units
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.transport.series import FluxSeries, StressSeries

Array = NDArray[np.float64]

DEFAULT_BLOCKS = 10
PA_S_PER_EV_PS_PER_A3 = 1e-12 / units.Pascal
"""One eV/Å³ times one ps, in Pa s."""
W_PER_M_K_PER_EV_PER_A_K_FS = 1e25 / units.J
"""One eV/(Å K fs), in W/(m K)."""
FS_PER_PS = 1e3


class RunningIntegral(NamedTuple):
    """The integral of an autocorrelation function up to each lag, with its statistical error.

    K lags, in the units that the caller used for the series and the time step.
    """

    times: Array
    """(K,) lag."""
    correlation: Array
    """(K,) autocorrelation, averaged over components and blocks."""
    integral: Array
    """(K,) its integral from zero to the lag, by the trapezoidal rule."""
    error: Array
    """(K,) standard error of the integral, from the scatter between blocks."""
    settled: bool
    """Over the last third of the lags the integral changes by no more than two standard errors of that change."""
    n_blocks: int


class TransportCoefficient(NamedTuple):
    """A transport coefficient: the running integral at its longest lag."""

    name: str
    value: float
    error: float
    """Standard error."""
    unit: str
    settled: bool
    """Whether the running integral has come to rest, see `RunningIntegral`; otherwise the lag is too short (the
    integral still rises) or so long that noise has been added up: look at `integral`."""
    times_ps: Array
    correlation: Array
    """In the unit of the coefficient, per ps."""
    integral: Array
    """In the unit of the coefficient."""
    integral_error: Array
    n_blocks: int

    def __str__(self) -> str:
        remark = "" if self.settled else ", not settled: choose another longest lag"
        return f"{self.name} {self.value:.4g} ± {self.error:.1g} {self.unit} ({self.n_blocks} blocks{remark})"


class Kubo(NamedTuple):
    """What a Green-Kubo formula integrates: independent components of equal weight, and what stands before them."""

    name: str
    unit: str
    components: Array
    """(C, T) eV/Å³ or eV/(Å² fs)."""
    prefactor: float
    """From the integral of the autocorrelation over ps to `unit`."""
    step_ps: float


def shear(series: StressSeries) -> Kubo:
    """Five components of the traceless stress, V / kT."""
    return Kubo("shear viscosity", "mPa s", anisotropic(series.stress), _viscosity_prefactor(series), series.step_ps)


def bulk(series: StressSeries) -> Kubo:
    """Fluctuations of the pressure about its mean, V / kT."""
    pressure_t = -series.stress[:, :3].mean(axis=1)
    fluctuation = (pressure_t - pressure_t.mean())[None]
    return Kubo("bulk viscosity", "mPa s", fluctuation, _viscosity_prefactor(series), series.step_ps)


def conduction(series: FluxSeries) -> Kubo:
    """Three components of the heat flux, V / kT²."""
    prefactor = series.volume_A3 / (units.kB * series.temperature_K**2) * FS_PER_PS * W_PER_M_K_PER_EV_PER_A_K_FS
    return Kubo("thermal conductivity", "W/(m K)", series.flux.T, prefactor, series.step_ps)


def shear_viscosity(
    series: StressSeries, longest_lag_ps: float, *, n_blocks: int = DEFAULT_BLOCKS
) -> TransportCoefficient:
    """Shear viscosity in mPa s, the mean over the five independent anisotropic components of the pressure tensor.

    Parameters
    ----------
    series : StressSeries
        Total stress, kinetic part included.
    longest_lag_ps : float
        Where the integral ends; a few times the decay of the correlation.
    n_blocks : int
        Stretches of the series whose scatter gives the error.

    Raises
    ------
    ConfigError, DataError
        A lag or blocks that the series is too short for; a series that cannot be used.
    """
    return _integrate(shear(series), longest_lag_ps, n_blocks)


def bulk_viscosity(
    series: StressSeries, longest_lag_ps: float, *, n_blocks: int = DEFAULT_BLOCKS
) -> TransportCoefficient:
    """Bulk viscosity in mPa s, from the fluctuations of the pressure about its mean; see `shear_viscosity`.

    The mean over the whole series is taken out, which is right at constant energy only: with a thermostat the slow
    exchange of energy adds to the fluctuations.
    """
    return _integrate(bulk(series), longest_lag_ps, n_blocks)


def thermal_conductivity(
    series: FluxSeries, longest_lag_ps: float, *, n_blocks: int = DEFAULT_BLOCKS
) -> TransportCoefficient:
    """Thermal conductivity in W/(m K), from the heat flux of a system of one component; see `shear_viscosity`.

    In mixtures the heat flux also carries partial enthalpies along with diffusion, which this integral does not take
    apart: the result is not the measured conductivity there.
    """
    return _integrate(conduction(series), longest_lag_ps, n_blocks)


def anisotropic(stress: ArrayLike) -> Array:
    r"""The five independent components of the traceless part of a stress tensor, of equal weight.

    :math:`\sigma_{xy}, \sigma_{xz}, \sigma_{yz}, (\sigma_{xx}-\sigma_{yy})/2,
    (\sigma_{xx}+\sigma_{yy}-2\sigma_{zz})/\sqrt{12}`: in an isotropic fluid each has the autocorrelation of an
    off-diagonal component, and the sum of their squares is half of the square of the traceless tensor.

    Parameters
    ----------
    stress : (T, 6)
        xx yy zz yz xz xy.

    Returns
    -------
    (5, T), in the unit of `stress`.

    Reference: Daivis and Evans (1994), eq. 8 and after, written in components.
    """
    xx, yy, zz, yz, xz, xy = np.asarray(stress, dtype=float).T
    return np.stack([xy, xz, yz, (xx - yy) / 2.0, (xx + yy - 2.0 * zz) / np.sqrt(12.0)])


def in_blocks(components: ArrayLike, n_blocks: int) -> Array:
    """(C, T) series to (n_blocks, C, T // n_blocks) consecutive stretches; a remainder at the end is left out."""
    series = np.asarray(components, dtype=float)
    length = series.shape[1] // n_blocks
    return series[:, : n_blocks * length].reshape(len(series), n_blocks, length).transpose(1, 0, 2)


def running_integral(blocks: ArrayLike, step: float, n_lags: int) -> RunningIntegral:
    """Autocorrelation of stretches of a series, and its integral with errors from their scatter.

    Parameters
    ----------
    blocks : (B, C, T)
        B independent stretches (several runs, or one cut by `in_blocks`) of C components, whose autocorrelations are
        averaged.  Means are not taken out.
    step : float
        Time between samples.
    n_lags : int
        Samples from lag zero to the longest one.

    Raises
    ------
    ConfigError
        Fewer than two blocks, or lags longer than half of a block.
    DataError
        NaN or Inf.
    """
    series = np.asarray(blocks, dtype=float)
    if series.ndim != 3:
        raise DataError(f"blocks are (blocks, components, samples), got an array of shape {series.shape}")
    n_blocks, _, length = series.shape
    if n_blocks < 2:
        raise ConfigError(f"an error bar needs at least 2 blocks, got {n_blocks}")
    if not 2 <= n_lags <= length // 2:
        raise ConfigError(
            f"a block has {length} samples, so the integral may have 2 to {length // 2} lags, got {n_lags}: "
            "choose a shorter lag, fewer blocks or a longer run"
        )
    if not np.isfinite(series).all():
        raise DataError("the series holds NaN or Inf; cut it before the first such row")
    of_blocks = autocorrelation(series, n_lags).mean(axis=1)
    areas = 0.5 * step * (of_blocks[:, 1:] + of_blocks[:, :-1])
    integrals = np.concatenate([np.zeros((n_blocks, 1)), np.cumsum(areas, axis=1)], axis=1)
    last_third = integrals[:, -1] - integrals[:, (2 * n_lags) // 3]
    return RunningIntegral(
        times=np.arange(n_lags) * np.float64(step),
        correlation=of_blocks.mean(axis=0),
        integral=integrals.mean(axis=0),
        error=_standard_error(integrals),
        settled=bool(abs(last_third.mean()) <= 2.0 * _standard_error(last_third)),
        n_blocks=n_blocks,
    )


def autocorrelation(series: ArrayLike, n_lags: int) -> Array:
    """(..., T) series to (..., n_lags) autocorrelation, each lag averaged over all pairs of samples that have it."""
    values = np.asarray(series, dtype=float)
    length = values.shape[-1]
    # zeros behind the series keep its end from being correlated with its start
    size = fft.next_fast_len(length + n_lags, real=True)
    spectrum = fft.rfft(values, n=size, axis=-1)
    summed = fft.irfft(spectrum.real**2 + spectrum.imag**2, n=size, axis=-1)[..., :n_lags]
    return summed / (length - np.arange(n_lags))


def lags_of(longest_lag: float, step: float) -> int:
    """Number of samples from lag zero to the longest lag, both included.

    Raises
    ------
    ConfigError
        The longest lag is not longer than the time between samples.
    """
    if not step <= longest_lag < np.inf:
        raise ConfigError(
            f"the longest lag has to be at least the time between samples, {step:.4g}, got {longest_lag!r} (same unit)"
        )
    return round(longest_lag / step) + 1


def _integrate(kubo: Kubo, longest_lag_ps: float, n_blocks: int) -> TransportCoefficient:
    n_lags = lags_of(longest_lag_ps, kubo.step_ps)
    found = running_integral(in_blocks(kubo.components, n_blocks), kubo.step_ps, n_lags)
    return TransportCoefficient(
        name=kubo.name,
        value=kubo.prefactor * float(found.integral[-1]),
        error=kubo.prefactor * float(found.error[-1]),
        unit=kubo.unit,
        settled=found.settled,
        times_ps=found.times,
        correlation=kubo.prefactor * found.correlation,
        integral=kubo.prefactor * found.integral,
        integral_error=kubo.prefactor * found.error,
        n_blocks=n_blocks,
    )


def _viscosity_prefactor(series: StressSeries) -> float:
    return 1e3 * PA_S_PER_EV_PS_PER_A3 * series.volume_A3 / (units.kB * series.temperature_K)


def _standard_error(of_blocks: Array) -> Array:
    return np.std(of_blocks, axis=0, ddof=1) / np.sqrt(len(of_blocks))
