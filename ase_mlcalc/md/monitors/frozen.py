"""Atoms that stand still though nothing holds them."""

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.md.monitors.base import Array, Finding, Moment, Monitor, Setting, Snapshot, State
from ase_mlcalc.md.monitors.bond_graph import label
from ase_mlcalc.md.monitors.config import FrozenConfig
from ase_mlcalc.md.outcome import Outcome


class Frozen(Monitor):
    """Atoms without a constraint whose positions stay the same, to the last bit, over several looks.

    At any temperature an atom moves by far more between two looks.  The default of 10 looks is far beyond a turning
    point of a vibration, and does not take long.
    """

    name = "frozen"
    outcome = Outcome.FROZEN

    def __init__(self, config: FrozenConfig, setting: Setting) -> None:
        super().__init__(config)
        self._looks = config.looks
        self._free = _free_atoms(setting.start)
        self._before: Array | None = None
        self._still = np.zeros(len(setting.start), dtype=np.int64)
        self._since: list[Moment] = []

    def look(self, snapshot: Snapshot) -> Finding | None:
        """Who has not moved for long?"""
        positions = snapshot.atoms.positions
        if self._before is None:
            self._before = positions.copy()
            self._since = [snapshot.moment]
            return None
        same = positions == self._before
        self._since = [*self._since, snapshot.moment][-self._looks - 1 :]
        if not same.any():  # the usual case
            self._still[:] = 0
            self._before[:] = positions
            return None
        same_n = same.all(axis=1) & self._free
        self._still = np.where(same_n, self._still + 1, 0)
        self._before[:] = positions
        frozen = np.flatnonzero(self._still >= self._looks)
        if len(frozen) == 0:
            return None
        who = "no atom moves" if len(frozen) == self._free.sum() else f"{len(frozen)} atoms do not move"
        return Finding(
            f"{who}, first {label(snapshot.atoms, int(frozen[0]))}",
            value=float(len(frozen)),
            atoms=tuple(frozen.tolist()),
            since=self._since[0],
        )

    def state(self) -> State:
        """Last positions, for how many looks they have been the same, and when those looks were."""
        if self._before is None:
            return {}
        since = np.array([moment.to_array() for moment in self._since])
        return {"positions": self._before.copy(), "still": self._still.copy(), "since": since}

    def restore(self, state: State) -> None:
        """Go on from there."""
        if state:
            self._before = np.array(state["positions"], dtype=float)
            self._still = np.array(state["still"], dtype=np.int64)
            self._since = [Moment.from_array(row) for row in state["since"]]


def _free_atoms(atoms: Atoms) -> NDArray[np.bool_]:
    """(N,) atoms that constraints let move: those that keep some momentum when all are given one."""
    if not atoms.constraints:
        return np.ones(len(atoms), dtype=bool)
    probe = atoms.copy()
    probe.set_momenta(np.random.default_rng(0).normal(size=(len(atoms), 3)))
    return np.asarray(probe.arrays["momenta"].any(axis=1), dtype=bool)
