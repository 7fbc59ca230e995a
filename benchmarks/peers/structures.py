"""Molecules and boxes of water to time, and labelled structures, as files that all programs read."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.data.sets import water16
from ase_mlcalc.files import atomic_path
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.training.config import DataConfig
from ase_mlcalc.training.dataset import load

DATA = "ASE_MLCALC_DATA"
MOLECULES, WATER = ("H", "C", "N", "O"), ("H", "O")
"""Elements of the networks that are timed: of one for all molecules, and of one for water."""
COPIES = {48: (1, 1, 1), 192: (2, 2, 1), 1536: (4, 4, 2), 12288: (8, 8, 4)}
"""Atoms to copies of a box of 48."""
TRAINED_ON = "aspirin"


class Case(NamedTuple):
    """A structure that is timed."""

    name: str
    atoms: Atoms
    species: tuple[str, ...]
    """Elements of the networks that it is timed with."""

    def edges_per_atom(self, cutoff: float) -> float:
        """Neighbours of an atom within the cutoff, in the mean."""
        return len(from_atoms(self.atoms, cutoff).centers) / len(self.atoms)


def data_folder() -> Path | None:
    """Where the public data are, if they are there; see docs/data.md."""
    folder = os.environ.get(DATA)
    return Path(folder) if folder and (Path(folder) / f"rmd17/{TRAINED_ON}_train.npz").exists() else None


def cases(largest: int) -> list[Case]:
    """From 9 atoms upwards; molecules of rMD17 where the data are there."""
    found = [Case("ethanol", molecule("CH3CH2OH"), MOLECULES)]
    data = data_folder()
    for name in ("aspirin", "azobenzene") if data is not None else ():
        with np.load(data / f"rmd17/{name}_test.npz") as archive:
            found.append(Case(name, Atoms(archive["nuclear_charges"], archive["coords"][0]), MOLECULES))
    box = _box_of_water()
    boxes = [Case(f"water-{n}", box * copies, WATER) for n, copies in COPIES.items()]
    return [case for case in [*found, *boxes] if len(case.atoms) <= largest]


def _box_of_water() -> Atoms:
    (box,) = ase.io.read(water16("gfn1"), index=":1")  # a plain 0 makes ASE read the whole file first
    return box


def write_anything(folder: Path, species: Sequence[str]) -> None:
    """A few structures of these elements with the labels of a toy, for networks that are timed and never believed.

    All of them are periodic: ``nequip-compile`` compares stresses, which are NaN where there is no volume.
    """
    start = molecule("CH3CONH2") if "C" in species else _box_of_water()
    if not start.pbc.any():
        start.center(vacuum=6.0)
        start.pbc = True
    start.calc = None
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(10):
        atoms = start.copy()
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
        atoms.calc = EMT()  # has parameters for these elements, "just for fun"
        frames.append(_labelled(atoms, atoms.get_potential_energy(), atoms.get_forces()))
    _write(folder / "train.extxyz", frames[:5])
    _write(folder / "valid.extxyz", frames[5:])


def write_data_sets(folder: Path) -> dict[str, int]:
    """Training, validation and test structures of the molecule, the same for all; numbers of structures."""
    data = data_folder()
    assert data is not None
    ours = load(DataConfig(train=(data / f"rmd17/{TRAINED_ON}_train.npz",)))
    test = read_frames([data / f"rmd17/{TRAINED_ON}_test.npz"])
    parts = {"train": ours.train, "valid": ours.validation, "test": test}
    for name, frames in parts.items():
        _write(folder / f"{name}.extxyz", [_from_frame(frame) for frame in frames])
    return {name: len(frames) for name, frames in parts.items()}


def _from_frame(frame: Frame) -> Atoms:
    energy, forces = frame.labels.energy, frame.labels.forces
    assert energy is not None
    assert forces is not None
    return _labelled(frame.atoms, float(energy), forces.numpy())


def _labelled(atoms: Atoms, energy: float, forces: np.ndarray) -> Atoms:
    """With labels where ASE has them, and under the names that MACE reads."""
    labelled = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    labelled.info["REF_energy"] = energy
    labelled.arrays["REF_forces"] = forces.copy()
    labelled.calc = SinglePointCalculator(labelled, energy=energy, forces=forces)
    return labelled


def _write(path: Path, frames: Sequence[Atoms]) -> None:
    with atomic_path(path) as part:
        ase.io.write(part, frames, format="extxyz")
