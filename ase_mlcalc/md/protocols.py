"""Ways to bring a structure to its temperature before it is measured, by name."""

from collections.abc import Callable, Mapping
from typing import Any

from ase import units

from ase_mlcalc.md.config import MDConfig

PER_ASE_TIME_PS = 1000.0 * units.fs
"""A friction of 1 in ASE's units, in 1/ps: ASE's time is 10.18 fs."""


def langevin(production: MDConfig) -> tuple[MDConfig, ...]:
    """One picosecond of Langevin dynamics at the temperature of the production stage."""
    return (_thermal(production, time_ps=1.0),)


def langevin_settle(production: MDConfig) -> tuple[MDConfig, ...]:
    """Strong Langevin friction, then weaker until the temperature happens to be right.

    A friction of 1.0 for 0.5 ps, then 0.1 until, between 0.5 and 1 ps, the temperature is within 5 % of the target.
    The protocol of S. Batzner's thesis (2019) on direct forces by tensor field networks, section 3; it was made with
    ASE and gives no unit of the friction, which is taken to be ASE's.
    """
    return (
        _thermal(production, time_ps=0.5, friction_per_ps=1.0 * PER_ASE_TIME_PS),
        _thermal(
            production,
            time_ps=1.0,
            friction_per_ps=0.1 * PER_ASE_TIME_PS,
            settle_within_percent=5.0,
            settle_after_ps=0.5,
        ),
    )


EQUILIBRATIONS: Mapping[str, Callable[[MDConfig], tuple[MDConfig, ...]]] = {
    "langevin": langevin,
    "langevin-settle": langevin_settle,
}


def _thermal(production: MDConfig, **changes: Any) -> MDConfig:
    """A Langevin stage with the time step and the records of the production stage."""
    kept = ("temperature_K", "timestep_fs", "seed", "thermo_every_fs", "frames_every_fs", "checkpoint_every_fs")
    own = {name: getattr(production, name) for name in kept}
    return MDConfig(ensemble="nvt", thermostat="langevin", stresses_every_fs=0.0, **(own | changes))
