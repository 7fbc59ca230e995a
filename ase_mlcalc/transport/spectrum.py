"""Green-Kubo integrals through STACIE (extra ``stacie``), which fits the low end of the power spectrum.

Nobody has to choose where the integral ends: a model of the spectrum is fitted up to several cutoff frequencies, which
are weighted by how well they predict, and the error bar comes with the fit.

Reference: G. Toraman, D. Fauconnier and T. Verstraelen, J. Chem. Inf. Model. 65, 10445 (2025).
"""

from typing import NamedTuple

from ase_mlcalc.errors import MLCalcError, NumericalError
from ase_mlcalc.transport.green_kubo import Kubo, in_blocks


class SpectralCoefficient(NamedTuple):
    """A transport coefficient from the fit of a spectrum."""

    name: str
    value: float
    error: float
    """Standard error, as STACIE gives it."""
    unit: str
    n_effective: float
    """Effective number of points of the spectrum in the fit; below twenty times the number of parameters (three) the
    series is too short for a sure error bar."""

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g} ± {self.error:.1g} {self.unit} (STACIE)"


def by_spectrum(kubo: Kubo, *, n_blocks: int = 1) -> SpectralCoefficient:
    """The integral of a Green-Kubo formula, without a longest lag to choose.

    Parameters
    ----------
    kubo : Kubo
        `shear` or `bulk` of a stress series, `conduction` of a heat flux series.
    n_blocks : int
        Stretches that the series is cut into; more give a coarser spectrum with less scatter.

    Raises
    ------
    MLCalcError
        STACIE is not installed.
    NumericalError
        The fit fails.
    """
    try:
        from stacie import ExpPolyModel, compute_spectrum, estimate_acint
    except ImportError as error:
        raise MLCalcError('this needs STACIE, which is not installed: pip install "ase-mlcalc[stacie]"') from error
    blocks = in_blocks(kubo.components, n_blocks)
    fluctuates = kubo.name == "bulk viscosity"  # the mean of the pressure says nothing about its fluctuations
    spectrum = compute_spectrum(
        blocks.reshape(-1, blocks.shape[-1]),
        prefactors=kubo.prefactor,
        timestep=kubo.step_ps,
        include_zero_freq=not fluctuates,
    )
    try:
        found = estimate_acint(spectrum, ExpPolyModel([0, 1, 2]))
    except (ValueError, ArithmeticError, AssertionError) as error:
        raise NumericalError(f"STACIE cannot fit the spectrum ({error}); the series may be too short") from error
    return SpectralCoefficient(kubo.name, float(found.acint), float(found.acint_std), kubo.unit, float(found.neff))
