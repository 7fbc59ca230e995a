"""Blocks of E(3)-equivariant message passing whose products of irreps sit on the atoms.

Edges are many and only gather, scale and sum; `ase_mlcalc.models.equivariant` says where each block comes from.
Arrays of irreps are those of `ase_mlcalc.nn.irreps`; ``b_pr`` (E, R) are radial functions that vanish at the cutoff,
``y_pk`` (E, (l_max + 1)²) the spherical harmonics of the edges.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ase_mlcalc.graph import Graph
from ase_mlcalc.nn.irreps import IrrepsLinear, IrrepsProduct, SphericalHarmonics, degree_of_components
from ase_mlcalc.nn.messages import MessageLayer
from ase_mlcalc.nn.radial import BesselBasis, envelope

ATOMS_AT_ONCE = 512
EDGES_AT_ONCE = 65536
"""Arrays of some hundred numbers a row stay below 32 MB; the system hands larger ones out and clears them each time."""


def expand_edges(
    graph: Graph, radial: BesselBasis, harmonics: SphericalHarmonics, cutoff: float
) -> tuple[Tensor, Tensor]:
    """Radial functions ``b_pr`` that vanish at the cutoff, and spherical harmonics ``y_pk``, of all edges."""
    d_p = graph.vectors.square().sum(dim=1).sqrt()
    y_pk = harmonics(graph.vectors / d_p[:, None])
    u_p = envelope(d_p, cutoff)
    return radial(d_p) * u_p[:, None], y_pk


def _parts(values: Tensor, at_once: int, dim: int = 0) -> Sequence[Tensor]:
    """Pieces of at most that many rows, for the caches of processors.

    One piece on a GPU, which wants few large operations, and where a compiler follows, which sees no sizes.
    """
    whole = values.device.type != "cpu" or torch.compiler.is_compiling()
    return (values,) if whole else values.split(at_once, dim=dim)


class Density(nn.Module):
    """Expansion of each atom's surroundings, one for each element of the neighbours."""

    def __init__(self, n_species: int, *, n_radial: int, features: int, l_max: int, mean_neighbors: float) -> None:
        super().__init__()
        self.n_species = n_species
        self.mix = IrrepsLinear(n_species * n_radial, features, l_max)
        self.embedding = nn.Embedding(n_species, features)
        self.gain = nn.Embedding(n_species, (l_max + 1) * features)
        nn.init.normal_(self.embedding.weight, std=0.5)
        nn.init.ones_(self.gain.weight)
        self.scale = (16.0 / mean_neighbors) ** 0.5
        self.register_buffer("degree", degree_of_components(l_max), persistent=False)

    def forward(self, graph: Graph, species_n: Tensor, b_pr: Tensor, y_pk: Tensor) -> Tensor:
        """((l_max + 1)², N, features)."""
        n_atoms, n_radial, n_components = graph.n_atoms, b_pr.shape[1], y_pk.shape[1]
        slot_p = graph.centers * self.n_species + species_n[graph.neighbors]
        summed = b_pr.new_zeros(n_atoms * self.n_species, n_components * n_radial)
        for slot, y, b in zip(*(_parts(values, EDGES_AT_ONCE) for values in (slot_p, y_pk, b_pr)), strict=True):
            summed = summed.index_add(0, slot, (y[:, :, None] * b[:, None, :]).flatten(1))
        by_degree = summed.view(n_atoms, self.n_species, n_components, n_radial).permute(2, 0, 1, 3).flatten(2)
        gain = self.gain(species_n).view(n_atoms, -1, self.embedding.embedding_dim).transpose(0, 1)
        x = self.mix(by_degree) * self.scale * gain.index_select(0, self.get_buffer("degree"))
        return torch.cat([x[:1] + self.embedding(species_n), x[1:]])


