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

from pydantic import Field
from torch import nn

from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model, NetworkConfig, SpeciesIndex
from ase_mlcalc.nn.equivariant import Density, atom_layers, expand_edges
from ase_mlcalc.nn.irreps import SphericalHarmonics
from ase_mlcalc.nn.radial import BesselBasis
from ase_mlcalc.properties import Properties


class EquivariantConfig(NetworkConfig):
    """Hyper-parameters of `Equivariant`."""

    features: int = Field(64, gt=0, description="channels of each degree on atoms")
    edge_features: int = Field(32, gt=0, description="channels of each degree in messages")
    l_max: int = Field(2, ge=1, le=4, description="highest degree of the irreps; cost grows with its fourth power")
    n_interactions: int = Field(2, ge=0, description="message-passing layers after the density layer")
    n_radial: int = Field(8, gt=0, description="radial Bessel functions")
    radial_decay: float = Field(
        0.0, ge=0, description="function k is scaled by k^-radial_decay: smoother, for few structures; 2 is much"
    )


class Equivariant(Model, name="equivariant", outputs={"energies"}):
    """See the module's text."""

    Config = EquivariantConfig
    config: EquivariantConfig

    def __init__(self, config: EquivariantConfig) -> None:
        super().__init__(config)
        c = config
        self.depth = 1 + c.n_interactions
        self.species_index = SpeciesIndex(c.species)
        self.radial = BesselBasis(c.n_radial, c.cutoff, c.radial_decay)
        self.harmonics = SphericalHarmonics(c.l_max)
        self.density = Density(
            len(c.species), n_radial=c.n_radial, features=c.features, l_max=c.l_max, mean_neighbors=c.mean_neighbors
        )
        self.first, self.interactions = atom_layers(
            n_interactions=c.n_interactions,
            l_last=0,  # the readout takes scalars only
            features=c.features,
            edge_features=c.edge_features,
            n_radial=c.n_radial,
            l_max=c.l_max,
            mean_neighbors=c.mean_neighbors,
        )
        self.readout = nn.Sequential(nn.Linear(c.features, c.features), nn.SiLU(), nn.Linear(c.features, 1))

    def forward(self, graph: Graph) -> Properties:
        """Per-atom energies."""
        species_n = self.species_index(graph.numbers)
        b_pr, y_pk = expand_edges(graph, self.radial, self.harmonics, self.config.cutoff)
        x = self.first(self.density(graph, species_n, b_pr, y_pk))
        for interaction in self.interactions:
            x = interaction(graph, x, b_pr, y_pk)
        return Properties(energies=self.readout(x[0])[:, 0])
