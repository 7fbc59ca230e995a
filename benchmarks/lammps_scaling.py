"""Water in LAMMPS by MPI: speed against ASE and against itself, drift, and what follows for more processes.

``make bench-lammps``.  Trains the potential of ``bench-fast`` (kept), then prints

- milliseconds of a step, 1536 to 12 288 atoms, one and two processes with one thread each, in turn with the ASE
  calculator at 1536 atoms: ratios within a round, medians over rounds;
- strong and weak scaling, and where the time of a process goes;
- the drift at constant energy over ``--time-ps`` on two processes with atoms that migrate, and with ASE;
- what a cost model made of these numbers says of 10^6 to 10^9 atoms.

Written to ``--out``: ``lammps.json`` and ``lammps_scaling.png``.
"""

# ruff: noqa: E402  (memory is set up before torch is imported, as the command line does)

from ase_mlcalc.memory import keep_memory, use_large_pages

use_large_pages()
keep_memory()

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import torch
from ase import Atoms, units
from ase.io.lammpsdata import write_lammps_data
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from fast_path import CELLS, trained, water

from ase_mlcalc import MLCalculator
from ase_mlcalc.checkpoint import load
from ase_mlcalc.files import write_text
from ase_mlcalc.md.drift import energy_drift
from ase_mlcalc.plots import logarithmic, new_axes, new_figure, save

SIZES = {1536: CELLS[1536], 3072: (4, 4, 4), 6144: (8, 4, 4), 12288: CELLS[12288]}
BESIDE_ASE = 1536
TIMESTEP_FS = 0.5
SKIN_ANGSTROM = 1.0
DRIFT_K = 150.0
"""Of the velocities; copies of one small box hold energy to spare, and end up near 300 K."""
NETWORK_GB_S, LATENCY_US = 10.0, 3.0
"""Assumed of a network between nodes: what one process gets of it, and what a message costs."""

INPUT = """\
units           metal
atom_style      atomic
read_data       {data}
pair_style      ase_mlcalc {model}
pair_coeff      * * O H
neighbor        {skin} bin
timestep        {timestep}
fix             1 all nve
thermo_style    custom step etotal temp
thermo_modify   format float %.12g
"""


def write_structure(n_atoms: int, cells: tuple[int, int, int], path: Path, temperature_K: float = 300.0) -> Atoms:
    """Water with velocities, which is returned too."""
    atoms = water(cells)
    assert len(atoms) == n_atoms
    atoms.wrap()
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature_K, rng=np.random.default_rng(0))
    write_lammps_data(
        path, atoms, specorder=["O", "H"], masses=True, velocities=True, atom_style="atomic", units="metal"
    )
    return atoms


