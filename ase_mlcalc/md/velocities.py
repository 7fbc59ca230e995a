"""Momenta: drawn at a temperature, freed of rigid motion, and the degrees of freedom that are left."""

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NO_INERTIA = 1e-9
"""Moments of inertia are taken for zero below this part of the largest."""


def draw_momenta(atoms: Atoms, temperature_K: float, rng: np.random.Generator) -> None:
    """Give atoms Maxwell-Boltzmann momenta: each component normal with variance m k_B T.

    Constraints of `atoms` are respected (fixed atoms stay at rest).
    """
    spread_n = np.sqrt(atoms.get_masses() * units.kB * temperature_K)
    atoms.set_momenta(spread_n[:, None] * rng.standard_normal((len(atoms), 3)))


def remove_rigid_motion(atoms: Atoms) -> None:
    """Take out what free dynamics conserves: total momentum and, for a molecule, angular momentum.

    A structure with constraints is left alone, for constraints decide what is conserved.
    """
    if atoms.constraints:
        return
    masses_n = atoms.get_masses()[:, None]
    momenta = atoms.get_momenta()
    momenta -= masses_n * momenta.sum(axis=0) / masses_n.sum()
    if not atoms.pbc.any():
        arms = atoms.positions - atoms.get_center_of_mass()
        angular_momentum = np.cross(arms, momenta).sum(axis=0)
        # the pseudo-inverse leaves out rotation about the axis of a linear molecule, which has no inertia
        rate = np.linalg.pinv(inertia(atoms), rcond=_NO_INERTIA, hermitian=True) @ angular_momentum
        momenta -= masses_n * np.cross(rate, arms)
    atoms.set_momenta(momenta)


def draw_momenta_at_rest(atoms: Atoms, temperature_K: float, rng: np.random.Generator) -> None:
    """Draw momenta and take out rigid motion, so that `degrees_of_freedom` of them are at this temperature."""
    draw_momenta(atoms, temperature_K, rng)
    remove_rigid_motion(atoms)
    n_degrees = degrees_of_freedom(atoms, all_momenta=False)
    if len(atoms) > 2 and not atoms.pbc.any() and not atoms.constraints and _in_line(atoms):
        # there one momentum more is free than as soon as atoms have left the line, see `n_rotations`
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(n_degrees / (n_degrees + 1)))


def degrees_of_freedom(atoms: Atoms, *, all_momenta: bool) -> int:
    """Number of independent momenta that carry kinetic energy.

    3N where every momentum is free, as under a Langevin thermostat.  Where momentum (and for a molecule angular
    momentum) is zero for good, 3N - 3 with periodic directions and for a molecule 3N - 6 (1 for two atoms, 0 for one).
    With constraints: 3N less what they remove.
    """
    if all_momenta or atoms.constraints:
        return int(atoms.get_number_of_degrees_of_freedom())
    return 3 * len(atoms) - 3 - (0 if atoms.pbc.any() else n_rotations(len(atoms)))


def n_rotations(n_atoms: int) -> int:
    """Independent components of the angular momentum of a molecule.

    All three from three atoms on, also where they are in line at the start: they bend, and the plane in which they
    bend cannot turn without angular momentum about the line.  CO2 at rest moves in one plane, with 3N - 6 momenta.
    """
    return (0, 0, 2)[n_atoms] if n_atoms < 3 else 3


def temperature_K(kinetic_eV: float, n_degrees: int) -> float | None:
    """Temperature from equipartition, 2 K / (f k_B); ``None`` when nothing can move."""
    return 2.0 * kinetic_eV / (n_degrees * units.kB) if n_degrees else None


def _in_line(atoms: Atoms) -> bool:
    smallest, _, largest = np.linalg.eigvalsh(inertia(atoms))
    return bool(smallest < _NO_INERTIA * largest)


def inertia(atoms: Atoms) -> Array:
    """(3, 3) u Å², tensor of inertia about the center of mass."""
    arms = atoms.positions - atoms.get_center_of_mass()
    weighted = arms * atoms.get_masses()[:, None]
    moment = weighted.T @ arms
    tensor: Array = np.trace(moment) * np.eye(3) - moment
    return tensor
