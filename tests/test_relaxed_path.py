"""Relaxed paths along an angle and a dihedral: the coordinate is held, everything else is relaxed."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT

from ase_mlcalc.errors import ConfigError, NumericalError
from ase_mlcalc.sampling import Coordinate, relaxed_path

TURN = Coordinate((2, 0, 1, 3), (3,))


def peroxide():
    """O, O, H, H."""
    atoms = molecule("H2O2")
    assert atoms.get_chemical_symbols() == ["O", "O", "H", "H"]
    return atoms


def unrelaxed(atoms, coordinate):
    """Largest force that is left after that along the coordinate is taken out, by central differences of it."""
    gradient, h = np.zeros((len(atoms), 3)), 1e-5
    for i, axis in np.ndindex(len(atoms), 3):
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, axis] += sign * h
            sides.append(coordinate.of(moved))
        gradient[i, axis] = (sides[0] - sides[1]) / (2 * h)
    forces = atoms.get_forces()
    along = (forces * gradient).sum() / (gradient**2).sum()
    return np.abs(forces - along * gradient).max(), abs(along)


def test_dihedral_is_held_and_the_rest_relaxed():
    path = relaxed_path(peroxide(), EMT(), TURN, [120, 100, 80], fmax_eV_per_A=0.01)
    assert [atoms.info["coordinate_deg"] for atoms in path] == [120, 100, 80]
    for atoms in path:
        assert TURN.of(atoms) == pytest.approx(atoms.info["coordinate_deg"], abs=0.1)
        left, along = unrelaxed(atoms, TURN)
        assert left < 0.02
        again = atoms.copy()
        again.calc = EMT()
        assert atoms.get_forces() == pytest.approx(again.get_forces(), abs=1e-10)
        assert atoms.get_potential_energy() == pytest.approx(again.get_potential_energy())
    assert along > 1e-6  # something was held


def test_angle_goes_through_the_straight_line_to_the_other_side():
    bend = Coordinate((0, 1, 3), (3,))
    path = relaxed_path(peroxide(), EMT(), bend, [150, 170, 190, 210], fmax_eV_per_A=0.05, max_steps=500)
    assert [bend.of(atoms) for atoms in path] == pytest.approx([150, 170, 170, 150], abs=0.2)

    def side(atoms):
        """Of the last hydrogen, relative to the plane of the first one."""
        o, n, last = (
            atoms.positions[0] - atoms.positions[1],
            atoms.positions[2] - atoms.positions[1],
            atoms.positions[3],
        )
        axis = o / np.linalg.norm(o)
        one, two = n - (n @ axis) * axis, last - atoms.positions[1]
        return one @ (two - (two @ axis) * axis)

    sides = np.sign([side(atoms) for atoms in path])
    assert sides[0] == sides[1] == -sides[2] == -sides[3]


def test_what_cannot_be_done_is_refused():
    with pytest.raises(ConfigError, match="straight"):
        relaxed_path(peroxide(), EMT(), Coordinate((0, 1, 3), (3,)), [178])
    with pytest.raises(ConfigError, match="three or four"):
        relaxed_path(peroxide(), EMT(), Coordinate((0, 1), (1,)), [1])
    with pytest.raises(NumericalError, match="at 60 degrees"):
        relaxed_path(peroxide(), EMT(), TURN, [60], fmax_eV_per_A=1e-4, max_steps=1)