def run_lammps(n: int, folder: Path, name: str, body: str, model: Path, data: Path) -> str:
    """The log of an input in n processes."""
    text = INPUT.format(data=data, model=model, skin=SKIN_ANGSTROM, timestep=1e-3 * TIMESTEP_FS)
    (folder / f"{name}.lmp").write_text(text + body)
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or "mpirun"
    command = [mpirun, "-np", str(n), sys.executable, __file__, "--inside", folder / f"{name}.lmp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603
        [str(c) for c in command], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return done.stdout


def inside(path: Path) -> None:
    """One process of LAMMPS, which says where its time went."""
    from ase_mlcalc.accelerate.engines import Kernel
    from ase_mlcalc.lammps import bridge, run_input
    from ase_mlcalc.lammps.halo import Ownership
    from ase_mlcalc.lammps.share import EdgesOfShare

    spent, owned, halo = defaultdict(float), [], []

    def timed(owner: type, name: str, part: str) -> None:
        real = getattr(owner, name)

        def call(*arguments):
            begin = time.perf_counter()
            try:
                return real(*arguments)
            finally:
                spent[part] += time.perf_counter() - begin

        setattr(owner, name, call)

    timed(Kernel, "of_share", "model and exchange")
    timed(Ownership, "fill", "exchange")
    timed(Ownership, "give_back", "giving back")
    timed(EdgesOfShare, "__call__", "edges")
    timed(bridge.Bridge, "_hand_out", "handing out")
    timed(bridge.Bridge, "_compute", "all of ours")
    real = bridge.Bridge._compute  # noqa: SLF001

    def counted(self, *arguments):
        real(self, *arguments)
        ownership = self._ownership
        owned.append(ownership.n_owned)
        halo.append(ownership.n_rows - ownership.n_owned)

    bridge.Bridge._compute = counted  # noqa: SLF001
    run_input(path, log=None)
    calls = len(owned)
    said = {part: 1e3 * seconds / calls for part, seconds in spent.items()}
    from mpi4py import MPI

    everyone = MPI.COMM_WORLD.gather({**said, "owned": np.mean(owned), "halo": np.mean(halo)})
    if MPI.COMM_WORLD.rank == 0:
        print("SPENT", json.dumps(everyone), flush=True)


def lammps_times(n: int, n_atoms: int, folder: Path, model: Path, steps: int) -> tuple[float, list[dict[str, float]]]:
    """Milliseconds of a step, the fastest of three stretches, and where it went in each process."""
    body = f"thermo 1000\nrun 5\nrun {steps}\nrun {steps}\nrun {steps}\n"
    log = run_lammps(n, folder, f"speed-{n_atoms}", body, model, folder / f"{n_atoms}.data")
    loops = [float(seconds) for seconds in re.findall(r"Loop time of (\S+) on", log)]
    return 1e3 * min(loops[1:]) / steps, json.loads(re.findall(r"SPENT (.*)", log)[0])


def ase_time(model: Path, steps: int) -> float:
    """Milliseconds of a step with the ASE calculator: the fastest of three stretches."""
    atoms = water(SIZES[BESIDE_ASE])
    atoms.calc = MLCalculator(model)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
    dynamics = VelocityVerlet(atoms, TIMESTEP_FS * units.fs)
    dynamics.run(5)
    best = np.inf
    for _ in range(3):
        begin = time.perf_counter()
        dynamics.run(steps)
        best = min(best, 1e3 * (time.perf_counter() - begin) / steps)
    return best


def subprocess_ase(model: Path, steps: int) -> float:
    """The same in a process of its own with one thread."""
    command = [sys.executable, __file__, "--only-ase", str(model), "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)  # noqa: S603
    return float(done.stdout)


def drifts(model: Path, folder: Path, time_ps: float) -> dict[str, tuple[float, float]]:
    """Drift and standard error, meV/atom/ps, of 192 atoms: two processes of LAMMPS, and ASE."""
    n_atoms, rows = 192, 10
    data = folder / "drift.data"
    atoms = write_structure(n_atoms, CELLS[n_atoms], data, DRIFT_K)
    steps = round(1000 * time_ps / TIMESTEP_FS)
    body = (
        f"dump 1 all custom {steps} {folder}/drift.dump id proc\ndump_modify 1 sort id first yes\n"
        f"thermo {rows}\nrun {steps}\n"
    )
    log = run_lammps(2, folder, "drift", body, model, data)
    table = np.array(re.findall(r"^ +(\d+) +(-?[\d.]+) +[\d.]+ *$", log, re.MULTILINE), dtype=float)
    owners = [
        np.array([line.split()[1] for line in frame.splitlines()[1 : n_atoms + 1]])
        for frame in (folder / "drift.dump").read_text().split("ITEM: ATOMS ")[1:]
    ]
    moved = int((owners[0] != owners[-1]).sum())
    print(f"drift: {len(table)} rows, {moved} of {n_atoms} atoms have another owner at the end", flush=True)
    found = energy_drift(1e-3 * TIMESTEP_FS * table[:, 0], table[:, 1], n_atoms)
    atoms.calc = MLCalculator(model)
    dynamics, energies = VelocityVerlet(atoms, TIMESTEP_FS * units.fs), []
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()), rows)
    dynamics.run(steps)
    times = 1e-3 * TIMESTEP_FS * rows * np.arange(len(energies))
    by_ase = energy_drift(times, energies, n_atoms)
    assert found is not None
    assert by_ase is not None
    return {"LAMMPS, 2 processes": found[:2], "ASE": by_ase[:2]}


def carrying_us(model: Path) -> float:
    """Microseconds of a step in which rows of one atom are taken for another process and put where one's own belong.

    Without the network between, and without waiting: what a step with two processes on two shared cores says is mostly
    how long one waits for the other.
    """
    potential = load(model)
    config = potential.model.config
    rows = np.zeros((20_000, (1 + config.l_max) ** 2 * config.edge_features), dtype=np.float32)
    mine, into = np.random.default_rng(0).permutation(len(rows))[:5000], np.empty_like(rows[:5000])
    best = np.inf
    for _ in range(20):
        begin = time.perf_counter()
        into[:] = rows.take(mine, axis=0)
        best = min(best, time.perf_counter() - begin)
    return 1e6 * 2 * config.n_interactions * best / len(mine)


