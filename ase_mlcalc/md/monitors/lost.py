"""Atoms or groups of atoms that leave the rest."""

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import minimum_spanning_tree

from ase_mlcalc.md.monitors.base import Finding, Monitor, Setting, Snapshot
from ase_mlcalc.md.monitors.bond_graph import fragments, group_label, periodicity
from ase_mlcalc.md.monitors.config import LostConfig
from ase_mlcalc.md.monitors.pairs import Index, nearest_distances, pairs_within
from ase_mlcalc.md.outcome import Outcome


class Lost(Monitor):
    """An atom or a group farther than a gap from all others.

    Atoms closer than the gap are linked; more bodies than at the start mean that something left.  The default of 6 Å is
    more than any distance between neighbours, also of noble gases and of molecules that touch (3 to 5 Å), so that an
    adatom or a molecule on a surface is still part of it.

    As long as all links of a spanning tree hold, all atoms are one body; so a look costs N distances, and the search
    for pairs, which is exact, is done only when a link of the last tree has torn.
    """

    name = "lost"
    outcome = Outcome.EVAPORATED

    @classmethod
    def suits(cls, config: LostConfig, setting: Setting) -> bool:
        """One body with empty space around it: a molecule, a cluster, a wire or a slab; a gas, a liquid or a solid that
        fills its cell has no outside.
        """
        pairs, _ = pairs_within(setting.start, config.gap_A)
        n = len(setting.start)
        one_body = not fragments(n, pairs.centers, pairs.neighbors).any()
        return n > 1 and one_body and periodicity(n, pairs) < 3

    def __init__(self, config: LostConfig, setting: Setting) -> None:
        super().__init__(config)
        self._gap = config.gap_A
        self._tree: tuple[Index, Index] | None = None
        self._bodies_at_start = len(setting.start)
        self._bodies_at_start = int(self._bodies(Snapshot(setting.start, number=0)).max()) + 1

    def look(self, snapshot: Snapshot) -> Finding | None:
        """What left the largest body, and how far it is from everything else."""
        if self._tree is not None and bool((nearest_distances(snapshot.atoms, *self._tree) < self._gap).all()):
            return None
        labels = self._bodies(snapshot)
        sizes = np.bincount(labels)
        if len(sizes) <= self._bodies_at_start:
            return None
        body = int(np.argmax(sizes))
        gone = np.flatnonzero(labels != body)
        farthest, distance = self._farthest(snapshot, labels, body)
        others = "" if len(sizes) == 2 else f", one of {len(sizes) - 1} groups that left"
        return Finding(
            f"{group_label(snapshot.atoms, farthest)} is {distance:.1f} Å from all other atoms{others}",
            value=distance,
            threshold=self._gap,
            atoms=tuple(gone.tolist()),
        )

    def _bodies(self, snapshot: Snapshot) -> Index:
        """(N,) body of each atom; if there are no more than at the start, their spanning trees are kept."""
        n = len(snapshot.atoms)
        pairs, distances = snapshot.pairs(self._gap)
        # of several images of a pair the nearest; the matrix would add them up
        order = np.lexsort((distances, pairs.centers * n + pairs.neighbors))
        keys, nearest = np.unique((pairs.centers * n + pairs.neighbors)[order], return_index=True)
        nearest = order[nearest]
        i, j = keys // n, keys % n
        links = i < j
        weights = np.maximum(distances[nearest][links], 1e-6)  # zero would be no link
        tree = minimum_spanning_tree(coo_matrix((weights, (i[links], j[links])), shape=(n, n)).tocsr()).tocoo()
        first, second = tree.row.astype(np.int64), tree.col.astype(np.int64)
        labels = fragments(n, first, second)
        n_bodies = int(labels.max()) + 1
        # with bodies apart a tree cannot tell whether they joined, and it need not: then each look searches
        self._tree = (first, second) if n_bodies <= self._bodies_at_start else None
        return labels

    @staticmethod
    def _farthest(snapshot: Snapshot, labels: Index, body: int) -> tuple[Index, float]:
        """The group that is farthest from all other atoms, and that distance."""
        best: tuple[Index, float] = (np.zeros(0, dtype=np.int64), -1.0)
        for group in range(int(labels.max()) + 1):
            if group == body:
                continue
            inside, outside = np.flatnonzero(labels == group), np.flatnonzero(labels != group)
            i, j = (axis.ravel() for axis in np.meshgrid(inside, outside, indexing="ij"))
            distance = float(nearest_distances(snapshot.atoms, i, j).min())
            if distance > best[1]:
                best = (inside, distance)
        return best
