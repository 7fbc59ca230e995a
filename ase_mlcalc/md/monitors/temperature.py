"""A temperature that goes through the roof, or a system that stops."""

import math

import numpy as np
from scipy.stats import chi2

from ase_mlcalc.md.monitors.base import Finding, Monitor, Setting, Snapshot, State
from ase_mlcalc.md.monitors.config import TemperatureConfig
from ase_mlcalc.md.outcome import Outcome

_RARE = 1e-9
"""How seldom a healthy canonical kinetic energy may pass the limit, per look."""


class Temperature(Monitor):
    r"""The kinetic temperature is far above what the run was ever meant to have, or far below for long.

    Too high is

    .. math:: T > T_\mathrm{ref} \, (r - 1 + q_f)

    with r = 5, :math:`T_\mathrm{ref}` the highest target so far or the temperature at the start, whichever is higher,
    and :math:`q_f` what the canonical kinetic energy of f degrees of freedom, over its mean, exceeds once in a billion
    looks (:math:`\chi^2_f / f`: 6.5 for three atoms, 2.4 for twenty, 1.1 for two thousand); never below 1000 K.  Others
    wait much longer: mlipaudit for 10 000 K above the target, MDsim for 100 000 K.  Targets may fall, for the system
    follows only slowly.

    Too low, after the run was warm before, is below 0.05 of the present target, or of the temperature at the start
    where there is no target, for 0.5 ps without a break: kinetic energy does not stay away, except for what takes
    energy out.
    """

    name = "temperature"
    outcome = Outcome.EXPLODED

    def __init__(self, config: TemperatureConfig, setting: Setting) -> None:
        super().__init__(config)
        self._config = config
        n_degrees = setting.degrees_of_freedom or max(1, 3 * len(setting.start) - 6)
        self._room = config.max_ratio - 1.0 + float(chi2.isf(_RARE, n_degrees)) / n_degrees
        self._start_K = self._highest_K = math.nan
        self._was_warm = False
        self._cold_since_ps = math.nan

    def look(self, snapshot: Snapshot) -> Finding | None:
        """Too hot, or cold for too long."""
        temperature, target = snapshot.temperature_K, snapshot.target_K
        if temperature is None:
            return None
        if math.isnan(self._start_K):
            self._start_K = temperature
            self._highest_K = temperature
        if target is not None and target > self._highest_K:
            self._highest_K = target
        limit = max(self._config.always_allowed_K, self._highest_K * self._room)
        if temperature > limit:
            return Finding(f"{temperature:.4g} K", value=temperature, threshold=limit)
        return self._cold(snapshot, temperature, self._start_K if target is None else target)

    def _cold(self, snapshot: Snapshot, temperature: float, usual: float) -> Finding | None:
        limit, now = self._config.min_ratio * usual, snapshot.time_ps
        if temperature >= limit:
            self._was_warm, self._cold_since_ps = self._was_warm or temperature > limit, math.nan
            return None
        if not self._was_warm or now is None:
            return None
        if math.isnan(self._cold_since_ps):
            self._cold_since_ps = now
        if now - self._cold_since_ps < self._config.cold_ps - 1e-9:
            return None
        return Finding(
            f"{temperature:.3g} K, below {limit:.3g} K since {self._cold_since_ps:.3f} ps",
            value=temperature,
            threshold=limit,
            outcome=Outcome.FROZEN,
        )

    def state(self) -> State:
        """How hot it was meant to be, and since when it is cold."""
        return {
            "temperatures": np.array([self._start_K, self._highest_K, self._cold_since_ps]),
            "was_warm": np.array(self._was_warm),
        }

    def restore(self, state: State) -> None:
        """Go on from there."""
        self._start_K, self._highest_K, self._cold_since_ps = np.asarray(state["temperatures"], dtype=float).tolist()
        self._was_warm = bool(state["was_warm"])
