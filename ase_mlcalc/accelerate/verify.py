"""Whether code does what the model does, looked at before anybody uses it."""

import copy

import torch
from ase import Atoms
from torch import Tensor

from ase_mlcalc.accelerate.aot import CannotCompileError, example_structures
from ase_mlcalc.accelerate.engines import Evaluate
from ase_mlcalc.graph import Graph, collate, from_atoms
from ase_mlcalc.potential import Derived

ALLOWED = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Largest deviation of energies, forces and virials from the model in float64, relative to the largest of each."""


def check_code(code: Evaluate, potential: Derived, tolerance: float | None) -> float:
    """Compare code with its model on structures of other sizes than it was traced with.

    Among them are one atom alone, which has no edges, and one atom in a small cell.

    Parameters
    ----------
    code : callable
    potential : Derived
        Without tables.
    tolerance : float, optional
        Of tables in the code.

    Returns
    -------
    float
        The largest deviation of a force from the model in float64, relative to the largest force.

    Raises
    ------
    CannotCompileError
        Code that is wrong.
    """
    exact = Derived(copy.deepcopy(potential.model).double(), potential.baseline)
    allowed = max(ALLOWED[potential.dtype], 10 * (tolerance or 0.0))
    force_error = 0.0
    for graph in _others(potential.species, potential.cutoff):
        found, expected = code(graph), exact(graph)
        for name in sorted(expected.given()):
            error = _relative(getattr(found, name), getattr(expected, name))
            if not error <= allowed:
                raise CannotCompileError(
                    f"compiled code of model {potential.model.name!r} is wrong: {name} of {graph.n_atoms} atoms are "
                    f"off by {error:.1e}, more than {allowed:.0e}; use the checkpoint itself, and report this"
                )
            if name == "forces":
                force_error = max(force_error, error)
    return force_error


def _relative(found: Tensor | None, expected: Tensor) -> float:
    """Largest deviation, in units of the largest value; NaN where NaN is expected is none."""
    if found is None or found.shape != expected.shape or not torch.equal(found.isnan(), expected.isnan()):
        return float("inf")
    size = float(expected.nan_to_num().abs().max())
    return float((found.double() - expected.double()).nan_to_num().abs().max()) / max(size, 1e-3)


def _others(species: tuple[int, ...], cutoff: float) -> list[Graph]:
    cluster, slab, crystal = example_structures(species, cutoff)
    alone = Atoms(species[:1], [[0.0, 0.0, 0.0]])
    chain = Atoms(species[:1], [[0.0, 0.0, 0.0]], cell=[0.6 * cutoff, 0.7 * cutoff, 0.8 * cutoff], pbc=True)
    large = crystal.repeat((2, 2, 1))
    structures = [[alone], [chain], [cluster[:2]], [cluster], [large], [alone, slab, cluster[:7], chain, alone]]
    return [collate([from_atoms(atoms, cutoff) for atoms in each]) for each in structures]
