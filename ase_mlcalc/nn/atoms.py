"""An atom before it sees its neighbours: its element and, if asked for, its place in the box and its velocity."""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ase_mlcalc.graph import SMALLEST_VOLUME_A3, Graph


class AtomFeatures(nn.Module):
    """Features of atoms that are not functions of their neighbours, each of order one.

    Parameters
    ----------
    n_species : int
    positions : bool
        Include `positions_in_box`; what is made of them notices where a structure is.
    velocity_scale : float, Å per ASE time unit, or None
        Include velocities divided by this.
    """

    def __init__(self, n_species: int, *, positions: bool, velocity_scale: float | None) -> None:
        super().__init__()
        self.n_species, self.positions, self.velocity_scale = n_species, positions, velocity_scale
        moving = velocity_scale is not None
        self.size = n_species + 3 * positions + 3 * moving
        """How many there are."""
        self.reads = frozenset({"positions", "cell"} if positions else set()) | ({"velocities"} if moving else set())
        """Fields of `Graph` that they are made of."""

    def forward(self, graph: Graph, species_n: Tensor) -> Tensor:
        """(N, size) in the precision of ``graph.vectors``, from rows of the elements (N,)."""
        parts = [one_hot(species_n, self.n_species).to(graph.vectors.dtype)]
        if self.positions:
            parts.append(positions_in_box(graph).to(graph.vectors.dtype))
        if self.velocity_scale is not None:
            assert graph.velocities is not None  # the potential refuses structures without
            parts.append((graph.velocities / self.velocity_scale).to(graph.vectors.dtype))
        return torch.cat(parts, dim=1)


def positions_in_box(graph: Graph) -> Tensor:
    """(N, 3) positions as fractions of the cell vectors, wrapped into the cell, then scaled to variance one.

    Without a volume there is no stress either, and the numbers mean nothing.
    """
    solid_b = torch.linalg.det(graph.cell).abs() > SMALLEST_VOLUME_A3
    eye = torch.eye(3, dtype=graph.cell.dtype, device=graph.cell.device)
    inverse_b = torch.linalg.inv(torch.where(solid_b[:, None, None], graph.cell, eye))
    fractions_nc = torch.einsum("nc,nck->nk", graph.positions, inverse_b[graph.system])
    return (torch.remainder(fractions_nc, 1.0) - 0.5) * 12**0.5  # uniform on [0, 1) has variance 1/12
