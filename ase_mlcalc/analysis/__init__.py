"""What a trained potential says about a material: which forces it has between which atoms."""

from ase_mlcalc.analysis.pairs import PairForces, pair_force_plot, pair_forces, write_csv

__all__ = ["PairForces", "pair_force_plot", "pair_forces", "write_csv"]
