"""Reference calculations: energies, forces and stresses of structures from any ASE calculator, many side by side."""

from ase_mlcalc.labelling.label import Labelled, label
from ase_mlcalc.labelling.level import level_of_theory

__all__ = ["Labelled", "label", "level_of_theory"]
