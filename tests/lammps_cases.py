"""What the tests of LAMMPS run, also as a program: `mpirun -np N python lammps_cases.py FOLDER INPUT ...`."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.lammps import Prism
from ase.io.lammpsdata import write_lammps_data

from ase_mlcalc import save
from ase_mlcalc.data.sets import water16
from ase_mlcalc.model import lookup
from ase_mlcalc.potential import Baseline, Derived

BAR_A3 = 1.6021765e6
"""LAMMPS' number for 1 eV in units metal."""
SMALL = {
    "kernel": ("equivariant", {"features": 16, "edge_features": 8, "n_interactions": 2, "cutoff": 4.0}),
    "torch": ("equivariant", {"features": 15, "edge_features": 7, "n_interactions": 2, "cutoff": 4.0}),
    "schnet": ("schnet", {"features": 12, "n_interactions": 3, "cutoff": 4.5}),
    "body_order": ("body_order", {"features": 6, "hidden": 6, "n_steps": 2, "cutoff": 4.5}),
}
"""Models; the kernel is not for the features of the second one."""


def potential_of(which: str) -> Derived:
    name, keys = SMALL[which]
    torch.manual_seed(1)
    model_class = lookup(name)
    model = model_class(model_class.Config(species=(1, 8), mean_neighbors=25.0, **keys)).double()
    # forces that a simulation survives
    return Derived(model, Baseline({1: -13.0, 8: -2000.0}, energy_scale=0.2))


def box(*, skewed: bool = False) -> Atoms:
    atoms = ase.io.read(water16("gfn1"), index=0)
    atoms.calc = None
    atoms.rattle(0.03, seed=2)
    if skewed:
        cell = atoms.cell.array.copy()
        cell[1, 0], cell[2, 0], cell[2, 1] = 1.3, -0.9, 1.7
        atoms.set_cell(cell, scale_atoms=True)
    atoms.wrap()
    return atoms


