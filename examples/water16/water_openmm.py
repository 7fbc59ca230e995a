"""A trained potential as a force of OpenMM."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from ase import Atoms, units
from openmm import unit

from ase_mlcalc import MLCalculator

KJ_PER_MOL = units.kJ / units.mol
EVERY = 10
"""Steps between temperatures."""
TEMPERATURE_K, TIMESTEP_FS, FRICTION_PER_PS = 300.0, 0.5, 2.0


def run(checkpoint: Path, atoms: Atoms, steps: int) -> dict[str, Any]:
    """Langevin dynamics in OpenMM; differences from ASE at the first step, temperature and speed."""
    atoms = atoms.copy()
    atoms.calc = MLCalculator(checkpoint)
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*(atoms.cell.array / 10))
    for mass in atoms.get_masses():
        system.addParticle(mass)
    work = atoms.copy()
    work.calc = MLCalculator(checkpoint)

    def forces(state: openmm.State) -> tuple[float, np.ndarray]:
        work.positions[:] = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        return work.get_potential_energy() / KJ_PER_MOL, work.get_forces() * 10 / KJ_PER_MOL

    force = openmm.PythonForce(forces)
    force.setUsesPeriodicBoundaryConditions(True)
    system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(
        TEMPERATURE_K * unit.kelvin, FRICTION_PER_PS / unit.picosecond, TIMESTEP_FS * unit.femtosecond
    )
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"})
    context.setPositions(atoms.positions / 10)
    context.setVelocitiesToTemperature(TEMPERATURE_K, 1)
    state = context.getState(getEnergy=True, getForces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL
    pulls = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer) * KJ_PER_MOL / 10
    temperatures, began = [], time.perf_counter()
    for _ in range(steps // EVERY):
        integrator.step(EVERY)
        kinetic = context.getState(getEnergy=True).getKineticEnergy().value_in_unit(unit.kilojoule_per_mole)
        temperatures.append(2 * kinetic * KJ_PER_MOL / (3 * len(atoms) * units.kB))
    ms = 1000 * (time.perf_counter() - began) / (EVERY * len(temperatures))
    return {
        "|ΔE| from ASE / eV": abs(energy - atoms.get_potential_energy()),
        "largest |ΔF| from ASE / eV/Å": float(np.abs(pulls - atoms.get_forces()).max()),
        "mean temperature of the second half / K": float(np.mean(temperatures[len(temperatures) // 2 :])),
        "ms per step": ms,
    }
