"""`pairs.cpp` for numpy."""

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ase_mlcalc.native.build import NoCompilerError, library

Triple = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Centres (E,), neighbours (E,) and shifts (E, 3) of directed pairs."""


@cache
def _library() -> ctypes.CDLL | None:
    try:
        lib = library("pairs.cpp", {})
    except NoCompilerError:
        return None
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    lib.pairs_search.argtypes = [count, pointer, pointer, pointer, pointer, ctypes.c_double, pointer]
    lib.pairs_search.restype = pointer
    lib.pairs_take.argtypes = [pointer] * 4
    lib.pairs_take.restype = None
    lib.pairs_within.argtypes = [count, *[pointer] * 5, ctypes.c_double, *[pointer] * 4]
    lib.pairs_within.restype = count
    return lib


def available() -> bool:
    """Whether these functions can be used here."""
    return _library() is not None


def search(positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float) -> Triple:
    """All pairs closer than the cutoff, sorted by centre, neighbour and shift.

    Parameters
    ----------
    positions : (N, 3) Å
        Inside the box along open directions.
    cell : (3, 3) Å
        Of full rank.
    pbc : (3,)
    cutoff : float, Å
    """
    lib = _library()
    assert lib is not None
    positions, cell = np.ascontiguousarray(positions), np.ascontiguousarray(cell)
    inverse = np.ascontiguousarray(np.linalg.inv(cell))
    periodic = np.ascontiguousarray(pbc, dtype=np.uint8)
    n_pairs = ctypes.c_int64()
    handle = lib.pairs_search(
        len(positions),
        positions.ctypes.data,
        cell.ctypes.data,
        inverse.ctypes.data,
        periodic.ctypes.data,
        cutoff,
        ctypes.addressof(n_pairs),
    )
    if not handle:
        raise MemoryError(f"the neighbour list of {len(positions)} atoms does not fit into memory")
    centers, neighbors, shifts = _blank(n_pairs.value)
    lib.pairs_take(handle, centers.ctypes.data, neighbors.ctypes.data, shifts.ctypes.data)
    return centers, neighbors, shifts


def within(
    pairs: Triple, positions: NDArray[np.float64], cell: NDArray[np.float64], cutoff: float
) -> tuple[Triple, NDArray[np.float64]]:
    """Those of the pairs that are within the cutoff at these positions, and their vectors (E, 3) in Å."""
    lib = _library()
    assert lib is not None
    positions, cell = np.ascontiguousarray(positions), np.ascontiguousarray(cell)
    centers, neighbors, shifts = _blank(len(pairs[0]))
    vectors = np.empty((len(centers), 3))
    n = lib.pairs_within(
        len(pairs[0]),
        *(array.ctypes.data for array in pairs),
        positions.ctypes.data,
        cell.ctypes.data,
        cutoff,
        *(array.ctypes.data for array in (centers, neighbors, shifts, vectors)),
    )
    return (centers[:n], neighbors[:n], shifts[:n]), vectors[:n]


def _blank(n: int) -> Triple:
    return np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64), np.empty((n, 3), dtype=np.int64)
