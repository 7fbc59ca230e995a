"""Are failures named, and healthy trajectories left alone?  All default monitors on trajectories of both kinds.

``python benchmarks/failure_catalogue.py`` prints a table of failures, each with the outcome and the frame that were
found and expected, and a table of healthy trajectories of 20 ps, on which no monitor may stop or note anything.  It
takes some minutes; ``--time-ps 1`` shortens the healthy ones.  The test suite asserts the same.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.cluster import Icosahedron, Octahedron
from ase.constraints import FixAtoms
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import MTKNPT
from ase.md.verlet import VelocityVerlet
from rich.console import Console
from rich.table import Table

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.md.monitors import Inspection, MonitorsConfig, inspect
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.velocities import draw_momenta, remove_rigid_motion
from ase_mlcalc.model import lookup
from ase_mlcalc.neighbors import find_pairs

LOOK_EVERY_FS = 5.0
Frames = list[Atoms]

# ----- potentials that are fast and smooth -----


class Argon(Calculator):
    """Lennard-Jones with energy and force shifted to zero at the cutoff, so that energy is conserved."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, cutoff: float = 8.0, epsilon: float = 0.0104, sigma: float = 3.40) -> None:
        super().__init__()
        self.cutoff, self.epsilon, self.sigma = cutoff, epsilon, sigma
        self.at_cutoff = self._pair(np.array(cutoff))

    def _pair(self, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s6 = (self.sigma / d) ** 6
        return 4 * self.epsilon * (s6**2 - s6), 4 * self.epsilon * (-12 * s6**2 + 6 * s6) / d

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Energy, forces and stress of all pairs."""
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions
        if self.atoms.pbc.any():
            pairs = find_pairs(x, np.array(self.atoms.cell), self.atoms.pbc, self.cutoff)
            i, vectors = pairs.centers, pairs.vectors(x, np.array(self.atoms.cell))
        else:
            i, j = np.nonzero(~np.eye(len(x), dtype=bool))
            vectors = x[j] - x[i]
        d = np.linalg.norm(vectors, axis=1)
        inside = d < self.cutoff
        i, vectors, d = i[inside], vectors[inside], d[inside]
        energy, slope = self._pair(d)
        energy = energy - self.at_cutoff[0] - (d - self.cutoff) * self.at_cutoff[1]
        pull = ((slope - self.at_cutoff[1]) / d)[:, None] * vectors
        forces = np.stack([np.bincount(i, pull[:, c], minlength=len(self.atoms)) for c in range(3)], axis=1)
        self.results = {"energy": 0.5 * float(energy.sum()), "forces": forces}
        if self.atoms.pbc.all():
            virial = 0.5 * vectors.T @ pull / self.atoms.get_volume()
            self.results["stress"] = virial.ravel()[[0, 4, 8, 5, 2, 1]]


class Springs(Calculator):
    """A molecule: Morse bonds of 4 eV, and springs between atoms that are not bonded, to the shape it is made with."""

    implemented_properties = ("energy", "forces")

    def __init__(self, shape: Atoms, stiffness: float = 1.0) -> None:
        super().__init__()
        self.first, self.second = np.array(list(combinations(range(len(shape)), 2))).T
        self.lengths = np.linalg.norm(shape.positions[self.second] - shape.positions[self.first], axis=1)
        hydrogens = (shape.numbers[self.first] == 1).astype(int) + (shape.numbers[self.second] == 1)
        self.bonded = self.lengths < np.array([1.7, 1.2, 0.9])[hydrogens]
        # also between atoms far apart: without, a hydrogen atom can turn into another, which `distances` does find
        self.stiffness = np.where(self.lengths < 3.2, stiffness, 0.3 * stiffness)

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Energy and forces of all pairs."""
        super().calculate(atoms, properties, system_changes)
        vectors = self.atoms.positions[self.second] - self.atoms.positions[self.first]
        d = np.linalg.norm(vectors, axis=1)
        off = d - self.lengths
        decay = np.exp(-1.9 * off)
        energy = np.where(self.bonded, 4.0 * (1 - decay) ** 2, 0.5 * self.stiffness * off**2)
        slope = np.where(self.bonded, 2 * 4.0 * 1.9 * (1 - decay) * decay, self.stiffness * off)
        pull = (slope / d)[:, None] * vectors
        forces = np.zeros_like(self.atoms.positions)
        np.add.at(forces, self.first, pull)
        np.add.at(forces, self.second, -pull)
        self.results = {"energy": float(energy.sum()), "forces": forces}


class Water(Calculator):
    """Flexible SPC-like water in a cubic box: springs in molecules, Lennard-Jones between oxygens, and charges.

    Charges and sizes are those of SPC, springs are about those of its flexible variants (Dang and Pettitt, J. Phys.
    Chem. 91, 3349 (1987)).  All that acts between molecules is shifted to zero energy and force at the cutoff.
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, n_molecules: int, cutoff: float) -> None:
        super().__init__()
        atoms = np.arange(3 * n_molecules)
        first, second = np.triu_indices(len(atoms), 1)
        apart = first // 3 != second // 3
        self.first, self.second, self.cutoff = first[apart], second[apart], cutoff
        charges = np.tile([-0.82, 0.41, 0.41], n_molecules)
        self.qq = 14.399645 * charges[self.first] * charges[self.second]
        self.is_oo = (self.first % 3 == 0) & (self.second % 3 == 0)
        oxygen = atoms[::3]
        self.springs = np.concatenate(
            [
                np.stack([oxygen, oxygen + 1], 1),
                np.stack([oxygen, oxygen + 2], 1),
                np.stack([oxygen + 1, oxygen + 2], 1),
            ]
        )
        self.lengths = np.repeat([1.0, 1.0, 1.633], n_molecules)
        self.stiffness = np.repeat([45.7, 45.7, 9.5], n_molecules)
        self.at_cutoff = self._pair(np.array(cutoff), np.array(True))

    @staticmethod
    def _pair(d: np.ndarray, is_oo: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Lennard-Jones, and charges per product of charges: energies and slopes."""
        s6 = np.where(is_oo, (3.166 / d) ** 6, 0.0)
        return 4 * 0.00674 * (s6**2 - s6), 4 * 0.00674 * (-12 * s6**2 + 6 * s6) / d, 1.0 / d, -1.0 / d**2

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Energy and forces of springs and of all pairs of different molecules."""
        super().calculate(atoms, properties, system_changes)
        x, side = self.atoms.positions, self.atoms.cell[0, 0]
        vectors = x[self.second] - x[self.first]
        vectors -= side * np.rint(vectors / side)
        d = np.sqrt(np.einsum("pc,pc->p", vectors, vectors))
        near = d < self.cutoff
        first, second, vectors, d, qq = (a[near] for a in (self.first, self.second, vectors, d, self.qq))
        lj, lj_slope, coulomb, coulomb_slope = self._pair(d, self.is_oo[near])
        lj_end, lj_slope_end, coulomb_end, coulomb_slope_end = self.at_cutoff
        oo = self.is_oo[near]
        energy = np.where(oo, lj - lj_end - (d - self.cutoff) * lj_slope_end, 0.0) + qq * (
            coulomb - coulomb_end - (d - self.cutoff) * coulomb_slope_end
        )
        slope = np.where(oo, lj_slope - lj_slope_end, 0.0) + qq * (coulomb_slope - coulomb_slope_end)
        i, j = self.springs.T
        bonds = x[j] - x[i]
        bonds -= side * np.rint(bonds / side)
        length = np.linalg.norm(bonds, axis=1)
        off = length - self.lengths
        total = float(energy.sum()) + 0.5 * float((self.stiffness * off**2).sum())
        pull = np.concatenate([(slope / d)[:, None] * vectors, (self.stiffness * off / length)[:, None] * bonds])
        ends = np.concatenate([first, i]), np.concatenate([second, j])
        forces = np.stack(
            [
                np.bincount(ends[0], pull[:, c], minlength=len(x)) - np.bincount(ends[1], pull[:, c], minlength=len(x))
                for c in range(3)
            ],
            axis=1,
        )
        self.results = {"energy": total, "forces": forces}


def silicon_potential() -> Calculator:
    """Stillinger and Weber's."""
    model = lookup("stillinger_weber")
    return MLCalculator(model(model.Config()))


# ----- running -----


def start(atoms: Atoms, calculator: Calculator, temperature_K: float, seed: int, *, at_rest: bool = True) -> Atoms:
    """Give a structure a potential and momenta of a temperature, without motion of the whole if `at_rest`."""
    atoms.calc = calculator
    draw_momenta(atoms, temperature_K, np.random.default_rng(seed))
    if at_rest:
        remove_rigid_motion(atoms)
    return atoms


def langevin(atoms: Atoms, timestep_fs: float, temperature_K: float, friction_per_ps: float = 5.0) -> MolecularDynamics:
    """Langevin dynamics of all momenta, seeded."""
    return Langevin(
        atoms,
        timestep_fs * units.fs,
        temperature_K=temperature_K,
        friction=friction_per_ps / (1000 * units.fs),
        fixcm=False,
        rng=np.random.default_rng(1),
    )


def run(dynamics: MolecularDynamics, time_ps: float, every_fs: float = LOOK_EVERY_FS) -> Iterator[Atoms]:
    """The atoms of a running simulation, now and then, with the time in ``info``."""
    timestep_fs = dynamics.dt / units.fs
    every = max(1, round(every_fs / timestep_fs))
    for number in range(round(1000 * time_ps / timestep_fs / every) + 1):
        if number:
            dynamics.run(every)
        dynamics.atoms.info["time_ps"] = number * every * timestep_fs / 1000
        yield dynamics.atoms


def frozen_copies(frames: Iterable[Atoms]) -> Frames:
    """Frames as a file has them: positions, momenta, energy and forces."""
    copies = []
    for atoms in frames:
        frame = atoms.copy()
        frame.set_constraint()
        frame.calc = SinglePointCalculator(frame, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        copies.append(frame)
    return copies


# ----- trajectories that go wrong -----


@dataclass(frozen=True)
class Failure:
    """A trajectory with a fault, what it has to be called, and from which frame on it is wrong."""

    frames: Frames
    outcome: Outcome
    frame: int | None
    """``None`` where only the trajectory as a whole tells."""
    told: dict[str, Any] = field(default_factory=dict)
    """What `inspect` is told besides."""


def ethanol_run(n_frames: int = 60) -> Frames:
    """Frames of a healthy molecule at 300 K, 5 fs apart."""
    atoms = molecule("CH3CH2OH")
    start(atoms, Springs(atoms), 300, 0)
    return frozen_copies(run(VelocityVerlet(atoms, 0.5 * units.fs), (n_frames - 1) * 0.005))


@cache
def solid_argon() -> Frames:
    """Frames at 40 K and constant energy, 20 fs apart."""
    atoms = start(bulk("Ar", cubic=True, a=5.3) * 3, Argon(cutoff=6.0), 80, 0)
    return frozen_copies(run(VelocityVerlet(atoms, 10 * units.fs), 5.0, 20.0))


def argon_run(n_frames: int) -> Frames:
    """The first frames of healthy solid argon, to be changed."""
    return frozen_copies(solid_argon()[:n_frames])


def change(frame: Atoms, *, energy: float | None = None, forces: np.ndarray | None = None) -> None:
    """Put other results into a frame."""
    results = dict(frame.calc.results)
    results |= {} if energy is None else {"energy": energy}
    results |= {} if forces is None else {"forces": forces}
    frame.calc = SinglePointCalculator(frame, **results)


def first_frame(frames: Frames, is_wrong: Callable[[Atoms], bool]) -> int:
    """Index of the first frame that an independent criterion calls wrong."""
    return next(number for number, frame in enumerate(frames) if is_wrong(frame))


def nan_force() -> Failure:
    """One component of one force is NaN from frame 30 on."""
    frames = ethanol_run()
    for frame in frames[30:]:
        forces = frame.get_forces()
        forces[2, 1] = np.nan
        change(frame, forces=forces)
    return Failure(frames, Outcome.NAN, 30)


def exploding_bond() -> Failure:
    """A ring bond of benzene grows by 0.03 Å per frame to 2.1 Å and stays there."""
    atoms = molecule("C6H6")
    usual = atoms.get_distance(0, 1)
    start(atoms, Springs(atoms), 100, 0)
    frames = frozen_copies(run(VelocityVerlet(atoms, 0.5 * units.fs), 0.4))
    for number, frame in enumerate(frames):
        extra = np.clip(0.03 * (number - 20), 0.0, 0.7)
        along = frame.positions[0] - frame.positions[1]
        frame.positions[[0, 6]] += extra * along / np.linalg.norm(along)
    start_lengths = frames[0].get_all_distances()
    bonds = [(i, j) for i, j in combinations(range(12), 2) if start_lengths[i, j] < 1.7]
    assert usual < 1.45
    assert len(bonds) == 12

    def is_wrong(frame: Atoms) -> bool:
        return any(abs(frame.get_distance(i, j) - start_lengths[i, j]) > 0.5 for i, j in bonds)

    return Failure(frames, Outcome.STRETCHED, first_frame(frames, is_wrong))


def selenium_fusion() -> Failure:
    """Two selenium atoms of a GeSe crystal collapse onto each other, across a periodic boundary."""
    crystal = bulk("GeSe", "rocksalt", a=5.6, cubic=True) * 2
    selenium = np.flatnonzero(crystal.numbers == 34)
    one = int(selenium[0])
    other = min((int(j) for j in selenium[1:]), key=lambda j: (crystal.get_distance(one, j, mic=True), -j))
    rng = np.random.default_rng(0)
    frames = []
    for number in range(80):
        frame = crystal.copy()
        vector = frame.get_distance(one, other, mic=True, vector=True)
        frame.positions[one] += vector * min(0.01 * number, 0.7)
        frame.positions += 0.01 * rng.standard_normal(frame.positions.shape)
        frame.info["time_ps"] = 0.005 * number
        frames.append(frame)
    limit = 0.6 * 2 * 1.20

    def is_wrong(frame: Atoms) -> bool:
        return bool(frame.get_distance(one, other, mic=True) < limit)

    return Failure(frames, Outcome.FUSED, first_frame(frames, is_wrong))


def hydrogen_loss() -> Failure:
    """A hydrogen atom of ethanol walks away by 0.05 Å per frame."""
    frames = ethanol_run(80)
    hydrogen = 4
    carbon = min((0, 1), key=lambda c: frames[0].get_distance(hydrogen, c))
    for number, frame in enumerate(frames):
        away = frame.positions[hydrogen] - frame.positions[carbon]
        frame.positions[hydrogen] += away / np.linalg.norm(away) * max(0.0, 0.05 * (number - 20))

    def is_wrong(frame: Atoms) -> bool:
        return bool(frame.get_distance(hydrogen, carbon) > 0.76 + 0.31 + 0.8)

    return Failure(frames, Outcome.BROKEN, first_frame(frames, is_wrong))


def fused_molecules() -> Failure:
    """Two methyl radicals approach until their carbon atoms are bonded."""
    pair = molecule("CH3") + molecule("CH3")
    rng = np.random.default_rng(0)
    frames = []
    for number in range(60):
        frame = pair.copy()
        frame.positions[4:, 2] += 4.0 - 0.05 * number
        frame.positions += 0.005 * rng.standard_normal(frame.positions.shape)
        frame.info["time_ps"] = 0.005 * number
        frames.append(frame)
    return Failure(frames, Outcome.BROKEN, first_frame(frames, lambda frame: frame.get_distance(0, 4) < 1.52 + 0.2))


def evaporation() -> Failure:
    """An atom of a copper cluster flies off."""
    atoms = start(Octahedron("Cu", 3, cutoff=1), EMT(), 300, 0)
    frames = frozen_copies(run(VelocityVerlet(atoms, 5 * units.fs), 0.6))
    center = frames[0].get_center_of_mass()
    atom = int(np.argmax(np.linalg.norm(frames[0].positions - center, axis=1)))
    for number, frame in enumerate(frames):
        away = frame.positions[atom] - center
        frame.positions[atom] += away / np.linalg.norm(away) * max(0.0, 0.1 * (number - 20))

    def is_wrong(frame: Atoms) -> bool:
        others = np.delete(np.arange(len(frame)), atom)
        return bool(frame.get_distances(atom, others).min() > 6.0)

    return Failure(frames, Outcome.EVAPORATED, first_frame(frames, is_wrong))


def melted_lattice() -> Failure:
    """Crystalline argon at liquid density and 250 K; wrong is what has lost a quarter of its first Bragg peak."""
    atoms = start(bulk("Ar", cubic=True, a=5.6) * 3, Argon(cutoff=6.0), 250, 0)
    frames = frozen_copies(run(langevin(atoms, 10, 250), 4.0, 20.0))
    peaks = 3 * np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])

    def order(frame: Atoms) -> float:
        amplitudes = np.exp(2j * np.pi * frame.get_scaled_positions() @ peaks.T).mean(axis=0)
        return float((np.abs(amplitudes) ** 2).mean())

    return Failure(frames, Outcome.RESTRUCTURED, first_frame(frames, lambda f: order(f) < 0.25), {"target_K": 250})


