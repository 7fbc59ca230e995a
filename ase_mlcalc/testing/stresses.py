"""Checks of per-atom stress for any ASE calculator: what every definition has to satisfy, as a table of numbers."""

from typing import Literal

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.neighbors import find_pairs
from ase_mlcalc.stress.atomic import atomic_virials
from ase_mlcalc.stress.edges import find_edges
from ase_mlcalc.testing import calculators, finite_difference, outcome, structures
from ase_mlcalc.testing.calculators import CalculatorSubject
from ase_mlcalc.testing.measured import Measured, measure_all
from ase_mlcalc.testing.outcome import Judge, NotApplicable

Array = NDArray[np.float64]

STRESSES = ("stress", "stresses")
N_PLANES = 7
"""Planes along each cell vector; a prime number, so that lattice planes do not lie on them."""


def check_sum_over_atoms(subject: CalculatorSubject, judge: Judge) -> None:
    """Per-atom stresses add up to the stress of the structure."""
    subject.need("stress")
    subject.need("stresses")
    results = subject.get(subject.atoms)
    scale = float(np.abs(results["stresses"]).max())
    judge.above("largest per-atom stress", scale * len(subject.atoms), outcome.STRESS_FLOOR)
    judge.close("sum of stresses", results["stresses"].sum(axis=0), results["stress"], subject.accuracy.same, scale)


def check_finite_strain(subject: CalculatorSubject, judge: Judge) -> None:
    """The stress of the structure is the derivative of its energy by strain, per volume."""
    calculators.check_stress(subject, judge)


def check_site_energies(subject: CalculatorSubject, judge: Judge) -> None:
    """Definition ``site``: the derivative of each atom's own energy by strain."""
    _need_volume(subject)
    if "energies" not in subject.calculator.implemented_properties:
        raise NotApplicable("energies: not implemented")
    site = _site_virials(subject)
    judge.above("largest site virial", site, outcome.FORCE_FLOOR)
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5
        strain[b, a] += 0.5

        def energies(x: float, strain: Array = strain) -> Array:
            moved = structures.strained(subject.atoms, x * strain)
            return np.array(subject.calculator.get_property("energies", moved), dtype=float)

        slopes = finite_difference.central(energies, subject.accuracy.step_strain)
        largest = float(np.abs(site).max())
        what = f"dU/dε_{'xyz'[a]}{'xyz'[b]}"
        judge.close(what, slopes, site[:, a, b], subject.accuracy.difference, scale=largest)


def check_rotated(subject: CalculatorSubject, judge: Judge) -> None:
    """Stress and per-atom stress turn with the structure, mirrors included."""
    _need_some(subject)
    calculators.check_rotation(subject, judge)


def check_translated_and_wrapped(subject: CalculatorSubject, judge: Judge) -> None:
    """Neither where a structure is nor in which cell its atoms are listed matters."""
    _need_some(subject)
    calculators.check_translation(subject, judge)


def check_supercell(subject: CalculatorSubject, judge: Judge) -> None:
    """In a supercell the stress is the same, and every copy of an atom has the same stress times volume."""
    _need_some(subject)
    if not subject.atoms.pbc.any():
        raise NotApplicable("not periodic")
    expected = subject.get(subject.atoms)
    for axis in np.flatnonzero(subject.atoms.pbc):
        repeat = np.ones(3, dtype=int)
        repeat[axis] = 2
        got = _asked_of(subject, subject.atoms.repeat(tuple(repeat.tolist())))
        for name, value in expected.items():
            copies = np.tile(value / 2, (2, 1)) if name == "stresses" else value
            scale = float(np.abs(copies).max())
            judge.close(f"{name} in a cell doubled along {axis + 1}", got[name], copies, subject.accuracy.same, scale)


def check_one_atom_crystal(subject: CalculatorSubject, judge: Judge) -> None:
    """In a strained crystal of one atom per primitive cell all atoms have the same stress."""
    subject.need("stresses")
    crystal = _one_atom_crystal(subject.atoms)
    stresses = _asked_of(subject, crystal)["stresses"]
    if np.abs(stresses).max() * len(crystal) < outcome.STRESS_FLOOR:
        raise NotApplicable("no stress in such a crystal")
    mean = np.broadcast_to(stresses.mean(axis=0), stresses.shape)
    judge.close("stress of each atom against the mean", stresses, mean, subject.accuracy.same)


