"""What the driver of molecular dynamics costs beside the forces (``make bench-md``).

A molecule of 21 atoms whose force call takes one millisecond, by a clock: a step of ASE's bare ``VelocityVerlet.run``
beside one of `run_md` with everything at its defaults (thermo rows, frames, monitors, checkpoints), in turn.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.md.verlet import VelocityVerlet

from ase_mlcalc.md import MDConfig, run_md
from ase_mlcalc.md.ensembles import set_initial_momenta

SECONDS_PER_CALL = 1e-3


class Timed(Calculator):
    """Springs between the bonded atoms, in a time that is always the same."""

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012

    def __init__(self, atoms: Atoms) -> None:
        super().__init__()
        distances = atoms.get_all_distances()
        self.i, self.j = np.nonzero(np.triu((distances > 0) & (distances < 1.8)))
        self.lengths = distances[self.i, self.j]

    def calculate(self, atoms=None, properties=None, system_changes=all_changes) -> None:
        """Forces, then wait."""
        end = time.perf_counter() + SECONDS_PER_CALL
        super().calculate(atoms, properties, system_changes)
        vectors = atoms.positions[self.j] - atoms.positions[self.i]
        now = np.linalg.norm(vectors, axis=1)
        pull = (20.0 * (now - self.lengths) / now)[:, None] * vectors
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, self.i, pull)
        np.add.at(forces, self.j, -pull)
        energy = 10.0 * float(((now - self.lengths) ** 2).sum())
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        while time.perf_counter() < end:
            pass


def seven_waters() -> Atoms:
    """21 atoms, too far apart to meet."""
    atoms = Atoms()
    for number in range(7):
        water = molecule("H2O")
        water.translate([12.0 * number, 0.0, 0.0])
        atoms += water
    atoms.calc = Timed(atoms)
    return atoms


def main() -> None:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    config = MDConfig(ensemble="nve", temperature_K=300, timestep_fs=0.5, time_ps=arguments.steps * 0.5e-3)
    ratios, bare_ms, driven_ms = [], [], []
    for _ in range(arguments.rounds):
        atoms = seven_waters()
        set_initial_momenta(atoms, config)
        atoms.get_forces()
        start = time.perf_counter()
        VelocityVerlet(atoms, 0.5 * units.fs).run(arguments.steps)
        bare = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            atoms = seven_waters()
            start = time.perf_counter()
            result = run_md(atoms, config, folder, progress=False)
            driven = time.perf_counter() - start
        assert result.completed, result.message
        ratios.append(driven / bare)
        bare_ms.append(1e3 * bare / arguments.steps)
        driven_ms.append(1e3 * driven / arguments.steps)
    print(f"bare VelocityVerlet.run {median(bare_ms):.3f} ms/step, run_md {median(driven_ms):.3f} ms/step")
    print(f"ratio, median of {len(ratios)}: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"bare_ms": bare_ms, "driven_ms": driven_ms, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
