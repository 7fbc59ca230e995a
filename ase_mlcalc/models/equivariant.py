"""E(3)-equivariant message passing whose tensor products sit on the atoms: the flagship.

Edges are many (15 to 60 per atom) and only gather, scale and sum here; all products of irreps and all learned
mixing happen on atoms:

1. density: each atom expands its surroundings in radial functions times spherical harmonics, one expansion for each
   element (the atomic base of Drautz, Phys. Rev. B 99, 014104 (2019)), mixed to ``features`` channels;
2. product: channel-wise Clebsch-Gordan products of two linear mixtures raise the body order (the idea of MACE, Batatia
   et al., NeurIPS 2022, with one pairwise product in place of a symmetric contraction), and a small network of the
   scalars changes scalars and gates the rest (gates: Weiler et al., NeurIPS 2018);
3. ``n_interactions`` times: messages in fewer channels (``edge_features``), m_ij = R(r) h_j0 Y(r) + R'(r) h_j for each
   degree, so that neighbours pass on both where they are and how their own surroundings are turned (as l = 1 in PaiNN,
   Schütt et al., ICML 2021, and l = 0, 1, 2 in TensorNet, Simeon and De Fabritiis, NeurIPS 2023); then step 2, which
   in the last layer keeps scalars only;
4. readout: a small network of the scalars of each atom.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import silu

from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model, NetworkConfig, SpeciesIndex
from ase_mlcalc.nn.irreps import IrrepsLinear, IrrepsProduct, SphericalHarmonics, degree_of_components
from ase_mlcalc.nn.radial import BesselBasis, envelope
from ase_mlcalc.properties import Properties


class EquivariantConfig(NetworkConfig):
    """Hyper-parameters of `Equivariant`."""

    features: int = Field(64, gt=0, description="channels of each degree on atoms")
    edge_features: int = Field(32, gt=0, description="channels of each degree in messages")
    l_max: int = Field(2, ge=1, le=4, description="highest degree of the irreps; cost grows with its fourth power")
    n_interactions: int = Field(1, ge=0, description="message-passing layers after the density layer")
    n_radial: int = Field(8, gt=0, description="radial Bessel functions")


class Equivariant(Model, name="equivariant", outputs={"energies"}):
    """See the module's text."""

    Config = EquivariantConfig
    config: EquivariantConfig

    def __init__(self, config: EquivariantConfig) -> None:
        super().__init__(config)
        c = config
        self.species_index = SpeciesIndex(c.species)
        self.radial = BesselBasis(c.n_radial, c.cutoff)
        self.harmonics = SphericalHarmonics(c.l_max)
        self.density = Density(len(c.species), c)
        kept = [c.l_max] * c.n_interactions + [0]  # degrees after each layer; the readout takes scalars only
        self.first = AtomBlock(c.features, c.l_max, kept[0])
        self.interactions = nn.ModuleList(Interaction(c, l_out) for l_out in kept[1:])
        self.readout = nn.Sequential(nn.Linear(c.features, c.features), nn.SiLU(), nn.Linear(c.features, 1))

    def forward(self, graph: Graph) -> Properties:
        """Per-atom energies."""
        species_n = self.species_index(graph.numbers)
        d_p = graph.vectors.square().sum(dim=1).sqrt()
        y_pk = self.harmonics(graph.vectors / d_p[:, None])
        u_p = envelope(d_p, self.config.cutoff)
        b_pr = self.radial(d_p) * u_p[:, None]
        x = self.first(self.density(graph, species_n, b_pr, y_pk))
        for interaction in self.interactions:
            x = interaction(graph, x, b_pr, y_pk)
        return Properties(energies=self.readout(x[0])[:, 0])


class Density(nn.Module):
    """Expansion of each atom's surroundings, one for each element of the neighbours."""

    def __init__(self, n_species: int, config: EquivariantConfig) -> None:
        super().__init__()
        self.n_species = n_species
        self.mix = IrrepsLinear(n_species * config.n_radial, config.features, config.l_max)
        self.embedding = nn.Embedding(n_species, config.features)
        self.gain = nn.Embedding(n_species, (config.l_max + 1) * config.features)
        nn.init.normal_(self.embedding.weight, std=0.5)
        nn.init.ones_(self.gain.weight)
        self.scale = (16.0 / config.mean_neighbors) ** 0.5
        self.register_buffer("degree", degree_of_components(config.l_max), persistent=False)

    def forward(self, graph: Graph, species_n: Tensor, b_pr: Tensor, y_pk: Tensor) -> Tensor:
        """((l_max + 1)², N, features)."""
        n_atoms, n_radial, n_components = graph.n_atoms, b_pr.shape[1], y_pk.shape[1]
        term_p = (y_pk[:, :, None] * b_pr[:, None, :]).flatten(1)
        slot_p = graph.centers * self.n_species + species_n[graph.neighbors]
        summed = term_p.new_zeros(n_atoms * self.n_species, n_components * n_radial).index_add(0, slot_p, term_p)
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
        degree = self.get_buffer("degree")
        left, right = self.factors(x).chunk(2, dim=2)
        x = x[: len(degree)] + 0.5 * self.product(left, right)
        gates = self.gates(silu(self.hidden(x[0]))).view(x.shape[1], -1, x.shape[2]).transpose(0, 1)
        # scalars change additively, other degrees by a factor
        times = torch.cat([torch.ones_like(x[:1]), x[1:]])
        return x + times * gates.index_select(0, degree)


class Interaction(nn.Module):
    """Messages between neighbours, then an `AtomBlock`."""

    def __init__(self, config: EquivariantConfig, l_out: int) -> None:
        super().__init__()
        self.l_max = config.l_max
        self.channels = config.edge_features
        self.cutoff = config.cutoff
        self.scale = config.mean_neighbors**-0.5
        self.down = IrrepsLinear(config.features, config.edge_features, config.l_max)
        self.radial_weights = nn.Linear(config.n_radial, (2 * config.l_max + 1) * config.edge_features, bias=False)
        self.up = IrrepsLinear(config.edge_features, config.features, config.l_max)
        self.atoms = AtomBlock(config.features, config.l_max, l_out)
        self.register_buffer("degree", degree_of_components(config.l_max), persistent=False)

    def forward(self, graph: Graph, x: Tensor, b_pr: Tensor, y_pk: Tensor) -> Tensor:
        """((l_max + 1)², N, features) to ((l_out + 1)², N, features)."""
        degree = self.get_buffer("degree")
        h = self.down(x).transpose(0, 1).contiguous()  # atoms first: rows are gathered and summed
        h_p = h.index_select(0, graph.neighbors)
        weights = self.radial_weights(b_pr).view(-1, 2 * self.l_max + 1, self.channels)
        of_place = weights[:, : self.l_max + 1].index_select(1, degree) * y_pk[:, :, None] * h_p[:, :1]
        of_turn = weights[:, self.l_max + 1 :].index_select(1, degree[1:] - 1) * h_p[:, 1:]
        messages = torch.cat([of_place[:, :1], of_place[:, 1:] + of_turn], dim=1)
        summed = torch.zeros_like(h).index_add(0, graph.centers, messages)
        return self.atoms(x + self.up(summed.transpose(0, 1) * self.scale))
