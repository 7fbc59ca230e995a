"""What the default calculator of `equivariant` costs and what it is worth, beside torch (``make bench-fast``).

Trains a potential of water for a few minutes (kept in ``--out``), then prints

- the error of its float32 forces against torch in float64,
- drifts at constant energy, float32 by the kernel and float64 by torch, from the same velocities,
- the time per atom and step from 192 to 12 288 atoms, and the part of it outside of the model,
- with ``--large``, time and memory of one call for so many atoms.
"""

# ruff: noqa: E402  (memory is set up before torch is imported, as the command line does)

from ase_mlcalc.memory import keep_memory, use_large_pages

use_large_pages()
keep_memory()

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from peers.with_ours import time_model
from stress import peak_MB

from ase_mlcalc import MLCalculator
from ase_mlcalc.config import validate
from ase_mlcalc.data.sets import water16
from ase_mlcalc.md import MDConfig, run_md
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.train import train

CELLS = {48: (1, 1, 1), 192: (2, 2, 1), 1536: (4, 4, 2), 12288: (8, 8, 4)}
"""How often the box of 16 molecules is repeated."""


def water(repeated: tuple[int, int, int]) -> Atoms:
    """Boxes of 16 water molecules, every atom moved a little, so that they are not images of each other."""
    atoms = ase.io.read(water16("gfn1"), index=0).repeat(repeated)
    atoms.calc = None
    atoms.rattle(0.01, seed=1)
    return atoms


def trained(folder: Path, minutes: float) -> Path:
    """A potential of water, trained unless it is there."""
    job = {
        "output": folder,
        "data": {"train": water16("gfn1")},
        "model": {"name": "equivariant"},
        "train": {"max_minutes": minutes},
    }
    return train(validate(TrainJob, job, "benchmark")).checkpoint


def force_error(model: Path) -> float:
    """Largest difference in forces over the largest force, float32 against float64 by torch."""
    atoms = water(CELLS[192])
    forces = []
    for calculator in (MLCalculator(model, dtype="float32"), MLCalculator(model, dtype="float64", compile=False)):
        atoms.calc = calculator
        forces.append(atoms.get_forces())
    return float(np.abs(forces[0] - forces[1]).max() / np.abs(forces[1]).max())


def drift(calculator: MLCalculator, time_ps: float, seed: int) -> tuple[float, float]:
    """Drift and its standard error in meV/atom/ps at 300 K and 0.5 fs."""
    atoms = water(CELLS[48])
    atoms.calc = calculator
    config = MDConfig(
        ensemble="nve", temperature_K=300, timestep_fs=0.5, time_ps=time_ps, thermo_every_fs=5, stresses_every_fs=0,
        frames_every_fs=1000, seed=seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        result = run_md(atoms, config, Path(folder), progress=False)
    assert result.drift is not None, result.message
    return result.drift.slope, result.drift.stderr


def step_times(model: Path, n_atoms: int, seconds: float) -> tuple[float, float]:
    """Milliseconds of a step at constant energy, and those in the model: the fastest of several stretches."""
    atoms = water(CELLS[n_atoms])
    atoms.calc = calculator = MLCalculator(model)
    seconds_inside = time_model(calculator, "cpu")
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    steps = 10
    begin = time.perf_counter()
    dynamics.run(steps)  # the skin of the neighbour list finds its width
    steps = max(20, round(steps * seconds / (8 * (time.perf_counter() - begin))))
    dynamics.run(steps)
    best = (np.inf, np.inf)
    for _ in range(6):
        before, begin = seconds_inside(), time.perf_counter()
        dynamics.run(steps)
        whole, inside = time.perf_counter() - begin, seconds_inside() - before
        best = min(best, (1e3 * whole / steps, 1e3 * inside / steps))
    return best


def one_call(model: Path, n_atoms: int) -> dict[str, float]:
    """Seconds and gigabytes of energy, forces and stresses of a box of water with at least so many atoms."""
    side = int(np.ceil((n_atoms / 48) ** (1 / 3)))
    atoms = water((side, side, -(-n_atoms // (48 * side * side))))
    atoms.calc = MLCalculator(model)
    begin = time.perf_counter()
    atoms.get_forces()
    return {"atoms": len(atoms), "seconds": time.perf_counter() - begin, "gigabytes": peak_MB() * 2**20 / 1e9}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/fast_path"))
    parser.add_argument("--minutes", type=float, default=3.0, help="of training")
    parser.add_argument("--time-ps", type=float, default=10.0, help="of each run at constant energy")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each size that is timed")
    parser.add_argument("--large", type=int, default=100_000, metavar="ATOMS")
    parser.add_argument("--only-large", type=Path, metavar="MODEL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only_large:  # in a process of its own, whose memory is that of this alone
        print(json.dumps(one_call(arguments.only_large, arguments.large)))
        return
    model = trained(arguments.out, arguments.minutes)
    print(f"threads: {torch.get_num_threads()}")
    print(f"largest error of float32 forces over the largest force: {force_error(model):.1e}", flush=True)
    per_atom = {}
    for n_atoms in CELLS:
        step, inside = step_times(model, n_atoms, arguments.seconds)
        per_atom[n_atoms] = 1e3 * step / n_atoms
        print(
            f"{n_atoms:6d} atoms: {step:.3f} ms a step, {per_atom[n_atoms]:.1f} µs an atom, "
            f"{100 * (1 - inside / step):.0f} % outside of the model",
            flush=True,
        )
    print(f"µs an atom, {max(CELLS)} atoms over 192: {per_atom[max(CELLS)] / per_atom[192]:.2f}")
    again = [sys.executable, __file__, "--only-large", str(model), "--large", str(arguments.large)]
    said = subprocess.run(again, check=True, capture_output=True, text=True).stdout  # noqa: S603  (this script)
    large = json.loads(said.splitlines()[-1])
    print(f"{large['atoms']} atoms: {large['seconds']:.1f} s, {large['gigabytes']:.2f} GB at most", flush=True)
    for seed in range(arguments.seeds):
        for name, calculator in (
            ("float32 by the kernel", MLCalculator(model, dtype="float32")),
            ("float64 by torch", MLCalculator(model, dtype="float64", compile=False)),
        ):
            slope, error = drift(calculator, arguments.time_ps, seed)
            print(f"drift, seed {seed}, {name}: {slope:+.5f} ± {error:.5f} meV/atom/ps", flush=True)


if __name__ == "__main__":
    main()
