"""Neighbour lists: a search in cells, kept between steps by an exact Verlet skin.

The search is `ase_mlcalc.native.pairs` where it can be compiled, and matscipy's otherwise; the pairs and their order
are the same.
"""

import math
import time
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from ase.geometry import complete_cell
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

from ase_mlcalc.errors import StructureError
from ase_mlcalc.native import pairs as native

MOST_CELLS = 2**29
"""Between an atom and the cell; differences of two such numbers, the shifts of pairs, fit into 32 bits."""


class Pairs(NamedTuple):
    """Directed pairs (i, j, S), both directions present; ``r_ij = r_j + S @ cell - r_i``.

    Sorted by i, j and S: sums over neighbours come out the same, bit by bit, whatever the skin and the last search.
    """

    centers: NDArray[np.int64]
    """(E,) index i."""
    neighbors: NDArray[np.int64]
    """(E,) index j."""
    shifts: NDArray[np.int64]
    """(E, 3) S, whole cells crossed."""

    def vectors(self, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> NDArray[np.float64]:
        """(E, 3) Å, r_ij in float64."""
        return positions[self.neighbors] - positions[self.centers] + self.shifts @ cell


class Selection(NamedTuple):
    """The pairs within a cutoff at some positions."""

    pairs: Pairs
    vectors: NDArray[np.float64]
    """(E, 3) Å, r_ij."""
    shortest: int
    """Number of the shortest pair; -1 if there is none."""


class _Candidates(Protocol):
    """Pairs within some distance when they were searched, from which those within the cutoff are taken."""

    def within(
        self,
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        cutoff: float,
        crossed: NDArray[np.int64] | None,
        *,
        shifts: bool,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.float64], int]:
        """See `native.pairs.Candidates.within`."""


def find_pairs(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> Pairs:
    """All pairs closer than the cutoff, for any cell size and any mix of periodic and open directions.

    Parameters
    ----------
    positions : (N, 3) Å
    cell : (3, 3) Å
        Rows are lattice vectors; rows of open directions are ignored and may be zero.
    pbc : (3,)
    cutoff : float, Å

    Raises
    ------
    StructureError
        No atoms, positions that are not finite, or a periodic direction without a lattice vector.
    """
    candidates = _search(positions, cell, pbc, float(cutoff))
    return _select(candidates, positions, cell, float(cutoff)).pairs


class OpenPairs:
    """Pairs in open space whose centres are the first atoms, searched once and selected while atoms move.

    Parameters
    ----------
    positions : (N, 3) Å
    n_centers : int
        Atoms behind these are neighbours only.
    cutoff : float, Å
    skin : float, Å
    """

    def __init__(self, positions: NDArray[np.float64], n_centers: int, cutoff: float, skin: float) -> None:
        self.cutoff, self.skin = float(cutoff), float(skin)
        self._reference = positions.copy()
        self._cell = np.zeros((3, 3))
        self._candidates: _Candidates | None = None
        if n_centers > 0:
            pbc = np.zeros(3, dtype=bool)
            self._candidates = _search(positions, self._cell, pbc, self.cutoff + self.skin, n_centers)

    def __call__(self, positions: NDArray[np.float64]) -> Selection | None:
        """Pairs within the cutoff without shifts, or ``None`` if atoms moved so far that others may be there, too."""
        if self._candidates is None:
            none = np.empty(0, dtype=np.int64)
            return Selection(Pairs(none, none, np.empty((0, 3), dtype=np.int64)), np.empty((0, 3)), -1)
        if not 2 * _longest(positions - self._reference) <= self.skin:  # NaN comes here, too
            return None
        return _select(self._candidates, positions, self._cell, self.cutoff, shifts=False)


def _search(
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    pbc: NDArray[np.bool_],
    cutoff: float,
    n_centers: int | None = None,
) -> _Candidates:
    if len(positions) == 0:
        raise StructureError("the structure has no atoms; give at least one")
    if not np.isfinite(positions).all():
        bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
        raise StructureError(f"positions of {len(bad)} atoms are NaN or Inf (first: atom {bad[0]}); was MD unstable?")
    if not np.isfinite(cell).all():
        raise StructureError(f"the cell holds NaN or Inf: {cell.tolist()}")
    box, inside = _closed_box(positions, cell, pbc, cutoff)
    cells = np.abs(inside @ np.linalg.inv(box)).max()
    if not cells < MOST_CELLS:
        raise StructureError(f"an atom lies {cells:.1e} cells away from the cell; wrap the atoms, or was MD unstable?")
    wide = cutoff + 1e-9  # what lies at the cutoff is in or out by its vector as `Pairs.vectors` has it
    return (native.Candidates if native.available() else _ByMatscipy)(inside, box, pbc, wide, n_centers)


def _select(
    candidates: _Candidates,
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    cutoff: float,
    crossed: NDArray[np.int64] | None = None,
    *,
    shifts: bool = True,
) -> Selection:
    i, j, whole, vectors, shortest = candidates.within(positions, cell, cutoff, crossed, shifts=shifts)
    return Selection(Pairs(i, j, np.empty((0, 3), dtype=np.int64) if whole is None else whole), vectors, shortest)


class _ByMatscipy:
    """`native.pairs.Candidates` where there is no compiler."""

    def __init__(
        self,
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        pbc: NDArray[np.bool_],
        cutoff: float,
        n_centers: int | None = None,
    ) -> None:
        i, j, shifts = neighbour_list("ijS", cutoff=cutoff, positions=positions, cell=cell, pbc=pbc)
        order = np.lexsort((*shifts.T[::-1], j, i))
        if n_centers is not None:
            order = order[i[order] < n_centers]
        self._pairs = Pairs(*(field[order].astype(np.int64) for field in (i, j, shifts)))

    def within(
        self,
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        cutoff: float,
        crossed: NDArray[np.int64] | None,
        *,
        shifts: bool,  # noqa: ARG002  (they are there)
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.float64], int]:
        """See there."""
        pairs = self._pairs
        if crossed is not None:
            pairs = pairs._replace(shifts=pairs.shifts + crossed[pairs.centers] - crossed[pairs.neighbors])
        vectors = pairs.vectors(positions, cell)
        squares = np.einsum("pc,pc->p", vectors, vectors)
        inside = squares < cutoff**2
        i, j, whole = (field[inside] for field in pairs)
        return i, j, whole, vectors[inside], int(squares[inside].argmin()) if inside.any() else -1


