"""What learning needs before its first round: checked input, test structures, and where runs start."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms

from ase_mlcalc.active.assess import CUTOFF_A
from ase_mlcalc.active.config import TEST_FILE, LearnJob
from ase_mlcalc.active.data import divide, require_calibration
from ase_mlcalc.active.files import STARTS_FILE, with_labels, write_structures
from ase_mlcalc.data.duplicates import repeated
from ase_mlcalc.data.frames import Frame, elements
from ase_mlcalc.data.geometry import is_isolated_atom
from ase_mlcalc.data.levels import level_of
from ase_mlcalc.data.read import read_frames, read_structures
from ase_mlcalc.errors import DataError
from ase_mlcalc.labelling.structures import bare
from ase_mlcalc.model import check_species
from ase_mlcalc.properties import Properties
from ase_mlcalc.sampling.descriptor import StructureDescriptor
from ase_mlcalc.sampling.farthest import farthest_points, standardized
from ase_mlcalc.study.config import StructureSource
from ase_mlcalc.training.config import resolve_model

MOST_STARTS = 8
"""Structures that runs start from, where the job names none."""


class Prepared(NamedTuple):
    """What a learning starts from."""

    start: tuple[Atoms, ...]
    """To be labelled first."""
    labelled: tuple[Atoms, ...]
    """With labels that are used as they are."""
    species: tuple[int, ...]
    """Atomic numbers of all elements."""
    structures: dict[str, StructureSource]
    """Where runs start."""
    files: dict[Path, tuple[Atoms, ...]]
    """What is to be written into the folder of the learning."""


def prepare(job: LearnJob, level: str) -> Prepared:
    """Read the files of a learning, and refuse what cannot work.

    Parameters
    ----------
    job : LearnJob
    level : str
        Level of theory of the reference.

    Raises
    ------
    DataError
        Unreadable files; labels of another level of theory; test structures that are learned from, or have other
        elements.
    ConfigError, ModelError
        A model that cannot be made for these elements.
    """
    start = tuple(bare(atoms) for path in job.learn.start for atoms in read_structures(path))
    known = _labelled(job.learn.labelled, level, "labelled")
    test = _labelled(job.learn.test, level, "test")
    structures = [*start, *(frame.atoms for frame in known)]
    frames = [Frame(atoms, Properties(), "", f"structure {k}") for k, atoms in enumerate(structures)]
    species = tuple(elements(frames))
    if job.train.start_from is None:
        resolve_model(job.model, frames)
    require_calibration(job, divide(structures)[1], "structures to start from")
    files: dict[Path, tuple[Atoms, ...]] = {}
    if test:
        check_species(elements(test), species, "the structures to start from")
        _refuse_repeats(structures, test)
        files[job.learn.output / TEST_FILE] = tuple(with_labels(frame, level) for frame in test)
    sources = job.study.structures
    if sources is None:
        path = job.learn.output / STARTS_FILE
        files[path] = _default_starts(structures, species)
        sources = {f"start-{k}": StructureSource(file=str(path), index=k) for k in range(len(files[path]))}
    return Prepared(start, tuple(with_labels(frame, level) for frame in known), species, sources, files)


def write_prepared(prepared: Prepared) -> None:
    """Write what all rounds need, unless an earlier command did."""
    for path, structures in prepared.files.items():
        if not path.exists():
            write_structures(path, structures)


def _labelled(paths: Sequence[Path], level: str, key: str) -> list[Frame]:
    """Labelled structures, which are of the level of the reference unless they say otherwise."""
    frames = read_frames(paths) if paths else []
    for frame in frames:
        if level_of(frame) not in ("", level):
            raise DataError(
                f"learn.{key}: {frame.source} was computed with {level_of(frame)}, the reference is {level}; give "
                "labels of one level, or name it in learn.reference.level_of_theory"
            )
    return frames


def _refuse_repeats(learned: Sequence[Atoms], test: Sequence[Frame]) -> None:
    pairs = repeated(learned, [frame.atoms for frame in test])
    if pairs:
        raise DataError(
            f"learn.test: {test[pairs[0][0]].source} is one of the structures to start from, and {len(pairs) - 1} more "
            "are; errors on what was learned from say nothing: take them out of the test files"
        )


def _default_starts(structures: Sequence[Atoms], species: Sequence[int]) -> tuple[Atoms, ...]:
    """The structures themselves, or those of them that differ most."""
    several = [atoms for atoms in structures if not is_isolated_atom(atoms)]
    if not several:
        raise DataError("learn.start and learn.labelled hold isolated atoms alone; give structures that can move")
    order = np.arange(len(several))
    if len(several) > MOST_STARTS:
        describe = StructureDescriptor(species, CUTOFF_A)
        order, _ = farthest_points(standardized(np.array([describe(atoms) for atoms in several])), MOST_STARTS)
    return tuple(bare(several[k]) for k in order.tolist())
