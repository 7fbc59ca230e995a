"""ASE's integrators from a configuration, and the momenta that an ensemble starts with."""

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet

from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.velocities import draw_momenta, remove_rigid_motion


def set_initial_momenta(atoms: Atoms, config: MDConfig) -> None:
    """Draw or keep momenta; constant energy also conserves rigid motion, so it is taken out there."""
    if config.initial_velocities == "thermal":
        draw_momenta(atoms, config.temperature_K, np.random.default_rng([config.seed, 0]))
    if config.ensemble == "nve":
        remove_rigid_motion(atoms)


def integrator(atoms: Atoms, config: MDConfig) -> MolecularDynamics:
    """The ASE dynamics object of an ensemble.

    NVT is Langevin dynamics of all 3N momenta (``fixcm=False``; the variant that holds the center of mass samples
    a wrong temperature), with its own seeded noise.
    """
    timestep = config.timestep_fs * units.fs
    if config.ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    return Langevin(
        atoms,
        timestep,
        temperature_K=config.temperature_K,
        friction=config.friction_per_ps / (1000.0 * units.fs),
        fixcm=False,
        rng=np.random.default_rng([config.seed, 1]),
    )
