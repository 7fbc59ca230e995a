"""Potentials in LAMMPS: one input, any number of MPI processes.

LAMMPS divides the box, moves atoms and integrates; `bridge` gives it forces, `share` computes those of one process,
and `halo` carries features of atoms between processes from layer to layer, so that atoms beyond one cutoff are never
looked at.
"""

from ase_mlcalc.lammps.run import run_input

__all__ = ["run_input"]
