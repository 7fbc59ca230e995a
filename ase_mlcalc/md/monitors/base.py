"""What a monitor is: it looks at one instant of a trajectory after the other and says when something is wrong.

The same monitors watch a run while it goes on and look at the trajectory of any program afterwards: they are given a
`Snapshot`, and nothing in it depends on where it came from.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.md.monitors.config import Action
from ase_mlcalc.md.monitors.pairs import pairs_within
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.neighbors import Pairs

Array = NDArray[np.float64]
State = dict[str, NDArray[np.generic]]
"""What a monitor remembers, as named arrays of numbers or booleans: what a checkpoint holds."""


class Moment(NamedTuple):
    """When: what is known of it."""

    number: int
    """Of the snapshot."""
    step: int | None = None
    time_ps: float | None = None

    def to_array(self) -> Array:
        """(3,) with NaN for what is not known, for a `State`."""
        return np.array([math.nan if value is None else value for value in self], dtype=float)

    @classmethod
    def from_array(cls, values: NDArray[np.generic]) -> Self:
        """What `to_array` gave."""
        number, step, time_ps = np.asarray(values, dtype=float).tolist()
        return cls(int(number), None if math.isnan(step) else int(step), None if math.isnan(time_ps) else time_ps)


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

    @property
    def moment(self) -> Moment:
        """When this was."""
        return Moment(self.number, self.step, self.time_ps)

    def pairs(self, cutoff: float) -> tuple[Pairs, Array]:
        """Directed pairs closer than a cutoff (Å), periodic images included, and their distances (E,) in Å.

        The search is shared by all monitors that look at this snapshot.
        """
        if self._pairs is None or self._pairs[0] < cutoff:
            self._pairs = (cutoff, *pairs_within(self.atoms, cutoff))
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
    since: Moment | None = None
    """When it began, where a monitor waited before it spoke."""


class Choice(Protocol):
    """What every monitor's configuration has."""

    @property
    def action(self) -> Action:
        """Stop the run, or only note it."""


class Monitor(ABC):
    """Looks for one kind of failure.

    A class has a `name` (that of its table in a configuration) and the usual `outcome` of its findings.  Its
    constructor takes its own configuration and the `Setting`.
    """

    name: ClassVar[str]
    outcome: ClassVar[Outcome]
    cutoff_A: float = 0.0
    """It asks each snapshot for pairs up to this distance; one search at the largest of all monitors serves them."""

    @classmethod
    def suits(cls, config: Any, setting: Setting) -> bool:  # noqa: ARG003
        """Whether ``use = "auto"`` means yes for this structure; `config` is the monitor's own."""
        return True

    def __init__(self, config: Choice) -> None:
        self.action: Action = config.action

    @abstractmethod
    def look(self, snapshot: Snapshot) -> Finding | None:
        """Take in the next snapshot; what is wrong with it, if anything is."""

    def pending(self) -> Finding | None:
        """What was seen but not yet reported, because the monitor waits to see what becomes of it."""
        return None

    def finish(self) -> Finding | None:
        """What can be told only from the run as a whole, after its last snapshot."""
        return None

    def state(self) -> State:
        """What has to be remembered over a restart."""
        return {}

    def restore(self, state: State) -> None:  # noqa: B027  (most remember nothing)
        """Go on from what `state` gave."""