def thermostat_off() -> Failure:
    """A cluster without rigid motion under ASE's Bussi thermostat, which counts 3N degrees of freedom: hot by 1.18."""
    atoms = start(argon_cluster(), Argon(cutoff=12.0), 15, 4)
    dynamics = Bussi(atoms, 10 * units.fs, temperature_K=15, taut=50 * units.fs, rng=np.random.RandomState(4))
    frames = frozen_copies(run(dynamics, 30.0, 50.0))
    return Failure(frames, Outcome.WRONG_TEMPERATURE, None, {"ensemble": "nvt", "target_K": 15})


def energy_jump() -> Failure:
    """The potential energy of solid argon is 0.2 eV higher from frame 60 on."""
    frames = argon_run(100)
    for frame in frames[60:]:
        change(frame, energy=frame.get_potential_energy() + 0.2)
    return Failure(frames, Outcome.ENERGY_JUMPED, 60, {"ensemble": "nve"})


def energy_drift() -> Failure:
    """The energy of solid argon drifts by 1 meV/atom/ps."""
    frames = argon_run(250)
    for frame in frames:
        change(frame, energy=frame.get_potential_energy() + 1e-3 * len(frame) * frame.info["time_ps"])
    return Failure(frames, Outcome.DRIFTED, None, {"ensemble": "nve"})


