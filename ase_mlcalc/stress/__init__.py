"""Stress beyond the calculator: its kinetic part, volumes of atoms, and what is local about it."""

from ase_mlcalc.stress.atomic import atomic_virials
from ase_mlcalc.stress.kinetic import (
    kinetic_stresses,
    local_stresses_GPa,
    total_stress,
    total_stresses,
    voronoi_volumes,
)

__all__ = [
    "atomic_virials",
    "kinetic_stresses",
    "local_stresses_GPa",
    "total_stress",
    "total_stresses",
    "voronoi_volumes",
]
