"""The conformance suite of calculators: what ASE and physics expect of any `ase.calculators.calculator.Calculator`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from ase_mlcalc.errors import DataError
from ase_mlcalc.foreign import forget
from ase_mlcalc.graph import has_volume
from ase_mlcalc.testing import finite_difference, outcome, structures
from ase_mlcalc.testing.measured import Measured, measure_all
from ase_mlcalc.testing.outcome import CheckResult, Judge, NotApplicable, run_check

MECHANICAL = ("energy", "energies", "forces", "stress", "stresses")

SMALL_STRAIN = np.array([[0.01, 0.004, 0.0], [0.004, -0.006, 0.003], [0.0, 0.003, 0.008]])
"""Of the cell, without symmetry."""


@dataclass(frozen=True)
class Accuracy:
    """Steps of finite differences and tolerances, by the precision in which a calculator works."""

    step_angstrom: float
    step_strain: float
    difference: float
    same: float


ACCURACY = {
    "float64": Accuracy(1e-4, 2e-5, outcome.FINITE_DIFFERENCE, 1e-8),
    # rounding of the energy, 1e-7 of its size, is divided by the step: a wide step and a loose bound
    "float32": Accuracy(2e-2, 5e-3, 2e-2, 1e-4),
}


class CalculatorSubject:
    """A calculator under test, and a structure without symmetry that it is tested on.

    Parameters
    ----------
    calculator : Calculator
    atoms : ase.Atoms
        Rattled a little so that forces and stress do not vanish; the original is not modified.
    precision : "float64" or "float32"
        In which the calculator works.
    only : sequence of str
        Properties that are looked at, of those that the calculator has.
    definition : str, optional
        How it splits stress over atoms, where that is known.
    """

    def __init__(
        self,
        calculator: Calculator,
        atoms: Atoms,
        *,
        precision: Literal["float64", "float32"] = "float64",
        only: Sequence[str] = MECHANICAL,
        definition: str | None = None,
    ) -> None:
        self.calculator = calculator
        self.only = only
        self.definition = definition
        self.accuracy = ACCURACY[precision]
        self.atoms = atoms.copy()
        self.atoms.positions += 0.03 * np.random.default_rng(1).standard_normal(atoms.positions.shape)

    @property
    def has_volume(self) -> bool:
        """Whether stress is defined."""
        return has_volume(self.atoms)

    @cached_property
    def given(self) -> tuple[str, ...]:
        """Mechanical properties that the calculator implements and that this structure has."""
        names = [name for name in self.only if name in self.calculator.implemented_properties]
        return tuple(name for name in names if self.has_volume or name not in ("stress", "stresses"))

    def need(self, name: str) -> None:
        """Skip the check unless the calculator gives a property of this structure."""
        if name not in self.given:
            reason = "not implemented" if self.has_volume or "stress" not in name else "no volume"
            raise NotApplicable(f"{name}: {reason}")

    def need_any(self) -> None:
        """Skip the check unless there is anything to compare."""
        if not self.given:
            raise NotApplicable(f"it gives none of {', '.join(self.only)} of this structure")

    def get(self, atoms: Atoms, names: Sequence[str] | None = None) -> dict[str, NDArray[np.float64]]:
        """Properties of a structure, asked one by one."""
        wanted = self.given if names is None else names
        return {name: np.array(self.calculator.get_property(name, atoms)) for name in wanted}

    def energies_of(self, many: Sequence[Atoms]) -> list[float]:
        """eV, the energies that forces are the derivatives of."""
        if "energy" not in self.calculator.implemented_properties:
            raise NotApplicable("energy: not implemented")
        name = "free_energy" if "free_energy" in self.calculator.implemented_properties else "energy"
        return [float(self.calculator.get_property(name, atoms)) for atoms in many]

    @contextmanager
    def counting(self) -> Iterator[list[Any]]:
        """A list that grows by one with every evaluation inside the block."""
        calls: list[Any] = []
        original = self.calculator.calculate

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.append(args)
            return original(*args, **kwargs)

        # an attribute of the instance hides the method of its class until it is deleted
        self.calculator.__dict__["calculate"] = counted
        try:
            yield calls
        finally:
            del self.calculator.__dict__["calculate"]


# ----- ASE's conventions ----------------------------------------------------------------------------------------------


def check_results(subject: CalculatorSubject, judge: Judge) -> None:
    """ASE's names, shapes and types, all finite; results can be attached to another structure."""
    subject.get(subject.atoms)
    results, n = subject.calculator.results, len(subject.atoms)
    foreign = sorted(set(results) - set(all_properties))
    judge.require(not foreign, "results hold keys that ASE does not know (exporting them fails)", foreign)
    expected = {"energies": (n,), "forces": (n, 3), "stress": (6,), "stresses": (n, 6)}
    for name in subject.given:
        value = subject.calculator.get_property(name, subject.atoms)
        if name == "energy":
            judge.require(isinstance(value, float), "energy is not a float", type(value).__name__)
        else:
            judge.require(np.shape(value) == expected[name], f"shape of {name}", np.shape(value), expected[name])
        judge.require(np.isfinite(value).all(), f"{name} has NaN or Inf")
    SinglePointCalculator(subject.atoms, **results)