def cell_collapse() -> Failure:
    """A copper crystal shrinks by 0.5 % per frame in each direction."""
    crystal = bulk("Cu", cubic=True) * 3
    rng = np.random.default_rng(0)
    frames = []
    for number in range(60):
        frame = crystal.copy()
        frame.set_cell(crystal.cell * 0.995 ** max(0, number - 10), scale_atoms=True)
        frame.positions += 0.02 * rng.standard_normal(frame.positions.shape)
        frame.info["time_ps"] = 0.005 * number
        frames.append(frame)
    volume = crystal.get_volume()
    return Failure(frames, Outcome.CELL_CHANGED, first_frame(frames, lambda f: f.get_volume() < 0.67 * volume))


def frozen_atoms() -> Failure:
    """Five atoms of solid argon stand still from frame 40 on."""
    frames = argon_run(80)
    for frame in frames[41:]:
        frame.positions[10:15] = frames[40].positions[10:15]
    return Failure(frames, Outcome.FROZEN, 40)


def stale_calculator() -> Failure:
    """Forces of solid argon are those of frame 50 from then on."""
    frames = argon_run(80)
    for frame in frames[51:]:
        change(frame, forces=frames[50].get_forces())
    return Failure(frames, Outcome.STALE, 51)


def hot() -> Failure:
    """The momenta of ethanol are twenty times too large from frame 30 on."""
    frames = ethanol_run()
    for frame in frames[30:]:
        frame.set_momenta(20 * frame.get_momenta())
    return Failure(frames, Outcome.EXPLODED, 30, {"target_K": 300})


