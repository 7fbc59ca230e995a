"""Derivatives by central differences, independent of any automatic differentiation."""

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.testing.structures import strained

STENCIL = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
"""Five-point first derivative, error of fourth order (Abramowitz and Stegun, 25.3.6)."""

Energies = Callable[[Sequence[Atoms]], Sequence[float]]


def directions(n_atoms: int, count: int, seed: int) -> NDArray[np.float64]:
    """(count, n_atoms, 3) random directions in configuration space, each of length one."""
    moves = np.random.default_rng(seed).standard_normal((count, n_atoms, 3))
    return moves / np.linalg.norm(moves, axis=(1, 2), keepdims=True)


def along_displacements(
    energies: Energies, atoms: Atoms, moves: NDArray[np.float64], step_angstrom: float
) -> NDArray[np.float64]:
    """(len(moves),) eV/Å, dE/ds while all atoms move along each direction."""
    displaced = []
    for move in moves:
        for k in STENCIL:
            other = atoms.copy()
            other.positions += k * step_angstrom * move
            displaced.append(other)
    return _differentiate(energies(displaced), step_angstrom)


def stress(energies: Energies, atoms: Atoms, step: float) -> NDArray[np.float64]:
    """(3, 3) eV/Å³, (1/V) dE/dε for symmetric strains ε."""
    pairs = [(a, b) for a in range(3) for b in range(a, 3)]
    deformed = []
    for a, b in pairs:
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5
        strain[b, a] += 0.5
        deformed += [strained(atoms, k * step * strain) for k in STENCIL]
    result = np.zeros((3, 3))
    for (a, b), value in zip(pairs, _differentiate(energies(deformed), step), strict=True):
        result[a, b] = result[b, a] = value / atoms.get_volume()
    return result


def central(function: Callable[[float], NDArray[np.float64]], step: float) -> NDArray[np.float64]:
    """Derivative at zero of an array-valued function of a number."""
    return np.sum([weight * function(k * step) for k, weight in STENCIL.items()], axis=0) / step


def _differentiate(values: Sequence[float], step: float) -> NDArray[np.float64]:
    weights = np.array(list(STENCIL.values())) / step
    return np.asarray(values, dtype=np.float64).reshape(-1, len(weights)) @ weights
