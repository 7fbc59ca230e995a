"""Virials of atoms, by any definition, from a calculator."""

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.model import check_species
from ase_mlcalc.virials import virials


def atomic_virials(calculator: MLCalculator, atoms: Atoms, definition: str = "edge") -> NDArray[np.float64]:
    """Stress times volume of each atom, all nine components.

    Parameters
    ----------
    calculator : MLCalculator
        Its own ``stress_definition`` does not matter here.
    atoms : ase.Atoms
        With or without a cell.
    definition : str
        ``"edge"``, ``"center"``, ``"other"``, ``"site"``, ``"heat"`` or ``"cluster"``; see `ase_mlcalc.virials`.

    Returns
    -------
    (N, 3, 3) eV
        Positive under tension; first index along the distance, second along the force.

    Raises
    ------
    ConfigError
        Another kind of calculator; unknown definition, or one that the model cannot give.
    SpeciesError, StructureError
        As from the calculator.
    """
    if not isinstance(calculator, MLCalculator):
        raise ConfigError(
            f"virials of atoms come from an MLCalculator, got a {type(calculator).__name__}: other calculators keep "
            "their gradients to themselves; if it gives `stresses`, take these"
        )
    potential = calculator.potential
    check_species(np.unique(atoms.numbers).tolist(), potential.species, "the potential")
    graph = from_atoms(atoms, potential.cutoff).to(potential.device)
    return virials(potential, graph, definition).detach().cpu().numpy()
