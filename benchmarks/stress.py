"""What per-atom stress costs (``make bench-stress``): beside forces alone, by definition, and with the number of atoms.

Boxes of water are copies of one from the package.  Times are those of the processor, with one thread, so that other
work on the machine counts less; what the system takes to hand out memory is part of them.  Times that are compared are
taken in turn, and ratios within one turn, so that a machine whose speed drifts favours none.  Each size of the scaling
is measured in a process of its own, so that its peak of memory is its own.  Weights are random: cost does not depend
on them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ase.io
import numpy as np
import torch
from ase import Atoms
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.data.sets import water16
from ase_mlcalc.files import atomic_path, write_text
from ase_mlcalc.graph import Graph, from_atoms
from ase_mlcalc.memory import SWITCH, keep_memory
from ase_mlcalc.model import lookup
from ase_mlcalc.plots import COLORS
from ase_mlcalc.potential import Derived, edge_gradient
from ase_mlcalc.virials import available, virials

COPIES = {48: (1, 1, 1), 192: (2, 2, 1), 768: (4, 2, 2), 3072: (4, 4, 4), 12288: (8, 8, 4)}
"""Atoms to copies of a box of 48."""


def water(n_atoms: int) -> Atoms:
    """A periodic box."""
    box: Atoms = ase.io.read(water16("gfn1"), index=0)
    return box * COPIES[n_atoms]


def potential_of(name: str) -> Derived:
    """A family with its default sizes, in float32."""
    model_class = lookup(name)
    torch.manual_seed(0)
    return Derived(model_class(model_class.Config.model_validate({"species": (1, 8), "mean_neighbors": 50.0})).float())


def in_turn(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, np.ndarray]:
    """Milliseconds of processor of each call, in each turn after the first."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    deadline = time.process_time() + seconds
    while time.process_time() < deadline or len(taken[next(iter(calls))]) < 4:
        for name, call in calls.items():
            begin = time.process_time()
            call()
            taken[name].append(1e3 * (time.process_time() - begin))
    return {name: np.array(times[1:]) for name, times in taken.items()}


def forces_alone(potential: Derived, graph: Graph) -> torch.Tensor:
    """Forces and nothing else, from the edge gradient."""
    g_pc = edge_gradient(potential.model, graph, potential.baseline)
    blank = g_pc.new_zeros(graph.n_atoms, 3)
    return blank.index_add(0, graph.centers, g_pc) - blank.index_add(0, graph.neighbors, g_pc)


class Cost(NamedTuple):
    """Time of a call beside that of forces alone."""

    ms: float
    ratio: float
    """Mean over turns."""
    stderr: float


def costs(times: dict[str, np.ndarray]) -> dict[str, Cost]:
    """Each call against ``forces``, turn by turn."""
    found = {}
    for call, ms in times.items():
        ratios = ms / times["forces"]
        error = float(ratios.std(ddof=1) / len(ratios) ** 0.5)
        found[call] = Cost(float(np.median(ms)), float(ratios.mean()), error)
    return found


def definitions(name: str, seconds: float) -> dict[str, Cost]:
    """Everything, and each definition by itself, beside forces alone, for 192 atoms.

    Everything differs little from forces, so that it takes many turns, without the definitions that take long.
    """
    potential = potential_of(name)
    graph = from_atoms(water(192), potential.cutoff)
    potential(graph)
    forces: dict[str, Callable[[], object]] = {"forces": lambda: forces_alone(potential, graph)}
    everything: dict[str, Callable[[], object]] = {"energy, forces, stress, stresses": lambda: potential(graph)}
    each: dict[str, Callable[[], object]] = {
        definition: partial(virials, potential, graph, definition) for definition in available(potential.model)
    }
    return costs(in_turn(forces | each, seconds)) | costs(in_turn(forces | everything, seconds))