def check_atoms_untouched(subject: CalculatorSubject, judge: Judge) -> None:
    """Asking does not change the structure."""
    atoms = subject.atoms.copy()
    forget(subject.calculator)
    subject.get(atoms)
    judge.require(atoms == subject.atoms, "the structure changed while its properties were calculated")
    judge.require(set(atoms.arrays) == set(subject.atoms.arrays), "arrays of the structure", sorted(atoms.arrays))
    judge.require(atoms.info == subject.atoms.info, "info of the structure", atoms.info)


def check_order_of_asking(subject: CalculatorSubject, judge: Judge) -> None:
    """Properties do not depend on the order in which they are asked for."""
    subject.need_any()
    forget(subject.calculator)
    forward = subject.get(subject.atoms, subject.given)
    forget(subject.calculator)
    backward = subject.get(subject.atoms, subject.given[::-1])
    for name in subject.given:
        judge.identical(f"{name} asked in another order", backward[name], forward[name])


def check_cached(subject: CalculatorSubject, judge: Judge) -> None:
    """A second question about the same geometry costs nothing, and its answer cannot be spoilt by the first."""
    subject.need_any()
    first = subject.get(subject.atoms)
    for name in subject.given:
        answer = subject.calculator.get_property(name, subject.atoms)
        if isinstance(answer, np.ndarray):
            answer += 1.0
    with subject.counting() as calls:
        second = subject.get(subject.atoms)
    judge.require(not calls, "evaluations for a geometry that was just evaluated", len(calls), 0)
    for name in subject.given:
        judge.identical(f"{name} asked twice", second[name], first[name])


def check_not_stale(subject: CalculatorSubject, judge: Judge) -> None:
    """A moved atom and a strained cell change all results, the new cell is the one in use, and going back restores."""
    subject.need_any()
    atoms = subject.atoms.copy()
    first = subject.get(atoms)
    atoms.positions[0] += (0.05, -0.03, 0.04)
    if len(atoms) > 1:  # one atom is alike wherever it is
        _all_changed(judge, "an atom moved", subject.get(atoms), first, list(first))
    atoms.positions[0] -= (0.05, -0.03, 0.04)
    _same(subject, judge, "after moving an atom there and back", subject.get(atoms), first)
    if not (atoms.pbc.any() and subject.has_volume):
        return
    before = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + SMALL_STRAIN), scale_atoms=True)
    strained = subject.get(atoms)
    names = [name for name in first if name != "forces" or len(atoms) > 1]  # one atom feels no force
    _all_changed(judge, "the cell was strained", strained, first, names)
    # what still uses the old cell takes these for other places
    atoms.positions[0] += atoms.pbc @ atoms.cell.array
    _same(subject, judge, "strained, with an atom in another cell", subject.get(atoms), strained)
    _same(subject, judge, "after straining the cell there and back", subject.get(before), first)


