"""32 replicas of aspirin (21 atoms) in one batch by TorchSim against 32 runs by ASE (``make bench-torchsim``).

Trains `equivariant`, which has a kernel in this package, and `schnet`, which torch evaluates, on revised MD17 for some
minutes each (kept in ``--out``), then prints for each

- the time of a step of all replicas: by ASE one replica after another, for `equivariant` also with torch alone, and by
  TorchSim in one batch; the ways take turns, and ratios are medians over the turns;
- where the time of a batched step goes;
- the time of a study by both engines, monitors and files included, on all cores;
- from these studies: drift at constant energy, and the temperature of Langevin dynamics.

Needs the extra `torchsim` and public data, see docs/data.md.
"""

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from torch_sim.integrators.md import MDState, momentum_step, position_step

from ase_mlcalc import MLCalculator
from ase_mlcalc.config import validate
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.md.velocities import draw_momenta
from ase_mlcalc.study import StudyJob, StudySummary, run_study
from ase_mlcalc.torchsim import TorchSimModel
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.train import train

TIMESTEP_FS, TEMPERATURE_K = 0.5, 300.0


def trained(name: str, data: Path, folder: Path, minutes: float) -> Path:
    """A potential of aspirin, trained unless it is there."""
    job = {
        "output": folder / name,
        "data": {"train": data / "rmd17/aspirin_train.npz"},
        "model": {"name": name},
        "train": {"max_minutes": minutes},
    }
    return train(validate(TrainJob, job, "benchmark")).checkpoint


def replicas(data: Path, count: int) -> list[Atoms]:
    """The same molecule with velocities of its own each."""
    molecule = read_frames([data / "rmd17/aspirin_test.npz"])[0].atoms
    found = []
    for seed in range(count):
        atoms = molecule.copy()
        draw_momenta(atoms, TEMPERATURE_K, np.random.default_rng(seed))
        found.append(atoms)
    return found


def stepper_of_ase(every: Sequence[Atoms], model: Path, **keys: object) -> Callable[[int], None]:
    """Steps of all replicas, one replica after another, as runs of ASE are."""
    runs = []
    for atoms in every:
        own = atoms.copy()
        own.calc = MLCalculator(model, **keys)
        runs.append(VelocityVerlet(own, TIMESTEP_FS * units.fs))

    def steps(count: int) -> None:
        for dynamics in runs:
            dynamics.run(count)

    return steps


def stepper_of_torchsim(every: Sequence[Atoms], model: Path) -> Callable[[int], None]:
    """Steps of all replicas in one state."""
    potential = TorchSimModel(model)
    potential.compute_stress = False
    state = state_of(every)
    half, whole = (torch.tensor(share * TIMESTEP_FS * units.fs, dtype=torch.float64) for share in (0.5, 1.0))
    state.forces = potential(state)["forces"]

    def steps(count: int) -> None:
        for _ in range(count):
            momentum_step(state, half)
            position_step(state, whole)
            found = potential(state)
            state.energy, state.forces = found["energy"], found["forces"]
            momentum_step(state, half)

    return steps


def state_of(every: Sequence[Atoms]) -> MDState:
    """One state of TorchSim."""
    sizes = torch.tensor([len(atoms) for atoms in every])
    positions = torch.from_numpy(np.concatenate([atoms.positions for atoms in every]))
    return MDState(
        positions=positions,
        momenta=torch.from_numpy(np.concatenate([atoms.get_momenta() for atoms in every])),
        masses=torch.from_numpy(np.concatenate([atoms.get_masses() for atoms in every])),
        cell=torch.zeros(len(every), 3, 3, dtype=torch.float64),
        pbc=False,
        atomic_numbers=torch.from_numpy(np.concatenate([atoms.numbers for atoms in every])),
        system_idx=torch.repeat_interleave(torch.arange(len(every)), sizes),
        energy=torch.zeros(len(every), dtype=torch.float64),
        forces=torch.zeros_like(positions),
    )


def in_turns(ways: dict[str, Callable[[int], None]], turns: int, seconds: float) -> dict[str, np.ndarray]:
    """Milliseconds of a step of all replicas by each way, in each turn."""
    counts = {}
    for name, steps in ways.items():
        steps(5)  # the skin of the neighbour lists finds its width
        begin = time.perf_counter()
        steps(5)
        counts[name] = max(5, round(5 * seconds / (time.perf_counter() - begin)))
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, steps in ways.items():
            begin = time.perf_counter()
            steps(counts[name])
            found[name].append(1e3 * (time.perf_counter() - begin) / counts[name])
    return {name: np.array(each) for name, each in found.items()}


