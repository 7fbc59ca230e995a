"""Who is bonded to whom in a structure, and whether the bonds make molecules or one network.

Bonds here are covalent: atoms of non-metals, and of a metalloid with a non-metal, that are closer than the sum of their
covalent radii (Cordero et al., Dalton Trans. 2008, 2832) plus 0.3 Å.  ASE's `natural_cutoffs`, which MDsim uses, have
the same radii.  Metals, and metalloids among themselves, have neighbours that come and go, and no bonds here.
"""

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.symbols import Symbols, string2symbols
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from ase_mlcalc.md.monitors.pairs import Index, pairs_within
from ase_mlcalc.neighbors import Pairs

Array = NDArray[np.float64]

BONDED_WITHIN_A = 0.3
"""Beyond the sum of covalent radii."""

_NON_METALS = frozenset(string2symbols("HHeCNOFNePSClArSeBrKrIXeAtRn"))
_METALLOIDS = frozenset(string2symbols("BSiGeAsSbTePo"))


class BondGraph(NamedTuple):
    """Bonds of a structure, each once."""

    first: Index
    """(B,) index of one end, the smaller."""
    second: Index
    """(B,) index of the other."""
    is_network: bool
    """Whether bonds link some atoms to their own periodic images without end, as in a solid; molecules do not."""

    @property
    def is_molecular(self) -> bool:
        """Whether there are bonds, and all of them are inside molecules."""
        return len(self.first) > 0 and not self.is_network


class Kinds:
    """Elements of a structure as consecutive numbers, so that tables over pairs of them are small."""

    def __init__(self, numbers: NDArray[np.integer]) -> None:
        self.elements, kinds = np.unique(numbers, return_inverse=True)
        self.of_atoms: Index = np.asarray(kinds, dtype=np.int64)
        """(N,)"""
        self.radii = covalent_radii[self.elements]
        """(K,) Å"""

    def radii_sums(self) -> Array:
        """(K, K) Å, sums of covalent radii."""
        return self.radii[:, None] + self.radii[None, :]

    def can_bond(self) -> NDArray[np.bool_]:
        """(K, K) whether two elements form covalent bonds in the sense of this module."""
        non_metal = np.array([chemical_symbols[z] in _NON_METALS for z in self.elements])
        former = np.array([chemical_symbols[z] in _NON_METALS | _METALLOIDS for z in self.elements])
        return (non_metal[:, None] & former[None, :]) | (former[:, None] & non_metal[None, :])


def bond_graph(atoms: Atoms) -> BondGraph:
    """Bonds of a structure."""
    kinds = Kinds(atoms.numbers)
    limits = np.where(kinds.can_bond(), kinds.radii_sums() + BONDED_WITHIN_A, 0.0)
    pairs, distances = pairs_within(atoms, max(float(limits.max()), 0.1))
    bonded = distances < limits[kinds.of_atoms[pairs.centers], kinds.of_atoms[pairs.neighbors]]
    pairs = Pairs(*(column[bonded] for column in pairs))
    once = pairs.centers < pairs.neighbors  # an atom and its own image are a network, and no bond to watch
    keys = np.unique(pairs.centers[once] * len(atoms) + pairs.neighbors[once])
    return BondGraph(keys // len(atoms), keys % len(atoms), periodicity(len(atoms), pairs) > 0)


def fragments(n_atoms: int, first: Index, second: Index) -> Index:
    """(N,) number of the fragment of each atom, for bonds between pairs of atoms."""
    links = coo_matrix((np.ones(len(first), dtype=np.int8), (first, second)), shape=(n_atoms, n_atoms))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def periodicity(n_atoms: int, pairs: Pairs) -> int:
    """In how many directions a graph of pairs is linked to its own periodic images without end, 0 to 3; the most of
    its parts.

    Atoms get whole-cell offsets along a spanning tree; a pair outside the tree closes a ring, and what the offsets
    round a ring do not cancel is a lattice translation that the graph is linked by.
    """
    if len(pairs.centers) == 0 or not pairs.shifts.any():
        return 0
    keys, where = np.unique(pairs.centers * n_atoms + pairs.neighbors, return_index=True)
    labels = fragments(n_atoms, pairs.centers, pairs.neighbors)
    # one more node, linked to an atom of each part, so that one tree covers them all
    roots = np.unique(labels, return_index=True)[1]
    i = np.concatenate([keys // n_atoms, np.full(len(roots), n_atoms)])
    j = np.concatenate([keys % n_atoms, roots])
    graph = coo_matrix((np.ones(len(i), dtype=np.int8), (i, j)), shape=(n_atoms + 1, n_atoms + 1)).tocsr()
    order, before = breadth_first_order(graph, n_atoms, directed=True)
    tree = order[~np.isin(order, np.append(roots, n_atoms))]
    shifts = pairs.shifts[where[np.searchsorted(keys, before[tree].astype(np.int64) * n_atoms + tree)]]
    offsets = np.zeros((n_atoms, 3), dtype=np.int64)
    for atom, parent, shift in zip(tree.tolist(), before[tree].tolist(), shifts, strict=True):
        offsets[atom] = offsets[parent] + shift
    closed = offsets[pairs.centers] + pairs.shifts - offsets[pairs.neighbors]
    most = 0
    loose = closed.any(axis=1)
    for part in np.unique(labels[pairs.centers[loose]]):
        translations = np.unique(closed[loose & (labels[pairs.centers] == part)], axis=0)
        most = max(most, int(np.linalg.matrix_rank(translations)))
    return most


def label(atoms: Atoms, index: int) -> str:
    """An atom by element and index: ``C3``."""
    return f"{chemical_symbols[atoms.numbers[index]]}{index}"


def group_label(atoms: Atoms, indices: NDArray[np.integer]) -> str:
    """Some atoms by formula, with indices if they are few: ``CH3 (atoms 0, 3, 4, 5)``; one atom as `label` has it."""
    if len(indices) == 1:
        return label(atoms, int(indices[0]))
    shown = ", ".join(map(str, indices[:6])) + (", ..." if len(indices) > 6 else "")
    return f"{Symbols(atoms.numbers[indices]).get_chemical_formula()} (atoms {shown})"
