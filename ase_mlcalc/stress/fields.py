"""Local stress of a trajectory: any way to localise it, averaged over frames, with standard errors."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ase_mlcalc.calculator import definition_of
from ase_mlcalc.errors import ConfigError, DataError, StructureError
from ase_mlcalc.stress.average import BlockMeans, bytes_needed, free_bytes
from ase_mlcalc.stress.binned import Binned
from ase_mlcalc.stress.grid import Grid, require_volume

Array = NDArray[np.float64]


class Localisation(Protocol):
    """A way to say where the stress is: `Planes`, `IrvingKirkwood`, `Hardy` or `Binned`."""

    @property
    def name(self) -> str:
        """``planes``, ``ik``, ``hardy`` or ``bins``."""

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the C components."""

    @property
    def grid(self) -> Grid:
        """Where values belong to."""

    def potential_part(self, calc: Calculator, atoms: Atoms) -> Array:
        """(n_bins, C) eV/Å³."""

    def kinetic_part(self, atoms: Atoms) -> Array:
        """(n_bins, C) eV/Å³; raises `StructureError` without velocities."""


class Parts(NamedTuple):
    """A stress in its parts, means over frames with standard errors; eV/Å³, positive under tension."""

    potential: Array
    kinetic: Array | None
    """``None`` where it was left out."""
    total: Array
    potential_stderr: Array | None
    """Standard errors are ``None`` for a single frame."""
    kinetic_stderr: Array | None
    total_stderr: Array | None


@dataclass(frozen=True)
class StressField:
    """Local stress, or traction on planes, on an even grid."""

    name: str
    """How it was localised: ``planes``, ``ik``, ``hardy`` or ``bins``."""
    components: tuple[str, ...]
    """Nine of a stress, xx xy xz yx ..., with the normal of a surface first and the force on it second; three of the
    traction on planes."""
    grid: Grid
    cell: Array
    """(3, 3) Å, mean over frames."""
    stress: Parts
    """Arrays (n1, n2, n3, C)."""
    normal: Parts | None
    """Of a profile along one cell vector: arrays (n,), the component normal to the planes of the other two."""
    n_frames: int
    n_blocks: int
    """Blocks of frames behind the standard errors, see `BlockMeans`."""
    definition: str | None = None
    """Definition of per-atom stress, where that was binned."""

    @property
    def axis(self) -> int | None:
        """The cell vector that it is a profile along; ``None`` if it is resolved along several."""
        return self.grid.axis

    @property
    def positions(self) -> Array:
        """(n1, n2, n3, 3) Å, middles of the bins in the mean cell."""
        mesh = np.stack(np.meshgrid(*self.grid.fractions, indexing="ij"), axis=-1)
        result: Array = mesh @ self.cell
        return result

    @property
    def heights(self) -> Array:
        """(n,) Å, where the values of a profile are, along the normal of its planes."""
        if self.axis is None:
            raise ConfigError(f"a field of {self.grid.shape} bins is no profile: give it bins along one vector only")
        result: Array = self.grid.fractions[self.axis] / np.linalg.norm(np.linalg.inv(self.cell)[:, self.axis])
        return result


class FieldAverage:
    """The local stress of frames that come one by one; see `local_stress` for the parameters and errors.

    Parameters
    ----------
    kinetic : bool, optional
        Default: if the first frame has velocities.
    """

    def __init__(
        self,
        localisation: Localisation,
        calc: Calculator,
        *,
        kinetic: bool | None = None,
        max_memory_GB: float | None = None,
    ) -> None:
        _refuse_what_does_not_fit(localisation, max_memory_GB)
        self.localisation, self.calc, self.kinetic = localisation, calc, kinetic
        self._parts, self._cells = BlockMeans(), BlockMeans()

    def add(self, atoms: Atoms) -> None:
        """Another frame."""
        require_volume(atoms)
        if self.kinetic is None:
            self.kinetic = atoms.has("momenta")
        parts = [self.localisation.potential_part(self.calc, atoms)]
        if self.kinetic:
            parts.append(self.localisation.kinetic_part(atoms))
        axis = self.localisation.grid.axis
        if axis is not None:
            parts = [np.column_stack([part, _normal_component(part, atoms, axis)]) for part in parts]
        self._parts.add(np.array(parts))
        self._cells.add(atoms.cell.array.copy())

    def result(self) -> StressField:
        """The means so far.

        Raises
        ------
        DataError
            No frames.
        """
        if self._parts.n == 0:
            raise DataError("no structures to average the stress over; give at least one")
        grid, components = self.localisation.grid, self.localisation.components
        every = self._means()
        c = len(components)
        return StressField(
            name=self.localisation.name,
            components=components,
            grid=grid,
            cell=self._cells.mean,
            stress=_each(every, lambda values: values[:, :c].reshape(*grid.shape, c)),
            normal=None if grid.axis is None else _each(every, lambda values: values[:, c]),
            n_frames=self._parts.n,
            n_blocks=self._parts.n_blocks,
            definition=self._definition(),
        )

    def _means(self) -> Parts:
        mean, stderr = self._parts.mean, self._parts.stderr()
        total_stderr = self._parts.stderr(lambda block: block.sum(axis=0))
        return Parts(
            potential=mean[0],
            kinetic=mean[1] if self.kinetic else None,
            total=mean.sum(axis=0),
            potential_stderr=None if stderr is None else stderr[0],
            kinetic_stderr=stderr[1] if self.kinetic and stderr is not None else None,
            total_stderr=total_stderr,
        )

    def _definition(self) -> str | None:
        return definition_of(self.calc) if isinstance(self.localisation, Binned) else None


