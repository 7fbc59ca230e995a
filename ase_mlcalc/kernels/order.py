"""Whether a molecule has its atoms in the order of the geometries that a kernel was solved on, told by its bonds.

A kernel knows atoms by their place in the list.  Exchange two like atoms, and every number it gets is a distance that
none of its geometries has, while the list of elements is the same.  A pair of atoms that is bonded in all of these
geometries and far apart here is the sign; but so it is where a bond breaks.  What tells the two apart is whether the
bonds that are here are those of the same molecule, only between other atoms.
"""

from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray
from scipy.sparse.csgraph import shortest_path

BONDED, APART = 1.3, 1.4
"""Over the sum of the covalent radii: what is nearer than the one is a bond, what is farther than the other is none."""


class KnownBonds(NamedTuple):
    """Pairs of atoms that are bonded in all geometries that a kernel knows."""

    pairs: NDArray[np.int64]
    """(K,) numbers of the pairs, as in `inverse_distances`."""
    longest: NDArray[np.float64]
    """(K,) Å; a bond is no longer than this."""


def known_bonds(distances_md: NDArray[np.float64], numbers: NDArray[np.int64]) -> KnownBonds:
    """The bonds that all geometries have in common.

    Parameters
    ----------
    distances_md : (M, D) Å
        Between all pairs of atoms, in each geometry.
    numbers : (N,)
        Atomic numbers.
    """
    radii_d = _radii(numbers)
    pairs = np.flatnonzero((distances_md < BONDED * radii_d).all(axis=0)) if len(distances_md) else np.arange(0)
    return KnownBonds(pairs, APART * radii_d[pairs])


def exchanged(distances_d: NDArray[np.float64], numbers: NDArray[np.int64], known: KnownBonds) -> str:
    """What tells that a molecule with a known bond missing has its atoms in another order; "" if it has not.

    Two atoms have the same part in a molecule if as many bonds lie between them and the others of each element.

    Parameters
    ----------
    distances_d : (D,) Å
        Between all pairs of its atoms.
    numbers : (N,)
    known : KnownBonds
    """
    expected = np.zeros(len(distances_d), dtype=bool)
    expected[known.pairs] = True
    here = distances_d < BONDED * _radii(numbers)
    parts_before, parts_now = _parts(expected, numbers), _parts(here, numbers)
    if sorted(parts_before) != sorted(parts_now):
        return ""  # a bond was broken or made: this may be chemistry
    a_d, b_d = np.tril_indices(len(numbers), -1)
    missing = known.pairs[distances_d[known.pairs] > known.longest][0]
    a, b = a_d[missing], b_d[missing]
    changed = [k for k, (before, now) in enumerate(zip(parts_before, parts_now, strict=True)) if before != now]
    atoms = ", ".join(f"{chemical_symbols[numbers[k]]} {k}" for k in changed or (b, a))
    return (
        f"{chemical_symbols[numbers[b]]} {b} and {chemical_symbols[numbers[a]]} {a} are bonded there and are "
        f"{distances_d[missing]:.2f} Å apart here, where other atoms have the same bonds; look at {atoms}"
    )


def _radii(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """(D,) Å, the sum of the covalent radii of each pair."""
    a_d, b_d = np.tril_indices(len(numbers), -1)
    return np.asarray(covalent_radii[numbers[a_d]] + covalent_radii[numbers[b_d]])


def _parts(bonded_d: NDArray[np.bool_], numbers: NDArray[np.int64]) -> list[tuple[float, ...]]:
    """The part of each atom in a molecule: its element, and how many bonds away there are others of which element."""
    n_atoms = len(numbers)
    bonds = np.zeros((n_atoms, n_atoms))
    bonds[np.tril_indices(n_atoms, -1)] = bonded_d
    away = shortest_path(bonds, directed=False, unweighted=True)
    away[np.isinf(away)] = n_atoms  # farther than any bond reaches
    return [tuple(row) for row in np.sort(len(chemical_symbols) * away + numbers, axis=1).tolist()]