class AtomBlock(nn.Module):
    """Product of irreps, then a gated update from the scalars; both residual.  Keeps degrees up to l_out."""

    def __init__(self, features: int, l_max: int, l_out: int) -> None:
        super().__init__()
        self.factors = IrrepsLinear(features, 2 * features, l_max)
        self.product = IrrepsProduct(features, features, l_max, l_out)
        self.hidden = nn.Linear(features, features)
        self.gates = nn.Linear(features, (l_out + 1) * features)
        self.register_buffer("degree", degree_of_components(l_out), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """((l_max + 1)², N, features) to ((l_out + 1)², N, features)."""
        parts = [self._at_once(part) for part in _parts(x, ATOMS_AT_ONCE, dim=1)]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def _at_once(self, x: Tensor) -> Tensor:
        degree = self.get_buffer("degree")
        left, right = self.factors(x).chunk(2, dim=2)
        x = x[: len(degree)] + 0.5 * self.product(left, right)
        gates = self.gates(silu(self.hidden(x[0]))).view(x.shape[1], -1, x.shape[2]).transpose(0, 1)
        # scalars change additively, other degrees by a factor
        times = torch.cat([torch.ones_like(x[:1]), x[1:]])
        return x + times * gates.index_select(0, degree)


class Interaction(MessageLayer):
    """Messages between neighbours, then an `AtomBlock`."""

    def __init__(
        self, *, features: int, edge_features: int, n_radial: int, l_max: int, l_out: int, mean_neighbors: float
    ) -> None:
        super().__init__()
        self.l_max = l_max
        self.channels = edge_features
        self.scale = mean_neighbors**-0.5
        self.down = IrrepsLinear(features, edge_features, l_max)
        self.radial_weights = nn.Linear(n_radial, (2 * l_max + 1) * edge_features, bias=False)
        self.up = IrrepsLinear(edge_features, features, l_max)
        self.atoms = AtomBlock(features, l_max, l_out)
        self.register_buffer("degree", degree_of_components(l_max), persistent=False)

    def forward(self, graph: Graph, x: Tensor, b_pr: Tensor, y_pk: Tensor) -> Tensor:
        """((l_max + 1)², N, features) to ((l_out + 1)², N, features)."""
        h = self.down(x).transpose(0, 1).contiguous()  # atoms first: rows are gathered and summed
        summed = self.sum_messages(graph, h, b_pr, y_pk)
        return self.atoms(x + self.up(summed.transpose(0, 1) * self.scale))

    def message(self, h_p: Tensor, *per_edge: Tensor) -> Tensor:
        """(E, (l_max + 1)², edge_features) with ``b_pr`` and ``y_pk`` to the same shape."""
        b_pr, y_pk = per_edge
        degree = self.get_buffer("degree")
        weights = self.radial_weights(b_pr).view(-1, 2 * self.l_max + 1, self.channels)
        of_place = weights[:, : self.l_max + 1].index_select(1, degree) * y_pk[:, :, None] * h_p[:, :1]
        of_turn = weights[:, self.l_max + 1 :].index_select(1, degree[1:] - 1) * h_p[:, 1:]
        return torch.cat([of_place[:, :1], of_place[:, 1:] + of_turn], dim=1)


def atom_layers(
    *,
    n_interactions: int,
    l_last: int,
    features: int,
    edge_features: int,
    n_radial: int,
    l_max: int,
    mean_neighbors: float,
) -> tuple[AtomBlock, nn.ModuleList]:
    """What follows a `Density`: an `AtomBlock`, then interactions.  The last layer keeps degrees up to l_last."""
    kept = [l_max] * n_interactions + [l_last]  # degrees after each layer
    first = AtomBlock(features, l_max, kept[0])
    interactions = nn.ModuleList(
        Interaction(
            features=features,
            edge_features=edge_features,
            n_radial=n_radial,
            l_max=l_max,
            l_out=l_out,
            mean_neighbors=mean_neighbors,
        )
        for l_out in kept[1:]
    )
    return first, interactions
