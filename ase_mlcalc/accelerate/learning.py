"""Training `equivariant` by its kernels: energies, gradients of edges, and the gradients of the weights that follow.

Training on forces differentiates twice.  ``native/equivariant_learning.cpp`` says how, and the tests compare with
torch, which takes some eight times as long on a processor.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ase_mlcalc.accelerate.native import (
    NUMBERS,
    STRUCTURE,
    Evaluation,
    edges_of,
    evaluation_library,
    flat_weights,
    kernel,
    reason_against,
    rows_of_species,
    sizes_and_scales,
    threads_for,
    weights_in_order,
)
from ase_mlcalc.errors import ModelError
from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model
from ase_mlcalc.models.equivariant import Equivariant
from ase_mlcalc.native.build import NoCompilerError, told_while_compiling


class KernelSlopes:
    """Energies of atoms and the gradient of their sum by the edges, both with gradients by the weights.

    For `potential.derive`, in place of autograd.  Weights are read anew in each call.

    Parameters
    ----------
    model : Equivariant
        On the CPU.

    Raises
    ------
    ModelError
        The kernels do not fit the model, see `native.reason_against`.
    NoCompilerError
        They are not in the cache and cannot be compiled.
    """

    def __init__(self, model: Equivariant) -> None:
        why = reason_against(model)
        if why is not None:
            raise ModelError(why)
        self.model = model
        self.row = rows_of_species(model)
        self.evaluation = evaluation_library(model)
        self.learning = kernel("equivariant_learning.cpp", model)
        pointer = ctypes.c_void_p
        self.learning.learning_gradients.argtypes = [*NUMBERS, *STRUCTURE, pointer, pointer, ctypes.c_int, pointer]
        self.learning.learning_gradients.restype = ctypes.c_int

    def __call__(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Energies relative to isolated atoms (N,) and gradients (E, 3), float64, in the unit of the model."""
        energies, slopes = _Evaluation.apply(self, graph, *weights_in_order(self.model))
        return energies, slopes


class _Evaluation(torch.autograd.Function):
    """The kernels as an operation of torch.  An isolated atom of each element follows the atoms of the graph."""

    @staticmethod
    def forward(ctx: Any, kernels: KernelSlopes, graph: Graph, *_: Tensor) -> tuple[Tensor, Tensor]:
        own = kernels.row[graph.numbers.numpy()]
        n = len(own)
        species = np.concatenate([own, np.arange(len(kernels.model.config.species))])
        edges = edges_of(graph)
        evaluate = Evaluation(kernels.evaluation, kernels.model)
        energies, _forces, _virials, slopes = evaluate(species, edges, with_slopes=True)
        ctx.kernels, ctx.n_atoms = kernels, n
        ctx.arrays, ctx.weights = [species, *edges], flat_weights(kernels.model)
        return torch.from_numpy(energies[:n] - energies[n:][own]), torch.from_numpy(slopes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_energies, of_slopes = (np.ascontiguousarray(each.numpy(), dtype=np.float64) for each in upstream)
        kernels, species, n = ctx.kernels, ctx.arrays[0], ctx.n_atoms
        sizes = sizes_and_scales(kernels.model)
        isolated = -np.bincount(species[:n], of_energies, minlength=sizes[0])
        seeds = np.concatenate([of_energies, isolated])
        gradients = np.empty_like(ctx.weights)
        status = kernels.learning.learning_gradients(
            *sizes,
            ctx.weights.ctypes.data,
            len(species),
            len(of_slopes),
            *(array.ctypes.data for array in (*ctx.arrays, of_slopes, seeds)),
            threads_for(len(species)),
            gradients.ctypes.data,
        )
        if status != 0:
            raise MemoryError(f"{n} atoms with {len(of_slopes)} edges do not fit into memory")
        like = list(weights_in_order(kernels.model))
        parts = torch.from_numpy(gradients).split([weight.numel() for weight in like])
        return None, None, *(part.view_as(weight) for part, weight in zip(parts, like, strict=True))


def kernel_slopes(model: Model, say: Callable[[str], None] | None = None) -> tuple[KernelSlopes | None, str]:
    """Kernels for a model, or ``None`` and why there are none; `say` is told where they have to be compiled first."""
    why = reason_against(model)
    if why is not None:
        return None, why
    assert isinstance(model, Equivariant)
    try:
        with told_while_compiling(say):
            return KernelSlopes(model), ""
    except NoCompilerError as error:
        return None, str(error)
