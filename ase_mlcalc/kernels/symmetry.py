"""Permutations of like atoms that a molecule undergoes, found in its geometries alone.

Two geometries are matched like two weighted graphs: eigenvectors of their distance matrices, with signs dropped, say
which atoms play the same part, and the assignment of atoms that fits best is a candidate (Umeyama, IEEE Trans. Pattern
Anal. 10, 695 (1988)).  A minimum spanning tree over all pairs keeps the matches that are sure, and the permutations
along it are completed to a group (Chmiela, Sauceda, Müller and Tkatchenko, Nat. Commun. 9, 3887 (2018)).
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import minimum_spanning_tree

ENOUGH_GEOMETRIES = 200
"""More are not matched with one another: their number of pairs grows with the square."""
LARGEST_GROUP = 100
"""A longer list of permutations comes from matches that contradict each other."""
GAIN = 1e-6
"""Relative; a match that brings two geometries less close than this to each other is none."""

Permutation = tuple[int, ...]


def find_symmetries(distances: NDArray[np.float64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group of permutations that carries geometries of a molecule into one another.

    Parameters
    ----------
    distances : (M, N, N) Å
        Between all atoms, in each geometry.
    numbers : (N,)
        Atomic numbers; only like atoms are exchanged.

    Returns
    -------
    (S, N)
        Permutations, the identity first, closed under composition, at most `LARGEST_GROUP`.
    """
    chosen = np.unique(np.linspace(0, len(distances) - 1, min(len(distances), ENOUGH_GEOMETRIES)).astype(int))
    votes = Counter(_along_spanning_tree(distances[chosen], numbers))
    group = {tuple(range(len(numbers)))}
    for permutation, _ in votes.most_common():  # the surest first: one wrong match must not spoil the group
        larger = completed(group | {permutation})
        group = group if larger is None else larger
    return np.array(sorted(group), dtype=np.int64)


def completed(permutations: set[Permutation], most: int = LARGEST_GROUP) -> set[Permutation] | None:
    """The smallest group that holds all of some permutations; ``None`` if it has more than `most` members."""
    group, new = set(permutations), set(permutations)
    while new:
        new = {tuple(a[k] for k in b) for a in permutations for b in new} - group
        group |= new
        if len(group) > most:
            return None
    return group


def _along_spanning_tree(distances: NDArray[np.float64], numbers: NDArray[np.int64]) -> list[Permutation]:
    """Permutations between geometries that are neighbours in the minimum spanning tree of all matches."""
    costs, found = _match_all(distances, numbers)
    # the spanning tree takes zero for "not connected", and equal geometries are at zero
    tree = minimum_spanning_tree(costs + 1e-12 * (1.0 + costs.max())).tocoo()
    edges = zip(tree.row.tolist(), tree.col.tolist(), strict=True)
    return [found[min(i, j), max(i, j)] for i, j in edges if (min(i, j), max(i, j)) in found]


def _match_all(
    distances: NDArray[np.float64], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.float64], dict[tuple[int, int], Permutation]]:
    """How far geometries i < j are from each other after the best exchange of atoms, and the exchange if there is one.

    Far is the Frobenius norm of the difference of the distance matrices.
    """
    n_geometries = len(distances)
    roles = np.abs(np.linalg.eigh(distances)[1])  # (M, N, N) the part of each atom in each eigenvector
    unlike = (numbers[:, None] != numbers[None, :]).astype(np.float64)
    costs = np.zeros((n_geometries, n_geometries))
    found: dict[tuple[int, int], Permutation] = {}
    for i in range(n_geometries - 1):
        overlaps = np.einsum("ak,mbk->mab", roles[i], roles[i + 1 :])
        as_they_are = np.linalg.norm(distances[i] - distances[i + 1 :], axis=(1, 2))
        # (m, N): atom order[a] of geometry m plays the part of atom a of geometry i
        orders = np.array([linear_sum_assignment(len(numbers) * unlike - overlap)[1] for overlap in overlaps])
        exchanged = distances[np.arange(i + 1, n_geometries)[:, None, None], orders[:, :, None], orders[:, None, :]]
        after = np.linalg.norm(distances[i] - exchanged, axis=(1, 2))
        better = after < (1 - GAIN) * as_they_are
        costs[i, i + 1 :] = np.where(better, after, as_they_are)
        for offset in np.flatnonzero(better).tolist():
            found[i, i + 1 + offset] = tuple(orders[offset].tolist())
    return costs, found