def all_stops() -> Failure:
    """Momenta of solid argon fade to nothing between 1 and 2 ps."""
    frames = argon_run(150)
    for frame in frames:
        frame.set_momenta(frame.get_momenta() * np.clip(2.0 - frame.info["time_ps"], 1e-3, 1.0))

    def is_wrong(frame: Atoms) -> bool:
        ratio = frame.get_temperature() / frames[0].get_temperature()
        return bool(ratio < 0.05) and frame.info["time_ps"] > first_cold + 0.49

    first_cold = next(f.info["time_ps"] for f in frames if f.get_temperature() < 0.05 * frames[0].get_temperature())
    return Failure(frames, Outcome.FROZEN, first_frame(frames, is_wrong))


def strong_force() -> Failure:
    """A force of 150 eV/Å."""
    frames = ethanol_run()
    forces = frames[44].get_forces()
    forces[3] = [150.0, 0.0, 0.0]
    change(frames[44], forces=forces)
    return Failure(frames, Outcome.STRONG_FORCE, 44)


def uncertain() -> Failure:
    """The members of an ensemble are 0.8 eV/Å apart about one atom."""
    frames = ethanol_run()
    for number, frame in enumerate(frames):
        spread = np.full(len(frame), 0.05)
        spread[2] = 0.8 if number >= 25 else 0.1
        frame.arrays["forces_spread"] = spread
    return Failure(frames, Outcome.UNCERTAIN, 25)


