"""Mechanics: forces and stress are derivatives of the energy, obey sum rules, are continuous, and conserve energy."""

import numpy as np
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.properties import Properties
from ase_mlcalc.testing import finite_difference, outcome, structures
from ase_mlcalc.testing.comparison import size
from ase_mlcalc.testing.outcome import Judge
from ase_mlcalc.testing.subject import ModelSubject

# small, because cutoffs that are smooth to first order only have kinks in the forces that a wide stencil would average
STEP_ANGSTROM = 1e-4
STEP_STRAIN = 2e-5


def check_forces(subject: ModelSubject, judge: Judge) -> None:
    """Forces are minus the derivative of the energy by positions."""
    for name, atoms in {"crystal": subject.crystal, "water": subject.water, "slab": subject.slab}.items():
        forces = outcome.array(subject.evaluate(atoms).forces)
        judge.above(f"largest force of {name}", forces, outcome.FORCE_FLOOR)
        moves = finite_difference.directions(len(atoms), 6, seed=3)
        slopes = finite_difference.along_displacements(_floats(subject), atoms, moves, STEP_ANGSTROM)
        expected = -np.einsum("kna,na->k", moves, forces)
        largest = float(np.abs(forces).max())
        judge.close(f"{name}: dE/dr against -F", slopes, expected, outcome.FINITE_DIFFERENCE, scale=largest)


def check_stress(subject: ModelSubject, judge: Judge) -> None:
    """Stress is the derivative of the energy by strain, per volume, positive under tension."""
    for name, atoms in {"crystal": subject.crystal, "slab": subject.slab, "one-atom lattice": subject.lattice}.items():
        stress = outcome.array(subject.evaluate(atoms).stress)[0]
        judge.above(f"largest stress of {name}", stress, outcome.STRESS_FLOOR)
        slopes = finite_difference.stress(_floats(subject), atoms, STEP_STRAIN)
        judge.close(f"{name}: (1/V) dE/dε against stress", slopes, stress, outcome.FINITE_DIFFERENCE)


def check_sum_rules(subject: ModelSubject, judge: Judge) -> None:
    """Newton's third law, no torque on molecules, symmetric stress, atoms' shares that add up."""
    for name, atoms in subject.everything().items():
        result = subject.evaluate(atoms)
        if result.forces is not None and subject.outputs != {"forces"}:
            forces = outcome.array(result.forces)
            # one-atom cells and isolated atoms have no force but forces of pairs that cancel
            scale = max(float(np.abs(forces).max()), 1.0)
            judge.close(f"{name}: sum of forces", forces.sum(axis=0), np.zeros(3), outcome.SUMS, scale)
            if not atoms.pbc.any() and subject.gives_energy and subject.potential.model.equivariant:
                torque = np.cross(atoms.positions, forces).sum(axis=0)
                judge.close(f"{name}: torque", torque, np.zeros(3), outcome.SUMS, 10 * scale)
        if result.energy is not None and result.energies is not None:
            total = result.energies.sum()[None]
            judge.close(f"{name}: sum of energies", total, result.energy, outcome.SUMS, size(result.energies))
        if result.stress is not None and result.stresses is not None:
            both = (result.stresses.sum(dim=0)[None], result.stress)
            judge.close(f"{name}: sum of stresses", *both, outcome.SUMS, size(result.stresses))
            asymmetry = result.stress - result.stress.mT
            judge.close(f"{name}: stress minus its transpose", asymmetry, 0 * asymmetry, outcome.SUMS, size(both[1]))


def check_smooth_at_cutoff(subject: ModelSubject, judge: Judge) -> None:
    """What is predicted is continuous while an atom crosses the cutoff of another that has a third neighbour."""
    cutoff, tiny = subject.config.cutoff, 1e-8

    def at(distance: float) -> Properties:
        corner = np.array([0.3, 0.4, 0.1]) * cutoff
        positions = np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0], corner])
        # one box at all distances, whose volume cancels
        atoms = Atoms(numbers=subject.water.numbers, positions=positions, cell=np.full(3, 2 * cutoff))
        return subject.evaluate(structures.moving(atoms) if "velocities" in subject.reads else atoms)

    inside, outside, halfway = at(cutoff - tiny), at(cutoff + tiny), at(cutoff / 2)
    for name in inside.given() & {"energies", "energy", "forces", "stresses"}:
        volume = (2 * cutoff) ** 3 if name == "stresses" else 1.0
        near, far, control = (volume * outcome.array(getattr(each, name)) for each in (inside, outside, halfway))
        signal = float(np.abs(control - far).max())
        judge.above(f"{name}: effect of an atom at half the cutoff", control - far, 1e-4)
        judge.close(f"{name} across the cutoff", near, far, outcome.CONTINUITY, scale=signal)


def check_energy_conservation(subject: ModelSubject, judge: Judge) -> None:
    """Constant-energy dynamics: half the time step, a quarter of the fluctuation (velocity Verlet is of order two)."""

    def fluctuation(timestep_fs: float) -> float:
        atoms = subject.crystal.copy()
        atoms.set_masses(np.full(len(atoms), 16.0))
        atoms.calc = MLCalculator(subject.model())
        atoms.set_momenta(0.3 * np.random.default_rng(4).standard_normal((len(atoms), 3)))
        dynamics = VelocityVerlet(atoms, timestep_fs * units.fs)
        energies = []
        for _ in range(round(50 / timestep_fs)):
            dynamics.run(1)
            energies.append(atoms.get_total_energy())
        return float(np.std(energies))

    coarse, fine = fluctuation(0.5), fluctuation(0.25)
    judge.require(fine > 1e-9, "the energy fluctuates too little to test anything", fine, 1e-9)
    judge.require(3 <= coarse / fine <= 5, "energy fluctuation at 0.5 fs by that at 0.25 fs", coarse / fine, "4 ± 1")


def _floats(subject: ModelSubject) -> finite_difference.Energies:
    return lambda many: [float(energy) for energy in subject.energies_of(many)]
