"""Is the drift that is measured the drift that there is? (``make bench-md``)

Argon at constant energy with ASE's Lennard-Jones potential, whose energy does not drift, and the same with a force
along the velocities that feeds in a known power.  Both are run by `run_md`, and the drift with its standard error is
what the run reports.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.calculator import all_changes
from ase.calculators.lj import LennardJones

from ase_mlcalc.md import MDConfig, run_md


class Heated(LennardJones):
    """Lennard-Jones argon with a force along the velocities: a power of `rate` for each atom.

    Parameters
    ----------
    rate : float, meV/atom/ps
    """

    def __init__(self, rate: float, **parameters) -> None:
        super().__init__(**parameters)
        self.power = 1e-3 * rate / (1000.0 * units.fs)

    def calculate(self, atoms=None, properties=None, system_changes=all_changes) -> None:
        """Forces of the pairs, then of the heater."""
        super().calculate(atoms, properties, system_changes)
        velocities = atoms.get_velocities()
        squares = float((velocities**2).sum())
        if squares > 0.0:
            self.results["forces"] = self.results["forces"] + self.power * len(atoms) * velocities / squares


def drift(rate: float, time_ps: float, seed: int) -> tuple[float, float]:
    """Drift and its standard error, meV/atom/ps."""
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * 2
    atoms.calc = Heated(rate, sigma=3.40, epsilon=0.0104, rc=7.5, smooth=True)
    config = MDConfig(
        ensemble="nve", temperature_K=40, timestep_fs=2, time_ps=time_ps, thermo_every_fs=10, stresses_every_fs=0,
        frames_every_fs=1000, monitors_every_fs=50, seed=seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        result = run_md(atoms, config, Path(folder), progress=False)
    assert result.drift is not None, result.message
    return result.drift.slope, result.drift.stderr


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-ps", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    for rate in (0.0, 0.01):
        for seed in range(arguments.seeds):
            slope, error = drift(rate, arguments.time_ps, seed)
            print(
                f"injected {rate:g} meV/atom/ps, seed {seed}: measured {slope:+.2e} ± {error:.1e}, "
                f"{(slope - rate) / error if error else np.nan:+.1f} standard errors away",
                flush=True,
            )


if __name__ == "__main__":
    main()
