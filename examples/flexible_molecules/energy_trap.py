"""The trap of normalised energies.

Total energies are large numbers, so the earlier study divided them by their standard deviation, and left the forces
as they were.  Then forces are no longer the derivative of the energy: a kernel model, whose energy is the integral of
its forces, keeps an energy error of one standard deviation however much it learns, and a network is torn between the
two.  Nothing of the kind is needed where reference energies of the elements are taken out.
"""

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from common import KCAL_EV, Study

from ase_mlcalc.data.audit import audit
from ase_mlcalc.data.read import read_frames

STEPS, BATCH = 3000, 3
KERNEL = {"sigma": 20.0, "max_memory_GB": 7}


def show(study: Study, file: Path) -> None:
    """Train `schnet` and `sgdml` on labels as they are and on normalised ones, and say what the audit finds."""
    frames = ase.io.read(file, ":")
    changed = study.out / "trap" / "normalised.extxyz"
    changed.parent.mkdir(exist_ok=True)
    ase.io.write(changed, normalised(frames))
    n_atoms, sizes = len(frames[0]), (5, 10) if study.quick else (200, 800)
    held = {"n_validation": 5 if study.quick else 50, "n_test": 5 if study.quick else 300}
    nothing = dict.fromkeys(sorted(set(frames[0].get_chemical_symbols())), 0.0)
    ways: dict[tuple[str, str], dict[str, Any]] = {
        ("as they are", "schnet"): {"train": file},
        ("as they are, no reference energies taken out", "schnet"): {"train": file, "isolated_energy_eV": nothing},
        ("divided by their standard deviation", "schnet"): {"train": changed},
        ("as they are", "sgdml"): {"train": file},
        ("divided by their standard deviation", "sgdml"): {"train": changed},
    }
    jobs = {
        f"{model}-{number}-{n}": {
            "data": {**data, **held, "n_train": n},
            "model": study.model(model, **(KERNEL if model == "sgdml" else {})),
            "train": {} if model == "sgdml" else {"max_epochs": 1 if study.quick else round(STEPS * BATCH / n)},
        }
        for number, ((_, model), data) in enumerate(ways.items())
        for n in sizes
    }
    found = study.train("trap", jobs)
    rows = []
    for number, ((way, model), data) in enumerate(ways.items()):
        own = [found[f"{model}-{number}-{n}"].test for n in sizes]
        energies = [None if one is None else one.energy_mae_meV_per_atom * n_atoms / 1000 / KCAL_EV for one in own]
        forces = [None if one is None else one.force_mae_meV_per_A / 1000 / KCAL_EV for one in own]
        rows.append([way, f"`{model}`", *energies, *forces, verdict(data["train"])])
    heads = [f"energy MAE / kcal/mol, {n}" for n in sizes] + [f"force MAE / kcal/mol/Å, {n}" for n in sizes]
    study.table("trap", ["energies", "model", *heads, "`check-data` finds"], rows)


def normalised(frames: list[Atoms]) -> list[Atoms]:
    """Energies with mean zero and a standard deviation of 1 kcal/mol; forces as they are."""
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    changed = []
    for atoms, energy in zip(frames, (energies - energies.mean()) / energies.std() * KCAL_EV, strict=True):
        other = Atoms(atoms.numbers, atoms.positions)
        other.calc = SinglePointCalculator(other, energy=energy, forces=atoms.get_forces())
        changed.append(other)
    return changed


def verdict(path: Path) -> str:
    """Errors that ``ase-mlcalc check-data`` finds in a file."""
    return "; ".join(problem.message for problem in audit(read_frames([path])).errors) or "no error"