def other_liquid() -> Failure:
    """Argon crystallises, as it were: a liquid as the reference, and a trajectory that turns into a crystal."""
    atoms = start(bulk("Ar", cubic=True, a=5.6) * 3, Argon(cutoff=6.0), 300, 0)
    liquid = frozen_copies(run(langevin(atoms, 10, 300), 8.0, 100.0))[20:]
    crystal = bulk("Ar", cubic=True, a=5.6) * 3
    rng = np.random.default_rng(0)
    frames = [frame.copy() for frame in liquid[30:]]
    for _ in range(20):
        frames.append(crystal.copy())
        frames[-1].positions += 0.1 * rng.standard_normal(crystal.positions.shape)
    for number, frame in enumerate(frames):
        frame.info["time_ps"] = 0.1 * number
    return Failure(frames, Outcome.RESTRUCTURED, None, {"reference": liquid[:30]})


FAILURES: dict[str, Callable[[], Failure]] = {
    "NaN force": nan_force,
    "exploding bond": exploding_bond,
    "Se-Se fusion": selenium_fusion,
    "H loss": hydrogen_loss,
    "evaporation": evaporation,
    "melted lattice": melted_lattice,
    "thermostat off by dof": thermostat_off,
    "energy jump": energy_jump,
    "drifting energy": energy_drift,
    "cell collapse": cell_collapse,
    "frozen atoms": frozen_atoms,
    "stale calculator": stale_calculator,
    "temperature explosion": hot,
    "all motion stops": all_stops,
    "molecules fuse": fused_molecules,
    "strong force": strong_force,
    "committee disagrees": uncertain,
    "liquid unlike reference": other_liquid,
}
"""The first twelve are those of the plan of this package; the others complete the list of outcomes."""


