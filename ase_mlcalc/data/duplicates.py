"""The same structure twice: what must not be, where one set is learned from and the other measured on.

Structures are the same if one is the other moved as a whole, with atoms in other periodic images or in another order;
periodic ones also in a turned cell, molecules also turned or mirrored.  To `TOLERANCE_ANGSTROM`, so that rounding in a
file does not matter.  Another choice of cell vectors, and a supercell, are other structures.

Few numbers that none of this changes, and that move little when atoms do, are compared first; who agrees in them is
looked at atom by atom.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

TOLERANCE_ANGSTROM = 1e-3
"""How far an atom may be from where it is in the other structure.  In a step of molecular dynamics it moves farther."""

_WAVES = np.array([hkl for hkl in product((-1, 0, 1), repeat=3) if hkl > (0, 0, 0)], dtype=np.float64)


def repeated(known: Sequence[Atoms], others: Sequence[Atoms]) -> list[tuple[int, int]]:
    """Which structures of one set are in another.

    Parameters
    ----------
    known, others : sequences of Atoms

    Returns
    -------
    list of (int, int)
        Index in `others` and index in `known`, one pair for each of `others` that is found, ascending.
    """
    members: dict[Any, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for side, structures in enumerate((known, others)):
        for k, atoms in enumerate(structures):
            members[_kind(atoms)][side].append(k)
    found = []
    for of_known, of_others in members.values():
        if of_known and of_others:
            pairs = _near([known[k] for k in of_known], [others[k] for k in of_others])
            found += [(of_others[j], of_known[i]) for j, i in pairs]
    return sorted(found)


def _kind(atoms: Atoms) -> tuple[bytes, bytes]:
    """What the same structures have in common to the last bit."""
    return np.sort(atoms.numbers).tobytes(), atoms.pbc.tobytes()


def _near(known: list[Atoms], others: list[Atoms]) -> list[tuple[int, int]]:
    """Among structures of one kind: (index in others, index in known)."""
    features_k, features_o = _features([*known, *others], len(known))
    candidates = cKDTree(features_k).query_ball_point(features_o, r=1.0, p=np.inf)
    pairs = []
    for j, near in enumerate(candidates):
        same = next((i for i in sorted(near) if _same(known[i], others[j])), None)
        if same is not None:
            pairs.append((j, same))
    return pairs


def _features(structures: list[Atoms], n_first: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, K) numbers of each structure in units of what the tolerance can change them by, in two parts."""
    periodic = bool(structures[0].pbc.any())
    rows = np.array([_of_crystal(atoms) if periodic else _of_molecule(atoms) for atoms in structures])
    if not periodic:
        rows = rows / (2 * TOLERANCE_ANGSTROM)
    return rows[:n_first], rows[n_first:]


def _of_molecule(atoms: Atoms) -> NDArray[np.float64]:
    """Distances from the middle, sorted within each element."""
    distances = np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0), axis=1)
    return np.concatenate([np.sort(distances[atoms.numbers == z]) for z in np.unique(atoms.numbers)])


def _of_crystal(atoms: Atoms) -> NDArray[np.float64]:
    """Shape of the cell, and sizes of the lowest structure factors of each element along periodic directions."""
    lengths, angles = np.split(atoms.cell.cellpar(), 2)
    size = max(float(lengths.max()), 1.0)
    shape = np.concatenate([lengths, np.radians(angles) * size]) / (2 * TOLERANCE_ANGSTROM)
    box = complete_cell(atoms.cell.array)
    waves = _WAVES[~(_WAVES[:, ~atoms.pbc] != 0).any(axis=1)]
    steepest = np.linalg.norm(waves @ np.linalg.inv(box).T, axis=1)  # 1/Å
    fractional = atoms.positions @ np.linalg.inv(box)
    phases = np.exp(2j * np.pi * fractional @ waves.T)
    factors = []
    for z in np.unique(atoms.numbers):
        of_element = phases[atoms.numbers == z]
        change = 2 * np.pi * steepest * len(of_element) * 2 * TOLERANCE_ANGSTROM
        factors.append(np.abs(of_element.sum(axis=0)) / change)
    return np.concatenate([shape, *factors])


def _same(first: Atoms, second: Atoms) -> bool:
    return _same_crystal(first, second) if first.pbc.any() else _same_molecule(first, second)


def _same_molecule(first: Atoms, second: Atoms) -> bool:
    """All distances between atoms agree, element by element."""
    kinds = np.unique(first.numbers)
    for a, z in enumerate(kinds):
        for other in kinds[a:]:
            distances = [
                np.sort(cdist(m.positions[m.numbers == z], m.positions[m.numbers == other]), axis=None)
                for m in (first, second)
            ]
            if np.abs(distances[0] - distances[1]).max() > 2 * TOLERANCE_ANGSTROM:
                return False
    return True


def _same_crystal(first: Atoms, second: Atoms) -> bool:
    """Some shift puts each atom onto one of the same element."""
    boxes = [complete_cell(m.cell.array) for m in (first, second)]
    place, other = (m.positions @ np.linalg.inv(box) for m, box in zip((first, second), boxes, strict=True))
    kinds, counts = np.unique(first.numbers, return_counts=True)
    rare = kinds[counts.argmin()]
    anchor = int(np.flatnonzero(first.numbers == rare)[0])
    images = np.flatnonzero(second.numbers == rare)
    for image in sorted(images.tolist(), key=lambda k: k != anchor):  # atoms are mostly in the same order
        if _on_top(first, place - place[anchor], second, other - other[image], boxes[0]):
            return True
    return False


def _on_top(
    first: Atoms, place: NDArray[np.float64], second: Atoms, other: NDArray[np.float64], box: NDArray[np.float64]
) -> bool:
    """Whether fractional coordinates agree, atom by atom of an element, in any order and in any periodic image."""
    for z in np.unique(first.numbers):
        step = place[first.numbers == z][:, None] - other[second.numbers == z][None]
        step = step - np.where(first.pbc, np.rint(step), 0.0)
        distance = np.linalg.norm(step @ box, axis=2)
        nearest = distance.argmin(axis=1)
        reach = 2 * TOLERANCE_ANGSTROM  # the atom in the middle is off by as much itself
        if distance.min(axis=1).max() > reach or len(set(nearest.tolist())) < len(nearest):
            return False
    return True
