"""Cost of one energy-and-force call (``make bench``), on structures that come with the package.

Every model is timed on the same molecules and boxes of water in turn, so that a machine whose speed drifts favours
none; the ratios to the first model are what to quote.  Weights are random: cost does not depend on them.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from rich.console import Console
from rich.table import Table

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.data.sets import water16
from ase_mlcalc.files import write_text
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.model import lookup

MODELS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("equivariant", {}),
    ("equivariant", {"features": 32, "edge_features": 16, "cutoff": 4.5}),
    ("schnet", {}),
)


def structures(largest: int) -> list[Atoms]:
    """A molecule and periodic boxes of water with up to so many atoms."""
    box = ase.io.read(water16("gfn1"), index=0)
    boxes = [box * (n, n, n) for n in (1, 2, 3, 4, 6) if len(box) * n**3 <= largest]
    return [molecule("CH3CH2OH"), *boxes]


def median_ms(calculators: list[MLCalculator], atoms: Atoms, seconds: float) -> list[float]:
    """Median wall time of a call at a new geometry, for each calculator, taken in turn."""
    taken: list[list[float]] = [[] for _ in calculators]
    deadline = time.perf_counter() + seconds * len(calculators)
    rng = np.random.default_rng(0)
    while time.perf_counter() < deadline or len(taken[0]) < 5:
        moved = atoms.copy()
        moved.positions += rng.normal(scale=1e-3, size=moved.positions.shape)
        for calculator, times in zip(calculators, taken, strict=True):
            moved.calc = calculator
            begin = time.perf_counter()
            moved.get_forces()
            times.append(1e3 * (time.perf_counter() - begin))
    return [float(np.median(times[2:])) for times in taken]


def main() -> None:
    """Time all models on all structures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/speed"))
    parser.add_argument("--largest", type=int, default=1296, help="atoms of the largest box")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each model and structure")
    parser.add_argument("--threads", type=int, help="of torch; its own choice if not given")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    names = [f"{name} {' '.join(f'{k}={v}' for k, v in keys.items())}".strip() for name, keys in MODELS]
    threads = torch.get_num_threads()
    table = Table("atoms", "edges per atom", *names, title=f"ms per call and ratio to the first, {threads} threads")
    rows = []
    for atoms in structures(arguments.largest):
        species = sorted({int(z) for z in atoms.numbers})
        classes = [(lookup(name), keys) for name, keys in MODELS]
        calculators = [MLCalculator(cls(cls.Config(species=species, **keys)).float()) for cls, keys in classes]
        milliseconds = median_ms(calculators, atoms, arguments.seconds)
        count = len(from_atoms(atoms, calculators[0].potential.cutoff).centers) / len(atoms)
        table.add_row(
            str(len(atoms)), f"{count:.0f}", *(f"{ms:.2f} ({ms / milliseconds[0]:.2f})" for ms in milliseconds)
        )
        rows.append({"atoms": len(atoms), "edges_per_atom": count, **dict(zip(names, milliseconds, strict=True))})
        report = {"threads": threads, "torch": torch.__version__, "ms_per_call": rows}
        write_text(arguments.out / "speed.json", json.dumps(report, indent=2))
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
