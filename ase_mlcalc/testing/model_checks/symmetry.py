"""Symmetries: relabelled, translated, repeated, rotated and mirrored structures."""

import numpy as np
import torch
from torch import Tensor

from ase_mlcalc.properties import SPECS, Properties
from ase_mlcalc.testing import outcome, structures
from ase_mlcalc.testing.comparison import close
from ase_mlcalc.testing.outcome import Judge, fails
from ase_mlcalc.testing.subject import ModelSubject


def check_permutation(subject: ModelSubject, judge: Judge) -> None:
    """The order in which atoms are listed does not matter."""
    for name, atoms in {"crystal": subject.crystal, "ethanol": subject.ethanol}.items():
        order = np.random.default_rng(1).permutation(len(atoms))
        expected = _of_atoms(subject.evaluate(atoms), torch.from_numpy(order))
        close(judge, f"{name} in another order", subject.evaluate(atoms[order]), expected, outcome.RELABELLED)


def check_translation(subject: ModelSubject, judge: Judge) -> None:
    """Neither where a structure is nor in which cell its atoms are listed matters."""
    rng = np.random.default_rng(2)
    for name, atoms in {"crystal": subject.crystal, "slab": subject.slab, "ethanol": subject.ethanol}.items():
        expected = subject.evaluate(atoms)
        moved, wrapped = atoms.copy(), atoms.copy()
        moved.positions += rng.uniform(-5, 5, 3)
        wrapped.positions += (rng.integers(-2, 3, (len(atoms), 3)) * atoms.pbc) @ atoms.cell.array
        close(judge, f"{name} translated", subject.evaluate(moved), expected, outcome.RELABELLED)
        close(judge, f"{name} with atoms in other cells", subject.evaluate(wrapped), expected, outcome.RELABELLED)


def check_supercell(subject: ModelSubject, judge: Judge) -> None:
    """Two cells have twice the energy, the same forces and stress, and half the stress on each atom."""
    one, two = subject.evaluate(subject.crystal), subject.evaluate(subject.crystal * (2, 1, 1))
    factors = {"energy": 2.0, "energies": 1.0, "forces": 1.0, "stress": 1.0, "stresses": 0.5}
    for name in two.given():
        value: Tensor = getattr(one, name)
        repeats = 2 if SPECS[name].per == "atom" else 1
        expected = factors[name] * torch.cat([value] * repeats)
        judge.close(f"{name} of a supercell", getattr(two, name), expected, outcome.RELABELLED)


def check_rotation(subject: ModelSubject, judge: Judge) -> None:
    """Energies stay, forces and stress turn with the structure, mirrors included (group O(3))."""
    for name, atoms in {"crystal": subject.crystal, "slab": subject.slab, "ethanol": subject.ethanol}.items():
        before = subject.evaluate(atoms)
        for seed, improper in ((1, False), (2, True)):
            matrix = structures.rotation(seed, improper=improper)
            kind = "mirrored and rotated" if improper else "rotated"
            after = subject.evaluate(structures.rotated(atoms, matrix))
            close(judge, f"{name} {kind}", after, _turned(before, torch.from_numpy(matrix)), outcome.ROTATED)


def check_declared_not_equivariant(subject: ModelSubject, judge: Judge) -> None:
    """A model that says it is not equivariant is not: flags must not rot."""
    what = "declares equivariant=False but passes the check of rotations: declare equivariant=True"
    judge.require(fails(check_rotation, subject), what)


def check_declared_positions(subject: ModelSubject, judge: Judge) -> None:
    """A model that says it reads positions notices where a structure is: flags must not rot."""
    what = "declares that it reads positions but passes the check of translations: leave them out of `reads`"
    judge.require(fails(check_translation, subject), what)


def _of_atoms(result: Properties, order: Tensor) -> Properties:
    return Properties(
        **{
            name: getattr(result, name)[order] if SPECS[name].per == "atom" else getattr(result, name)
            for name in result.given()
        }
    )


def _turned(result: Properties, matrix: Tensor) -> Properties:
    def turn(name: str, value: Tensor) -> Tensor:
        if SPECS[name].components == (3,):
            return value @ matrix.T
        if SPECS[name].components == (3, 3):
            return matrix @ value @ matrix.T
        return value

    return Properties(**{name: turn(name, getattr(result, name)) for name in result.given()})
