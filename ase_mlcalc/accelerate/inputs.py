"""What compiled code is given: arrays of a graph, checked, because code does not check them itself."""

import torch
from torch import Tensor

from ase_mlcalc.errors import ModelError, StructureError
from ase_mlcalc.graph import Graph

INPUTS = {
    "numbers": (torch.int64, 1),
    "cell": (torch.float64, 3),
    "system": (torch.int64, 1),
    "centers": (torch.int64, 1),
    "neighbors": (torch.int64, 1),
    "vectors": (torch.float64, 2),
}
"""Fields of a graph that code takes: their type and number of axes."""


def checked_inputs(graph: Graph) -> list[Tensor]:
    """The inputs, checked, because code reads whatever memory it is given as what it expects.

    Raises
    ------
    StructureError
        Another type, shape or device.
    ModelError
        A graph with a gauge.
    """
    if graph.gauge is not None:
        raise ModelError("compiled code has no gauge; evaluate the model itself")
    found = []
    for name, (dtype, axes) in INPUTS.items():
        values: Tensor = getattr(graph, name)
        if values.dtype != dtype or values.ndim != axes or values.device.type != "cpu":
            raise StructureError(
                f"compiled code takes {name} as {dtype} with {axes} axes on the CPU, got {values.dtype} of shape "
                f"{tuple(values.shape)} on {values.device}; make graphs with ase_mlcalc.graph.from_atoms"
            )
        found.append(values.detach().contiguous())
    numbers, cell, system, centers, neighbors, vectors = found
    if (
        system.shape != numbers.shape
        or centers.shape != neighbors.shape
        or vectors.shape != (*centers.shape, 3)
        or cell.shape[1:] != (3, 3)
    ):
        shapes = ", ".join(f"{name} {tuple(each.shape)}" for name, each in zip(INPUTS, found, strict=True))
        raise StructureError(f"arrays of a graph do not belong together: {shapes}")
    return found
