"""A conserved energy that is not."""

import math

import numpy as np

from ase_mlcalc.md.drift import energy_drift
from ase_mlcalc.md.monitors.base import Finding, Monitor, Setting, Snapshot, State
from ase_mlcalc.md.monitors.config import DriftConfig
from ase_mlcalc.md.monitors.series import Averages
from ase_mlcalc.md.monitors.target import Target
from ase_mlcalc.md.outcome import Outcome

_GROWTH = 1.2
"""A running trajectory is judged again when it is longer by this factor."""


class Drift(Monitor):
    """The slope of the conserved energy, with its correlation-aware standard error, is above a threshold.

    See `ase_mlcalc.md.drift` for slope and error.  It counts only if the threshold is passed by three standard errors
    while the trajectory goes on, where it is judged again and again, and by two at its end; the first tenth, in which a
    structure leaves its minimum, is left out.  The default of 0.5 meV/atom/ps heats by about 2 K/ps; conservative
    potentials with a sound time step have less than a hundredth of it.  Not judged while the target of the thermostat
    changes, or where nothing is conserved.
    """

    name = "drift"
    outcome = Outcome.DRIFTED

    def __init__(self, config: DriftConfig, setting: Setting) -> None:
        super().__init__(config)
        self._most, self._min_time_ps = config.max_meV_per_atom_per_ps, config.min_time_ps
        self._n_atoms = len(setting.start)
        self._series = Averages()
        self._target = Target()
        self._offset_eV = self._start_ps = math.nan
        self._judged_ps = 0.0
        self._wrong = False

    def look(self, snapshot: Snapshot) -> Finding | None:
        """Judge the slope now and then; between, what was last found holds."""
        now = snapshot.time_ps
        if now is None or snapshot.conserved_eV is None or not self._target.is_constant(snapshot):
            return None
        if math.isnan(self._offset_eV):
            # of all-electron energies the digits that count would be lost in sums
            self._offset_eV, self._start_ps = snapshot.conserved_eV, now
        self._series.add(now, snapshot.conserved_eV - self._offset_eV)
        elapsed = now - self._start_ps
        if elapsed >= max(self._min_time_ps, _GROWTH * self._judged_ps):
            self._judged_ps = elapsed
            self._wrong = self._judge(standard_errors=3.0) is not None
        return self._judge(standard_errors=3.0) if self._wrong else None

    def finish(self) -> Finding | None:
        """Judge the trajectory as a whole."""
        long_enough = len(self._series.times) and self._series.times[-1] - self._start_ps >= self._min_time_ps * 0.99
        return self._judge(standard_errors=2.0) if long_enough and not self._target.changed else None

    def _judge(self, *, standard_errors: float) -> Finding | None:
        left_out = len(self._series.times) // 10
        times, values = self._series.times[left_out:], self._series.values[left_out:]
        slope = energy_drift(times, values, self._n_atoms)
        if slope is None or abs(slope.slope) - standard_errors * slope.stderr <= self._most:
            return None
        return Finding(
            f"{slope.slope:+.3g} ± {slope.stderr:.2g} meV/atom/ps",
            value=slope.slope,
            threshold=self._most,
        )

    def state(self) -> State:
        """The series, and when it was last judged."""
        numbers = [self._offset_eV, self._start_ps, self._judged_ps, float(self._wrong)]
        return self._series.state() | self._target.state() | {"judged": np.array(numbers)}

    def restore(self, state: State) -> None:
        """Go on from there."""
        self._series.restore(state)
        self._target.restore(state)
        self._offset_eV, self._start_ps, self._judged_ps, wrong = np.asarray(state["judged"], dtype=float).tolist()
        self._wrong = bool(wrong)
