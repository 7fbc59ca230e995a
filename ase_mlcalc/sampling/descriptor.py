"""Structures as vectors, so that two of them can be compared.

The symmetry functions of J. Behler, J. Chem. Phys. 134, 074106 (2011), of every atom; over the atoms of each element
their mean and their standard deviation.  The mean says what a structure is like, the standard deviation how different
its atoms are, so that one unusual atom among many is not lost.
"""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.graph import from_atoms
from ase_mlcalc.model import SpeciesIndex
from ase_mlcalc.models.behler_parrinello import BehlerParrinelloConfig
from ase_mlcalc.nn.symmetry_functions import SymmetryFunctions


class StructureDescriptor:
    """Symmetry functions of a structure, averaged over the atoms of each element.

    Parameters
    ----------
    species : sequence of int
        Atomic numbers of all elements that may be there.
    cutoff : float, Å
    """

    def __init__(self, species: Sequence[int], cutoff: float) -> None:
        self._cutoff = cutoff
        self._species = tuple(sorted(species))
        config = BehlerParrinelloConfig(species=self._species, cutoff=cutoff, angular_cutoff=cutoff)
        self._functions = SymmetryFunctions(
            config.functions_in_use, self._species, config.cutoff_function, config.cutoff_alpha
        )
        self._index = SpeciesIndex(self._species)

    @torch.no_grad()
    def __call__(self, atoms: Atoms) -> NDArray[np.float64]:
        """The vector of a structure; zeros for an element that it does not have."""
        graph = from_atoms(atoms, self._cutoff)
        values = self._functions(graph, self._index(graph.numbers))
        return np.concatenate([_mean_and_deviation(own.numpy().astype(np.float64)) for own in values])


def _mean_and_deviation(values_nk: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(values_nk):
        return np.zeros(2 * values_nk.shape[1])
    return np.concatenate([values_nk.mean(axis=0), values_nk.std(axis=0)])
