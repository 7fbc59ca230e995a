"""What a monitor is: it looks at one instant of a trajectory after the other and says when something is wrong.

The same monitors watch a run while it goes on and look at the trajectory of any program afterwards: they are given a
`Snapshot`, and nothing in it depends on where it came from.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.neighbors import Pairs, find_pairs

Array = NDArray[np.float64]
State = dict[str, NDArray[np.generic]]
"""What a monitor remembers, as named arrays of numbers or booleans: what a checkpoint holds."""


class Snapshot:
    """One instant of a trajectory as monitors see it; ``None`` where something is not known.

    Parameters
    ----------
    atoms : ase.Atoms
        Positions in Å, cell, periodic directions, elements and, where known, momenta.  Not changed, and not kept by
        whoever made the snapshot: a monitor that remembers positions copies them.
    number : int
        Of the snapshot, counted from 0 at the start of the trajectory.
    time_ps : float, optional
        Since the start of the trajectory.
    step : int, optional
        Of the integrator.
    temperature_K : float, optional
        From the kinetic energy and the degrees of freedom that the run has.
    target_K : float, optional
        Temperature of the thermostat now.
    potential_eV : float, optional
    conserved_eV : float, optional
        What the equations of motion conserve: the total energy at constant energy, and with a thermostat or a
        barostat its own conserved quantity, where it has one.
    forces : (N, 3) eV/Å, optional
    forces_spread : (N,) eV/Å, optional
        How far the members of an ensemble are apart.
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        number: int,
        time_ps: float | None = None,
        step: int | None = None,
        temperature_K: float | None = None,
        target_K: float | None = None,
        potential_eV: float | None = None,
        conserved_eV: float | None = None,
        forces: Array | None = None,
        forces_spread: Array | None = None,
    ) -> None:
        self.atoms = atoms
        self.number = number
        self.time_ps = time_ps
        self.step = step
        self.temperature_K = temperature_K
        self.target_K = target_K
        self.potential_eV = potential_eV
        self.conserved_eV = conserved_eV
        self.forces = forces
        self.forces_spread = forces_spread
        self._pairs: tuple[float, Pairs, Array] | None = None

    def pairs(self, cutoff: float) -> tuple[Pairs, Array]:
        """Directed pairs closer than a cutoff (Å), periodic images included, and their distances (E,) in Å.

        The search is shared by all monitors that look at this snapshot.
        """
        if self._pairs is None or self._pairs[0] < cutoff:
            atoms = self.atoms
            cell = np.asarray(atoms.cell)
            found = find_pairs(atoms.positions, cell, atoms.pbc, cutoff)
            self._pairs = (cutoff, found, np.linalg.norm(found.vectors(atoms.positions, cell), axis=1))
        wide, pairs, distances = self._pairs
        if wide == cutoff:
            return pairs, distances
        near = distances < cutoff
        return Pairs(*(column[near] for column in pairs)), distances[near]


@dataclass(frozen=True)
class Setting:
    """What monitors are told about a run before it starts."""

    start: Atoms
    """The first structure."""
    reference: Sequence[Atoms] = field(default=())
    """Frames of a trajectory that is taken for right; may be empty."""
    ensemble: Literal["nve", "nvt", "npt"] | None = None
    degrees_of_freedom: int | None = None


@dataclass(frozen=True)
class Finding:
    """Something wrong, in words and as a number beside the threshold that it passed."""

    detail: str
    """What exactly, with atoms by index and element, numbers and units: "O3-H7 is 1.53 Å, its reference 0.97 Å"."""
    value: float | None = None
    threshold: float | None = None
    outcome: Outcome | None = None
    """Where it is not the monitor's usual one."""
    atoms: tuple[int, ...] = ()
    """Indices of the atoms that it is about, for pictures."""


class Monitor(ABC):
    """Looks for one kind of failure.

    A class has a `name` (that of its table in a configuration) and the usual `outcome` of its findings.  Its
    constructor takes its own configuration and the `Setting`.
    """

    name: ClassVar[str]
    outcome: ClassVar[Outcome]

    @abstractmethod
    def look(self, snapshot: Snapshot) -> Finding | None:
        """Take in the next snapshot; what is wrong with it, if anything is."""

    def finish(self) -> Finding | None:
        """What can be told only from the run as a whole, after its last snapshot."""
        return None

    def state(self) -> State:
        """What has to be remembered over a restart."""
        return {}

    def restore(self, state: State) -> None:  # noqa: B027  (most remember nothing)
        """Go on from what `state` gave."""
