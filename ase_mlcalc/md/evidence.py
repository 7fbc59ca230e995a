"""The structures around a failure, ready to be labelled."""

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write
from numpy.typing import NDArray

from ase_mlcalc.files import atomic_path

Array = NDArray[np.float64]
State = dict[str, NDArray[Any]]

N_RECENT = 8


class RecentStates:
    """The last few structures that were looked at, and the last one in which everything was finite."""

    def __init__(self, atoms: Atoms, state: State | None = None) -> None:
        self._atoms = atoms
        self._states: deque[tuple[int, Array, Array, Array]] = deque(maxlen=N_RECENT)
        if state:
            columns = (state[name] for name in ("step", "positions", "momenta", "cell"))
            self._states.extend((int(k), r.copy(), p.copy(), h.copy()) for k, r, p, h in zip(*columns, strict=True))

    def remember(self, step: int) -> None:
        """Keep a copy of the present state."""
        atoms = self._atoms
        self._states.append((step, atoms.positions.copy(), atoms.get_momenta(), np.array(atoms.cell)))

    def state(self) -> State:
        """For a checkpoint."""
        if not self._states:
            return {}
        columns = zip(*self._states, strict=True)
        return dict(zip(("step", "positions", "momenta", "cell"), (np.array(each) for each in columns), strict=True))

    def write(self, path: Path, timestep_fs: float, failed_step: int, why: str) -> None:
        """Write the structures before a failure, and last the one that failed, as it is now, if it is finite.

        Without energies and forces: those of the potential are what is in doubt.  ``info`` has ``step``, ``time_ps``
        and on the last one ``failure``.
        """
        frames = [self._frame(*state, timestep_fs) for state in self._states if state[0] != failed_step]
        atoms = self._atoms
        if np.isfinite(atoms.positions).all() and np.isfinite(np.asarray(atoms.cell)).all():
            now = (atoms.positions, atoms.get_momenta(), np.asarray(atoms.cell))
            failed = self._frame(failed_step, *now, timestep_fs)
            frames.append(failed)
        if frames:
            frames[-1].info["failure"] = why
            with atomic_path(path) as new:
                write(new, frames, format="extxyz")

    def _frame(self, step: int, positions: Array, momenta: Array, cell: Array, timestep_fs: float) -> Atoms:
        frame = self._atoms.copy()
        frame.set_constraint()
        frame.set_cell(cell)
        frame.positions = positions
        frame.set_momenta(np.where(np.isfinite(momenta), momenta, 0.0))
        frame.info = {"step": step, "time_ps": step * timestep_fs / 1000.0}
        return frame