def cost_model(model: Path, result: dict, own_atoms: int) -> list[dict[str, float]]:
    """What a step takes where each process owns so many atoms in a cube, by measured and assumed numbers.

    Time = atoms × (model, edges) + halo × (packing, unpacking, bytes / bandwidth) + messages × latency + handing out.
    """
    potential = load(model)
    config = potential.model.config
    atoms = water(SIZES[BESIDE_ASE])
    density = len(atoms) / atoms.get_volume()
    per_atom_us = result["per atom, us"]
    width = (1 + config.l_max) ** 2 * config.edge_features * potential.dtype.itemsize
    halo_bytes = 2 * config.n_interactions * width + 3 * 8
    reach = config.cutoff + SKIN_ANGSTROM
    side = (own_atoms / density) ** (1 / 3)
    halo = density * ((side + 2 * reach) ** 3 - side**3)
    neighbors = int(np.prod([2 * np.ceil(reach / side) + 1] * 3)) - 1
    rounds = 2 * config.n_interactions + 1
    compute_ms = 1e-3 * per_atom_us * own_atoms
    carry_ms = 1e-3 * result["per atom of the halo, us"] * halo + 1e-6 * halo * halo_bytes / NETWORK_GB_S
    latency_ms = 1e-3 * LATENCY_US * rounds * neighbors
    found = []
    for n_atoms in (10**6, 10**7, 10**8, 10**9):
        processes = n_atoms / own_atoms
        reduce_ms = 1e-3 * LATENCY_US * 2 * np.log2(processes)
        total = compute_ms + carry_ms + latency_ms + reduce_ms
        found.append(
            {
                "atoms": n_atoms,
                "own atoms": own_atoms,
                "processes": processes,
                "halo atoms": halo,
                "MB sent": 1e-6 * halo * halo_bytes,
                "ms/step": total,
                "efficiency": compute_ms / total,
                "ns/day": 86400e3 / total * TIMESTEP_FS * 1e-6,
            }
        )
    return found


def draw(times: dict[tuple[int, int], float], predictions: dict[int, list[dict[str, float]]], path: Path) -> None:
    """Milliseconds of a step against atoms, and the efficiency that the cost model expects."""
    figure = new_figure(10.0, 4.0)
    axes = new_axes(figure, 1, 2, 0)
    for n, colour, marker in ((1, "#2563eb", "o"), (2, "#dc2626", "s")):
        sizes = sorted(size for size, processes in times if processes == n)
        axes.plot(
            sizes,
            [times[size, n] for size in sizes],
            marker=marker,
            color=colour,
            label=f"{n} process" + ("es" if n > 1 else ""),
        )
    sizes = sorted({size for size, _ in times})
    axes.plot(sizes, [times[sizes[0], 1] * size / sizes[0] / 2 for size in sizes], "--", color="#6b7280",
              label="half of one, proportional")  # fmt: skip
    logarithmic(axes, x=True)
    logarithmic(axes)
    axes.set_xlabel("atoms of water")
    axes.set_ylabel("ms per step")
    axes.legend(frameon=False, fontsize=9)
    axes = new_axes(figure, 1, 2, 1)
    own = sorted(predictions)
    axes.plot(own, [100 * predictions[n][0]["efficiency"] for n in own], marker="o", color="#2563eb")
    axes.set_xscale("log")
    axes.set_ylim(0, 105)
    axes.set_xlabel("atoms of each process")
    axes.set_ylabel("% of a step spent on own atoms (cost model)")
    save(figure, path)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/lammps"))
    parser.add_argument("--minutes", type=float, default=3.0, help="of training")
    parser.add_argument("--rounds", type=int, default=3, help="in which everything is timed in turn")
    parser.add_argument("--steps", type=int, default=15, help="of a stretch that is timed, at 1536 atoms")
    parser.add_argument("--time-ps", type=float, default=2.0, help="at constant energy")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only-ase", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.inside:
        inside(arguments.inside)
        return
    if arguments.only_ase:
        print(ase_time(arguments.only_ase, arguments.steps))
        return
    folder = arguments.out.resolve()
    model = trained(folder / "model", arguments.minutes).resolve()
    for size in arguments.sizes:
        write_structure(size, SIZES[size], folder / f"{size}.data")
    result = measure(arguments, folder, model)
    if arguments.time_ps:
        result["drift"] = drifts(model, folder, arguments.time_ps)
        for name, (slope, error) in result["drift"].items():
            print(f"drift over {arguments.time_ps:g} ps, {name}: {slope:+.4f} ± {error:.4f} meV/atom/ps")
    predictions = {n: cost_model(model, result, n) for n in (100, 300, 1000, 3000, 10_000, 30_000)}
    print_cost_model(predictions)
    times = {(int(s), int(n)): t for (s, n), t in ((key.split(" x "), t) for key, t in result["ms"].items())}
    draw(times, predictions, folder / "lammps_scaling.png")
    write_text(folder / "lammps.json", json.dumps({**result, "cost model": predictions}, indent=1))


