r"""Per-atom stress by a point-cloud network whose edges change from layer to layer.

In each layer every atom is joined to its k nearest neighbours anew, sees its differences to them, and keeps the
largest value of each feature:

.. math:: x_i \leftarrow \max_{j \in K(i) \cup \{i\}} h\big( x_i \,\|\, x_j - x_i \,\|\, e_{ij} \big)

This is the edge convolution of Wang, Sun, Liu, Sarma, Bronstein and Solomon, ACM Trans. Graph. 38, 146 (2019)
(dynamic graph CNN), where e is not there; h is a small network.  The first layer goes by real distances, across
periodic boundaries; the layers after it by distances of features.  The features of all layers, side by side, go
through a small network to the six components of the stress.

Different here: the paper looks for neighbours among all points and has their coordinates as features.  Then a
structure changes its own stress when it is moved, or when it is repeated (each atom's nearest neighbours in feature
space are then its own images), and the cost grows with the square of the number of atoms.  So candidates are the atoms
within the cutoff, two atoms are as far apart as their features and a part of their real distance say,

.. math:: \frac{|x_i - x_j|^2}{F} + \frac{d_{ij}^2}{r_c^2},

and edges carry e, radial functions of the distance and the direction.  The choice of k neighbours is not continuous:
neither is the result.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model, SpeciesIndex, StressConfig
from ase_mlcalc.nn.atoms import AtomFeatures
from ase_mlcalc.nn.cartesian import SpeciesScale
from ase_mlcalc.nn.gather import of_neighbors
from ase_mlcalc.nn.nearest import Nearest, nearest
from ase_mlcalc.nn.radial import BesselBasis
from ase_mlcalc.properties import Properties, from_voigt


class StressPointCloudConfig(StressConfig):
    """Hyper-parameters of `StressPointCloud`."""

    k: int = Field(16, ge=1, description="neighbours of an atom in each layer")
    features: int = Field(64, gt=0, description="features of atoms after each layer")
    n_layers: int = Field(3, ge=1, description="layers, each with its own edges")
    positions: bool = Field(False, description="positions in the box are features of the atoms")
    edge_vectors: bool = Field(True, description="length and direction are features of the edges")
    n_radial: int = Field(8, gt=0, description="radial Bessel functions of edges")
    dropout: float = Field(0.2, ge=0, lt=1, description="fraction dropped in training after the first layer")


class StressPointCloud(Model, name="stress_pointcloud", outputs={"stresses"}):
    """See the module's text."""

    Config = StressPointCloudConfig
    config: StressPointCloudConfig
    equivariant = False
    smooth = False

    def __init__(self, config: StressPointCloudConfig) -> None:
        super().__init__(config)
        c = config
        self.atoms = AtomFeatures(len(c.species), positions=c.positions, velocity_scale=c.scale_of_velocities)
        self.reads = self.atoms.reads | {"vectors"}
        self.includes_kinetic = c.part == "total"
        self.depth = c.n_layers
        self.species_index = SpeciesIndex(c.species)
        self.basis = BesselBasis(c.n_radial, c.cutoff)
        n_edge = c.n_radial + 3 if c.edge_vectors else 0
        widths = [self.atoms.size] + [c.features] * c.n_layers
        self.layers = nn.ModuleList(EdgeConvolution(before, n_edge, c.features) for before in widths[:-1])
        self.dropout = nn.Dropout(c.dropout)
        self.readout = nn.Sequential(
            nn.Linear(c.features * c.n_layers, c.features), nn.LeakyReLU(0.2), nn.Linear(c.features, 6)
        )
        self.scale = SpeciesScale(len(c.species))

    def forward(self, graph: Graph) -> Properties:
        """Stress times volume of each atom."""
        c = self.config
        species_n = self.species_index(graph.numbers)
        d_p = torch.linalg.vector_norm(graph.vectors, dim=1)
        edge_pf = torch.cat([self.basis(d_p), graph.vectors / d_p[:, None]], dim=1)
        x_nf = self.atoms(graph, species_n)
        after: list[Tensor] = []
        for k, layer in enumerate(self.layers):
            square_p = (d_p / c.cutoff).square()
            if k > 0:
                difference_pf = of_neighbors(x_nf, graph) - x_nf.index_select(0, graph.centers)
                square_p = square_p + difference_pf.square().mean(dim=1)
            x_nf = layer(graph, x_nf, edge_pf if c.edge_vectors else None, nearest(graph, square_p, c.k))
            after.append(x_nf)
            if k == 0:
                x_nf = self.dropout(x_nf)
        return Properties(stresses=self.scale(from_voigt(self.readout(torch.cat(after, dim=1))), species_n))


class EdgeConvolution(nn.Module):
    """A small network of each edge, then the maximum over the chosen edges and the atom itself."""

    def __init__(self, n_in: int, n_edge: int, features: int) -> None:
        super().__init__()
        self.of_center = nn.Linear(n_in, features)
        self.of_difference = nn.Linear(n_in, features, bias=False)
        self.of_edge = nn.Linear(n_edge, features, bias=False) if n_edge else None
        self.after = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(features, features), nn.LeakyReLU(0.2))

    def forward(self, graph: Graph, x_nf: Tensor, edge_pf: Tensor | None, chosen: Nearest) -> Tensor:
        """(N, n_in) to (N, features)."""
        center_nf, mapped_nf = self.of_center(x_nf), self.of_difference(x_nf)
        edges = chosen.edges_nk.flatten()
        far_ef = mapped_nf.index_select(0, graph.neighbors[edges])
        if self.of_edge is not None and edge_pf is not None:
            far_ef = far_ef + self.of_edge(edge_pf)[edges]
        far_nkf = far_ef.view(*chosen.edges_nk.shape, mapped_nf.shape[1]) - mapped_nf[:, None]
        alone_nf = self.after(center_nf)  # no difference to itself
        h_nkf = self.after(center_nf[:, None] + far_nkf)
        h_nkf = torch.where(chosen.given_nk[:, :, None], h_nkf, alone_nf[:, None])
        return torch.cat([alone_nf[:, None], h_nkf], dim=1).amax(dim=1)
