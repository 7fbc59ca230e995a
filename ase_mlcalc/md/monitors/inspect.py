"""`inspect`: the monitors on the trajectory of any program, after the fact."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator
from ase.calculators.singlepoint import SinglePointCalculator

from ase_mlcalc.errors import DataError
from ase_mlcalc.md.monitors.base import Setting, Snapshot
from ase_mlcalc.md.monitors.config import MonitorsConfig
from ase_mlcalc.md.monitors.make import make_monitors
from ase_mlcalc.md.monitors.watch import Alarm, Watch
from ase_mlcalc.md.velocities import n_rotations

_AT_REST = 1e-6
"""Total momentum squared over the sum of squares, below which it was taken out: rounding in files is smaller."""


@dataclass(frozen=True)
class Inspection:
    """What monitors say about a trajectory."""

    alarms: tuple[Alarm, ...]
    """In the order in which they were found."""
    n_frames: int
    """Frames that were looked at: up to the one on which an alarm stopped the inspection, or all."""
    monitors: tuple[str, ...]
    """Who looked."""

    @property
    def failure(self) -> Alarm | None:
        """Why the trajectory cannot be believed from some frame on, if so: the first alarm that stops."""
        return next((alarm for alarm in self.alarms if alarm.stops), None)

    @property
    def failed_at(self) -> int | None:
        """Index of the frame at which that began."""
        return None if self.failure is None else self.failure.moment.number


def inspect(
    frames: Iterable[Atoms],
    config: MonitorsConfig | None = None,
    *,
    reference: Sequence[Atoms] = (),
    ensemble: Literal["nve", "nvt", "npt"] | None = None,
    frame_interval_fs: float | None = None,
    target_K: float | None = None,
) -> Inspection:
    """Look at a trajectory with the same monitors that watch a run, frame by frame, up to the first that stops.

    What a frame does not have is not judged: temperatures need momenta, jumps need energies, stale calculators forces,
    and waiting, drift and the thermostat need times.

    Parameters
    ----------
    frames : iterable of Atoms
        Read one after the other and not kept, so that a generator over a large file is fine.  The first is the
        structure that bonds, volumes and lattices are compared with.  Energies (eV) and forces are those of the frame's
        calculator, as ASE's readers set it; ``info["time_ps"]`` and ``info["step"]`` are used if there.
    config : MonitorsConfig, optional
        Default: all monitors with their defaults.
    reference : sequence of Atoms
        Frames of a trajectory that is taken for right.
    ensemble : "nve", "nvt" or "npt", optional
        Only in "nve" the total energy is a conserved quantity.
    frame_interval_fs : float, optional
        Time between frames, where frames do not say their own.
    target_K : float, optional
        Temperature of the thermostat.

    Raises
    ------
    DataError
        No frame, or one with other atoms than the first.
    """
    every = iter([frames] if isinstance(frames, Atoms) else frames)
    first = next(every, None)
    if first is None:
        raise DataError("the trajectory has no frames; give at least one")
    n_degrees = _degrees_of_freedom(first)
    start = first.copy()  # whoever hands out frames may use one object for all
    watch = Watch(make_monitors(config or MonitorsConfig(), Setting(start, tuple(reference), ensemble, n_degrees)))
    alarms: list[Alarm] = []
    n_frames = 0
    for number, atoms in enumerate(chain([first], every)):
        if not np.array_equal(atoms.numbers, start.numbers):
            raise DataError(
                f"frame {number} is {atoms.get_chemical_formula()}, the first {start.get_chemical_formula()}, or they "
                "have another order; a trajectory keeps its atoms: inspect each part by itself"
            )
        n_frames = number + 1
        alarms += watch.look(_snapshot(atoms, number, ensemble, frame_interval_fs, target_K, n_degrees))
        if watch.stopped:
            break
    alarms += watch.finish()
    return Inspection(tuple(alarms), n_frames, tuple(monitor.name for monitor in watch.monitors))


def _snapshot(
    atoms: Atoms,
    number: int,
    ensemble: str | None,
    frame_interval_fs: float | None,
    target_K: float | None,
    n_degrees: int,
) -> Snapshot:
    results = _results(atoms)
    energy = results.get("energy")
    kinetic = _kinetic_eV(atoms)
    total = None if energy is None or kinetic is None else float(energy) + kinetic
    time_ps = atoms.info.get("time_ps")
    if time_ps is None and frame_interval_fs is not None:
        time_ps = number * frame_interval_fs / 1000.0
    step = atoms.info.get("step")
    return Snapshot(
        atoms,
        number=number,
        time_ps=None if time_ps is None else float(time_ps),
        step=None if step is None else int(step),
        temperature_K=None if kinetic is None or not n_degrees else 2.0 * kinetic / (n_degrees * units.kB),
        target_K=target_K,
        potential_eV=None if energy is None else float(energy),
        conserved_eV=total if ensemble == "nve" else None,
        forces=_array(results.get("forces")),
        forces_spread=_array(results.get("forces_spread", atoms.arrays.get("forces_spread"))),
    )


def _results(atoms: Atoms) -> dict[str, Any]:
    """What the frame's calculator knows of it; nothing is computed."""
    calculator = atoms.calc
    if isinstance(calculator, SinglePointCalculator):
        return dict(calculator.results)
    if isinstance(calculator, BaseCalculator) and not calculator.check_state(atoms):
        return dict(calculator.results)
    return {}


def _array(values: Any) -> Any:
    return None if values is None else np.asarray(values, dtype=float)


def _kinetic_eV(atoms: Atoms) -> float | None:
    """Kinetic energy, or ``None`` if there are no momenta; a file that has zeros for them has none."""
    momenta = atoms.arrays.get("momenta")
    if momenta is None or not momenta.any():
        return None
    return float(atoms.get_kinetic_energy())


def _degrees_of_freedom(atoms: Atoms) -> int:
    """Independent momenta: 3N less constraints, and less rigid motion where momenta have none of it."""
    n_degrees = int(atoms.get_number_of_degrees_of_freedom())
    momenta = atoms.arrays.get("momenta")
    if momenta is None or atoms.constraints or not np.isfinite(momenta).all():
        return n_degrees
    squares = float((momenta**2).sum())
    if float((momenta.sum(axis=0) ** 2).sum()) > _AT_REST * squares:
        return n_degrees
    n_degrees -= 3
    arms = atoms.positions - atoms.get_center_of_mass()
    turning = np.cross(arms, momenta).sum(axis=0)
    if not atoms.pbc.any() and float((turning**2).sum()) <= _AT_REST * float((arms**2).sum()) * squares:
        n_degrees -= n_rotations(len(atoms))
    return max(n_degrees, 0)
