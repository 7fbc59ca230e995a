"""The gradient of a model's energies by edge vectors, from which everything follows: at once, or piece by piece."""

from typing import Protocol

import torch
from torch import Tensor

from ase_mlcalc.chunks import Piece, pieces
from ase_mlcalc.errors import ModelError
from ase_mlcalc.graph import Graph
from ase_mlcalc.memory import available_bytes
from ase_mlcalc.model import Model

LARGE_EDGES = 200_000
"""From so many edges on memory is looked at before an evaluation."""
SHARE_OF_MEMORY = 0.5
"""Of what is free, that an evaluation may take; the estimate is no better than that."""
SAMPLE_ATOMS = 200
"""In the core of the piece by which memory is estimated."""


class Slopes(Protocol):
    """Energies of a model and their gradient by edges, in a way of its own; see `ase_mlcalc.accelerate.learning`."""

    def __call__(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Energies relative to isolated atoms (N,), and gradients of their sum by edge vectors (E, 3), float64.

        Both in the unit of the model, and differentiable with respect to its parameters.
        """


def gradient(e_b: Tensor, r_pc: Tensor, *, create_graph: bool) -> Tensor:
    """(E, 3) of the sum of energies by edges; zeros where they do not depend on them.

    Raises
    ------
    ModelError
        Under ``torch.inference_mode()``, where nothing depends on anything.
    """
    if torch.is_inference_mode_enabled():
        raise ModelError("torch.inference_mode() forbids gradients, which forces are; use torch.no_grad() instead")
    if not e_b.requires_grad or r_pc.shape[0] == 0:
        return torch.zeros_like(r_pc)
    return torch.autograd.grad(e_b.sum(), r_pc, create_graph=create_graph, materialize_grads=True)[0]


def species_rows(model: Model, numbers: Tensor) -> Tensor:
    """(N,) place of each atom's element among the species of a model."""
    species = torch.tensor(model.config.species, device=numbers.device)
    return torch.searchsorted(species, numbers)


class InPieces:
    """`Slopes` of a model that evaluates a large graph piece by piece; for the CPU, without gradients by parameters.

    Parameters
    ----------
    model : Model
        That gives energies of atoms.
    isolated : (len(species),)
        From `isolated_energies`.
    atoms_at_once : int
    """

    def __init__(self, model: Model, isolated: Tensor, atoms_at_once: int) -> None:
        self.model = model
        self.isolated = isolated
        self.atoms_at_once = atoms_at_once

    def __call__(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Energies relative to isolated atoms (N,) and gradients (E, 3), float64, in the unit of the model."""
        e_n = torch.zeros(graph.n_atoms, dtype=torch.float64)
        g_pc = torch.zeros(len(graph.centers), 3, dtype=torch.float64)
        for piece in pieces(graph, self.model.depth, self.atoms_at_once):
            energies, slopes = _of_core(self.model, piece)
            own = self.isolated[species_rows(self.model, graph.numbers[piece.atoms])]
            e_n[piece.atoms] = energies - own.double()
            g_pc[piece.edges] += slopes
        return e_n, g_pc


def _of_core(model: Model, piece: Piece) -> tuple[Tensor, Tensor]:
    """Energies of a piece's core, and the gradient of their sum by the edges of the piece."""
    with torch.enable_grad():
        r_pc = piece.graph.vectors.to(model.dtype).requires_grad_()
        energies = model(piece.graph._replace(vectors=r_pc)).energies
        assert energies is not None
        e_n = energies[piece.core].double()
        return e_n.detach(), gradient(e_n, r_pc, create_graph=False).double()


def atoms_at_once(model: Model, graph: Graph) -> int:
    """How many atoms of a graph can be evaluated at once in the memory that is free; at least one.

    A small piece is evaluated, what autograd keeps of it is counted, and that is taken for each of its edges.
    """
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    sample = next(pieces(graph, model.depth, SAMPLE_ATOMS))
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        _of_core(model, sample)
    per_edge = 2 * kept / max(1, len(sample.edges))  # gradients are as large as what they are of
    edges = SHARE_OF_MEMORY * available_bytes() / max(per_edge, 1.0)
    if edges >= len(graph.centers):
        return graph.n_atoms
    # the surroundings of a core take room, too
    halo = len(sample.edges) / max(1.0, SAMPLE_ATOMS * len(graph.centers) / graph.n_atoms)
    width = max(0.0, halo ** (1 / 3) - 1) * SAMPLE_ATOMS ** (1 / 3)  # in atoms, as for cubes
    side = max(1.0, (edges * graph.n_atoms / len(graph.centers)) ** (1 / 3) - width)
    return int(side**3)


def is_large(model: Model, graph: Graph) -> bool:
    """Whether memory is worth a look before a graph is evaluated, and pieces of it can be evaluated at all."""
    if graph.centers.shape[0] < LARGE_EDGES or graph.gauge is not None or graph.numbers.device.type != "cpu":
        return False
    return model.local and model.reads == {"vectors"} and graph.n_atoms > SAMPLE_ATOMS
