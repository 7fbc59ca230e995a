"""What a trained potential says about a material: forces of pairs, and observables of trajectories."""

from ase_mlcalc.analysis.observables import (
    ComparisonRow,
    Observables,
    compare_observables,
    measure_observables,
)
from ase_mlcalc.analysis.observables_files import TrajectoryFile, write_observables
from ase_mlcalc.analysis.observables_plots import draw_observables
from ase_mlcalc.analysis.pairs import PairForces, pair_force_plot, pair_forces, write_csv
from ase_mlcalc.analysis.spurious_heat import SpuriousHeat, spurious_heat

__all__ = [
    "ComparisonRow",
    "Observables",
    "PairForces",
    "SpuriousHeat",
    "TrajectoryFile",
    "compare_observables",
    "draw_observables",
    "measure_observables",
    "pair_force_plot",
    "pair_forces",
    "spurious_heat",
    "write_csv",
    "write_observables",
]