def cell_volume(cell: NDArray[np.float64]) -> float:
    """Å³ that three vectors span; for one cell some ten times as fast as numpy's determinant."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = cell.tolist()
    volume: float = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    return abs(volume)


def _closed_box(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A box (3, 3) that is tight in open directions, and positions (N, 3) in it with the same pairs.

    matscipy needs a regular cell, and divides it into a grid: time and memory grow with its volume.
    """
    if pbc.all():
        if cell_volume(cell) < 1e-12:
            raise StructureError(
                f"a fully periodic structure needs three independent cell vectors, got {cell.tolist()}"
            )
        return cell, positions
    if np.linalg.matrix_rank(cell[pbc]) < pbc.sum():
        raise StructureError(f"pbc is {pbc.tolist()} but the cell vectors of these directions are {cell[pbc].tolist()}")
    # complete_cell fills zero rows with vectors normal to the others, so that open directions get unit normals
    box = complete_cell(np.where(pbc[:, None], cell, 0.0))
    fractional = positions @ np.linalg.inv(box)
    for axis in np.flatnonzero(~pbc):
        fractional[:, axis] = _without_gaps(fractional[:, axis], 1.1 * cutoff)
    low, high = fractional.min(axis=0), fractional.max(axis=0)
    margin_angstrom = 0.5
    stretch = np.where(pbc, 1.0, (high - low) + 2 * margin_angstrom)
    origin = np.where(pbc, 0.0, low - margin_angstrom)
    return box * stretch[:, None], (fractional - origin) @ box


def _without_gaps(heights: NDArray[np.float64], widest: float) -> NDArray[np.float64]:
    """Move fragments together along one open direction until no gap is wider than `widest`, Å.

    Atoms on two sides of a gap wider than the cutoff are no pair before or after, so the pairs stay; without this,
    one atom that evaporates from a cluster would make the box, and the search, grow with the cube of its distance.
    """
    order = np.argsort(heights, kind="stable")
    surplus = np.maximum(np.diff(heights[order]) - widest, 0.0)
    if not surplus.any():
        return heights
    closer = heights.copy()
    closer[order[1:]] -= np.cumsum(surplus)
    return closer


FIRST_SKIN_ANGSTROM, LARGEST_SKIN_ANGSTROM = 0.5, 2.0


def best_skin(cutoff: float, skin: float, calls: int, search_s: float, select_s: float) -> float:
    """The skin in Å that costs least, judged by what the last one did.

    Parameters
    ----------
    cutoff, skin : float, Å
        The skin lasted for `calls` calls, so that the next one lasts in proportion to its width.
    calls : int
    search_s, select_s : float, s
        What the search and each selection took with it; both grow with the volume within cutoff and skin.
    """
    wider = skin * np.geomspace(0.5, 2.0, 41)  # no further at once: one interval is one sample
    wider = wider[wider <= LARGEST_SKIN_ANGSTROM]
    volume = ((cutoff + wider) / (cutoff + skin)) ** 3
    cost = volume * (select_s + search_s / np.maximum(calls * wider / skin, 1.0))
    return float(wider[cost.argmin()]) if len(wider) else LARGEST_SKIN_ANGSTROM


