"""Structures on their way to a calculator: bare, and named by their contents."""

import hashlib
import json
from typing import Any

import numpy as np
from ase import Atoms

from ase_mlcalc.data.labels import OF_LABELS

FAILURE_KEY = "label_failed"
"""In ``Atoms.info`` of a structure that could not be calculated: why."""
_NOT_BARE = OF_LABELS | {FAILURE_KEY}


def bare(atoms: Atoms) -> Atoms:
    """A structure without labels and calculator, and of ``info`` only what files can hold.

    Charges, magnetic moments and other entries that a calculator may look at stay.
    """
    copy = atoms.copy()
    copy.info = {key: value for key, value in atoms.info.items() if key not in _NOT_BARE and _is_plain(value)}
    for name in set(copy.arrays) & _NOT_BARE:
        del copy.arrays[name]
    return copy


def structure_key(atoms: Atoms) -> str:
    """Equal for structures that a calculator cannot tell apart: SHA-256 of all arrays, the cell and ``info``."""
    found = hashlib.sha256()
    for name, values in sorted(atoms.arrays.items()):
        found.update(f"{name} {values.dtype.str} {values.shape}".encode())
        found.update(json.dumps(values.tolist()).encode() if values.dtype.kind in "OU" else values.tobytes())
    found.update(np.ascontiguousarray(atoms.cell.array).tobytes() + atoms.pbc.tobytes())
    found.update(json.dumps(atoms.info, sort_keys=True, default=lambda value: value.tolist()).encode())
    return found.hexdigest()[:32]


def _is_plain(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufU"
    return isinstance(value, str | bool | int | float | np.number | np.bool_)