def check_planes(subject: CalculatorSubject, judge: Judge) -> None:
    """What lies between two planes feels the difference of the forces through them: momentum balance."""
    if not isinstance(subject.calculator, MLCalculator):
        raise NotApplicable("the calculator does not give edge gradients")
    _need_volume(subject)
    try:
        edges = find_edges(subject.calculator, subject.atoms)
    except MLCalcError as error:
        raise NotApplicable(str(error)) from error
    forces = subject.calculator.get_property("forces", subject.atoms)
    heights = np.linalg.solve(subject.atoms.cell.array.T, subject.atoms.positions.T).T
    planes = (np.arange(N_PLANES) + 0.5) / N_PLANES
    for axis in range(3):
        periodic = bool(subject.atoms.pbc[axis])
        start = heights[edges.centers, axis]
        end = heights[edges.neighbors, axis] + edges.shifts[:, axis]
        # an edge crosses a plane and, in a periodic direction, its images
        above = np.floor if periodic else (lambda x: (x >= 0).astype(float))
        crossings = above(end[None] - planes[:, None]) - above(start[None] - planes[:, None])
        through = crossings @ edges.gradient
        place = heights[:, axis] % 1.0 if periodic else heights[:, axis]
        between = (place > planes[:-1, None]) & (place <= planes[1:, None])
        scale = max(float(np.abs(through).max()), outcome.FORCE_FLOOR)
        what = f"force between planes across cell vector {axis + 1}"
        judge.close(what, np.diff(through, axis=0), between @ forces, subject.accuracy.same, scale)


STRESS_CHECKS = (
    check_sum_over_atoms,
    check_finite_strain,
    check_site_energies,
    check_rotated,
    check_translated_and_wrapped,
    check_supercell,
    check_one_atom_crystal,
    check_planes,
)


def check_stresses(
    calculator: Calculator,
    atoms: Atoms,
    *,
    precision: Literal["float64", "float32"] = "float64",
    definition: str | None = None,
) -> list[Measured]:
    """Check stress and per-atom stress of any ASE calculator on a structure.

    Parameters
    ----------
    calculator : Calculator
        Deterministic; it is evaluated about a hundred times.
    atoms : ase.Atoms
        A structure that it can describe; a copy of it is rattled by 0.03 Å.
    precision : "float64" or "float32"
        In which the calculator works; sets steps and tolerances.
    definition : str, optional
        The definition of per-atom stress of a calculator of another package, where it is known; ``"site"`` lets its
        stresses be compared with its energies.

    Returns
    -------
    list of Measured
        A row for each check: passed, failed or skipped, with the largest deviation and the reason.  Nothing is raised
        for a check that fails.
    """
    subject = CalculatorSubject(calculator, atoms, precision=precision, only=STRESSES, definition=definition)
    return measure_all(STRESS_CHECKS, subject)


# ----- helpers --------------------------------------------------------------------------------------------------------


def _need_volume(subject: CalculatorSubject) -> None:
    if not subject.has_volume:
        raise NotApplicable("no volume")


def _need_some(subject: CalculatorSubject) -> None:
    """Skip unless there is stress or per-atom stress."""
    if not subject.given:
        subject.need("stress")


def _site_virials(subject: CalculatorSubject) -> Array:
    """(N, 3, 3) eV, by the definition ``site``, if the calculator can give it."""
    if isinstance(subject.calculator, MLCalculator):
        try:
            return atomic_virials(subject.calculator, subject.atoms, "site")
        except MLCalcError as error:
            raise NotApplicable(str(error)) from error
    if subject.definition != "site":
        raise NotApplicable("the calculator does not say that its per-atom stress is by the definition site")
    subject.need("stresses")
    return calculators.full(subject.get(subject.atoms)["stresses"]) * subject.atoms.get_volume()


def _asked_of(subject: CalculatorSubject, atoms: Atoms) -> dict[str, Array]:
    """Properties of another structure, which models of one molecule or box refuse."""
    try:
        return subject.get(atoms)
    except MLCalcError as error:
        raise NotApplicable(str(error)) from error


def _one_atom_crystal(atoms: Atoms) -> Atoms:
    """Eight fcc cells, strained, of the first element of a structure at its own nearest distance there."""
    number = int(atoms.numbers[0])
    same = atoms[atoms.numbers == number]
    widest, usual = 6.0, 2.5
    pairs = find_pairs(same.positions, same.cell.array, same.pbc, widest)
    vectors = pairs.vectors(same.positions, same.cell.array)
    nearest = float(np.linalg.norm(vectors, axis=1).min(initial=np.inf))
    spacing = nearest if np.isfinite(nearest) else usual
    crystal = bulk("X", "fcc", a=np.sqrt(2) * spacing)
    crystal.numbers[:] = number
    strain = 0.05 * np.random.default_rng(5).standard_normal((3, 3))
    return structures.strained(crystal, strain) * (2, 2, 2)
