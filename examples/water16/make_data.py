"""Make the water16 data sets: 16 H2O in a periodic box, labelled with GFN1-xTB and GFN2-xTB.

The box is that of an earlier study of 16 periodic water molecules (cubic, 14.798444 bohr).  Configurations are
sampled by Langevin dynamics on the GFN1-xTB surface, one chain per temperature, after a melt from a molecular
lattice; each kept configuration is then labelled with energy, forces and stress at both levels.

Run with ``pip install "ase-mlcalc[xtb]"`` and::

    python examples/water16/make_data.py --out water16-work

About 50 minutes on one core.  The command can be killed and repeated: chains go on after their last saved
frame (from its positions and momenta), and labelled frames are not labelled again.
"""

import argparse
import gzip
import os
import shutil
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # 48 atoms: one thread per process is fastest

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tblite.ase import TBLite

BOX_ANGSTROM = 14.798444 * units.Bohr
TEMPERATURES_K = (300.0, 400.0, 500.0, 600.0)
FRAMES_PER_CHAIN = (133, 133, 133, 132)  # 531 in all, as in the earlier study
TIMESTEP_FS = 1.0
MELT_STEPS = 600
STEPS_BETWEEN_FRAMES = 15
FRICTION_PER_FS = 0.02
LEVELS = {"gfn1": "GFN1-xTB", "gfn2": "GFN2-xTB"}


def water_lattice(seed: int) -> Atoms:
    """Sixteen randomly turned molecules on a body-centred arrangement of 2 x 2 x 2 cells."""
    rng = np.random.default_rng(seed)
    box = Atoms(cell=[BOX_ANGSTROM] * 3, pbc=True)
    for cell in np.ndindex(2, 2, 2):
        for basis in ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5)):
            water = molecule("H2O")
            water.euler_rotate(*(rng.uniform(0, 360, 3)), center="COM")
            water.translate((np.array(cell) + basis) * BOX_ANGSTROM / 2 - water.get_center_of_mass())
            box += water
    return box


def sample_chain(index: int, folder: Path, progress: Progress) -> list[Atoms]:
    """Langevin dynamics at one temperature; every kept frame is on disk before the next one is made."""
    path = folder / f"chain_{index}.traj"
    wanted, temperature_K = FRAMES_PER_CHAIN[index], TEMPERATURES_K[index]
    frames = ase.io.read(path, ":") if path.exists() else []
    task = progress.add_task(f"sample {temperature_K:.0f} K", total=wanted, completed=len(frames))
    rng = np.random.default_rng([index, len(frames)])
    if frames:
        atoms = frames[-1].copy()
    else:
        atoms = water_lattice(seed=index)
        MaxwellBoltzmannDistribution(atoms, temperature_K=temperature_K, rng=rng)
        Stationary(atoms)
    atoms.calc = TBLite(method=LEVELS["gfn1"], verbosity=0)
    dynamics = Langevin(
        atoms,
        TIMESTEP_FS * units.fs,
        temperature_K=temperature_K,
        friction=FRICTION_PER_FS / units.fs,
        fixcm=False,
        rng=rng,
    )
    if not frames:
        # The lattice relaxes strongly at first: hold the heat back with a short step, then melt.
        dynamics.set_timestep(0.3 * units.fs)
        dynamics.run(150)
        dynamics.set_timestep(TIMESTEP_FS * units.fs)
        dynamics.run(MELT_STEPS)
    with ase.io.Trajectory(path, "a") as writer:
        while len(frames) < wanted:
            dynamics.run(STEPS_BETWEEN_FRAMES)
            snapshot = atoms.copy()
            writer.write(snapshot)
            frames.append(snapshot)
            progress.update(task, completed=len(frames))
    return frames


def label(frames: list[Atoms], level: str, folder: Path, progress: Progress) -> list[Atoms]:
    """Single points at one level; positions are rounded first, so that the file holds what was labelled."""
    path = folder / f"labels_{level}.traj"
    done = ase.io.read(path, ":") if path.exists() else []
    task = progress.add_task(f"label {LEVELS[level]}", total=len(frames), completed=len(done))
    with ase.io.Trajectory(path, "a") as writer:
        for frame in frames[len(done) :]:
            atoms = Atoms(frame.numbers, np.round(frame.positions, 5), cell=frame.cell, pbc=True)
            atoms.info["temperature_K"] = frame.info["temperature_K"]
            atoms.calc = TBLite(method=LEVELS[level], verbosity=0)
            results = {
                "energy": round(float(atoms.get_potential_energy()), 6),
                "forces": np.round(atoms.get_forces(), 5),
                "stress": np.round(atoms.get_stress(), 8),
            }
            atoms.calc = SinglePointCalculator(atoms, **results)
            writer.write(atoms)
            done.append(atoms)
            progress.update(task, completed=len(done))
    return done


def export(frames: list[Atoms], level: str, folder: Path) -> Path:
    """Compressed extxyz in a fixed random order, so that any leading part is a fair sample."""
    order = np.random.default_rng(16).permutation(len(frames))
    chosen = []
    for k in order:
        atoms = frames[k]
        atoms.info["level_of_theory"] = LEVELS[level]
        chosen.append(atoms)
    plain = folder / f"water16_{level}.extxyz"
    ase.io.write(plain, chosen, format="extxyz")
    packed = plain.with_suffix(".extxyz.gz")
    # mtime=0 and no name inside: the same frames give the same bytes
    with (
        open(plain, "rb") as source,
        open(packed, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as target,
    ):
        shutil.copyfileobj(source, target)
    return packed


def main() -> None:
    """Sample, label and pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("water16-work"), help="work folder; kept for resuming")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description:>20}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn()) as progress:
        frames: list[Atoms] = []
        for index, temperature_K in enumerate(TEMPERATURES_K):
            chain = sample_chain(index, folder, progress)
            for atoms in chain:
                atoms.info["temperature_K"] = temperature_K
            frames += chain
        for level in LEVELS:
            packed = export(label(frames, level, folder, progress), level, folder)
            progress.console.print(f"wrote {packed} ({packed.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
