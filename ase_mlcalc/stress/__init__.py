"""Stress beyond the calculator: its kinetic part, volumes of atoms, and where in space it is."""

from ase_mlcalc.stress.atomic import atomic_virials
from ase_mlcalc.stress.binned import Binned
from ase_mlcalc.stress.edges import Edges, find_edges
from ase_mlcalc.stress.fields import FieldAverage, StressField, local_stress
from ase_mlcalc.stress.grid import Grid
from ase_mlcalc.stress.hardy import Hardy
from ase_mlcalc.stress.irving_kirkwood import IrvingKirkwood
from ase_mlcalc.stress.kinetic import (
    kinetic_stresses,
    local_stresses_GPa,
    total_stress,
    total_stresses,
    voronoi_volumes,
)
from ase_mlcalc.stress.planes import Planes
from ase_mlcalc.stress.stored import Stored
from ase_mlcalc.stress.write import write_field

__all__ = [
    "Binned",
    "Edges",
    "FieldAverage",
    "Grid",
    "Hardy",
    "IrvingKirkwood",
    "Planes",
    "Stored",
    "StressField",
    "atomic_virials",
    "find_edges",
    "kinetic_stresses",
    "local_stress",
    "local_stresses_GPa",
    "total_stress",
    "total_stresses",
    "voronoi_volumes",
    "write_field",
]
