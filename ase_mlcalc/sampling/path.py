"""`relaxed_path`: a molecule along an internal coordinate, everything else relaxed at each value."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixInternals
from ase.optimize import BFGS

from ase_mlcalc.errors import ConfigError, NumericalError
from ase_mlcalc.foreign import potential_energy

LINEAR_DEGREES = 3.0
"""An angle is kept so far from 180 degrees, where the direction in which it would bend is not defined."""


class Coordinate(NamedTuple):
    """An angle of three atoms, or a dihedral angle of four, and what turns with its last atom."""

    atoms: tuple[int, ...]
    """Three or four indices; the middle of three is the vertex."""
    moving: tuple[int, ...]
    """Indices of all atoms that are on the side of the last one."""

    @property
    def kind(self) -> Literal["angle", "dihedral"]:
        """By the number of atoms."""
        return "angle" if len(self.atoms) == 3 else "dihedral"

    def of(self, atoms: Atoms) -> float:
        """Its value, degrees."""
        return float(getattr(atoms, f"get_{self.kind}")(*self.atoms))


def relaxed_path(
    atoms: Atoms,
    calculator: Calculator,
    coordinate: Coordinate,
    values_deg: Sequence[float],
    *,
    fmax_eV_per_A: float = 0.02,
    max_steps: int = 300,
) -> list[Atoms]:
    """Structures along a coordinate, each relaxed with that coordinate fixed and begun from the one before.

    Parameters
    ----------
    atoms : Atoms
        Where the path begins; not modified.
    calculator : Calculator
        Of the reference, or of anything that is cheaper.
    coordinate : Coordinate
        Angles beyond 180 degrees are those on the other side of the straight line: the molecule goes through it in the
        plane of the three atoms.
    values_deg : sequence of float
        In the order in which the path is gone.
    fmax_eV_per_A : float
        Largest force that is left on an atom.
    max_steps : int
        Of each relaxation.

    Returns
    -------
    list of Atoms
        With energy and forces (the full ones) of the calculator, and the coordinate as ``coordinate_deg`` in ``info``.

    Raises
    ------
    ConfigError
        Angles that are straight within 3 degrees, or a coordinate of other than three or four atoms.
    NumericalError
        A relaxation that does not converge, with its value.
    """
    if len(coordinate.atoms) not in (3, 4):
        raise ConfigError(f"a coordinate has three or four atoms, got {coordinate.atoms}")
    straight = [value for value in values_deg if coordinate.kind == "angle" and abs(value - 180) < LINEAR_DEGREES]
    if straight:
        raise ConfigError(f"an angle of {straight[0]:g} degrees is straight and cannot be fixed; step over it")
    atoms = atoms.copy()
    now = coordinate.of(atoms)
    normal = _normal(atoms, coordinate)
    path = []
    for value in values_deg:
        _turn(atoms, coordinate, value - now, normal)
        now = value
        fixed = value if coordinate.kind == "dihedral" or value < 180 else 360 - value
        path.append(_relaxed(atoms, calculator, coordinate, fixed, fmax_eV_per_A, max_steps))
        path[-1].info["coordinate_deg"] = float(value)
        atoms.positions = path[-1].positions
        if coordinate.kind == "angle":
            normal = _normal(atoms, coordinate) * (1 if value < 180 else -1)
    return path


def _normal(atoms: Atoms, coordinate: Coordinate) -> np.ndarray:
    """About which the angle opens."""
    if coordinate.kind == "dihedral":
        return np.zeros(3)
    first, vertex, last = atoms.positions[list(coordinate.atoms)]
    normal = np.cross(first - vertex, last - vertex)
    unit: np.ndarray = normal / np.linalg.norm(normal)
    return unit


def _turn(atoms: Atoms, coordinate: Coordinate, by_deg: float, normal: np.ndarray) -> None:
    """Turn one side of the molecule."""
    if coordinate.kind == "dihedral":
        a, b, c, d = coordinate.atoms
        atoms.set_dihedral(a, b, c, d, coordinate.of(atoms) + by_deg, indices=list(coordinate.moving))
        return
    side = atoms[list(coordinate.moving)]
    side.rotate(by_deg, normal, center=atoms.positions[coordinate.atoms[1]])
    atoms.positions[list(coordinate.moving)] = side.positions


def _relaxed(
    atoms: Atoms, calculator: Calculator, coordinate: Coordinate, value: float, fmax: float, max_steps: int
) -> Atoms:
    work = atoms.copy()
    key = "angles_deg" if coordinate.kind == "angle" else "dihedrals_deg"
    work.set_constraint(FixInternals(**{key: [[value, list(coordinate.atoms)]]}, epsilon=1e-6))
    work.calc = calculator
    if not BFGS(work, logfile=None, maxstep=0.1).run(fmax=fmax, steps=max_steps):
        raise NumericalError(
            f"the relaxation at {value:g} degrees did not come to {fmax:g} eV/Å in {max_steps} steps; "
            "take smaller steps along the path, or more of them in a relaxation"
        )
    found = Atoms(work.numbers, work.positions, cell=work.cell, pbc=work.pbc, info=dict(atoms.info))
    energy, forces = potential_energy(work, apply_constraint=False), work.get_forces(apply_constraint=False)
    found.calc = SinglePointCalculator(found, energy=energy, forces=forces)
    return found