def check_no_volume(subject: CalculatorSubject, judge: Judge) -> None:
    """Stress of a molecule without a cell is refused, and energy and forces still work afterwards."""
    stresses = [name for name in ("stress", "stresses") if name in subject.calculator.implemented_properties]
    molecule = Atoms(subject.atoms.numbers, subject.atoms.positions)
    for name in stresses:
        try:
            value = subject.calculator.get_property(name, molecule)
        except PropertyNotImplementedError:
            continue
        judge.fail(f"{name} of a structure without a cell should raise PropertyNotImplementedError", value)
    if "energy" not in subject.given:
        return
    energy = subject.calculator.get_property("energy", molecule)
    judge.require(np.isfinite(energy), "energy of a structure without a cell", energy)


# ----- mechanics ------------------------------------------------------------------------------------------------------


def check_forces(subject: CalculatorSubject, judge: Judge) -> None:
    """Forces are minus the derivative of the energy by positions."""
    subject.need("forces")
    forces = subject.get(subject.atoms, ["forces"])["forces"]
    judge.above("largest force", forces, outcome.FORCE_FLOOR)
    moves = finite_difference.directions(len(forces), 6, seed=3)
    step = subject.accuracy.step_angstrom
    slopes = finite_difference.along_displacements(subject.energies_of, subject.atoms, moves, step)
    expected, largest = -np.einsum("kna,na->k", moves, forces), float(np.abs(forces).max())
    judge.close("dE/dr against -F", slopes, expected, subject.accuracy.difference, scale=largest)


def check_stress(subject: CalculatorSubject, judge: Judge) -> None:
    """Stress is the derivative of the energy by strain, per volume, positive under tension, in Voigt order."""
    subject.need("stress")
    stress = subject.get(subject.atoms, ["stress"])["stress"]
    judge.above("largest stress", stress, outcome.STRESS_FLOOR)
    slopes = finite_difference.stress(subject.energies_of, subject.atoms, subject.accuracy.step_strain)
    judge.close("(1/V) dE/dε against stress", voigt(slopes), stress, subject.accuracy.difference)


def check_sum_rules(subject: CalculatorSubject, judge: Judge) -> None:
    """No net force, no torque on molecules; per-atom energies and stresses add up to the totals."""
    subject.need_any()
    results = subject.get(subject.atoms)
    tolerance = subject.accuracy.same
    if "forces" in results:
        forces = results["forces"]
        scale = max(float(np.abs(forces).max()), outcome.FORCE_FLOOR)
        judge.close("sum of forces", forces.sum(axis=0), np.zeros(3), tolerance, scale)
        if not subject.atoms.pbc.any():
            arms = subject.atoms.positions - subject.atoms.positions.mean(axis=0)
            torque = np.cross(arms, forces).sum(axis=0)
            judge.close("torque", torque, np.zeros(3), tolerance, scale * max(float(np.abs(arms).max()), 1.0))
    for shares, total in (("energies", "energy"), ("stresses", "stress")):
        if shares in results and total in results:
            scale = float(np.abs(results[shares]).max())
            judge.close(f"sum of {shares}", results[shares].sum(axis=0), results[total], tolerance, scale)


# ----- symmetries -----------------------------------------------------------------------------------------------------


def check_translation(subject: CalculatorSubject, judge: Judge) -> None:
    """Neither where a structure is nor in which cell its atoms are listed matters."""
    subject.need_any()
    expected, atoms = subject.get(subject.atoms), subject.atoms.copy()
    atoms.positions += (1.3, -2.1, 0.7)
    _same(subject, judge, "translated", subject.get(atoms), expected)
    if atoms.pbc.any():
        atoms.positions[0] += atoms.pbc @ atoms.cell.array
        _same(subject, judge, "with an atom in another cell", subject.get(atoms), expected)


