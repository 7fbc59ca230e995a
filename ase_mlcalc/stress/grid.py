"""Cells of a structure divided evenly along its lattice vectors, and putting amounts into the divisions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from ase_mlcalc.errors import ConfigError, StructureError
from ase_mlcalc.graph import describe_flat_cell, has_volume
from ase_mlcalc.stress.kinetic import kinetic_stresses

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

TENSOR = tuple(f"{a}{b}" for a in "xyz" for b in "xyz")
"""Components of a stress: first index along the normal of a surface, second along the force on it."""

_OUTSIDE = 1e-9


@dataclass(frozen=True)
class Grid:
    """An even division of the cell, whatever its shape, into bins that are small copies of it.

    A direction of one bin is averaged over.
    """

    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ConfigError(f"a grid has three numbers of bins, each at least 1; got {self.shape}")

    @classmethod
    def along(cls, axis: int, n: int) -> "Grid":
        """A profile: n bins along one cell vector."""
        first, second, third = (n if k == axis else 1 for k in range(3))
        return cls((first, second, third))

    @property
    def n_bins(self) -> int:
        """How many bins there are."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def axis(self) -> int | None:
        """The cell vector that a profile is along; ``None`` where several are divided, or none."""
        divided = [k for k in range(3) if self.shape[k] > 1]
        return divided[0] if len(divided) == 1 else None

    @property
    def fractions(self) -> tuple[Array, Array, Array]:
        """Middles of the bins along the three cell vectors, in units of these."""
        first, second, third = ((np.arange(n) + 0.5) / n for n in self.shape)
        return first, second, third

    def bins_of(self, places: Array, pbc: NDArray[np.bool_]) -> Indices:
        """(M,) number of the bin of each place (M, 3), given in units of bins; periodic images fall together."""
        n = np.array(self.shape)
        whole = np.floor(places).astype(np.int64)
        inside = np.where(pbc, whole % n, np.clip(whole, 0, n - 1))
        return np.ravel_multi_index(tuple(inside.T), self.shape)

    def gather(self, bins: Indices, amounts: Array) -> Array:
        """(n_bins, C) sums of amounts (M, C) over the bins that they belong to."""
        columns = [np.bincount(bins, weights=column, minlength=self.n_bins) for column in amounts.T]
        return np.stack(columns, axis=1)


def require_volume(atoms: Atoms) -> None:
    """Raise `StructureError` where there is no stress for lack of a volume."""
    if not has_volume(atoms):
        raise StructureError(
            f"local stress needs a cell with three independent vectors, {describe_flat_cell(atoms)}; "
            "set atoms.cell (a volume is never invented)"
        )


def fractional(atoms: Atoms, *, enclosed: bool = True) -> Array:
    """(N, 3) positions in units of the cell vectors, not wrapped.

    Raises
    ------
    StructureError
        No volume; with `enclosed`, an atom that sticks out of the cell along an open direction.
    """
    require_volume(atoms)
    places: Array = np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T
    out = ((places < -_OUTSIDE) | (places > 1 + _OUTSIDE)) & ~atoms.pbc
    if enclosed and out.any():
        atom, axis = np.argwhere(out)[0]
        raise StructureError(
            f"atom {atom} is outside the cell along its open direction {'abc'[axis]} (at {places[atom, axis]:.3f} of "
            "the cell vector); make that vector longer and centre the atoms, as atoms.center(vacuum=...) does"
        )
    return places


def kinetic_virials(atoms: Atoms) -> Array:
    """(N, 9) eV, -m v v: the kinetic part of stress times volume; see `kinetic_stresses` for the errors."""
    stresses = voigt_6_to_full_3x3_stress(kinetic_stresses(atoms))
    virials: Array = stresses.reshape(-1, 9) * atoms.get_volume()
    return virials


def chunks(sizes: Indices, largest: int) -> Iterator[slice]:
    """Slices of a list of things of given sizes, each of at most `largest` together (or of one thing)."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + largest, side="right")))
        yield slice(start, stop)
        start = stop