def print_cost_model(predictions: dict[int, list[dict[str, float]]]) -> None:
    """As the table of docs/engines.md."""
    print(
        f"network: {NETWORK_GB_S:g} GB/s, {LATENCY_US:g} µs a message; copies of atoms for each own atom, by own atoms:"
    )
    print({own: f"{rows[0]['halo atoms'] / own:.2f}" for own, rows in predictions.items()})
    print("| atoms | processes | atoms each | ms/step | of it on own atoms | ns/day |\n|---|---|---|---|---|---|")
    for own in (1000, 10_000):
        for row in predictions[own]:
            print(
                f"| {row['atoms']:.0e} | {row['processes']:.0e} | {own} | {row['ms/step']:.4g} | "
                f"{100 * row['efficiency']:.1f} % | {row['ns/day']:.3g} |"
            )


def measure(arguments: argparse.Namespace, folder: Path, model: Path) -> dict:
    """Times in turn; ratios within a round."""
    rounds, spent = defaultdict(list), {}
    for _ in range(arguments.rounds):
        rounds["ASE"].append(subprocess_ase(model, arguments.steps))
        for size in arguments.sizes:
            steps = max(4, round(arguments.steps * BESIDE_ASE / size))
            for n in (1, 2):
                ms, spent[f"{size} x {n}"] = lammps_times(n, size, folder, model, steps)
                rounds[f"{size} x {n}"].append(ms)
    result = {"ms": {key: median(values) for key, values in rounds.items() if key != "ASE"}, "spent": spent}
    result["ASE, ms"] = median(rounds["ASE"])

    def ratio(one: str, other: str) -> float:
        return median(a / b for a, b in zip(rounds[one], rounds[other], strict=True))

    print("| atoms | one process, ms/step | two, ms/step | times |\n|---|---|---|---|")
    for size in arguments.sizes:
        one, two = (result["ms"][f"{size} x {n}"] for n in (1, 2))
        print(f"| {size} | {one:.4g} | {two:.4g} | {ratio(f'{size} x 1', f'{size} x 2'):.2f} |", flush=True)
    for key, parts in spent.items():
        print(f"{key}:", [{part: round(value, 1) for part, value in each.items()} for each in parts])
    result["LAMMPS / ASE"] = ratio(f"{BESIDE_ASE} x 1", "ASE")
    print(f"ASE, {BESIDE_ASE} atoms: {result['ASE, ms']:.1f} ms/step; LAMMPS / ASE: {result['LAMMPS / ASE']:.3f}")
    result["strong"] = {size: ratio(f"{size} x 1", f"{size} x 2") for size in arguments.sizes}
    print("two processes against one:", {size: f"{value:.2f} times" for size, value in result["strong"].items()})
    pairs = [(size, 2 * size) for size in arguments.sizes if 2 * size in arguments.sizes]
    result["weak"] = {f"{a} -> {b}": ratio(f"{a} x 1", f"{b} x 2") for a, b in pairs}
    print("twice the atoms on twice the processes:", {key: f"{100 * v:.0f} %" for key, v in result["weak"].items()})
    largest = max(arguments.sizes)
    result["per atom, us"] = 1e3 * result["ms"][f"{largest} x 1"] / largest
    result["per atom of the halo, us"] = carrying_us(model)
    for key in ("per atom, us", "per atom of the halo, us"):
        print(f"{key}: {result[key]:.2f}")
    return result


if __name__ == "__main__":
    main()
