"""Which structures a potential has seen, so that nobody takes its errors on them for those on others."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ase_mlcalc import accelerate, checkpoint
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.geometry import fingerprint, is_isolated_atom

KEY = "structures"
"""Of the provenance in a checkpoint."""
DIGITS = 12
"""Of a hash; two of ten thousand structures share one by accident once in 10 million times."""


def marks(frames: Iterable[Frame]) -> list[str]:
    """Short hashes of geometries to 1e-5 Å, sorted; isolated atoms, which are in every set, have none."""
    return sorted({_mark(frame) for frame in frames if not is_isolated_atom(frame.atoms)})


def n_seen(path: Path | str, frames: Sequence[Frame]) -> int | None:
    """How many structures a potential was trained or validated on; ``None`` if its file does not say.

    Other than `ase_mlcalc.data.duplicates.repeated`, this recognises structures as they were, not moved or sorted
    differently.

    Parameters
    ----------
    path : path
        Of a checkpoint, of one potential or of an ensemble.
    frames : sequence of Frame
    """
    if accelerate.is_package(path):
        return None
    known = set(_marks_in(checkpoint.read_header(path).provenance))
    return sum(_mark(frame) in known for frame in frames) if known else None


def _mark(frame: Frame) -> str:
    return fingerprint(frame.atoms)[:DIGITS]


def _marks_in(provenance: Mapping[str, Any]) -> Iterator[str]:
    yield from provenance.get(KEY) or ()
    for member in provenance.get("members") or ():
        yield from _marks_in(member)