def cluster() -> Atoms:
    """A few molecules in a corner of a box: three of four processes have no atoms."""
    atoms = Atoms()
    for k in range(4):
        water = molecule("H2O")
        water.rattle(0.05, seed=k)
        water.translate((3.0 * (k % 2) + 2.0, 3.0 * (k // 2) + 2.0, 2.0 + 0.3 * k))
        atoms += water
    atoms.set_cell([60.0, 60.0, 60.0])
    return atoms


CASES = {
    "kernel": ("kernel", box()),
    "torch": ("torch", box()),
    "skewed": ("kernel", box(skewed=True)),
    "schnet": ("schnet", box(skewed=True)),
    "body_order": ("body_order", box(skewed=True)),
    "vacuum_kernel": ("kernel", cluster()),
    "vacuum_schnet": ("schnet", cluster()),
}
"""Models and structures whose energy, forces, virial and virials of atoms are compared."""


def start(atoms: Atoms, name: str, folder: Path, model: str, style: str = "pair_style ase_mlcalc {}") -> str:
    """Lines of an input up to the coefficients."""
    assert np.allclose(Prism(atoms.cell.array).get_lammps_prism()[:3], np.diag(atoms.cell.array))  # not turned
    with open(folder / f"{name}.data", "w") as file:
        write_lammps_data(file, atoms, specorder=["O", "H"], masses=True, atom_style="atomic", units="metal")
    boundary = "p p p" if atoms.pbc.all() else "f f f"
    return f"""units metal
atom_style atomic
boundary {boundary}
read_data {folder}/{name}.data
{style.format(folder / (model + ".safetensors"))}
"""


WRITE = """
dump out all custom 1 {out}.$(extract_setting(world_size)).dump id proc x y z fx fy fz c_pe &
  c_sa[1] c_sa[2] c_sa[3] c_sa[4] c_sa[5] c_sa[6]
dump_modify out sort id format float %.17g first yes
"""
PRINT = """
print "$(pe:%.17g) $(pxx:%.17g) $(pyy:%.17g) $(pzz:%.17g) $(pyz:%.17g) $(pxz:%.17g) $(pxy:%.17g) $(vol:%.17g)" &
  file {out}.$(extract_setting(world_size)).txt screen no
"""
ASKED = """
compute pe all pe/atom
compute sa all stress/atom NULL virial
thermo_style custom step temp pe ke pxx pyy pzz pxy pxz pyz vol
thermo_modify format float %.17g
neighbor 0.6 bin
timestep 0.0005
"""


def write_inputs(folder: Path) -> list[Path]:
    """All inputs, with models and structures."""
    for which in SMALL:
        save(potential_of(which), folder / f"{which}.safetensors")
    texts = {}
    for name, (model, atoms) in CASES.items():
        texts[name] = start(atoms, name, folder, model) + "pair_coeff * * O H\n" + ASKED + "DUMP\nrun 0\n"
    for which in ("kernel", "schnet"):  # repulsion at short range, which random weights have none of
        (folder / f"{which}.inc").write_text(
            f"pair_style hybrid/overlay ase_mlcalc &\n  {folder}/{which}.safetensors ${{part}} 1.0 2.0 # both\n"
            "pair_coeff * * ase_mlcalc O H\npair_coeff 1 1 zbl 8 8\npair_coeff 1 2 zbl 8 1\npair_coeff 2 2 zbl 1 1\n"
        )

    def overlay(name: str, which: str, atoms: Atoms) -> str:
        included = f"variable part string zbl\ninclude {folder}/{which}.inc"
        return start(atoms, name, folder, which, included) + ASKED

    texts["overlay"] = overlay("overlay", "kernel", box()) + (
        "variable k loop 2\nlabel again\nprint 'turn $k'\nnext k\njump SELF again\nDUMP\nrun 0\n"
    )
    texts["hot"] = overlay("hot", "kernel", box()) + (
        "velocity all create 2500.0 7 loop all\nDUMP\ndump_modify out every 80\nfix 1 all nve\nrun 80\n"
    )
    texts["relaxed"] = overlay("relaxed", "schnet", box()) + "minimize 0 1e-4 15 100\nDUMP\nrun 0\n"
    texts["breathing"] = overlay("breathing", "kernel", box(skewed=True)) + (
        "velocity all create 300.0 7 loop all\nfix 1 all npt temp 300 300 0.05 tri 2e4 2e4 0.1\nrun 25\nDUMP\nrun 0\n"
    )
    for name, text in texts.items():
        (folder / f"{name}.lmp").write_text(
            text.replace("DUMP", WRITE.format(out=folder / name)) + PRINT.format(out=folder / name)
        )
    return [folder / f"{name}.lmp" for name in texts]


def mpirun(n: int, *arguments: str | Path, timeout_s: float = 900.0) -> subprocess.CompletedProcess[str]:
    """This program, or another, in n processes."""
    program = [sys.executable, *arguments]
    found = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
    return subprocess.run(  # noqa: S603
        [found, "-np", str(n), *map(str, program)], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def read_dump(path: Path) -> dict[str, np.ndarray]:
    """Columns of the last frame by name."""
    tables = [frame.split("ITEM: ATOMS ")[1].splitlines() for frame in path.read_text().split("ITEM: TIMESTEP\n")[1:]]
    first, last = (np.array([line.split() for line in table[1:]], dtype=float) for table in (tables[0], tables[-1]))
    names = tables[-1][0].split()
    return dict(zip(names, last.T, strict=True)) | {"proc of the first frame": first[:, names.index("proc")]}


def virials_of(columns: dict[str, np.ndarray]) -> np.ndarray:
    """(N, 6) eV in ASE's order."""
    return np.stack([columns[f"c_sa[{k}]"] for k in (1, 2, 3, 6, 5, 4)], axis=1) / BAR_A3


def of(columns: dict[str, np.ndarray], *names: str) -> np.ndarray:
    return np.stack([columns[name] for name in names], axis=1)


def fail_in_one(how: str) -> None:
    """Something goes wrong in the second process, in the third evaluation."""
    from mpi4py import MPI

    from ase_mlcalc.accelerate.engines import Kernel

    real, calls = Kernel.of_share, []

    def of_share(self, *arguments):
        calls.append(1)
        if MPI.COMM_WORLD.rank == 1 and len(calls) == 3:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("something broke")
        return real(self, *arguments)

    Kernel.of_share = of_share


def main() -> None:
    from ase_mlcalc.lammps import run_input

    torch.set_num_threads(1)
    how, *inputs = sys.argv[1:]
    if how in ("killed", "raises"):
        fail_in_one(how)
    for path in inputs:
        run_input(Path(path), log=None)
    if how == "cases":
        from lammps_unified import run_unified

        run_unified(Path(inputs[0]).parent)


if __name__ == "__main__":
    main()
