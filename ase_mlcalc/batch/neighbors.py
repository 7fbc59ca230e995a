"""Neighbour lists of many structures, kept between steps by a Verlet skin as that of one structure is.

For small structures it is the number of calls that costs: here all are looked at together, and only those whose pairs
could have changed are searched anew.
"""

import math
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from ase.geometry import complete_cell
from numpy.typing import NDArray

from ase_mlcalc.errors import StructureError
from ase_mlcalc.graph import OVERLAP_ANGSTROM
from ase_mlcalc.native.select import Searched, Selected, Selector
from ase_mlcalc.neighbors import FIRST_SKIN_ANGSTROM, best_skin, find_pairs

Array = NDArray[np.float64]
CALLS_BETWEEN_TUNING = 64


class Edges(NamedTuple):
    """Pairs within the cutoff of structures that follow one another, and which structures have none to speak of."""

    selected: Selected
    errors: dict[int, StructureError]
    """Structures that cannot be evaluated; those that are not finite have no pairs."""


class BatchNeighbors:
    """Pairs of many structures within a cutoff.

    The pairs of each structure, their order and their vectors are those that `ase_mlcalc.neighbors.NeighborList` gives
    for it alone, to the last bit.

    Parameters
    ----------
    cutoff : float, Å
    sizes : sequence of int
        Numbers of atoms of the B structures, none of which is 0.
    pbc : (B, 3)
        Which directions of each structure are periodic.
    skin : float, Å, or "auto"
        0 searches anew in every call; ``"auto"`` follows how fast atoms move and what a search takes here.
    """

    def __init__(
        self, cutoff: float, sizes: Sequence[int], pbc: NDArray[np.bool_], skin: float | Literal["auto"] = "auto"
    ) -> None:
        self.cutoff, self.tuned = float(cutoff), skin == "auto"
        self.skin = FIRST_SKIN_ANGSTROM if skin == "auto" else float(skin)
        self.first_atom = np.concatenate([[0], np.cumsum(np.asarray(sizes, dtype=np.int64))])
        self.pbc = np.asarray(pbc, dtype=bool)
        self.searches = 0
        """How often the pairs of a structure were searched."""
        n_atoms, n_structures = int(self.first_atom[-1]), len(sizes)
        self._selector = Selector(self.first_atom)
        self._searched = np.zeros(n_structures, dtype=bool)
        self._skins = np.zeros(n_structures)
        self._positions, self._cells = np.zeros((n_atoms, 3)), np.zeros((n_structures, 3, 3))
        """Of the last search of each."""
        self._inverse, self._lattice = np.zeros((n_atoms, 3, 3)), np.zeros((n_atoms, 3, 3))
        """Of the cell of each atom, where it is periodic."""
        self._any_periodic = bool(self.pbc.any())
        self._calls, self._searches, self._search_s, self._select_s = 0, 0, 0.0, math.inf
        """Since the skin was changed: calls, structures searched, what that took, and the shortest selection."""

    def __call__(self, positions: Array, cells: Array, *, shifts: bool = False) -> Edges:
        """Pairs now; without `shifts` these are left out.

        Parameters
        ----------
        positions : (N, 3) Å
        cells : (B, 3, 3) Å
            Rows are lattice vectors.
        shifts : bool
        """
        positions, errors = self._finite(positions)
        due, crossed = self._due(positions, cells)
        begin = time.perf_counter()
        for b in due.tolist():
            if b not in errors:
                self._search(b, positions, cells, errors)
        if crossed is not None:
            for b in due.tolist():
                crossed[self._rows(b)] = 0
        searched = time.perf_counter()
        found = self._selector.within(positions, cells, self.cutoff, crossed, shifts=shifts)
        self._tune(len(due), searched - begin, time.perf_counter() - searched)
        errors |= self._overlaps(found)
        return Edges(found, errors)

    def _rows(self, structure: int) -> slice:
        return slice(int(self.first_atom[structure]), int(self.first_atom[structure + 1]))

    def _finite(self, positions: Array) -> tuple[Array, dict[int, StructureError]]:
        """Positions without NaN and Inf, and which structures have such: they get no pairs."""
        if math.isfinite(np.add.reduce(positions, axis=None)):
            return positions, {}
        errors = {}
        bad_n = np.logical_not(np.isfinite(positions).all(axis=1))
        for b in np.flatnonzero(np.add.reduceat(bad_n, self.first_atom[:-1])).tolist():
            bad = np.flatnonzero(bad_n[self._rows(b)])
            errors[b] = StructureError(
                f"positions of {len(bad)} atoms are NaN or Inf (first: atom {bad[0]}); was MD unstable?"
            )
            self._forget(b)
        return np.where(bad_n[:, None], 0.0, positions), errors

    def _due(self, positions: Array, cells: Array) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Structures whose pairs could have changed, and whole cells (N, 3) by which atoms were wrapped, if any was."""
        displacement, crossed = positions - self._positions, None
        if self._any_periodic:
            whole = np.rint(np.einsum("nc,nca->na", displacement, self._inverse))
            if whole.any():
                displacement -= np.einsum("na,nac->nc", whole, self._lattice)
                crossed = whole.astype(np.int64)
        squares = np.einsum("nc,nc->n", displacement, displacement)
        moved = np.sqrt(np.maximum.reduceat(squares, self.first_atom[:-1]))
        # a pair from outside cutoff + skin is still farther apart than the cutoff
        kept = self._searched & (2.0 * moved <= self._skins) & (cells == self._cells).all(axis=(1, 2))
        if self.skin == 0.0:
            kept[:] = False
        return np.flatnonzero(~kept), crossed

    def _search(self, structure: int, positions: Array, cells: Array, errors: dict[int, StructureError]) -> None:
        rows, pbc, cell = self._rows(structure), self.pbc[structure], cells[structure]
        try:
            pairs = find_pairs(positions[rows], cell, pbc, self.cutoff + self.skin)
        except StructureError as error:
            errors[structure] = error
            self._forget(structure)
            return
        shifts = pairs.shifts if pairs.shifts.any() else None
        self._selector.put(structure, Searched(pairs.centers, pairs.neighbors, shifts))
        self._positions[rows], self._cells[structure] = positions[rows], cell
        if pbc.any():
            lattice = np.where(pbc[:, None], cell, 0.0)
            self._lattice[rows] = lattice
            self._inverse[rows] = np.where(pbc, np.linalg.inv(complete_cell(lattice)), 0.0)
        self._searched[structure], self._skins[structure] = True, self.skin
        self.searches += 1

    def _forget(self, structure: int) -> None:
        self._searched[structure] = False
        self._selector.put(structure, None)

    def _overlaps(self, found: Selected) -> dict[int, StructureError]:
        """Structures with two atoms on one spot."""
        having = np.flatnonzero(found.shortest >= 0)
        nearest = found.vectors[found.shortest[having]]
        near = np.einsum("pc,pc->p", nearest, nearest) < OVERLAP_ANGSTROM**2
        errors = {}
        for b, vector in zip(having[near].tolist(), nearest[near], strict=True):
            p, first = found.shortest[b], self.first_atom[b]
            errors[b] = StructureError(
                f"atoms {found.centers[p] - first} and {found.neighbors[p] - first} are {np.linalg.norm(vector):.1e} Å "
                "apart; remove the duplicate atom (or the doubled periodic image)"
            )
        return errors

    def _tune(self, n_searched: int, search_s: float, select_s: float) -> None:
        """Now and then take the skin that would have cost least."""
        n_structures = len(self._skins)
        if not self.tuned:
            return
        self._calls += 1
        self._searches += n_searched
        self._search_s += search_s
        self._select_s = min(self._select_s, select_s)
        if self._calls < CALLS_BETWEEN_TUNING or self._searches == 0:
            return
        calls = max(1, round(self._calls * n_structures / self._searches))
        of_all_s = self._search_s * n_structures / self._searches
        self.skin = best_skin(self.cutoff, self.skin, calls, of_all_s, self._select_s)
        self._calls, self._searches, self._search_s, self._select_s = 0, 0, 0.0, math.inf
