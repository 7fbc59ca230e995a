"""A thermostat that holds another temperature than it was told."""

import numpy as np

from ase_mlcalc.md.drift import fit_slope
from ase_mlcalc.md.monitors.base import Finding, Monitor, Setting, Snapshot, State
from ase_mlcalc.md.monitors.config import ThermostatConfig
from ase_mlcalc.md.monitors.series import Averages
from ase_mlcalc.md.monitors.target import Target
from ase_mlcalc.md.outcome import Outcome

_STANDARD_ERRORS = 4.0


class Thermostat(Monitor):
    r"""The mean temperature differs from the target, by more than chance and by more than a few percent.

    .. math:: |\langle T \rangle - T_0| > 4 \sqrt{S / n} \quad\text{and}\quad > 0.03 \, T_0

    with S the sum of autocovariances by block averaging, as in `ase_mlcalc.md.drift`, over the last two thirds of the
    run.  A thermostat that counts 3N degrees of freedom where rotation and the motion of the centre of mass are frozen
    out runs hot by 3N/(3N - 6): 29 % for ethanol, 10 % for aspirin.  Also a thermostat that had too little time is
    found.  Runs whose target changes are not judged.
    """

    name = "thermostat"
    outcome = Outcome.WRONG_TEMPERATURE

    def __init__(self, config: ThermostatConfig, setting: Setting) -> None:
        super().__init__(config)
        self._most, self._min_time_ps = config.max_deviation, config.min_time_ps
        self._has_thermostat = setting.ensemble != "nve"
        self._series = Averages()
        self._target = Target()

    def look(self, snapshot: Snapshot) -> Finding | None:
        """Keep the temperature; one instant of it tells nothing."""
        if snapshot.time_ps is not None and snapshot.temperature_K is not None and snapshot.target_K is not None:
            self._target.is_constant(snapshot)
            self._series.add(snapshot.time_ps, snapshot.temperature_K)
        return None

    def finish(self) -> Finding | None:
        """The mean over the last two thirds."""
        times, target = self._series.times, self._target.first_K
        if not self._has_thermostat or self._target.changed or not target > 0.0:
            return None
        if len(times) == 0 or times[-1] - times[0] < 0.99 * self._min_time_ps:
            return None
        used = len(times) // 3
        times, values = times[used:], self._series.values[used:]
        line = fit_slope(times, values)
        if line is None:
            return None
        # the error of a slope is (S / sum of squared times)^1/2, that of a mean (S / n)^1/2
        stderr = line.stderr * float(np.std(times))
        mean = float(values.mean())
        deviation = mean - target
        if abs(deviation) <= max(_STANDARD_ERRORS * stderr, self._most * target):
            return None
        return Finding(
            f"{mean:.4g} ± {stderr:.2g} K, the thermostat has {target:.4g} K",
            value=deviation / target,
            threshold=self._most,
        )

    def state(self) -> State:
        """Temperatures so far."""
        return self._series.state() | self._target.state()

    def restore(self, state: State) -> None:
        """Go on from there."""
        self._series.restore(state)
        self._target.restore(state)
