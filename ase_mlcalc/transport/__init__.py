"""Transport: heat flux, series of stress and heat flux, and Green-Kubo integrals with error bars."""

from ase_mlcalc.transport.green_kubo import (
    Kubo,
    RunningIntegral,
    TransportCoefficient,
    anisotropic,
    autocorrelation,
    bulk,
    bulk_viscosity,
    conduction,
    in_blocks,
    running_integral,
    shear,
    shear_viscosity,
    thermal_conductivity,
)
from ase_mlcalc.transport.heat_flux import heat_flux
from ase_mlcalc.transport.series import FluxSeries, StressSeries, read_flux_series, read_stress_series
from ase_mlcalc.transport.spectrum import by_spectrum

__all__ = [
    "FluxSeries",
    "Kubo",
    "RunningIntegral",
    "StressSeries",
    "TransportCoefficient",
    "anisotropic",
    "autocorrelation",
    "bulk",
    "bulk_viscosity",
    "by_spectrum",
    "conduction",
    "heat_flux",
    "in_blocks",
    "read_flux_series",
    "read_stress_series",
    "running_integral",
    "shear",
    "shear_viscosity",
    "thermal_conductivity",
]
