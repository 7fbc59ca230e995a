"""Molecular dynamics by OpenMM with a potential of this package: needs the extra `openmm`.

    python examples/engines/openmm_nve.py model.safetensors start.extxyz --steps 1000

The forces come from the calculator through openmmml's potential "ase"; integrators, constraints and barostats are
OpenMM's.  What OpenMM wants and ASE does not have is a topology, which `topology` makes.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
import openmm
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from openmm import app, unit
from openmm.app.internal.unitcell import reducePeriodicBoxVectors
from openmmml import MLPotential

from ase_mlcalc import MLCalculator

KJ_PER_MOL_eV = units.kJ / units.mol


def topology(atoms: Atoms) -> app.Topology:
    """Elements and box of a structure; all atoms in one residue, without bonds, which no force here asks for."""
    made = app.Topology()
    residue = made.addResidue("ALL", made.addChain())
    for number in atoms.numbers.tolist():
        element = app.Element.getByAtomicNumber(number)
        made.addAtom(element.symbol, element, residue)
    if atoms.pbc.all():
        made.setPeriodicBoxVectors(reducePeriodicBoxVectors(0.1 * atoms.cell.array))  # of the same lattice, in nm
    return made


def simulation(atoms: Atoms, calculator: Calculator, integrator: openmm.Integrator) -> app.Simulation:
    """A structure at its positions, ready to be stepped."""
    if atoms.pbc.any() and not atoms.pbc.all():
        raise ValueError(f"OpenMM has boxes that are periodic in all directions or in none, got {atoms.pbc.tolist()}")
    atoms = atoms.copy()
    if atoms.pbc.all():  # OpenMM wants the first vector along x and the second in the xy plane: turned, not deformed
        standard, rotation = atoms.cell.standard_form()
        atoms.set_cell(standard, scale_atoms=False)
        atoms.positions = atoms.positions @ rotation.T
    made = topology(atoms)
    system = MLPotential("ase").createSystem(made, calculator=calculator)
    running = app.Simulation(made, system, integrator)
    running.context.setPositions(0.1 * atoms.positions)  # nm
    return running


def energies(running: app.Simulation) -> tuple[float, float]:
    """Potential and kinetic energy in eV."""
    state = running.context.getState(getEnergy=True)
    each = (state.getPotentialEnergy(), state.getKineticEnergy())
    potential, kinetic = (value.value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL_eV for value in each)
    return potential, kinetic


def main() -> None:
    """Constant energy, with a line now and then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("structure", type=Path)
    parser.add_argument("--temperature", type=float, default=300.0, metavar="K")
    parser.add_argument("--timestep-fs", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    atoms = ase.io.read(arguments.structure)
    integrator = openmm.VerletIntegrator(arguments.timestep_fs * unit.femtosecond)
    running = simulation(atoms, MLCalculator(arguments.model), integrator)
    running.context.setVelocitiesToTemperature(arguments.temperature * unit.kelvin, 1)
    totals = []
    for _ in range(10):
        running.step(max(1, arguments.steps // 10))
        potential, kinetic = energies(running)
        totals.append(potential + kinetic)
        print(f"step {running.currentStep}: potential {potential:.6f} eV, total {totals[-1]:.6f} eV")
    print(f"total energy within {np.ptp(totals):.1e} eV")


if __name__ == "__main__":
    main()
