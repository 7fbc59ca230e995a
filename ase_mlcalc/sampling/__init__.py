"""Structures worth labelling: molecular dynamics at several temperatures and densities, thinned to what differs."""

from ase_mlcalc.sampling.config import SampleJob
from ase_mlcalc.sampling.farthest import farthest_points
from ase_mlcalc.sampling.path import Coordinate, relaxed_path
from ase_mlcalc.sampling.run import sample
from ase_mlcalc.sampling.summary import Sampled, SampledRun

__all__ = ["Coordinate", "SampleJob", "Sampled", "SampledRun", "farthest_points", "relaxed_path", "sample"]
