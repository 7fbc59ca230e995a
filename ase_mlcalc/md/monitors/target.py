"""Whether a run has one temperature."""

import math

import numpy as np

from ase_mlcalc.md.monitors.base import Snapshot, State


class Target:
    """Follows the target of a thermostat: one temperature, none, or a ramp."""

    def __init__(self) -> None:
        self.first_K = math.nan
        """Of the first snapshot that had one."""
        self.changed = False
        """Whether there was another after it."""

    def is_constant(self, snapshot: Snapshot) -> bool:
        """Whether the target was the same in all snapshots up to this one, or there was none."""
        if snapshot.target_K is not None:
            if math.isnan(self.first_K):
                self.first_K = snapshot.target_K
            self.changed |= snapshot.target_K != self.first_K
        return not self.changed

    def state(self) -> State:
        """First target, and whether it changed since."""
        return {"target": np.array([self.first_K, float(self.changed)])}

    def restore(self, state: State) -> None:
        """Go on from there."""
        first, changed = np.asarray(state["target"], dtype=float).tolist()
        self.first_K, self.changed = first, bool(changed)
