"""Energies that jump between two looks."""

import numpy as np

from ase_mlcalc.md.monitors.base import Array, Finding, Monitor, Setting, Snapshot, State
from ase_mlcalc.md.monitors.config import EnergyConfig
from ase_mlcalc.md.outcome import Outcome

_REMEMBERED = 200
_AT_LEAST = 20
"""Changes seen before one is judged."""


class EnergyJump(Monitor):
    """A change of the conserved energy between two looks that is out of proportion to those before.

    That is larger than 5 times the largest of the last 200, and than a floor of 0.05 eV, about what a bond has at room
    temperature: the error of an integrator follows the vibrations and comes back to the same size again and again, a
    discontinuity of the potential does not.  The largest and not the root mean square is what is compared with, for
    collisions are rare events.  At least 20 changes have to be known.

    Where nothing is conserved (Langevin dynamics) the potential energy is looked at.  It changes by all that flows
    between it and the kinetic energy, so its floor is 1 eV; what is found is an atom that fell into a hole.

    The criterion is this package's.
    """

    name = "energy"
    outcome = Outcome.ENERGY_JUMPED

    def __init__(self, config: EnergyConfig, setting: Setting) -> None:  # noqa: ARG002
        super().__init__(config)
        self._config = config
        self._before: float | None = None
        self._is_conserved = True
        self._changes = np.zeros(_REMEMBERED)
        self._seen = 0

    def look(self, snapshot: Snapshot) -> Finding | None:
        """The change since the last look."""
        is_conserved = snapshot.conserved_eV is not None
        energy = snapshot.conserved_eV if is_conserved else snapshot.potential_eV
        if energy is None or is_conserved != self._is_conserved:
            self._before, self._seen = energy, 0
            self._is_conserved = is_conserved
            return None
        before, self._before = self._before, energy
        if before is None:
            return None
        change = energy - before
        floor = self._config.min_jump_eV if is_conserved else self._config.min_potential_jump_eV
        largest = float(self._changes[: self._seen].max()) if self._seen else 0.0
        limit = max(floor, self._config.max_ratio * largest)
        if self._seen >= _AT_LEAST and abs(change) > limit:
            # not remembered: one jump must not excuse the next
            return self._found(change, largest, limit)
        self._changes[self._seen % _REMEMBERED] = abs(change)
        self._seen += 1
        return None

    def _found(self, change: float, largest: float, limit: float) -> Finding:
        what = "conserved" if self._is_conserved else "potential"
        return Finding(
            f"the {what} energy changed by {change:+.4g} eV; changes before were up to {largest:.2g} eV",
            value=change,
            threshold=limit,
        )

    def state(self) -> State:
        """The last energy and the changes before."""
        state: State = {
            "changes": self._changes[: self._seen].copy(),
            "seen": np.array(self._seen),
            "is_conserved": np.array(self._is_conserved),
        }
        return state if self._before is None else state | {"before": np.array(self._before)}

    def restore(self, state: State) -> None:
        """Go on from there."""
        changes: Array = np.asarray(state["changes"], dtype=float)
        self._changes[: len(changes)] = changes
        self._seen, self._is_conserved = int(state["seen"]), bool(state["is_conserved"])
        self._before = float(state["before"]) if "before" in state else None
