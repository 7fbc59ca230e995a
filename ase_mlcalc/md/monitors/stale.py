"""A calculator that does not notice that atoms moved."""

import numpy as np

from ase_mlcalc.md.monitors.base import Array, Finding, Monitor, Setting, Snapshot, State
from ase_mlcalc.md.monitors.config import StaleConfig
from ase_mlcalc.md.outcome import Outcome

ROUNDING = 1e-12
"""eV/Å."""


class Stale(Monitor):
    """Forces that are the same to the last bit as in the snapshot before, at other positions.

    Two evaluations at different positions agree in all bits of all forces only if there was one evaluation.  Caches
    that are not cleared are a known fault of calculators (torchani #644, deepmd-kit #4633).  Forces that are all zero,
    or what rounding leaves of zero, say nothing: atoms out of each other's reach, or alone in a cell, have such
    anywhere.
    """

    name = "stale"
    outcome = Outcome.STALE

    def __init__(self, config: StaleConfig, setting: Setting) -> None:  # noqa: ARG002
        super().__init__(config)
        self._before: tuple[Array, Array] | None = None

    def look(self, snapshot: Snapshot) -> Finding | None:
        """The same forces as before?"""
        if snapshot.forces is None:
            self._before = None
            return None
        before, self._before = self._before, (snapshot.atoms.positions.copy(), snapshot.forces.copy())
        if before is None or not np.array_equal(before[1], snapshot.forces) or np.abs(snapshot.forces).max() < ROUNDING:
            return None
        moved = float(np.abs(snapshot.atoms.positions - before[0]).max())
        if moved == 0.0:
            return None
        return Finding(f"atoms moved by up to {moved:.2g} Å and no force changed by a single bit", value=moved)

    def state(self) -> State:
        """Positions and forces of the last snapshot."""
        return {} if self._before is None else {"positions": self._before[0], "forces": self._before[1]}

    def restore(self, state: State) -> None:
        """Go on from there."""
        self._before = (
            (np.array(state["positions"], dtype=float), np.array(state["forces"], dtype=float)) if state else None
        )
