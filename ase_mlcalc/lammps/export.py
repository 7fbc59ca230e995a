"""What a simulation with LAMMPS begins from: a folder with the model, the structure and an input that runs."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io.lammpsdata import write_lammps_data

from ase_mlcalc.accelerate import load
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.files import atomic_path, make_folder, write_text
from ase_mlcalc.graph import has_volume
from ase_mlcalc.lammps.share import reason_against
from ase_mlcalc.model import check_species

MODEL, STRUCTURE, INPUT = "model.safetensors", "structure.data", "in.lmp"

TEMPLATE = """\
# run it by: mpirun -np 2 ase-mlcalc lammps {input}
units           metal
atom_style      atomic
boundary        {boundary}
read_data       {structure}

pair_style      ase_mlcalc {model}
pair_coeff      * * {symbols}

neighbor        1.0 bin
timestep        0.0005
velocity        all create 300.0 1 mom yes rot yes dist gaussian
thermo_style    custom step temp pe etotal press
thermo          100
fix             ensemble all nvt temp 300.0 300.0 0.1
run             2000
"""


def export_input(model: Path, folder: Path, structure: Atoms | None = None) -> Path:
    """Write a folder with which LAMMPS runs a potential; returns the input.

    Parameters
    ----------
    model : path
        Checkpoint, or ``.compiled``.
    folder : path
    structure : ase.Atoms, optional
        Without one, the input names a file that is not there.

    Raises
    ------
    ConfigError
        LAMMPS cannot run this potential.
    SpeciesError
        The structure has elements that it does not know.
    """
    potential = load(model)
    if reason := reason_against(potential):
        raise ConfigError(f"{model} does not run in LAMMPS: {reason}")
    species = list(potential.species)
    if structure is not None:
        check_species(np.unique(structure.numbers).tolist(), species, "the potential")
        species = [number for number in species if number in structure.numbers]
    make_folder(folder)
    if model.resolve() != (folder / MODEL).resolve():
        with atomic_path(folder / MODEL) as part:
            shutil.copyfile(model, part)
    symbols = [chemical_symbols[number] for number in species]
    boundary = "p p p"
    if structure is not None:
        boundary = _write_structure(structure, symbols, folder / STRUCTURE, potential.cutoff)
    text = TEMPLATE.format(input=INPUT, boundary=boundary, structure=STRUCTURE, model=MODEL, symbols=" ".join(symbols))
    write_text(folder / INPUT, text)
    return folder / INPUT


def _write_structure(atoms: Atoms, symbols: Sequence[str], path: Path, margin: float) -> str:
    """Write data of LAMMPS; returns which boundaries it has."""
    atoms = atoms.copy()
    if not atoms.pbc.any() and not has_volume(atoms):
        atoms.center(vacuum=margin)
    elif not has_volume(atoms):
        raise ConfigError(
            f"LAMMPS needs a box: this structure is periodic along {int(atoms.pbc.sum())} directions and its cell has "
            "no volume; set the other cell vectors"
        )
    with atomic_path(path) as part:
        write_lammps_data(part, atoms, specorder=list(symbols), masses=True, atom_style="atomic", units="metal")
    return " ".join("p" if periodic else "m" for periodic in atoms.pbc)