# ----- trajectories that are fine -----


@dataclass(frozen=True)
class Healthy:
    """A simulation that should raise no alarm."""

    frames: Iterator[Atoms]
    told: dict[str, Any] = field(default_factory=dict)


def argon_cluster() -> Atoms:
    """The icosahedron of 13 argon atoms."""
    atoms = Icosahedron("Ar", 2, latticeconstant=5.4)
    assert len(atoms) == 13
    return atoms


def copper_crystal(time_ps: float) -> Healthy:
    """Copper at 1000 K, Langevin."""
    atoms = start(bulk("Cu", cubic=True, a=3.66) * 3, EMT(), 1000, 1, at_rest=False)
    return Healthy(run(langevin(atoms, 5, 1000), time_ps), {"ensemble": "nvt", "target_K": 1000})


def copper_cluster(time_ps: float) -> Healthy:
    """A cluster of 19 copper atoms at 600 K, constant energy."""
    atoms = start(Octahedron("Cu", 3), EMT(), 1200, 2)
    return Healthy(run(VelocityVerlet(atoms, 5 * units.fs), time_ps), {"ensemble": "nve"})


def copper_slab(time_ps: float) -> Healthy:
    """A copper slab whose lowest layer is fixed, 500 K, Langevin."""
    atoms = fcc111("Cu", (2, 2, 4), vacuum=8.0)
    atoms.pbc = True
    atoms.set_constraint(FixAtoms(indices=np.flatnonzero(atoms.positions[:, 2] < atoms.positions[:, 2].min() + 0.1)))
    start(atoms, EMT(), 500, 3, at_rest=False)
    return Healthy(run(langevin(atoms, 5, 500), time_ps), {"ensemble": "nvt", "target_K": 500})


