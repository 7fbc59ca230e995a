"""`pairs.cpp` for numpy."""

import ctypes
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from ase_mlcalc.native.build import NoCompilerError, library

ATOMS_PER_THREAD = 256
"""A thread that searches fewer takes longer to wake than it saves."""


@cache
def _library() -> ctypes.CDLL | None:
    try:
        lib = library("pairs.cpp", {})
    except NoCompilerError:
        return None
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    lib.pairs_search.argtypes = [count, count, *[pointer] * 4, ctypes.c_double, ctypes.c_int]
    lib.pairs_search.restype = pointer
    lib.pairs_forget.argtypes = [pointer]
    lib.pairs_forget.restype = None
    lib.pairs_count.argtypes = [pointer]
    lib.pairs_count.restype = count
    lib.pairs_within.argtypes = [pointer, pointer, pointer, ctypes.c_double, *[pointer] * 6]
    lib.pairs_within.restype = count
    return lib


def available() -> bool:
    """Whether these functions can be used here."""
    return _library() is not None


class Candidates:
    """All pairs within a distance, as they were found; those within a shorter one can be selected again and again.

    Parameters
    ----------
    positions : (N, 3) Å
        Inside the box along open directions.
    cell : (3, 3) Å
        Of full rank.
    pbc : (3,)
    cutoff : float, Å
    n_centers : int, optional
        Only the first so many atoms are centres of pairs; default all.
    """

    def __init__(
        self,
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        pbc: NDArray[np.bool_],
        cutoff: float,
        n_centers: int | None = None,
    ) -> None:
        lib = _library()
        assert lib is not None
        self._lib = lib
        n_atoms = len(positions)
        n_centers = n_atoms if n_centers is None else n_centers
        positions, cell = _doubles(positions), _doubles(cell)
        inverse = np.ascontiguousarray(np.linalg.inv(cell))
        periodic = np.ascontiguousarray(pbc, dtype=np.uint8)
        self._handle = lib.pairs_search(
            n_atoms,
            n_centers,
            positions.ctypes.data,
            cell.ctypes.data,
            inverse.ctypes.data,
            periodic.ctypes.data,
            cutoff,
            max(1, min(torch.get_num_threads(), n_centers // ATOMS_PER_THREAD)),
        )
        if not self._handle:
            raise MemoryError(f"the neighbour list of {n_atoms} atoms does not fit into memory")
        self._count: int = lib.pairs_count(self._handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._lib.pairs_forget(self._handle)

    def within(
        self,
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        cutoff: float,
        crossed: NDArray[np.int64] | None,
        *,
        shifts: bool,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.float64], int]:
        """Centres (E,), neighbours (E,), shifts (E, 3) if wanted, and vectors (E, 3) in Å of what is within the cutoff.

        Sorted by centre, neighbour and shift.  Last comes the number of the shortest pair, -1 if there is none.
        `crossed` (N, 3): whole cells by which atoms were moved since the search.
        """
        positions, cell = _doubles(positions), _doubles(cell)
        moved = None if crossed is None else np.ascontiguousarray(crossed, dtype=np.int64)
        i, j = np.empty(self._count, dtype=np.int64), np.empty(self._count, dtype=np.int64)
        vectors = np.empty((self._count, 3))
        whole = np.empty((self._count, 3), dtype=np.int64) if shifts else None
        shortest = ctypes.c_int64()
        n = self._lib.pairs_within(
            self._handle,
            positions.ctypes.data,
            cell.ctypes.data,
            cutoff,
            None if moved is None else moved.ctypes.data,
            i.ctypes.data,
            j.ctypes.data,
            None if whole is None else whole.ctypes.data,
            vectors.ctypes.data,
            ctypes.addressof(shortest),
        )
        return i[:n], j[:n], None if whole is None else whole[:n], vectors[:n], shortest.value


def _doubles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """As the library reads them; arrays of `ase.Atoms` that were put there by hand can be of any type."""
    return np.ascontiguousarray(values, dtype=np.float64)