def parts(every: Sequence[Atoms], model: Path) -> dict[str, float]:
    """Milliseconds of the parts of an evaluation of all replicas."""
    potential = TorchSimModel(model)
    state, rng = state_of(every), np.random.default_rng(0)
    potential(state)
    batch = potential._batch[1]  # noqa: SLF001  (what it is made of is what is measured)
    cells = np.zeros((len(every), 3, 3))
    positions = np.concatenate([atoms.positions for atoms in every])
    spent = {"neighbour lists": 0.0, "evaluation, with them": 0.0}
    for name, call in (
        ("neighbour lists", lambda x: batch.neighbors(x, cells)),
        ("evaluation, with them", lambda x: batch(x, cells)),
    ):
        moving = positions.copy()
        times = []
        for _ in range(200):
            moving += 0.003 * rng.standard_normal(moving.shape)  # as in a step
            begin = time.perf_counter()
            call(moving)
            times.append(time.perf_counter() - begin)
        spent[name] = 1e3 * float(np.median(times))
    return spent


def study(folder: Path, model: Path, structure: Path, engine: str, seeds: int, md: dict[str, object]) -> StudyJob:
    """All replicas as a study."""
    raw = {
        "study": {
            "output": folder,
            "models": {"model": {"model": str(model)}},
            "structures": {"aspirin": str(structure)},
            "temperatures_K": [TEMPERATURE_K],
            "timesteps_fs": [TIMESTEP_FS],
            "seeds": seeds,
            "scans": False,
            "engine": engine,
        },
        "md": md,
    }
    return validate(StudyJob, raw, "benchmark")


def studied(job: StudyJob) -> tuple[float, StudySummary]:
    """Seconds that a study takes from its beginning, and what it found."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(job.study.output)
    begin = time.perf_counter()
    summary = run_study(job, progress=False)
    seconds = time.perf_counter() - begin
    if any(run.status == "error" for run in summary.runs):
        raise SystemExit(f"not all runs could be made: {summary.verdict}")
    return seconds, summary


def steps_of(name: str, model: Path, every: Sequence[Atoms], turns: int, seconds: float) -> None:
    """Print what a step takes by each way."""
    ways = {"ASE": stepper_of_ase(every, model), "TorchSim": stepper_of_torchsim(every, model)}
    if MLCalculator(model).kernel is not None:
        ways["ASE, torch alone"] = stepper_of_ase(every, model, compile=False)
    found = in_turns(ways, turns, seconds)
    for way, each in found.items():
        ratio = np.median(each / found["TorchSim"])
        print(
            f"{name}, {way}: {np.median(each):.2f} ms a step of all replicas, {ratio:.2f} times that of TorchSim",
            flush=True,
        )
    for part, milliseconds in parts(every, model).items():
        print(f"{name}, of a batched step: {part} {milliseconds:.2f} ms", flush=True)


def studies_of(name: str, model: Path, structure: Path, seeds: int, time_ps: float, out: Path) -> None:
    """Print what studies take by both engines, and what they find."""
    recorded = {"time_ps": time_ps, "stresses_every_fs": 0.0}
    for kind, md in (
        ("nve", {"ensemble": "nve", **recorded}),
        ("langevin", {"ensemble": "nvt", "friction_per_ps": 20.0, **recorded}),
    ):
        spent = {}
        for engine in ("ase", "torchsim"):
            job = study(out / f"{name}-{kind}-{engine}", model, structure, engine, seeds, md)
            spent[engine], summary = studied(job)
            (group,) = summary.groups
            drift, warmth = group.drift_meV_per_atom_per_ps, group.temperature
            what = f"{group.n_stable} of {group.n_runs} stable"
            what += "" if drift is None else f", drift {drift:+.4f} ± {group.drift_stderr:.4f} meV/atom/ps"
            what += "" if warmth is None else f", {warmth.mean_K:.1f} ± {warmth.mean_stderr_K:.1f} K"
            print(f"{name}, study, {kind} by {engine}: {spent[engine]:.1f} s; {what}", flush=True)
        ratio = spent["ase"] / spent["torchsim"]
        print(f"{name}, study, {kind}: {ratio:.2f} times faster by torchsim, {job.study.n_workers} workers", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ASE_MLCALC_DATA", "data")))
    parser.add_argument("--out", type=Path, default=Path("runs/torchsim"))
    parser.add_argument("--models", nargs="+", default=["equivariant", "schnet"])
    parser.add_argument("--minutes", type=float, default=3.0, help="of training")
    parser.add_argument("--replicas", type=int, default=32)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way in a turn")
    parser.add_argument("--time-ps", type=float, default=1.0, help="of each run of the studies; 0: no studies")
    arguments = parser.parse_args()
    every = replicas(arguments.data, arguments.replicas)
    start = arguments.out / "aspirin.extxyz"
    start.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(start, every[0])
    for name in arguments.models:
        model = trained(name, arguments.data, arguments.out, arguments.minutes)
        threads, load = torch.get_num_threads(), os.getloadavg()[0]
        print(f"{name}: {len(every)} replicas of {len(every[0])} atoms, {threads} threads, load {load:.1f}", flush=True)
        steps_of(name, model, every, arguments.turns, arguments.seconds)
        if arguments.time_ps > 0:
            studies_of(name, model, start, len(every), arguments.time_ps, arguments.out)


if __name__ == "__main__":
    main()