def peak_MB() -> float:
    """Most memory that this process has held.

    Not ``ru_maxrss`` where the system says better: a process takes that over from the one that started it.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:")) / 1024


def one_size(name: str, n_atoms: int, seconds: float) -> dict[str, float]:
    """Milliseconds of ``get_stresses`` at a new geometry, and the growth of peak memory, for one size."""
    potential = potential_of(name)
    small = water(48)[:3]
    small.calc = MLCalculator(potential)
    small.get_stresses()  # what every process loads once; few atoms, because their memory is used again
    before = peak_MB()
    atoms = water(n_atoms)
    atoms.calc = MLCalculator(potential)
    rng = np.random.default_rng(0)

    def call() -> None:
        atoms.positions += rng.normal(scale=1e-4, size=atoms.positions.shape)
        atoms.get_stresses()

    call()
    milliseconds = float(np.median(in_turn({"stresses": call}, seconds)["stresses"]))
    return {"atoms": n_atoms, "ms": milliseconds, "MB": peak_MB() - before}


def sizes_up_to(largest: int) -> list[int]:
    """Numbers of atoms that are measured."""
    return [n for n in COPIES if 192 <= n <= largest]


def scaling(name: str, largest: int, seconds: float) -> list[dict[str, float]]:
    """`one_size` for boxes up to so many atoms, each in a process of its own."""
    environment = {**os.environ, SWITCH: "1"}  # as the command line runs
    rows = []
    for n_atoms in sizes_up_to(largest):
        command = [sys.executable, __file__, "--one-size", name, str(n_atoms), "--seconds", str(seconds)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603  (this file)
        rows.append(json.loads(done.stdout))
    return rows


def picture(path: Path, rows: dict[str, list[dict[str, float]]]) -> None:
    """Time and memory per atom against the number of atoms, with what O(n²) and O(n⁴) would be."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for color, (name, sizes) in zip(COLORS, rows.items(), strict=False):
        atoms = np.array([row["atoms"] for row in sizes])
        left.plot(atoms, [row["ms"] / row["atoms"] for row in sizes], "o-", color=color, label=name)
        right.plot(atoms, [row["MB"] / row["atoms"] for row in sizes], "o-", color=color, label=name)
    first = next(iter(rows.values()))
    atoms = np.array([row["atoms"] for row in first])
    start = first[0]["ms"] / atoms[0]
    top = left.get_ylim()[1]
    for power, style in ((2, "--"), (4, ":")):
        growth = start * (atoms / atoms[0]) ** (power - 1)
        left.plot(atoms, growth, style, color="0.5", lw=1, label=f"if it were O(n{'²' if power == 2 else '⁴'})")
    left.set(xscale="log", yscale="log", xlabel="atoms", ylabel="ms per atom", ylim=(start / 5, max(100 * start, top)))
    right.set(xscale="log", xlabel="atoms", ylabel="MB per atom", ylim=(0, None))
    left.set_title("time of all per-atom stresses", fontsize=10)
    right.set_title("peak memory", fontsize=10)
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=160)


def main() -> None:
    """Measure, print, and write JSON and a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/stress-cost"))
    parser.add_argument("--models", nargs="+", default=["equivariant", "schnet"])
    parser.add_argument("--largest", type=int, default=12288, help="atoms of the largest box")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each model and size")
    parser.add_argument("--one-size", nargs=2, metavar=("MODEL", "ATOMS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()  # as the command line runs
    if arguments.one_size:
        name, n_atoms = arguments.one_size
        print(json.dumps(one_size(name, int(n_atoms), arguments.seconds)))
        return
    console = Console(width=110)
    by_definition = {name: definitions(name, 3 * arguments.seconds) for name in arguments.models}
    table = Table("", *arguments.models, title="192 atoms: ms (and by forces alone)")
    for quantity in dict.fromkeys(key for times in by_definition.values() for key in times):
        cells = [
            f"{t[quantity].ms:.0f} ({t[quantity].ratio:.3f} +- {t[quantity].stderr:.3f})" if quantity in t else "-"
            for t in by_definition.values()
        ]
        table.add_row(quantity, *cells)
    console.print(table)
    sizes = {name: scaling(name, arguments.largest, arguments.seconds) for name in arguments.models}
    table = Table("atoms", *(f"{name}: ms, MB per atom" for name in sizes), title="get_stresses() at a new geometry")
    for k, n_atoms in enumerate(sizes_up_to(arguments.largest)):
        rows = [rows_of_model[k] for rows_of_model in sizes.values()]
        table.add_row(str(n_atoms), *(f"{r['ms'] / n_atoms:.3f}, {r['MB'] / n_atoms:.3f}" for r in rows))
    console.print(table)
    arguments.out.mkdir(parents=True, exist_ok=True)
    by_call = {name: {call: cost._asdict() for call, cost in found.items()} for name, found in by_definition.items()}
    text = json.dumps({"definitions": by_call, "sizes": sizes}, indent=2)
    write_text(arguments.out / "stress.json", text + "\n")
    picture(arguments.out / "scaling.png", sizes)
    console.print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