def argon_solid(time_ps: float) -> Healthy:
    """Solid argon at 40 K, constant energy."""
    atoms = start(bulk("Ar", cubic=True, a=5.3) * 3, Argon(), 80, 4)
    return Healthy(run(VelocityVerlet(atoms, 5 * units.fs), time_ps), {"ensemble": "nve"})


def argon_npt(time_ps: float) -> Healthy:
    """Solid argon at 50 K and no pressure, Martyna-Tobias-Klein."""
    atoms = start(bulk("Ar", cubic=True, a=5.4) * 3, Argon(), 50, 5)
    dynamics = MTKNPT(
        atoms, 5 * units.fs, temperature_K=50, pressure_au=0.0, tdamp=500 * units.fs, pdamp=2000 * units.fs
    )
    return Healthy(run(dynamics, time_ps), {"ensemble": "npt", "target_K": 50})


def argon_liquid(time_ps: float) -> Healthy:
    """Liquid argon at 110 K, constant energy; it starts as a melt."""
    atoms = start(bulk("Ar", cubic=True, a=5.8) * 3, Argon(), 400, 6)
    langevin(atoms, 5, 400).run(600)
    langevin(atoms, 5, 110).run(600)
    remove_rigid_motion(atoms)
    return Healthy(run(VelocityVerlet(atoms, 5 * units.fs), time_ps), {"ensemble": "nve"})


def argon_13(time_ps: float) -> Healthy:
    """Thirteen argon atoms at 15 K, constant energy."""
    return Healthy(
        run(VelocityVerlet(start(argon_cluster(), Argon(cutoff=12.0), 30, 7), 5 * units.fs), time_ps),
        {"ensemble": "nve"},
    )


def silicon(time_ps: float) -> Healthy:
    """Silicon at 1000 K, Langevin."""
    atoms = start(bulk("Si", cubic=True) * 2, silicon_potential(), 1000, 8, at_rest=False)
    return Healthy(run(langevin(atoms, 2.5, 1000), time_ps), {"ensemble": "nvt", "target_K": 1000})


def ethanol(time_ps: float) -> Healthy:
    """Ethanol with Morse bonds at 500 K, Langevin; a few atoms fluctuate a lot."""
    atoms = molecule("CH3CH2OH")
    start(atoms, Springs(atoms), 500, 9, at_rest=False)
    return Healthy(run(langevin(atoms, 0.5, 500), time_ps), {"ensemble": "nvt", "target_K": 500})


def benzene(time_ps: float) -> Healthy:
    """Benzene with Morse bonds at 300 K, constant energy."""
    atoms = molecule("C6H6")
    return Healthy(
        run(VelocityVerlet(start(atoms, Springs(atoms), 600, 10), 0.5 * units.fs), time_ps), {"ensemble": "nve"}
    )


