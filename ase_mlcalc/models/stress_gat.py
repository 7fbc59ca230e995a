r"""Per-atom stress by graph attention.

A block lets each atom attend to its neighbours and to itself, adds a fully connected layer of its own features (skip
connection) and applies ELU:

.. math:: x_i \leftarrow \mathrm{ELU}\big( \mathrm{GAT}(x)_i + S x_i + s \big)

with 20 % dropout after the first block, and a linear layer to the six components of the stress after the last.
Attention: Veličković et al., ICLR 2018, see `nn.attention`.

Two networks of a study of a water box have this shape: three blocks with a cutoff of 5 Å, and one with 15 Å.  There,
atoms are told where they are (fractions of the box) and how fast, and edges are told nothing, so that the network
would have to learn from two positions how far apart two atoms are, across periodic boundaries too.  To have that
network: ``positions = true, velocities = true, edge_vectors = false,
heads = 1, part = "total"``.

By default positions and velocities are left out, and what edges are told is their vector: radial functions of its
length and its direction, through a small network, which enters attention and messages.  Then the result does not
depend on where the structure is, and it is continuous at the cutoff.  It still does not turn with the structure;
`stress_equivariant` does.
"""

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import elu

from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model, SpeciesIndex, StressConfig
from ase_mlcalc.nn.atoms import AtomFeatures
from ase_mlcalc.nn.attention import GraphAttention
from ase_mlcalc.nn.cartesian import SpeciesScale
from ase_mlcalc.nn.radial import BesselBasis, envelope
from ase_mlcalc.properties import Properties, from_voigt


class StressGATConfig(StressConfig):
    """Hyper-parameters of `StressGAT`."""

    features: int = Field(64, gt=0, description="features of atoms between blocks")
    n_blocks: int = Field(3, ge=1, description="attention blocks; published: 3 with a cutoff of 5 Å, 1 with 15 Å")
    heads: int = Field(4, ge=1, description="attention heads, each with its share of the features")
    positions: bool = Field(False, description="positions in the box are features of the atoms")
    edge_vectors: bool = Field(True, description="length and direction are features of the edges")
    n_radial: int = Field(8, gt=0, description="radial Bessel functions of edges")
    dropout: float = Field(0.2, ge=0, lt=1, description="fraction dropped in training after the first block")

    @model_validator(mode="after")
    def _equal_shares(self) -> "StressGATConfig":
        if self.features % self.heads:
            raise ValueError(f"features have to be a multiple of heads, got {self.features} and {self.heads}")
        return self


class StressGAT(Model, name="stress_gat", outputs={"stresses"}):
    """See the module's text."""

    Config = StressGATConfig
    config: StressGATConfig
    equivariant = False

    def __init__(self, config: StressGATConfig) -> None:
        super().__init__(config)
        c = config
        self.atoms = AtomFeatures(len(c.species), positions=c.positions, velocity_scale=c.scale_of_velocities)
        self.reads = self.atoms.reads | {"vectors"}
        self.includes_kinetic = c.part == "total"
        self.depth = c.n_blocks
        self.species_index = SpeciesIndex(c.species)
        self.basis = BesselBasis(c.n_radial, c.cutoff)
        widths = [self.atoms.size] + [c.features] * c.n_blocks
        self.blocks = nn.ModuleList(Block(before, c) for before in widths[:-1])
        self.dropout = nn.Dropout(c.dropout)
        self.readout = nn.Linear(c.features, 6)
        self.scale = SpeciesScale(len(c.species))

    def forward(self, graph: Graph) -> Properties:
        """Stress times volume of each atom."""
        c = self.config
        species_n = self.species_index(graph.numbers)
        d_p = torch.linalg.vector_norm(graph.vectors, dim=1)
        u_p = envelope(d_p, c.cutoff)
        edge_pf = torch.cat([self.basis(d_p), graph.vectors / d_p[:, None]], dim=1) if c.edge_vectors else None
        x_nf = self.atoms(graph, species_n)
        for k, block in enumerate(self.blocks):
            x_nf = block(graph, x_nf, u_p, edge_pf)
            if k == 0:
                x_nf = self.dropout(x_nf)
        return Properties(stresses=self.scale(from_voigt(self.readout(x_nf)), species_n))


class Block(nn.Module):
    """Attention and a skip connection, then ELU."""

    def __init__(self, n_in: int, config: StressGATConfig) -> None:
        super().__init__()
        f = config.features
        self.attention = GraphAttention(n_in, f, config.heads, edges=config.edge_vectors)
        self.skip = nn.Linear(n_in, f)
        self.edges: nn.Module | None = None
        if config.edge_vectors:
            self.edges = nn.Sequential(nn.Linear(config.n_radial + 3, f), nn.ELU(), nn.Linear(f, f))

    def forward(self, graph: Graph, x_nf: Tensor, u_p: Tensor, edge_pf: Tensor | None) -> Tensor:
        """(N, n_in) to (N, features)."""
        z_pf = None if self.edges is None or edge_pf is None else self.edges(edge_pf)
        return elu(self.attention(graph, x_nf, u_p, z_pf) + self.skip(x_nf))
