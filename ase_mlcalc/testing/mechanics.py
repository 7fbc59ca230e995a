"""Checks of energies and forces for any ASE calculator, as a table of numbers; see also `check_calculator`."""

from typing import Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.ensemble import Ensemble, derived_members
from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.foreign import forget
from ase_mlcalc.potential import Derived, Potential
from ase_mlcalc.testing import calculators, finite_difference, outcome
from ase_mlcalc.testing.calculators import CalculatorSubject
from ase_mlcalc.testing.measured import Measured, measure_all
from ase_mlcalc.testing.outcome import Judge, NotApplicable
from ase_mlcalc.virials import DEFINITIONS

Array = NDArray[np.float64]

FAR_ANGSTROM = 100.0
"""Two copies of a molecule this far apart do not see each other."""


def check_forces(subject: CalculatorSubject, judge: Judge) -> None:
    """Forces are minus the derivative of the energy by positions."""
    calculators.check_forces(subject, judge)


def check_sum_rules(subject: CalculatorSubject, judge: Judge) -> None:
    """No net force, no torque on molecules; per-atom energies and stresses add up to the totals."""
    calculators.check_sum_rules(subject, judge)


def check_curl(subject: CalculatorSubject, judge: Judge) -> None:
    """Forces have no curl: what they do to each other's derivatives is symmetric, so that there is an energy."""
    subject.need("forces")
    moves = finite_difference.directions(len(subject.atoms), 4, seed=6)

    def slopes(move: Array) -> Array:
        def forces(x: float) -> Array:
            moved = subject.atoms.copy()
            moved.positions += x * move
            return subject.get(moved, ["forces"])["forces"]

        return finite_difference.central(forces, subject.accuracy.step_angstrom)

    for one, other in ((moves[0], moves[1]), (moves[2], moves[3])):
        of_one, of_other = slopes(one), slopes(other)
        scale = float(np.linalg.norm(of_one))
        judge.above("derivative of forces", scale, outcome.FORCE_FLOOR)
        there, back = (of_one * other).sum(), (of_other * one).sum()
        judge.close("u dF/dx v against v dF/dx u", there, back, subject.accuracy.difference, scale)


def check_extensive(subject: CalculatorSubject, judge: Judge) -> None:
    """Twice the structure has twice the energy: a supercell, or two molecules far apart."""
    subject.need("energy")
    atoms = subject.atoms
    if atoms.pbc.any():
        repeat = np.ones(3, dtype=int)
        repeat[int(np.flatnonzero(atoms.pbc)[0])] = 2
        double = atoms.repeat(tuple(repeat.tolist()))
    else:
        other = atoms.copy()
        other.positions += FAR_ANGSTROM + np.ptp(atoms.positions, axis=0)
        double = atoms + other
    energy = float(subject.get(atoms, ["energy"])["energy"])
    got = _asked_of(subject, double, "energy")
    judge.close("energy of two against two energies", got, 2 * energy, subject.accuracy.same, max(abs(energy), 1.0))


def check_smooth_at_cutoff(subject: CalculatorSubject, judge: Judge) -> None:
    """Energy and forces are continuous while an atom crosses the cutoff of another that has a third neighbour."""
    calculator = subject.calculator
    names = [name for name in ("energy", "forces") if name in subject.given]
    if not names:
        subject.need("energy")
    if not isinstance(calculator, MLCalculator):
        raise NotApplicable("the calculator does not say its cutoff")
    if isinstance(calculator.potential, Derived) and not calculator.potential.model.smooth:
        raise NotApplicable("the model declares that it is not smooth")
    if subject.accuracy is not calculators.ACCURACY["float64"]:
        raise NotApplicable("needs float64")
    cutoff, tiny = calculator.potential.cutoff, 1e-8
    numbers = np.resize(subject.atoms.numbers, 3)

    def at(distance: float, name: str) -> Array:
        corner = np.array([0.3, 0.4, 0.1]) * cutoff
        return _asked_of(subject, Atoms(numbers, [[0, 0, 0], corner, [0, 0, -distance]]), name)

    for name in names:
        inside, outside, halfway = (at(d, name) for d in (cutoff - tiny, cutoff + tiny, cutoff / 2))
        effect = float(np.abs(halfway - outside).max())
        if effect < outcome.FORCE_FLOOR:
            raise NotApplicable("an atom at half the cutoff has no effect")
        judge.close(f"{name} across the cutoff", inside, outside, outcome.CONTINUITY, effect)


def check_float32(subject: CalculatorSubject, judge: Judge) -> None:
    """In float32 the calculator gives what it gives in float64."""
    subject.need_any()
    calculator = subject.calculator
    if not isinstance(calculator, MLCalculator):
        raise NotApplicable("the calculator does not say its precision")
    # one that was learned comes with the potential
    definition = calculator.stress_definition if calculator.stress_definition in DEFINITIONS else "edge"
    try:
        single, double = (
            MLCalculator(_without_code(calculator.potential), dtype=dtype, stress_definition=definition)
            for dtype in ("float32", "float64")
        )
    except MLCalcError as error:
        raise NotApplicable(str(error)) from error
    for name in subject.given:
        got, expected = (np.array(each.get_property(name, subject.atoms)) for each in (single, double))
        if name in ("energy", "energies"):  # what matters is not the size of the reference energies
            count = len(subject.atoms) if name == "energy" else 1
            judge.close(f"{name}, eV per atom", got / count, expected / count, outcome.SINGLE_PRECISION, scale=1.0)
        else:
            judge.close(name, got, expected, outcome.SINGLE_PRECISION)


def _without_code(potential: Potential) -> Potential:
    """The same by PyTorch: kernels and compiled code are for one precision."""
    if isinstance(potential, Ensemble):
        members = [Derived(member.model, member.baseline) for member in derived_members(potential)]
        return Ensemble(members, potential.uncertainty_scale)
    return Derived(potential.model, potential.baseline) if isinstance(potential, Derived) else potential


def check_one_evaluation(subject: CalculatorSubject, judge: Judge) -> None:
    """All properties of a new geometry together take one evaluation."""
    subject.need_any()
    forget(subject.calculator)
    before = _evaluations(subject.calculator)
    with subject.counting() as calls:
        subject.get(subject.atoms)
    after = _evaluations(subject.calculator)
    number = len(calls) if before is None or after is None else after - before
    judge.comparisons.append(outcome.Comparison("evaluations of a geometry", float(number), 1.0))
    judge.require(number <= 1, "evaluations of a geometry", number, 1)


MECHANICS_CHECKS = (
    check_forces,
    check_sum_rules,
    check_curl,
    check_extensive,
    check_smooth_at_cutoff,
    check_float32,
    check_one_evaluation,
)


def check_mechanics(
    calculator: Calculator, atoms: Atoms, *, precision: Literal["float64", "float32"] = "float64"
) -> list[Measured]:
    """Check energies and forces of any ASE calculator on a structure; parameters and rows as in `check_stresses`."""
    return measure_all(MECHANICS_CHECKS, CalculatorSubject(calculator, atoms, precision=precision))


def _asked_of(subject: CalculatorSubject, atoms: Atoms, name: str) -> Array:
    """A property of another structure, which models of one molecule or box refuse."""
    try:
        return subject.get(atoms, [name])[name]
    except MLCalcError as error:
        raise NotApplicable(str(error)) from error


def _evaluations(calculator: Calculator) -> int | None:
    return calculator.evaluations if isinstance(calculator, MLCalculator) else None
