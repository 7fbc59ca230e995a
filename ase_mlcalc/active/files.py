"""The files of a round, and structures in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from ase.stress import full_3x3_to_voigt_6_stress

from ase_mlcalc.data.frames import LEVEL_KEY, Frame
from ase_mlcalc.files import atomic_path
from ase_mlcalc.training.state import CHECKPOINT_FILE

STARTS_FILE = "starts.extxyz"
"""In the folder of the learning: where runs start."""


class RoundFiles(NamedTuple):
    """Where a round has its products, in the order in which they are made."""

    folder: Path

    @property
    def asked(self) -> Path:
        """Structures that the reference is asked for."""
        return self.folder / "asked.extxyz"

    @property
    def plan(self) -> Path:
        """How long its runs are; written after `asked`."""
        return self.folder / "plan.json"

    @property
    def labelled(self) -> Path:
        """Those that it could calculate."""
        return self.folder / "labelled.extxyz"

    @property
    def validation(self) -> Path:
        """Of all labels so far, those that no round is trained on."""
        return self.folder / "validation.extxyz"

    @property
    def training(self) -> Path:
        """The others; written after `validation`."""
        return self.folder / "training.extxyz"

    @property
    def model(self) -> Path:
        """Folder of the training."""
        return self.folder / "model"

    @property
    def checkpoint(self) -> Path:
        """The committee."""
        return self.model / CHECKPOINT_FILE

    @property
    def study(self) -> Path:
        """Folder of the runs."""
        return self.folder / "study"

    @property
    def decisions(self) -> Path:
        """Every frame, and why it was chosen or not."""
        return self.folder / "decisions.csv"

    @property
    def chosen(self) -> Path:
        """What the next round may ask for, the most wanted first."""
        return self.folder / "chosen.extxyz"

    @property
    def summary(self) -> Path:
        """What came of the round; written last."""
        return self.folder / "round.json"


def round_files(output: Path, number: int) -> RoundFiles:
    """The files of a round, counted from 0."""
    return RoundFiles(output / f"round-{number:02d}")


def write_structures(path: Path, structures: Sequence[Atoms]) -> None:
    """Write structures as extended XYZ; there may be none."""
    with atomic_path(path) as part, open(part, "w", encoding="utf-8") as file:
        for atoms in structures:
            write_extxyz(file, [atoms])


def read_written(path: Path) -> list[Atoms]:
    """What `write_structures` or a labelling wrote; none if there is no such file."""
    if not path.exists() or path.stat().st_size == 0:
        return []
    return list(ase.io.iread(path, index=":", format="extxyz"))


def with_labels(frame: Frame, level: str) -> Atoms:
    """A labelled structure as the files of a round hold it: labels as results, in eV and Å, with their level."""
    atoms = frame.atoms.copy()
    atoms.info[LEVEL_KEY] = level
    labels = frame.labels
    results: dict[str, Any] = {}
    if labels.energy is not None:
        results["energy"] = float(labels.energy[0])
    if labels.forces is not None:
        results["forces"] = labels.forces.numpy()
    if labels.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(labels.stress[0].numpy())
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
