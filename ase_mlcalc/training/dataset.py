"""From the files of a job to training and validation structures."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from ase_mlcalc.data.duplicates import repeated
from ase_mlcalc.data.frames import Frame, elements
from ase_mlcalc.data.geometry import is_isolated_atom
from ase_mlcalc.data.levels import of_levels
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.data.split import split
from ase_mlcalc.errors import DataError
from ase_mlcalc.training.config import DataConfig

BOOTSTRAP_ATTEMPTS = 100
"""Bootstrap samples that are drawn until one has all elements."""


class DataSet(NamedTuple):
    """Structures that are trained on, others that are held back, and others still that the result is measured on."""

    train: list[Frame]
    validation: list[Frame]
    test: Sequence[Frame] = ()

    @property
    def species(self) -> list[int]:
        """Atomic numbers in training and validation structures, ascending."""
        return elements([*self.train, *self.validation])

    def fingerprint(self) -> str:
        """A hash of all geometries and labels that a run depends on, to notice that files changed under it."""
        digest = hashlib.sha256()
        for frame in (*self.train, *self.validation):
            atoms = frame.atoms
            for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
                digest.update(np.ascontiguousarray(array).tobytes())
            if atoms.has("momenta"):
                digest.update(np.ascontiguousarray(atoms.get_momenta()).tobytes())
            for name, label in frame.labels._asdict().items():
                if label is not None:
                    digest.update(name.encode() + label.contiguous().numpy().tobytes())
        return digest.hexdigest()


def load(config: DataConfig) -> DataSet:
    """Read and split the structures of a job; the same configuration and files give the same structures.

    Test structures are held back from the training files too, unless they have files of their own.
    Isolated atoms of the training files define reference energies; all of them are trained on, beyond `n_train`, and
    none is held back.  With ``bootstrap_seed`` the other training structures are drawn anew from those that were
    chosen, as many and with repetition; the validation structures stay as they are.

    Raises
    ------
    DataError
        Unreadable files or labels, fewer structures than asked for, or an element in validation structures only.
    """
    return divide(config, read_files(config))


class Files(NamedTuple):
    """Structures as the files of a job have them."""

    train: list[Frame]
    validation: list[Frame] | None
    test: list[Frame] | None


def read_files(config: DataConfig) -> Files:
    """Read the files of a job; `None` where it names none."""

    def read(paths: Sequence[Path] | None) -> list[Frame] | None:
        if paths is None:
            return None
        return read_frames(paths, keys=config.keys, format=config.format, index=config.index)

    train = read(config.train)
    assert train is not None
    return _of_one_level(Files(train, read(config.validation), read(config.test)), config.level_of_theory)


def _of_one_level(files: Files, wanted: Sequence[str] | None) -> Files:
    """The structures of the levels of theory that are meant; all files together have to be of one if none is named."""
    together = [frame for part in files if part is not None for frame in part]
    kept = {id(frame) for frame in of_levels(together, wanted)}
    parts = [None if part is None else [frame for frame in part if id(frame) in kept] for part in files]
    for name, part in zip(Files._fields, parts, strict=True):
        if part is not None and not part:
            raise DataError(f"no structure in the files of data.{name} is of a level in {list(wanted or ())}")
    train, validation, test = parts
    assert train is not None
    return Files(train, validation, test)


def divide(config: DataConfig, files: Files) -> DataSet:
    """The structures of a job, from its files; see `load`."""
    alone = [frame for frame in files.train if is_isolated_atom(frame.atoms)]
    bound = [frame for frame in files.train if not is_isolated_atom(frame.atoms)]
    if files.validation is None and len(bound) < 2:
        raise DataError(
            f"{len(bound)} structures of several atoms cannot be split into training and validation; "
            "add data or name data.validation"
        )
    n_validation = 0 if files.validation is not None else config.n_validation or _held_back(len(bound))
    n_test = 0 if files.test is not None else config.n_test or 0
    left = len(bound) - n_validation - n_test
    n_train = config.n_train or (max(1, left) if files.validation is None else left)
    chosen, held, others = split(
        len(bound), n_train, n_validation, config.seed, n_test=n_test, draw_seed=config.draw_seed
    )
    train = alone + _pick(bound, _redrawn(chosen, bound, config.bootstrap_seed))
    validation, test = _pick(bound, held), _pick(bound, others[len(others) - n_test :])
    if files.validation is not None:
        validation = _some(files.validation, config.n_validation, config.seed)
    if files.test is not None:
        test = _some(files.test, config.n_test, config.seed)
    if files.validation is not None:
        _refuse_repeats("training", train, "validation", validation)
    if files.test is not None:
        _refuse_repeats("training or validation", [*train, *validation], "test", test)
    return _comparable(DataSet(train, validation, test))


def _refuse_repeats(learned: str, known: Sequence[Frame], held: str, others: Sequence[Frame]) -> None:
    """Refuse structures that are in two files, one of which is there to measure what was learned from the other.

    Structures that one file repeats are pointed out by the audit instead.
    """
    known, others = (
        list({id(frame): frame for frame in frames if not is_isolated_atom(frame.atoms)}.values())
        for frames in (known, others)
    )
    pairs = repeated([frame.atoms for frame in known], [frame.atoms for frame in others])
    if pairs:
        other, first = pairs[0]
        more = f", and {len(pairs) - 1} more are" if len(pairs) > 1 else ""
        raise DataError(
            f"{held} structure {others[other].source} is the {learned} structure {known[first].source}{more} in both; "
            f"errors on what was learned from say nothing: take them out of the {held} files"
        )


def _some(frames: Sequence[Frame], count: int | None, seed: int) -> list[Frame]:
    """Structures of a file in random order: all, or so many of them."""
    return _pick(frames, split(len(frames), 0, len(frames) if count is None else count, seed)[1])


def _redrawn(chosen: np.ndarray, frames: Sequence[Frame], seed: int | None) -> np.ndarray:
    """A bootstrap sample of the chosen indices in which no element is lost; without a seed, the indices themselves."""
    if seed is None or len(chosen) == 0:
        return chosen
    needed = elements(_pick(frames, chosen))
    for attempt in range(BOOTSTRAP_ATTEMPTS):
        drawn = np.random.default_rng([seed, attempt]).choice(chosen, len(chosen))
        if elements(_pick(frames, drawn)) == needed:
            return drawn
    raise DataError(
        f"{BOOTSTRAP_ATTEMPTS} bootstrap samples of {len(chosen)} training structures each lost an element; add "
        "structures with the rare ones, or train without bootstrap"
    )


def _comparable(data: DataSet) -> DataSet:
    """Refuse an element that no training structure has: its E0 and its embedding would be made up."""
    learned = set(elements(data.train))
    for kind, frames in (("validation", data.validation), ("test", data.test)):
        for frame in frames:
            unseen = sorted(set(elements([frame])) - learned)
            if unseen:
                raise DataError(
                    f"{kind} structure {frame.source} holds {', '.join(chemical_symbols[z] for z in unseen)}, which no "
                    "training structure has, so that its errors would mean nothing; choose another data.seed, more "
                    f"training structures, or other {kind} files"
                )
    return data


def _held_back(n_structures: int) -> int:
    """A tenth of a small set; of a large one a twentieth, which is still enough to choose an epoch by."""
    return max(1, min(50, n_structures // 10), n_structures // 20)


def _pick(frames: Sequence[Frame], indices: np.ndarray) -> list[Frame]:
    return [frames[k] for k in indices.tolist()]
