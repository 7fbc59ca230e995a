"""Molecules that lose atoms, fall apart or join."""

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import TypeAdapter

from ase_mlcalc.md.monitors.base import Array, Finding, Moment, Monitor, Setting, Snapshot, State
from ase_mlcalc.md.monitors.bond_graph import Kinds, bond_graph, fragments, group_label, label
from ase_mlcalc.md.monitors.config import FragmentsConfig
from ase_mlcalc.md.monitors.pairs import Index, nearest_distances
from ase_mlcalc.md.outcome import Outcome

_FINDING = TypeAdapter(Finding)


class Fragments(Monitor):
    """Molecules other than those that the bonds of the starting structure make.

    Bonds have hysteresis, so that one that is stretched is not yet broken, and a contact not yet a bond: a bond is
    broken when it is longer than the covalent radii by 0.8 Å (C-H 1.87 Å, C-C 2.3 Å), and there again, or new, when
    within 0.2 Å of them (C-H 1.27 Å, C-C 1.7 Å).  Rings may open and close: molecules are what is linked.  What differs
    from the start has to last for `persist_fs`, so that a proton that tries another place does not count.

    The loss of a hydrogen atom, which mlipaudit calls at 2.5 Å, is one case: "H7 left C3".  Reference for the radii:
    Cordero et al., Dalton Trans. 2008, 2832.
    """

    name = "fragments"
    outcome = Outcome.BROKEN

    @classmethod
    def suits(cls, config: FragmentsConfig, setting: Setting) -> bool:  # noqa: ARG003
        """Molecules, and no network: in a melt of one bonds come and go."""
        return bond_graph(setting.start).is_molecular

    def __init__(self, config: FragmentsConfig, setting: Setting) -> None:
        super().__init__(config)
        self._persist_ps = config.persist_fs / 1000.0
        self._new_within, self._broken_beyond = config.new_within_A, config.broken_beyond_A
        graph, kinds = bond_graph(setting.start), Kinds(setting.start.numbers)
        n = self._n_atoms = len(setting.start)
        self._kinds_n, self._radii_kk = kinds.of_atoms, kinds.radii_sums()
        self._near_kk = np.where(kinds.can_bond(), self._radii_kk + config.new_within_A, 0.0)
        self.cutoff_A = max(float(self._near_kk.max()), 0.1)
        self._first, self._second = graph.first, graph.second
        self._keys = graph.first * n + graph.second  # sorted
        self._long = self._radii(graph.first, graph.second) + self._broken_beyond
        self._at_start = fragments(n, graph.first, graph.second)
        self._broken = np.zeros(len(self._keys), dtype=bool)
        self._new: Index = np.zeros(0, dtype=np.int64)
        self._since: Moment | None = None
        self._seen: Finding | None = None

    def look(self, snapshot: Snapshot) -> Finding | None:
        """What broke off or joined, if it lasts."""
        lengths = nearest_distances(snapshot.atoms, self._first, self._second)
        self._follow_bonds(snapshot, lengths)
        if self._molecules_are_those_of_the_start():
            self._since = self._seen = None
            return None
        self._since = self._since or snapshot.moment
        self._seen = self._describe(snapshot.atoms, lengths)
        return self._seen if self._lasted(snapshot, self._since) else None

    def pending(self) -> Finding | None:
        """Molecules that are different, even if for too short a time."""
        return self._seen

    def state(self) -> State:
        """Which bonds are broken or new, since when molecules are different, and how."""
        state: State = {"broken": self._broken.copy(), "new": self._new.copy()}
        if self._since is None or self._seen is None:  # they come and go together
            return state
        seen = np.frombuffer(_FINDING.dump_json(self._seen), dtype=np.uint8)
        return state | {"since": self._since.to_array(), "seen": seen}

    def restore(self, state: State) -> None:
        """Go on from there."""
        self._broken = np.array(state["broken"], dtype=bool)
        self._new = np.array(state["new"], dtype=np.int64)
        self._since = Moment.from_array(state["since"]) if "since" in state else None
        # checkpoints did not always hold it
        self._seen = _FINDING.validate_json(state["seen"].tobytes()) if "seen" in state else None

    def _radii(self, first: Index, second: Index) -> Array:
        return self._radii_kk[self._kinds_n[first], self._kinds_n[second]]

    def _follow_bonds(self, snapshot: Snapshot, lengths: Array) -> None:
        """Break and make bonds, each with its hysteresis."""
        n, atoms = self._n_atoms, snapshot.atoms
        far = lengths > self._long
        if self._broken.any():
            far |= self._broken & (lengths > self._long - self._broken_beyond + self._new_within)
        self._broken = far
        pairs, distances = snapshot.pairs(self.cutoff_A)
        i, j = pairs.centers, pairs.neighbors
        near = (i < j) & (distances < self._near_kk[self._kinds_n[i], self._kinds_n[j]])
        keys = i[near] * n + j[near]
        fresh = keys[~_in_sorted(keys, self._keys)]
        if len(fresh):
            fresh = np.unique(fresh)  # several images
        if len(self._new):
            first, second = self._new // n, self._new % n
            held = nearest_distances(atoms, first, second) < self._radii(first, second) + self._broken_beyond
            fresh = np.union1d(fresh, self._new[held])
        self._new = fresh

    def _molecules_are_those_of_the_start(self) -> bool:
        if not self._broken.any() and len(self._new) == 0:
            return True
        whole = ~self._broken
        first = np.concatenate([self._first[whole], self._new // self._n_atoms])
        second = np.concatenate([self._second[whole], self._new % self._n_atoms])
        return _same_partition(fragments(self._n_atoms, first, second), self._at_start)

    def _lasted(self, snapshot: Snapshot, since: Moment) -> bool:
        if snapshot.time_ps is None or since.time_ps is None:
            return True
        return snapshot.time_ps - since.time_ps >= self._persist_ps - 1e-9

    def _describe(self, atoms: Atoms, lengths: Array) -> Finding:
        """In words: what left what, and what joined what."""
        n = self._n_atoms
        whole = ~self._broken
        pieces = fragments(n, self._first[whole], self._second[whole])
        parted = np.flatnonzero(self._broken & (pieces[self._first] != pieces[self._second]))
        joined = self._new[self._at_start[self._new // n] != self._at_start[self._new % n]]
        words, involved = [], set()
        value = threshold = None
        for bond in parted[np.argsort(-lengths[parted], kind="stable")][:3].tolist():
            i, j = int(self._first[bond]), int(self._second[bond])
            small, large = sorted((i, j), key=lambda atom: (int((pieces == pieces[atom]).sum()), atom))
            group = np.flatnonzero(pieces == pieces[small])
            words.append(f"{group_label(atoms, group)} left {label(atoms, large)} ({lengths[bond]:.2f} Å)")
            involved |= {*group.tolist(), large}
            if value is None:
                value, threshold = float(lengths[bond]), float(self._long[bond])
        for key in joined[:3].tolist():
            i, j = key // n, key % n
            distance = float(nearest_distances(atoms, np.array([i]), np.array([j]))[0])
            words.append(f"{label(atoms, i)} and {label(atoms, j)} of two molecules are bonded ({distance:.2f} Å)")
            involved |= {i, j}
            if value is None:
                radii = float(self._radii(np.array([i]), np.array([j]))[0])
                value, threshold = distance, radii + self._new_within
        more = len(parted) + len(joined) - len(words)
        detail = "; ".join(words) + (f"; and {more} more bonds" if more > 0 else "")
        return Finding(detail, value=value, threshold=threshold, atoms=tuple(sorted(involved)), since=self._since)


def _in_sorted(values: Index, table: Index) -> NDArray[np.bool_]:
    """Which values are in a sorted table."""
    if len(table) == 0:
        return np.zeros(len(values), dtype=bool)
    return table[np.minimum(np.searchsorted(table, values), len(table) - 1)] == values


def _same_partition(a: Index, b: Index) -> bool:
    """Whether two labellings put the same atoms together."""
    pairs = np.unique(np.stack([a, b]), axis=1).shape[1]
    return pairs == len(np.unique(a)) == len(np.unique(b))
