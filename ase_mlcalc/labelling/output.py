"""The files that a labelling leaves: structures with their labels, and those that were set aside."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz

from ase_mlcalc.data.frames import LEVEL_KEY
from ase_mlcalc.files import atomic_path
from ase_mlcalc.labelling.job import LabelJob
from ase_mlcalc.labelling.journal import Journal
from ase_mlcalc.labelling.structures import FAILURE_KEY


def write_labelled(
    job: LabelJob, structures: Sequence[Atoms], keys: Sequence[str], journal: Journal
) -> tuple[int, int]:
    """Write structures in their order, as far as they were calculated.

    Returns
    -------
    int, int
        How many have labels, and how many were set aside.
    """
    pairs = [(atoms, key) for atoms, key in zip(structures, keys, strict=True) if key in journal]
    good = [(atoms, key) for atoms, key in pairs if key not in journal.failed]
    bad = [(atoms, key) for atoms, key in pairs if key in journal.failed]
    _write(job.out, (_labelled(atoms, key, journal, job.level) for atoms, key in good), len(good))
    _write(job.failed, (_failed(atoms, journal.failed[key]) for atoms, key in bad), len(bad))
    return len(good), len(bad)


def _write(path: Path, structures: Iterable[Atoms], number: int) -> None:
    """One structure after another; no file where there are none."""
    _remove_leftovers(path)
    if not number:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as part, open(part, "w", encoding="utf-8") as file:
        for atoms in structures:
            write_extxyz(file, [atoms])


def _labelled(atoms: Atoms, key: str, journal: Journal, level: str) -> Atoms:
    copy = atoms.copy()
    copy.info[LEVEL_KEY] = level
    copy.calc = SinglePointCalculator(copy, **journal.results(key))
    return copy


def _failed(atoms: Atoms, reason: str) -> Atoms:
    copy = atoms.copy()
    copy.info[FAILURE_KEY] = reason.replace('"', "'")
    return copy


def _remove_leftovers(path: Path) -> None:
    """Of a command that was killed while it wrote this file."""
    for other in path.absolute().parent.iterdir():
        if other.name.startswith(f".{path.name}.") and other.name.endswith(".part"):
            with suppress(OSError):
                other.unlink()
