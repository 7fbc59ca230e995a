r"""SchNet: continuous-filter convolutions over scalar features of atoms.

Each interaction lets atom i gather the features of its neighbours, channel by channel weighted by a filter that a
small network makes from the distance alone:

.. math::

    x_i \leftarrow x_i + A\Big( \frac{1}{\sqrt{\bar n}} \sum_{j} (B x_j) \circ u(d_{ij})\, W(e(d_{ij})) \Big)

with Gaussians e, the filter network W, atom-wise layers A and B, and the smooth envelope u.  Distances are all that
enters, so energies are invariant under rotations and mirrors.

Published: Schütt, Sauceda, Kindermans, Tkatchenko and Müller, J. Chem. Phys. 148, 241722 (2018).
Different here: the paper has no cutoff function, we multiply every filter by a polynomial envelope so that forces are
continuous at the cutoff; the second layer of the filter network is linear; sums over neighbours are divided by the
square root of a typical neighbour count, so that features stay of order one.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model, NetworkConfig, SpeciesIndex
from ase_mlcalc.nn.dense import dense
from ase_mlcalc.nn.messages import MessageLayer
from ase_mlcalc.nn.radial import GaussianBasis, envelope
from ase_mlcalc.properties import Properties


class SchNetConfig(NetworkConfig):
    """Hyper-parameters of SchNet."""

    cutoff: float = Field(6.0, gt=0, description="Å; distances carry all the shape, so that a longer cutoff pays")
    features: int = Field(96, ge=2, description="channels per atom")
    n_interactions: int = Field(5, ge=1, description="rounds of message passing")
    n_gaussians: int = Field(24, ge=2, description="radial basis functions on [0, cutoff]")


class ShiftedSoftplus(nn.Module):
    """ln(e^x / 2 + 1 / 2): smooth, zero at zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Element-wise."""
        return softplus(x) - math.log(2.0)


class Gaussians(nn.Module):
    """What filters are made of: Gaussians of the distance, and the envelope."""

    def __init__(self, n_gaussians: int, cutoff: float) -> None:
        super().__init__()
        self.basis = GaussianBasis(n_gaussians, cutoff)
        self.cutoff = cutoff

    def forward(self, d_p: Tensor) -> tuple[Tensor, Tensor]:
        """(E,) Å to (E, K) and (E, 1)."""
        return self.basis(d_p), envelope(d_p, self.cutoff)[:, None]


class Filter(nn.Sequential):
    """Network of the Gaussians, times the envelope."""

    def forward(self, basis_pk: Tensor, u_p: Tensor) -> Tensor:  # type: ignore[override]
        """(E, K) and (E, 1) to (E, F)."""
        filter_pf: Tensor = super().forward(basis_pk) * u_p
        return filter_pf


class Distance(nn.Module):
    """What filters in tables are made of."""

    def forward(self, d_p: Tensor) -> tuple[Tensor]:
        """(E,) Å to the same."""
        return (d_p,)


class Interaction(MessageLayer):
    """One continuous-filter convolution with its atom-wise layers; returns what is added to the features."""

    def __init__(self, config: SchNetConfig) -> None:
        super().__init__()
        f = config.features
        # at any distance only about four neighbouring Gaussians differ from zero
        first = dense(config.n_gaussians, f, size=(config.n_gaussians / 4) ** 0.5)
        self.filter_net: nn.Module = Filter(first, ShiftedSoftplus(), dense(f, f))
        self.before = dense(f, f, bias=False)
        self.after = nn.Sequential(dense(f, f), ShiftedSoftplus(), dense(f, f))
        self.scale = config.mean_neighbors**-0.5

    def forward(self, x_nf: Tensor, radial: Sequence[Tensor], graph: Graph) -> Tensor:
        """(N, F) features, and of edges what filters are made of, to (N, F)."""
        sum_nf = self.sum_messages(graph, self.before(x_nf), *radial)
        return self.after(sum_nf * self.scale)

    def message(self, h_p: Tensor, *per_edge: Tensor) -> Tensor:
        """(E, F) of neighbours, channel by channel times the filter."""
        return h_p * self.filter_net(*per_edge)


class SchNet(Model, name="schnet", outputs={"energies"}):
    """Continuous-filter convolutional network; see the equations at the top of this file."""

    Config = SchNetConfig

    def __init__(self, config: SchNetConfig) -> None:
        super().__init__(config)
        f = config.features
        self.depth = config.n_interactions
        self.species_index = SpeciesIndex(config.species)
        self.embedding = nn.Embedding(len(config.species), f)
        self.radial: nn.Module = Gaussians(config.n_gaussians, config.cutoff)
        self.interactions = nn.ModuleList(Interaction(config) for _ in range(config.n_interactions))
        self.readout = nn.Sequential(dense(f, f // 2), ShiftedSoftplus(), dense(f // 2, 1))

    def forward(self, graph: Graph) -> Properties:
        """Per-atom energies of all structures."""
        d_p = torch.linalg.vector_norm(graph.vectors, dim=1)
        radial = self.radial(d_p)
        x_nf = self.embedding(self.species_index(graph.numbers))
        for interaction in self.interactions:
            x_nf = x_nf + interaction(x_nf, radial, graph)
        return Properties(energies=self.readout(x_nf).squeeze(-1))

    def tabulate(self, table: Callable[[Callable[[Tensor], Tensor], float], nn.Module]) -> None:
        """Filters as tables; see `ase_mlcalc.model.Tabulable`."""
        for interaction in self.interactions:
            assert isinstance(interaction, Interaction)
            interaction.filter_net = table(partial(_filter_of, self.radial, interaction.filter_net), self.config.cutoff)
        self.radial = Distance()


def _filter_of(radial: nn.Module, filter_net: nn.Module, d_p: Tensor) -> Tensor:
    filter_pf: Tensor = filter_net(*radial(d_p))
    return filter_pf