def check_permutation(subject: CalculatorSubject, judge: Judge) -> None:
    """The order in which atoms are listed does not matter."""
    subject.need_any()
    order = np.random.default_rng(2).permutation(len(subject.atoms))
    expected = subject.get(subject.atoms)
    for name in {"energies", "forces", "stresses"} & expected.keys():
        expected[name] = expected[name][order]
    try:
        got = subject.get(subject.atoms[order])
    except DataError as error:  # a model of one molecule, which says so
        raise NotApplicable(str(error)) from error
    _same(subject, judge, "in another order", got, expected)


def check_rotation(subject: CalculatorSubject, judge: Judge) -> None:
    """Energies stay, forces and stress turn with the structure, mirrors included."""
    subject.need_any()
    before = subject.get(subject.atoms)
    for seed, improper in ((1, False), (2, True)):
        matrix = structures.rotation(seed, improper=improper)
        expected = dict(before)
        for name in ("stress", "stresses"):
            if name in before:
                expected[name] = voigt(matrix @ full(before[name]) @ matrix.T)
        if "forces" in before:
            expected["forces"] = before["forces"] @ matrix.T
        got = subject.get(structures.rotated(subject.atoms, matrix))
        _same(subject, judge, "mirrored and rotated" if improper else "rotated", got, expected)


# ----- the suite ------------------------------------------------------------------------------------------------------

CALCULATOR_CHECKS: tuple[Callable[[CalculatorSubject, Judge], None], ...] = (
    check_results,
    check_atoms_untouched,
    check_order_of_asking,
    check_cached,
    check_not_stale,
    check_no_volume,
    check_forces,
    check_stress,
    check_sum_rules,
    check_translation,
    check_permutation,
    check_rotation,
)


def measure_calculator(
    calculator: Calculator, atoms: Atoms, *, precision: Literal["float64", "float32"] = "float64"
) -> list[Measured]:
    """The same checks as rows of a table, failures included instead of raised; see `check_calculator`."""
    return measure_all(CALCULATOR_CHECKS, CalculatorSubject(calculator, atoms, precision=precision))


def check_calculator(
    calculator: Calculator, atoms: Atoms, *, precision: Literal["float64", "float32"] = "float64"
) -> list[CheckResult]:
    """Run the whole suite on any ASE calculator.

    Parameters
    ----------
    calculator : Calculator
        Deterministic; it is evaluated about a hundred times.
    atoms : ase.Atoms
        A structure that it can describe; a copy of it is rattled by 0.03 Å.
    precision : "float64" or "float32"
        In which the calculator works; sets steps and tolerances.

    Returns
    -------
    list of CheckResult
        One for each check: passed, or skipped with the reason.

    Raises
    ------
    CheckFailure
        At the first check that fails; ``.name`` says which.
    """
    subject = CalculatorSubject(calculator, atoms, precision=precision)
    return [
        run_check(check.__name__.removeprefix("check_"), check, subject, "the calculator")
        for check in CALCULATOR_CHECKS
    ]


# ----- helpers --------------------------------------------------------------------------------------------------------


def voigt(tensors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3, 3) to (..., 6) in the order xx yy zz yz xz xy."""
    return tensors[..., (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]


def full(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 6) to (..., 3, 3), the inverse of `voigt`."""
    xx, yy, zz, yz, xz, xy = np.moveaxis(components, -1, 0)
    return np.stack([np.stack(row, -1) for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))], -2)


def _all_changed(
    judge: Judge,
    what: str,
    got: dict[str, NDArray[np.float64]],
    before: dict[str, NDArray[np.float64]],
    names: Sequence[str],
) -> None:
    for name in names:
        # zeros are not stale: other checks say that there is nothing
        changed = not np.array_equal(got[name], before[name]) or not got[name].any()
        judge.require(changed, f"{name} did not change when {what}")


def _same(
    subject: CalculatorSubject,
    judge: Judge,
    what: str,
    got: dict[str, NDArray[np.float64]],
    expected: dict[str, NDArray[np.float64]],
) -> None:
    for name, value in expected.items():
        scale = max(float(np.abs(value).max()), 1e-6)
        judge.close(f"{what}: {name}", got[name], value, subject.accuracy.same, scale)
