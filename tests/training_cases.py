"""Small labelled data sets and jobs for the tests of training."""

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from ase_mlcalc.config import validate
from ase_mlcalc.training.config import TrainJob

SCHNET = {"name": "schnet", "cutoff": 5.0, "features": 8, "n_interactions": 1, "n_gaussians": 8}


def lennard_jones():
    """Argon-like, cut off well below the box."""
    return LennardJones(sigma=3.0, epsilon=0.05, rc=5.0, smooth=True)


def labelled(atoms, *names):
    """The structure with those Lennard-Jones labels only."""
    atoms = atoms.copy()
    atoms.calc = lennard_jones()
    results = {name: atoms.calc.get_property(name, atoms) for name in names}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def clusters(count, seed=0, names=("energy", "forces")):
    rng = np.random.default_rng(seed)
    corners = 3.3 * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.87, 0], [0.5, 0.29, 0.82]])
    found = []
    for _ in range(count):
        atoms = Atoms("ArKrAr2", corners + rng.normal(scale=0.12, size=(4, 3)))
        atoms.info["config_type"] = "cluster"
        found.append(labelled(atoms, *names))
    return found


def crystals(count, seed=1, names=("energy", "forces", "stress")):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = bulk("Ar", "fcc", a=4.8, cubic=True)
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(scale=0.02, size=(3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.1, size=(4, 3))
        atoms.info["config_type"] = "crystal"
        found.append(labelled(atoms, *names))
    return found


def isolated_atoms():
    found = []
    for symbol in ("Ar", "Kr"):
        atoms = Atoms(symbol, [[0.0, 0.0, 0.0]])
        atoms.info["config_type"] = "isolated_atom"
        atoms.calc = SinglePointCalculator(atoms, energy=0.0)
        found.append(atoms)
    return found


def write(path, structures):
    ase.io.write(path, structures, format="extxyz")
    return path


def make_job(folder: Path, file: Path, *, model=SCHNET, data=None, **train) -> TrainJob:
    raw = {
        "output": folder,
        "data": {"train": [file], **(data or {})},
        "model": model,
        "train": {
            "max_epochs": 3,
            "batch_size": 4,
            "save_interval_s": 0.0,
            "device": "cpu",
            "warmup_steps": 2,
            **train,
        },
    }
    return validate(TrainJob, raw, "test")
