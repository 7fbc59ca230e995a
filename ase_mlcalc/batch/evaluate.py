"""Energies, forces and stresses of many structures at once, each of which may be refused for itself."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_mlcalc.batch.neighbors import BatchNeighbors
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ConfigError, MLCalcError, NumericalError
from ase_mlcalc.graph import Graph
from ase_mlcalc.model import check_species
from ase_mlcalc.potential import Potential
from ase_mlcalc.properties import SPECS, Properties

Array = NDArray[np.float64]


class Evaluated(NamedTuple):
    """What a potential predicts for the structures of a batch."""

    properties: Properties
    """Of all of them, one after another; without meaning for those that have an error."""
    std: Properties | None
    """How far the members of an ensemble are apart."""
    errors: dict[int, MLCalcError]
    """Why structures could not be evaluated."""


class Batch:
    """Structures of fixed elements that move, evaluated together.

    Results are those of `MLCalculator` for each structure alone, up to rounding.  One thread of Python at a time.

    Parameters
    ----------
    potential : Potential
        That predicts energies; an ensemble too.
    numbers : sequence of (N_b,) arrays
        Atomic numbers of the B structures.
    pbc : (B, 3)
        Which directions of each structure are periodic.
    skin : float, Å, or "auto"
        Of the neighbour lists; results do not depend on it.

    Raises
    ------
    ConfigError
        The potential gives no energy.
    SpeciesError
        It does not know an element.
    """

    def __init__(
        self,
        potential: Potential,
        numbers: Sequence[NDArray[np.integer]],
        pbc: NDArray[np.bool_],
        *,
        skin: float | Literal["auto"] = "auto",
    ) -> None:
        refuse_without_energy(potential)
        self.potential = potential
        sizes = [len(each) for each in numbers]
        joined = np.concatenate(numbers).astype(np.int64)
        check_species(np.unique(joined).tolist(), potential.species, "the potential")
        self.neighbors = BatchNeighbors(potential.cutoff, sizes, pbc, skin)
        self._numbers = torch.from_numpy(joined)
        self._system = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        self._shifts = "shifts" in potential.reads

    @property
    def n_structures(self) -> int:
        """B."""
        return len(self.neighbors.first_atom) - 1

    def __call__(self, positions: Array, cells: Array) -> Evaluated:
        """Evaluate all structures.

        Parameters
        ----------
        positions : (N, 3) Å
            Of all atoms; wrapped into the cell or not.
        cells : (B, 3, 3) Å
            Rows are lattice vectors.
        """
        (pairs, refused) = self.neighbors(positions, cells, shifts=self._shifts)
        graph = Graph(
            numbers=self._numbers,
            positions=torch.from_numpy(positions),
            cell=torch.from_numpy(cells),
            system=self._system,
            centers=torch.from_numpy(pairs.centers),
            neighbors=torch.from_numpy(pairs.neighbors),
            shifts=None if pairs.shifts is None else torch.from_numpy(pairs.shifts.astype(np.float64)),
            vectors=torch.from_numpy(pairs.vectors),
        )
        if self.potential.device.type != "cpu":
            graph = graph.to(self.potential.device)
        std = None
        if isinstance(self.potential, Ensemble):
            properties, std = self.potential.predict_with_std(graph)
        else:
            properties = self.potential(graph)
        errors: dict[int, MLCalcError] = {**refused}
        for b in self._not_finite(properties):
            errors.setdefault(b, NumericalError(NOT_FINITE))
        return Evaluated(properties, std, errors)

    def of_structure(self, properties: Properties, structure: int) -> Properties:
        """The part of one structure, as a potential gives it for that structure alone."""
        first, last = self.neighbors.first_atom[structure : structure + 2].tolist()
        rows = {"atom": slice(first, last), "structure": slice(structure, structure + 1)}
        parts = {name: getattr(properties, name) for name in SPECS}
        return Properties(**{name: None if v is None else v[rows[SPECS[name].per]] for name, v in parts.items()})

    def _not_finite(self, properties: Properties) -> list[int]:
        """Structures whose energy or forces are NaN or Inf."""
        energy, forces = properties.energy, properties.forces
        assert energy is not None
        assert forces is not None
        total = energy + forces.new_zeros(self.n_structures).index_add(
            0, self._system.to(forces.device), forces.abs().sum(dim=1)
        )
        if bool(total.sum().isfinite()):
            return []
        return _where(~total.isfinite())


NOT_FINITE = "the potential gave NaN or Inf; is the structure far from its data?"


def refuse_without_energy(potential: Potential) -> None:
    """Only a potential with energies can be evaluated in batches.

    Raises
    ------
    ConfigError
        It gives none.
    """
    if "energy" not in potential.properties:
        raise ConfigError(
            f"this potential predicts {', '.join(sorted(potential.properties))}; a batch needs a model of energies, "
            "whose derivatives the forces are: run it by ASE"
        )


def _where(mask: Tensor) -> list[int]:
    found: list[int] = torch.nonzero(mask).flatten().tolist()
    return found
