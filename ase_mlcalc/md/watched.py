"""The monitors of a run that is at work: what they are shown, and what they find as events of the run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.ensemble_calculator import EnsembleCalculator
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.monitors import Alarm, Setting, Snapshot, Watch, make_monitors
from ase_mlcalc.md.result import Event
from ase_mlcalc.md.thermo import quantity

State = dict[str, NDArray[Any]]


class WatchedRun:
    """Shows the monitors of a configuration a structure that moves.

    Parameters
    ----------
    atoms : ase.Atoms
        In its starting state.
    config : MDConfig
    degrees_of_freedom : int
    reference : sequence of ase.Atoms
        Frames of a trajectory that is taken for right; may be empty.
    """

    def __init__(
        self, atoms: Atoms, config: MDConfig, degrees_of_freedom: int, reference: Sequence[Atoms] = ()
    ) -> None:
        self._atoms, self._config = atoms, config
        self._every = config.steps_between(config.monitors_every_fs) if config.monitors_every_fs else 0
        setting = Setting(atoms.copy(), reference, config.ensemble, degrees_of_freedom)
        self._watch = Watch(make_monitors(config.monitors, setting) if self._every else [])
        self.events: list[Event] = []

    @property
    def intervals(self) -> tuple[int, ...]:
        """Steps between two looks; empty without monitors."""
        return (self._every,) if self._every else ()

    def is_due(self, step: int) -> bool:
        """Whether the monitors look at a step."""
        return self._every > 0 and step % self._every == 0

    def look(self, step: int, temperature_K: float | None, conserved_eV: float | None) -> Event | None:
        """Show the present state, evaluated; the event that ends the run, if one does."""
        atoms = self._atoms
        potential = quantity(atoms, "energy")
        snapshot = Snapshot(
            atoms,
            number=step // self._every,
            step=step,
            time_ps=self._time_ps(step),
            temperature_K=temperature_K,
            target_K=self._config.target_K(step),
            potential_eV=None if potential is None else float(potential),
            conserved_eV=conserved_eV,
            forces=atoms.get_forces(),
            forces_spread=_spread_of_forces(atoms),
        )
        return self._noted(self._watch.look(snapshot), step)

    def last_look(self, step: int) -> Event | None:
        """Show the positions on which a run failed for another reason, without results; why it did, if that tells."""
        if not self._every or not np.isfinite(self._atoms.positions).all():
            return self._noted(self._watch.pending(), step)
        snapshot = Snapshot(self._atoms, number=step // self._every + 1, step=step, time_ps=self._time_ps(step))
        return self._noted(self._watch.look(snapshot), step) or self._noted(self._watch.pending(), step)

    def finish(self, step: int) -> Event | None:
        """What is told after the last step."""
        return self._noted(self._watch.finish(), step)

    def state(self) -> State:
        """For a checkpoint."""
        events = "\n".join(event.model_dump_json() for event in self.events)
        return self._watch.state() | {"events": np.frombuffer(events.encode(), dtype=np.uint8)}

    def restore(self, state: State) -> None:
        """Go on from a checkpoint."""
        events = state["events"].tobytes().decode()
        self.events = [Event.model_validate_json(line) for line in events.splitlines()]
        self._watch.restore({name: value for name, value in state.items() if name != "events"})

    def _noted(self, alarms: Sequence[Alarm], step: int) -> Event | None:
        new = []
        for alarm in alarms:
            found_at = step if alarm.moment.step is None else alarm.moment.step
            new.append(
                Event(
                    monitor=alarm.monitor,
                    outcome=alarm.outcome,
                    step=found_at,
                    time_ps=self._time_ps(found_at),
                    detail=alarm.detail,
                    value=alarm.value,
                    threshold=alarm.threshold,
                    atoms=alarm.atoms,
                    stops=alarm.stops,
                )
            )
        self.events += new
        return next((event for event in new if event.stops), None)

    def _time_ps(self, step: int) -> float:
        return step * self._config.timestep_fs / 1000.0


def _spread_of_forces(atoms: Atoms) -> NDArray[np.float64] | None:
    """(N,) eV/Å, how far the members of an ensemble are apart, calibrated where that was measured."""
    calculator = atoms.calc
    if not isinstance(calculator, MLCalculator | EnsembleCalculator):
        return None
    spread = calculator.extras.get("forces_uncertainty", calculator.extras.get("forces_spread"))
    return None if spread is None else np.asarray(spread)
