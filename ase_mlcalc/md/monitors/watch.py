"""`Watch`: all monitors of a run together; what they find, once per occurrence and causes first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ase_mlcalc.md.monitors.base import Finding, Moment, Monitor, Snapshot, State
from ase_mlcalc.md.monitors.config import Action
from ase_mlcalc.md.monitors.finite import Finite, not_finite
from ase_mlcalc.md.outcome import Outcome

RECOVERED_AFTER = 20
"""Looks without a finding after which a monitor may report again."""


@dataclass(frozen=True)
class Alarm:
    """What a monitor found, and when it began."""

    monitor: str
    outcome: Outcome
    action: Action
    detail: str
    value: float | None
    threshold: float | None
    atoms: tuple[int, ...]
    moment: Moment
    """When it began: earlier than the snapshot that told, where a monitor waited to see what becomes of it."""

    @property
    def stops(self) -> bool:
        """Whether it ends the run."""
        return self.action == "stop"


class Watch:
    """Monitors at work on one trajectory.

    A finding is reported when it comes up, and again only after its monitor was content for `RECOVERED_AFTER` looks.
    Where several come up at one snapshot they are in the order of the monitors, which is that of causes before
    consequences; the first that stops is the reason why a run ends.  A monitor earlier in the order that has seen
    something and waits to see what becomes of it speaks then too.

    Parameters
    ----------
    monitors : sequence of Monitor
        In order of precedence, as `make_monitors` gives them.
    """

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self.monitors = tuple(monitors)
        self.stopped = False
        """Whether something was found that ends the run."""
        self._cutoff = max((monitor.cutoff_A for monitor in self.monitors), default=0.0)
        self._active = [False] * len(self.monitors)
        self._content = [0] * len(self.monitors)
        self._last = Moment(-1)

    def look(self, snapshot: Snapshot) -> list[Alarm]:
        """Show all monitors the next snapshot; what is newly wrong.

        Of a snapshot with NaN or Inf only that is reported: nothing else can be told from it.
        """
        self._last = snapshot.moment
        unusable = not_finite(snapshot)
        if unusable is None and self._cutoff > 0.0:
            snapshot.pairs(self._cutoff)  # one search for all
        alarms: dict[int, Alarm] = {}
        for place, monitor in enumerate(self.monitors):
            if isinstance(monitor, Finite):
                finding = unusable
            elif unusable is None:
                finding = monitor.look(snapshot)
            else:
                continue
            if finding is None:
                self._note_content(place)
            elif self._is_new(place):
                alarms[place] = self._alarm(monitor, finding)
        return self._settle(alarms)

    def pending(self) -> list[Alarm]:
        """What monitors have seen and not yet reported: ask when a run ends for a reason that no monitor gave."""
        return self._settle(self._waiting(len(self.monitors)))

    def finish(self) -> list[Alarm]:
        """What is told after the last snapshot, from the trajectory as a whole; nothing if it was stopped."""
        if self.stopped:
            return []
        alarms = {
            place: self._alarm(monitor, finding)
            for place, monitor in enumerate(self.monitors)
            if not self._active[place] and (finding := monitor.finish()) is not None
        }
        return self._settle(alarms)

    def state(self) -> State:
        """Everything that has to be remembered over a restart, as one flat dictionary of arrays."""
        own: State = {
            "watch.active": np.array(self._active, dtype=bool),
            "watch.content": np.array(self._content, dtype=np.int64),
            "watch.last": self._last.to_array(),
            "watch.stopped": np.array(self.stopped),
        }
        return own | {
            f"{monitor.name}.{key}": value for monitor in self.monitors for key, value in monitor.state().items()
        }

    def restore(self, state: State) -> None:
        """Go on from what `state` gave, of monitors that were made from the same configuration and start."""
        self._active = [bool(active) for active in state["watch.active"]]
        self._content = [int(count) for count in state["watch.content"]]
        self._last = Moment.from_array(state["watch.last"])
        self.stopped = bool(state["watch.stopped"])
        for monitor in self.monitors:
            prefix = f"{monitor.name}."
            monitor.restore({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})

    def _note_content(self, place: int) -> None:
        self._content[place] += 1
        if self._content[place] >= RECOVERED_AFTER:
            self._active[place] = False

    def _is_new(self, place: int) -> bool:
        """Whether what a monitor finds now is another occurrence than what it last reported."""
        self._content[place] = 0
        before, self._active[place] = self._active[place], True
        return not before

    def _waiting(self, before: int) -> dict[int, Alarm]:
        found: dict[int, Alarm] = {}
        for place, monitor in enumerate(self.monitors[:before]):
            if not self._active[place] and (finding := monitor.pending()) is not None:
                self._active[place] = True
                found[place] = self._alarm(monitor, finding)
        return found

    def _settle(self, alarms: dict[int, Alarm]) -> list[Alarm]:
        """In order of precedence; where one stops, with what monitors before it were waiting to say."""
        stopping = min((place for place, alarm in alarms.items() if alarm.stops), default=None)
        if stopping is not None:
            alarms = self._waiting(stopping) | alarms
            self.stopped = True
        return [alarms[place] for place in sorted(alarms)]

    def _alarm(self, monitor: Monitor, finding: Finding) -> Alarm:
        return Alarm(
            monitor=monitor.name,
            outcome=finding.outcome or monitor.outcome,
            action=monitor.action,
            detail=finding.detail,
            value=finding.value,
            threshold=finding.threshold,
            atoms=finding.atoms,
            moment=finding.since or self._last,
        )
