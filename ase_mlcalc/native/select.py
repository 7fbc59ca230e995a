"""`select.cpp` for numpy, and the same in numpy where it cannot be compiled."""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ase_mlcalc.native.build import NoCompilerError, library

Counts = NDArray[np.int64]


class Searched(NamedTuple):
    """Pairs of one structure within more than the cutoff, sorted; indices from its first atom on."""

    centers: Counts
    """(E,)"""
    neighbors: Counts
    """(E,)"""
    shifts: Counts | None
    """(E, 3) whole cells crossed; ``None`` if no pair crosses any."""


class Selected(NamedTuple):
    """Pairs of several structures within the cutoff; indices from the first atom of all on."""

    centers: Counts
    """(E,)"""
    neighbors: Counts
    """(E,)"""
    shifts: Counts | None
    """(E, 3), if they were asked for."""
    vectors: NDArray[np.float64]
    """(E, 3) Å"""
    found: Counts
    """(B,) how many pairs each structure has."""
    shortest: Counts
    """(B,) which of all pairs is the shortest one of each structure; -1 if it has none."""


@cache
def _library() -> ctypes.CDLL | None:
    try:
        lib = library("select.cpp", {})
    except NoCompilerError:
        return None
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    lib.select_within.argtypes = [count, *[pointer] * 3, ctypes.c_double, *[pointer] * 11]
    lib.select_within.restype = count
    return lib


class Selector:
    """Candidates of structures that follow one another, each searched at another time.

    Parameters
    ----------
    first_atom : (B + 1,)
        Of each structure, and the number of all atoms.
    """

    def __init__(self, first_atom: Counts) -> None:
        self._first = np.ascontiguousarray(first_atom)
        n = len(first_atom) - 1
        self._searched = [Searched(np.zeros(0, np.int64), np.zeros(0, np.int64), None)] * n
        self._counts = np.zeros(n, dtype=np.int64)
        self._addresses = np.zeros((3, n), dtype=np.int64)
        """Of centres, neighbours and shifts, which `_searched` keeps alive."""

    def put(self, structure: int, searched: Searched | None) -> None:
        """Take other candidates for a structure; ``None``: none at all."""
        kept = Searched(np.zeros(0, np.int64), np.zeros(0, np.int64), None)
        if searched is not None:
            kept = Searched(*(None if each is None else np.ascontiguousarray(each) for each in searched))  # type: ignore[arg-type]
        self._searched[structure] = kept
        self._counts[structure] = len(kept.centers)
        self._addresses[:, structure] = [0 if each is None else each.ctypes.data for each in kept]

    def within(
        self,
        positions: NDArray[np.float64],
        cells: NDArray[np.float64],
        cutoff: float,
        crossed: Counts | None,
        *,
        shifts: bool,
    ) -> Selected:
        """Those of all structures that are within the cutoff now.

        Parameters
        ----------
        positions : (N, 3) Å
        cells : (B, 3, 3) Å
        cutoff : float, Å
        crossed : (N, 3), optional
            Whole cells by which atoms were moved since they were searched.
        shifts : bool
            Whether shifts are wanted.
        """
        lib = _library()
        if lib is None:
            return _in_numpy(self._searched, self._first, positions, cells, cutoff, crossed, shifts=shifts)
        positions, cells = (np.ascontiguousarray(each, dtype=np.float64) for each in (positions, cells))
        moved = None if crossed is None else np.ascontiguousarray(crossed, dtype=np.int64)
        most, n_structures = int(self._counts.sum()), len(self._counts)
        i, j = np.empty(most + 1, dtype=np.int64), np.empty(most + 1, dtype=np.int64)
        vectors = np.empty((most + 1, 3))
        whole = np.empty((most + 1, 3), dtype=np.int64) if shifts else None
        found, shortest = np.empty(n_structures, dtype=np.int64), np.empty(n_structures, dtype=np.int64)
        n = lib.select_within(
            n_structures,
            self._first.ctypes.data,
            positions.ctypes.data,
            cells.ctypes.data,
            cutoff,
            *[row.ctypes.data for row in self._addresses],
            self._counts.ctypes.data,
            None if moved is None else moved.ctypes.data,
            i.ctypes.data,
            j.ctypes.data,
            None if whole is None else whole.ctypes.data,
            vectors.ctypes.data,
            found.ctypes.data,
            shortest.ctypes.data,
        )
        return Selected(i[:n], j[:n], None if whole is None else whole[:n], vectors[:n], found, shortest)


def _in_numpy(
    searched: Sequence[Searched],
    first_atom: Counts,
    positions: NDArray[np.float64],
    cells: NDArray[np.float64],
    cutoff: float,
    crossed: Counts | None,
    *,
    shifts: bool,
) -> Selected:
    parts = []
    shortest = np.full(len(searched), -1, dtype=np.int64)
    found = np.zeros(len(searched), dtype=np.int64)
    for b, (centers, neighbors, own_shifts) in enumerate(searched):
        i, j = first_atom[b] + centers, first_atom[b] + neighbors
        whole = np.zeros((len(i), 3), dtype=np.int64) if own_shifts is None else own_shifts
        if crossed is not None:
            whole = whole + crossed[i] - crossed[j]
        vectors = positions[j] - positions[i] + whole @ cells[b]
        squares = np.einsum("pc,pc->p", vectors, vectors)
        inside = squares < cutoff**2
        if inside.any():
            shortest[b] = found.sum() + squares[inside].argmin()
        found[b] = inside.sum()
        parts.append((i[inside], j[inside], whole[inside], vectors[inside]))
    i, j, whole, vectors = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Selected(i, j, whole if shifts else None, vectors, found, shortest)
