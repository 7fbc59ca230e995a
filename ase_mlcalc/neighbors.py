"""Neighbour lists: a search in cells, kept between steps by an exact Verlet skin.

The search is `ase_mlcalc.native.pairs` where it can be compiled, and matscipy's otherwise; the pairs and their order
are the same.
"""

import math
import time
from typing import Literal, NamedTuple

import numpy as np
from ase.geometry import complete_cell
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

from ase_mlcalc.errors import StructureError
from ase_mlcalc.native import pairs as native


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
    if len(positions) == 0:
        raise StructureError("the structure has no atoms; give at least one")
    if not np.isfinite(positions).all():
        bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
        raise StructureError(f"positions of {len(bad)} atoms are NaN or Inf (first: atom {bad[0]}); was MD unstable?")
    if not np.isfinite(cell).all():
        raise StructureError(f"the cell holds NaN or Inf: {cell.tolist()}")
    box, inside = _closed_box(positions, cell, pbc, cutoff)
    wide = float(cutoff) + 1e-9  # what lies at the cutoff is in or out by its vector as `Pairs.vectors` has it
    if native.available():
        pairs = Pairs(*native.search(inside, box, pbc, wide))
    else:
        i, j, shifts = neighbour_list("ijS", cutoff=wide, positions=inside, cell=box, pbc=pbc)
        order = np.lexsort((*shifts.T[::-1], j, i))
        pairs = Pairs(*(field[order].astype(np.int64) for field in (i, j, shifts)))
    return pairs_within(pairs, positions, cell, float(cutoff))[0]


def pairs_within(
    pairs: Pairs, positions: NDArray[np.float64], cell: NDArray[np.float64], cutoff: float
) -> tuple[Pairs, NDArray[np.float64]]:
    """Those of the pairs that are closer than the cutoff at these positions, and their vectors (E, 3) in Å."""
    if native.available():
        chosen, vectors = native.within(pairs, positions, cell, cutoff)
        return Pairs(*chosen), vectors
    vectors = pairs.vectors(positions, cell)
    inside = np.einsum("pc,pc->p", vectors, vectors) < cutoff**2
    return Pairs(*(field[inside] for field in pairs)), vectors[inside]


def _closed_box(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A box (3, 3) that is tight in open directions, and positions (N, 3) in it with the same pairs.

    matscipy needs a regular cell, and divides it into a grid: time and memory grow with its volume.
    """
    if pbc.all():
        if abs(np.linalg.det(cell)) < 1e-12:
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
        if skin != "auto" and skin < 0:
            raise ValueError(f"skin must be at least 0 Å, got {skin}")
        self.cutoff = float(cutoff)
        self.tuned = skin == "auto"
        self.skin = FIRST_SKIN_ANGSTROM if skin == "auto" else float(skin)
        self.builds = 0
        """How often the pairs were searched anew."""
        self._reference: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]] | None = None
        self._wide: Pairs | None = None
        self._calls, self._search_s, self._select_s = 0, 0.0, 0.0
        """Since the last search: how many, how long it took, and the shortest selection."""

    def __call__(
        self, positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]
    ) -> tuple[Pairs, NDArray[np.float64]]:
        """Pairs within the cutoff and their vectors (E, 3) in Å."""
        if self.skin == 0.0:
            self.builds += 1
            pairs = find_pairs(positions, cell, pbc, self.cutoff)
            return pairs, pairs.vectors(positions, cell)
        crossed = self._still_valid(positions, cell, pbc)
        if crossed is None:
            if self.tuned and self._calls > 1:
                self.skin = best_skin(self.cutoff, self.skin, self._calls, self._search_s, self._select_s)
            begin = time.perf_counter()
            self._wide = find_pairs(positions, cell, pbc, self.cutoff + self.skin)
            self._calls, self._search_s, self._select_s = 0, time.perf_counter() - begin, math.inf
            self._reference = (positions.copy(), cell.copy(), pbc.copy())
            self.builds += 1
            wide = self._wide
        else:
            assert self._wide is not None
            wide = self._wide
            if crossed.any():
                wide = wide._replace(shifts=wide.shifts + crossed[wide.centers] - crossed[wide.neighbors])
        begin = time.perf_counter()
        chosen = pairs_within(wide, positions, cell, self.cutoff)
        self._calls += 1
        self._select_s = min(self._select_s, time.perf_counter() - begin)
        return chosen

    def _still_valid(
        self, positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]
    ) -> NDArray[np.int64] | None:
        """Whole cells (N, 3) that each atom was wrapped by since the search, or ``None`` if a new one is due."""
        if self._reference is None or not (np.isfinite(positions).all() and np.isfinite(cell).all()):
            return None  # the search says what is wrong
        old_positions, old_cell, old_pbc = self._reference
        if positions.shape != old_positions.shape or (pbc != old_pbc).any():
            return None
        smallest_stretch = 1.0
        mapped = old_positions
        if (cell != old_cell).any():
            if abs(np.linalg.det(cell)) < 1e-12 or abs(np.linalg.det(old_cell)) < 1e-12:
                return None
            affine = np.linalg.solve(old_cell, cell)
            smallest_stretch = float(np.linalg.svd(affine, compute_uv=False).min())
            mapped = old_positions @ affine
        displacement = positions - mapped
        crossed = np.zeros(positions.shape, dtype=np.int64)
        if pbc.any() and abs(displacement).max() > self.skin:
            box = complete_cell(np.where(pbc[:, None], cell, 0.0))
            crossed = np.where(pbc, np.rint(displacement @ np.linalg.inv(box)), 0.0).astype(np.int64)
            displacement = displacement - crossed @ np.where(pbc[:, None], cell, 0.0)
        moved = float(np.sqrt(np.einsum("nc,nc->n", displacement, displacement).max()))
        if smallest_stretch * (self.cutoff + self.skin) - 2 * moved < self.cutoff:
            return None
        return crossed
