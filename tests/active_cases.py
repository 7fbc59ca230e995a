"""A small active learning: four atoms of copper, whose reference costs a millisecond and writes down each call."""

import hashlib

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from work_cases import as_context

from ase_mlcalc.active import LearnJob
from ase_mlcalc.config import validate
from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.workers import Done

SMALL = {"name": "schnet", "cutoff": 4.0, "features": 8, "n_interactions": 1, "n_gaussians": 12}


class Written(EMT):
    """EMT that adds the hash of each structure to a file; fails where two atoms are closer than `fails_below_A`."""

    def __init__(self, log=None, fails_below_A=0.0):
        super().__init__()
        self.log, self.fails_below_A = log, fails_below_A

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        if self.log is not None:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(hashlib.sha256(atoms.positions.tobytes()).hexdigest() + "\n")
        distances = atoms.get_all_distances(mic=True)
        if distances[distances > 0].min() < self.fails_below_A:
            raise CalculationFailed("SCF not converged")
        super().calculate(atoms, properties, system_changes)


def crystals(count, scale, seed):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(scale, rng=rng)
        found.append(atoms)
    return found


def cluster():
    """An octahedron without a cell."""
    return Atoms("Cu6", 1.75 * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]))


def labelled(atoms):
    copy = atoms.copy()
    copy.calc = EMT()
    forces, energy = copy.get_forces(), copy.get_potential_energy()
    copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces)
    return copy


def raw_job(folder, **learn):
    """The tables of a job that learns copper in a few short rounds."""
    if not (folder / "start.extxyz").exists():
        ase.io.write(folder / "start.extxyz", crystals(22, 0.06, 0))
        ase.io.write(folder / "test.extxyz", [labelled(atoms) for atoms in crystals(5, 0.12, 1)])
    return {
        "learn": {
            "output": str(folder / "out"),
            "start": str(folder / "start.extxyz"),
            "test": str(folder / "test.extxyz"),
            "rounds": 2,
            "labels_per_round": 5,
            "max_labels": 40,
            "first_ps": 0.16,
            "workers": 1,
            "reference": {
                "calculator": "active_cases:Written",
                "calculator_arguments": {"log": str(folder / "calls")},
                "level_of_theory": "EMT",
            },
            **learn,
        },
        "model": SMALL,
        "train": {"members": 2, "max_epochs": 12, "batch_size": 4, "warmup_steps": 5, "learning_rate": 0.01},
        "tune": {"max_epochs": 6, "learning_rate": 0.008},
        "study": {
            "structures": {"bulk": {"file": str(folder / "start.extxyz"), "index": 0}},
            "temperatures_K": [1500],
            "timesteps_fs": 4.0,
            "seeds": 2,
        },
        "md": {
            "time_ps": 0.32, "frames_every_fs": 8, "monitors_every_fs": 8, "stresses_every_fs": 0,
            "monitors": {"lattice": {"use": False}},
        },
    }  # fmt: skip


def job(folder, **learn):
    return validate(LearnJob, raw_job(folder, **learn), "learn")


def calls(folder):
    """A line for each reference calculation."""
    path = folder / "calls"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@as_context
def here(tasks, *_, setup=None, **__):
    """In place of `work_on`: the same tasks, one after another in this process, which starts no other."""
    if setup is not None:
        setup.do()
    for number, task in enumerate(tasks):
        try:
            result, error = task.do(), None
        except (MLCalcError, CalculationFailed) as failed:
            result, error = None, str(failed)
        yield Done(number, result, error, set())