def water(time_ps: float) -> Healthy:
    """Liquid water, 27 flexible molecules at 300 K and 1 g/cm³, Langevin; it starts from a grid."""
    side = (27 * 18.015 * 1.66054) ** (1 / 3)
    rng = np.random.default_rng(0)
    box = Atoms(cell=[side] * 3, pbc=True)
    for place in np.ndindex(3, 3, 3):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.standard_normal(3), center="COM")
        one.translate(side / 3 * (np.array(place) + 0.5))
        box += one
    atoms = start(box, Water(27, 0.5 * side), 300, 11, at_rest=False)
    langevin(atoms, 0.25, 300, 50.0).run(200)
    return Healthy(run(langevin(atoms, 0.5, 300), time_ps), {"ensemble": "nvt", "target_K": 300})


HEALTHY: dict[str, Callable[[float], Healthy]] = {
    "Cu crystal, 1000 K": copper_crystal,
    "Cu cluster, 600 K": copper_cluster,
    "Cu slab, 500 K": copper_slab,
    "Ar solid, 40 K": argon_solid,
    "Ar solid, NPT, 50 K": argon_npt,
    "Ar liquid, 110 K": argon_liquid,
    "Ar cluster, 15 K": argon_13,
    "Si, 1000 K": silicon,
    "ethanol, 500 K": ethanol,
    "benzene, 300 K": benzene,
    "water, 300 K": water,
}


def judge_failure(failure: Failure) -> Inspection:
    """All default monitors on a trajectory with a fault."""
    return inspect(failure.frames, MonitorsConfig(), **failure.told)


def judge_healthy(healthy: Healthy) -> Inspection:
    """All default monitors on a trajectory that is fine."""
    return inspect(healthy.frames, MonitorsConfig(), **healthy.told)


def named_as(inspection: Inspection) -> str:
    """The outcome that a trajectory gets: of the first alarm, one that stops if there is any."""
    first = inspection.failure or next(iter(inspection.alarms), None)
    return "-" if first is None else first.outcome.name


def main() -> None:
    """Print both tables; the exit status says whether all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-ps", type=float, default=20.0, help="length of the healthy trajectories, ps")
    time_ps = parser.parse_args().time_ps
    console = Console()
    table = Table("failure", "expected", "found", "frame", "found at", "what", title="Failures")
    right = 0
    for name, make in FAILURES.items():
        failure = make()
        inspection = judge_failure(failure)
        alarm = inspection.failure or next(iter(inspection.alarms), None)
        found_at = None if alarm is None else alarm.moment.number
        right += named_as(inspection) == failure.outcome.name and failure.frame in (None, found_at)
        what = "" if alarm is None else f"{alarm.monitor}: {alarm.detail}"
        at = "whole run" if failure.frame is None else str(failure.frame)
        table.add_row(name, failure.outcome.name, named_as(inspection), at, str(found_at), what)
    console.print(table)
    table = Table("healthy trajectory", "looks", "alarms", "monitors", "s", title=f"Healthy, {time_ps:g} ps")
    false_alarms = 0
    for name, simulate in HEALTHY.items():
        begun = time.perf_counter()
        inspection = judge_healthy(simulate(time_ps))
        false_alarms += len(inspection.alarms)
        said = "; ".join(f"{a.monitor} at frame {a.moment.number}: {a.detail}" for a in inspection.alarms) or "none"
        seconds = f"{time.perf_counter() - begun:.0f}"
        console.print(f"{name}: {said} ({seconds} s)")  # each takes a while
        table.add_row(name, str(inspection.n_frames), said, ", ".join(inspection.monitors), seconds)
    console.print(table)
    console.print(
        f"{right} of {len(FAILURES)} failures named, {false_alarms} false alarms on {len(HEALTHY)} trajectories"
    )
    raise SystemExit(int(right < len(FAILURES) or false_alarms > 0))


if __name__ == "__main__":
    main()
