"""Exact edge gradients of a calculator as numpy arrays: what all local stress fields are made of."""

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray
from torch import Tensor

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.graph import Graph, from_atoms
from ase_mlcalc.model import check_species
from ase_mlcalc.potential import Derived, Potential, edge_gradient

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


class Edges(NamedTuple):
    """Directed edges of a structure (both directions present) with the gradient of the energy.  E edges."""

    centers: Indices
    """(E,) i."""
    neighbors: Indices
    """(E,) j."""
    shifts: Indices
    """(E, 3) S, whole cells crossed."""
    vectors: Array
    """(E, 3) Å, r_ij = r_j + S @ cell - r_i."""
    gradient: Array
    """(E, 3) eV/Å, g_ij = dE/dr_ij: the force that j exerts on i through this edge."""

    @property
    def virials(self) -> Array:
        """(E, 3, 3) eV, r ⊗ g: first index along the edge, second along the force."""
        return self.vectors[:, :, None] * self.gradient[:, None, :]

    def merged(self) -> "Edges":
        """Half as many: each edge with its reverse, which lies on the same line, and g_ij - g_ji as its gradient.

        Forces and virials stay as they are.
        """
        i, j, s = self.centers, self.neighbors, self.shifts.T
        reverse = np.empty(len(i), dtype=np.int64)
        reverse[np.lexsort((*s, j, i))] = np.lexsort((*-s, i, j))
        kept = np.arange(len(i)) < reverse
        gradient = self.gradient[kept] - self.gradient[reverse[kept]]
        return Edges(i[kept], j[kept], self.shifts[kept], self.vectors[kept], gradient)

    def forces(self, n_atoms: int) -> Array:
        """(N, 3) eV/Å, what the edges of each atom add up to."""
        forces = np.zeros((n_atoms, 3))
        np.add.at(forces, self.centers, self.gradient)
        np.subtract.at(forces, self.neighbors, self.gradient)
        return forces


def find_edges(calc: Calculator, atoms: Atoms) -> Edges:
    """The edges of a structure with their gradients; `atoms` and the results of `calc` are left alone.

    Parameters
    ----------
    calc : MLCalculator
        Of a potential with energies or with forces of pairs; of an ensemble, the mean over members.
    atoms : ase.Atoms

    Raises
    ------
    ConfigError
        A calculator of another package, or a potential that does not show its models.
    ModelError
        A model that predicts neither an energy nor forces of pairs.
    StructureError, SpeciesError
        A structure that the potential cannot be evaluated on.
    """
    if not isinstance(calc, MLCalculator):
        raise ConfigError(
            "forces of pairs, and local stress fields by planes, Irving-Kirkwood or Hardy, need the edge gradients of "
            f"an MLCalculator, got {type(calc).__name__}; for a field, bin its per-atom stresses instead"
        )
    potential = calc.potential
    check_species(np.unique(atoms.numbers).tolist(), potential.species, "the potential")
    graph = from_atoms(atoms, potential.cutoff).to(potential.device)
    gradient = _gradient(potential, graph)
    assert graph.shifts is not None  # all that can be asked for is there
    return Edges(
        graph.centers.cpu().numpy(),
        graph.neighbors.cpu().numpy(),
        graph.shifts.cpu().numpy().astype(np.int64),
        graph.vectors.detach().cpu().double().numpy(),
        gradient.cpu().numpy(),
    )


def _gradient(potential: Potential, graph: Graph) -> Tensor:
    if isinstance(potential, Ensemble):  # its energy is the mean
        gradients = [_gradient(member, graph) for member in potential.members]
        return sum(gradients[1:], gradients[0]) / len(gradients)
    if isinstance(potential, Derived):
        return edge_gradient(potential.model, graph, potential.baseline)
    raise ConfigError(
        f"edge gradients need the model behind a potential, and a {type(potential).__name__} shows none; use a "
        "checkpoint, a model, or an ensemble of these"
    )
