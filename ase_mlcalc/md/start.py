"""Whether a structure can be run as asked: what is refused, and what is only doubtful."""

from contextlib import suppress

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError

from ase_mlcalc.errors import ConfigError, ModelError, NumericalError, StructureError
from ase_mlcalc.foreign import forget
from ase_mlcalc.graph import has_volume
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.ensembles import conserves_momentum
from ase_mlcalc.md.fluxes import check_fluxes
from ase_mlcalc.md.velocities import degrees_of_freedom

STEPS_IN_FASTEST_PERIOD = 8
"""Velocity Verlet is stable above pi; with 8, the energy fluctuates by a few per cent of the vibration's own."""

STIFFEST_BOND = 48.0
"""eV/Å², force constant of an O-H bond, about the stiffest that a hydrogen is part of."""


def check_start(atoms: Atoms, config: MDConfig) -> None:
    """Refuse what cannot be run, before anything is written.

    Raises
    ------
    ConfigError, StructureError, ModelError
    """
    if atoms.calc is None:
        raise ConfigError("the structure has no calculator; set atoms.calc, for example to MLCalculator(checkpoint)")
    if len(atoms) == 0:
        raise StructureError("the starting structure has no atoms")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.get_momenta()).all()):
        raise StructureError("positions or momenta of the starting structure are NaN or Inf; repair the input file")
    if not (atoms.get_masses() > 0).all():
        raise StructureError("an atom of the starting structure has no mass; set its mass or remove it")
    _check_ensemble(atoms, config)
    check_fluxes(atoms, config)
    # history of the calculator, such as its neighbour list, is forgotten: a run that goes on has none either
    forget(atoms.calc)
    with suppress(NumericalError):  # NaN is an outcome of the run
        try:
            atoms.get_forces()  # the first step finds it in the cache
        except PropertyNotImplementedError as error:
            raise ModelError(
                f"{type(atoms.calc).__name__} gives no forces, so it cannot drive molecular dynamics ({error})"
            ) from error


def _check_ensemble(atoms: Atoms, config: MDConfig) -> None:
    driver = config.driver
    if driver in ("nose-hoover", "npt") and atoms.constraints:
        raise ConfigError(
            f"ASE's {driver} integrator ignores constraints, and this structure has {len(atoms.constraints)}; use "
            'thermostat = "langevin" or "bussi" at constant volume, or remove them'
        )
    if driver == "npt":
        if not (atoms.pbc.all() and has_volume(atoms)):
            raise StructureError(
                f"npt needs a cell that is periodic in three directions, got pbc = {atoms.pbc.tolist()}; use nvt"
            )
        if "stress" not in atoms.calc.implemented_properties:
            raise ModelError(f"npt needs the stress, which {type(atoms.calc).__name__} does not give; use nvt")
    if driver in ("bussi", "nose-hoover", "npt"):
        n_degrees = degrees_of_freedom(atoms, all_momenta=not conserves_momentum(config))
        if n_degrees < 1:
            raise ConfigError(f'nothing moves under the thermostat {driver!r}; use thermostat = "langevin"')
    still = config.initial_velocities == "keep" and not np.any(atoms.get_momenta())
    if still and driver in ("verlet", "bussi"):
        raise StructureError(
            'initial_velocities = "keep", but the structure has no velocities; use "thermal", or give a file that '
            "holds them (.traj, or extxyz with momenta)"
        )


def doubts(atoms: Atoms, config: MDConfig) -> tuple[str, ...]:
    """What is allowed and probably not meant, one sentence each."""
    found = []
    longest_fs = longest_timestep_fs(atoms)
    if config.timestep_fs > longest_fs:
        lightest = atoms.get_masses().argmin()
        found.append(
            f"timestep_fs = {config.timestep_fs:g} is long for {atoms.symbols[lightest]}, whose fastest vibration "
            f"takes about {STEPS_IN_FASTEST_PERIOD * longest_fs:.0f} fs; at most {longest_fs:.1f} fs is usual"
        )
    if atoms.constraints and config.rigid_motion != "kept" and config.driver != "langevin":
        found.append("the structure has constraints: its rigid motion is left as it is")
    if config.initial_velocities == "keep" and not np.any(atoms.get_momenta()):
        found.append("the structure starts without velocities; the thermostat has to heat it first")
    return tuple(found)


def longest_timestep_fs(atoms: Atoms) -> float:
    """An upper bound for a usual time step: a part of the period of the lightest atom at the stiffest bond.

    The period of a mass m on a spring k is 2π √(m/k), 9 fs for hydrogen at the force constant of an O-H bond.
    """
    period = 2.0 * np.pi * np.sqrt(float(atoms.get_masses().min()) / STIFFEST_BOND)
    return float(period / units.fs) / STEPS_IN_FASTEST_PERIOD
