"""From the files of a job to training and validation structures."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from ase_mlcalc.data.frames import Frame, elements
from ase_mlcalc.data.geometry import is_isolated_atom
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.data.split import split
from ase_mlcalc.errors import DataError
from ase_mlcalc.training.config import DataConfig

BOOTSTRAP_ATTEMPTS = 100
"""Bootstrap samples that are drawn until one has all elements."""


class DataSet(NamedTuple):
    """Structures that are trained on, and others that are held back."""

    train: list[Frame]
    validation: list[Frame]

    @property
    def species(self) -> list[int]:
        """Atomic numbers in either, ascending."""
        return elements([*self.train, *self.validation])

    def fingerprint(self) -> str:
        """A hash of all geometries and labels, to notice that files changed under a run."""
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

    Isolated atoms of the training files define reference energies; all of them are trained on, beyond `n_train`, and
    none is held back.  With ``bootstrap_seed`` the other training structures are drawn anew from those that were
    chosen, as many and with repetition; the validation structures stay as they are.

    Raises
    ------
    DataError
        Unreadable files or labels, fewer structures than asked for, or an element in validation structures only.
    """
    frames = read_frames(config.train, keys=config.keys, format=config.format, index=config.index)
    alone = [frame for frame in frames if is_isolated_atom(frame.atoms)]
    bound = [frame for frame in frames if not is_isolated_atom(frame.atoms)]
    if config.validation is not None:
        held_back = read_frames(config.validation, keys=config.keys, format=config.format, index=config.index)
        n_train = len(bound) if config.n_train is None else config.n_train
        n_validation = len(held_back) if config.n_validation is None else config.n_validation
        chosen = _redrawn(split(len(bound), n_train, 0, config.seed)[0], bound, config.bootstrap_seed)
        held = split(len(held_back), 0, n_validation, config.seed)[1]
        return _comparable(DataSet(alone + _pick(bound, chosen), _pick(held_back, held)))
    if len(bound) < 2:
        raise DataError(
            f"{len(bound)} structures of several atoms cannot be split into training and validation; "
            "add data or name data.validation"
        )
    n_validation = _held_back(len(bound)) if config.n_validation is None else config.n_validation
    n_train = max(1, len(bound) - n_validation) if config.n_train is None else config.n_train
    chosen, held, _ = split(len(bound), n_train, n_validation, config.seed)
    chosen = _redrawn(chosen, bound, config.bootstrap_seed)
    return _comparable(DataSet(alone + _pick(bound, chosen), _pick(bound, held)))


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
    """Refuse an element that only the validation structures have: its E0 and its embedding would be made up."""
    learned = set(elements(data.train))
    for frame in data.validation:
        unseen = sorted(set(elements([frame])) - learned)
        if unseen:
            raise DataError(
                f"validation structure {frame.source} holds {', '.join(chemical_symbols[z] for z in unseen)}, which no "
                "training structure has, so that its errors would mean nothing; choose another data.seed, more "
                "training structures, or other validation files"
            )
    return data


def _held_back(n_structures: int) -> int:
    """A tenth of a small set; of a large one a twentieth, which is still enough to choose an epoch by."""
    return max(1, min(50, n_structures // 10), n_structures // 20)


def _pick(frames: Sequence[Frame], indices: np.ndarray) -> list[Frame]:
    return [frames[k] for k in indices.tolist()]
