"""Many structures that are evaluated together, step after step."""

from ase_mlcalc.batch.evaluate import Batch, Evaluated
from ase_mlcalc.batch.neighbors import BatchNeighbors, Edges

__all__ = ["Batch", "BatchNeighbors", "Edges", "Evaluated"]