def local_stress(
    localisation: Localisation,
    calc: Calculator,
    frames: Iterable[Atoms] | Atoms,
    *,
    kinetic: bool | None = None,
    max_memory_GB: float | None = None,
) -> StressField:
    """The local stress of a structure or of a trajectory.

    Parameters
    ----------
    localisation : Planes, IrvingKirkwood, Hardy or Binned
    calc : ase.calculators.calculator.Calculator
        An `MLCalculator`; for `Binned`, any calculator whose ``stresses`` sum to the stress.
    frames : ase.Atoms, or an iterable of them
        Taken one by one, so that it may be a generator.  Calculators attached to them are not used.
    kinetic : bool, optional
        With the kinetic part, which takes velocities as they are: take a flow out before.  Default: if the first frame
        has velocities.
    max_memory_GB : float, optional
        What the averages may take; default: three quarters of the free memory.

    Returns
    -------
    StressField

    Raises
    ------
    DataError
        No frames.
    StructureError
        No cell, a cell of rank below 3 or without volume; no velocities where the kinetic part is asked for; atoms
        outside the cell along an open direction (not for planes).  The message names the frame.
    ConfigError
        A grid that does not fit into memory; a calculator that cannot give what is needed.
    """
    average = FieldAverage(localisation, calc, kinetic=kinetic, max_memory_GB=max_memory_GB)
    for k, atoms in enumerate([frames] if isinstance(frames, Atoms) else frames):
        try:
            average.add(atoms)
        except StructureError as error:
            raise StructureError(f"frame {k}: {error}") from error
    return average.result()


def _normal_component(part: Array, atoms: Atoms, axis: int) -> Array:
    """(n,) t·n of tractions (n, 3), n·σ·n of stresses (n, 9)."""
    reciprocal = np.linalg.inv(atoms.cell.array)[:, axis]
    normal = reciprocal / np.linalg.norm(reciprocal)
    result: Array = part @ (normal if part.shape[1] == 3 else np.outer(normal, normal).ravel())
    return result


def _each(parts: Parts, change: Callable[[Array], Array]) -> Parts:
    return Parts(*(None if values is None else change(values) for values in parts))  # type: ignore[arg-type]


def _refuse_what_does_not_fit(localisation: Localisation, max_memory_GB: float | None) -> None:
    """Before any array is made."""
    if max_memory_GB is not None and not max_memory_GB > 0:
        raise ConfigError(f"the memory for a field is a positive number of GB, got {max_memory_GB}")
    grid = localisation.grid
    needed = bytes_needed(2 * grid.n_bins * (len(localisation.components) + 1))
    allowed = 0.75 * free_bytes() if max_memory_GB is None else 1e9 * max_memory_GB
    if needed > allowed:
        shape = "x".join(str(n) for n in grid.shape)
        fitting = int(grid.n_bins * allowed / needed)
        remedy = f"take at most {fitting} bins in all" if fitting > 1 else "allow more memory"
        raise ConfigError(
            f"a grid of {shape} = {grid.n_bins} bins takes {needed / 1e9:.3g} GB with its averages and errors, and "
            f"{allowed / 1e9:.3g} GB may be used; {remedy}"
        )