class NeighborList:
    """Pairs within a cutoff, rebuilt only when they could have changed.

    Pairs are searched within ``cutoff + skin`` and kept while no pair from outside can have come closer than the
    cutoff.  With A the affine map from the old cell to the new one, s its smallest singular value and u the largest
    distance of an atom from its affinely mapped old position (nearest image), a pair that was outside is still
    farther apart than ``s (cutoff + skin) - 2 u``; the kept list is exact while that is at least the cutoff.  Atoms
    that were wrapped into the cell between calls only have their shifts corrected.

    Parameters
    ----------
    cutoff : float, Å
    skin : float, Å, or "auto"
        0 searches anew in every call; ``"auto"`` begins with 0.5 Å and follows how fast atoms move and how long a
        search and a selection take here.  Results do not depend on it, to the last bit.
    """

    def __init__(self, cutoff: float, skin: float | Literal["auto"] = 0.0) -> None:
        if skin != "auto" and not 0 <= skin < np.inf:
            raise ValueError(f"skin must be a number of at least 0 Å, got {skin}")
        self.cutoff = float(cutoff)
        self.tuned = skin == "auto"
        self.skin = FIRST_SKIN_ANGSTROM if skin == "auto" else float(skin)
        self.builds = 0
        """How often the pairs were searched anew."""
        self._reference: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]] | None = None
        """Positions, cell and boundaries of the last search."""
        self._crossed: NDArray[np.int64] | None = None
        """Whole cells (N, 3) that each atom was wrapped by since then; ``None`` if none was."""
        self._candidates: _Candidates | None = None
        self._calls, self._search_s, self._select_s = 0, 0.0, 0.0
        """Since the last search: how many, how long it took, and the shortest selection."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_candidates": None}  # a copy searches anew

    def __call__(
        self,
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        pbc: NDArray[np.bool_],
        *,
        shifts: bool = True,
    ) -> Selection:
        """Pairs within the cutoff and their vectors; without `shifts` these are left empty, which takes less time."""
        crossed = None
        if self._candidates is None or self.skin == 0.0 or not self._still_valid(positions, cell, pbc):
            self._search(positions, cell, pbc)
        else:
            crossed = self._crossed
        assert self._candidates is not None
        begin = time.perf_counter()
        chosen = _select(self._candidates, positions, cell, self.cutoff, crossed, shifts=shifts)
        self._calls += 1
        self._select_s = min(self._select_s, time.perf_counter() - begin)
        return chosen

    def _search(self, positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> None:
        if self.tuned and self._calls > 1:
            self.skin = best_skin(self.cutoff, self.skin, self._calls, self._search_s, self._select_s)
        begin = time.perf_counter()
        self._candidates = _search(positions, cell, pbc, self.cutoff + self.skin)
        self._calls, self._search_s, self._select_s = 0, time.perf_counter() - begin, math.inf
        self._reference = (positions.copy(), cell.copy(), pbc.copy())
        self.builds += 1

    def _still_valid(self, positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> bool:
        """Whether no other pair can be within the cutoff; notes by how many whole cells atoms were moved since."""
        if self._reference is None:
            return False
        old_positions, old_cell, old_pbc = self._reference
        if positions.shape != old_positions.shape or pbc.tobytes() != old_pbc.tobytes():
            return False
        smallest_stretch = 1.0
        mapped = old_positions
        if cell.tobytes() != old_cell.tobytes():
            if not np.isfinite(cell).all() or min(cell_volume(cell), cell_volume(old_cell)) < 1e-12:
                return False
            affine = np.linalg.solve(old_cell, cell)
            smallest_stretch = float(np.linalg.svd(affine, compute_uv=False).min())
            mapped = old_positions @ affine
        displacement = positions - mapped
        self._crossed = None
        moved = _longest(displacement)
        if not math.isfinite(moved):
            return False  # the search says what is wrong
        if moved > self.skin and pbc.any():  # maybe into another image of the cell
            box = complete_cell(np.where(pbc[:, None], cell, 0.0))
            self._crossed = np.where(pbc, np.rint(displacement @ np.linalg.inv(box)), 0.0).astype(np.int64)
            moved = _longest(displacement - self._crossed @ np.where(pbc[:, None], cell, 0.0))
        return smallest_stretch * (self.cutoff + self.skin) - 2 * moved >= self.cutoff


def _longest(vectors: NDArray[np.float64]) -> float:
    return math.sqrt(np.einsum("nc,nc->n", vectors, vectors).max())
