r"""Per-atom stress as a symmetric tensor that turns with the structure.

The network is that of `ase_mlcalc.models.equivariant`: densities, products of irreps on atoms, messages that carry
irreps.  What differs is what is read out of each atom: a scalar t_0 for the trace and an irrep t_2 of degree 2 for
the rest, both of even parity, which are a symmetric tensor by construction (see `nn.cartesian.SymmetricTensor`):

.. math:: T_i = \frac{t_{0 i}}{\sqrt 3} \, 1 + \sqrt 5 \sum_m C^{2 m}_{1 \cdot; 1 \cdot} \, t_{2 m i}

The scalar comes out of a small network of the scalars of the atom, the irrep out of a sum over its channels of degree
2, each times a function of the scalars.  Squares v v of its channels of degree 1 are added, each times a function of
the scalars, too.

With ``velocities`` each atom's velocity joins its channels of degree 1 before their squares are taken.  The kinetic
part of the stress, ``part = "total"``, is then such a square, whose factor the network has to learn.  No power of the
velocity beyond the second comes about: through the layers before, there would be the eighth, and a fast atom would be
given anything.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model, NetworkConfig, SpeciesIndex, StressConfig
from ase_mlcalc.nn.cartesian import SpeciesScale, SymmetricTensor
from ase_mlcalc.nn.equivariant import Density, atom_layers, expand_edges
from ase_mlcalc.nn.irreps import SphericalHarmonics
from ase_mlcalc.nn.radial import BesselBasis
from ase_mlcalc.properties import Properties


class StressEquivariantConfig(StressConfig, NetworkConfig):
    """Hyper-parameters of `StressEquivariant`."""

    features: int = Field(48, gt=0, description="channels of each degree on atoms")
    edge_features: int = Field(24, gt=0, description="channels of each degree in messages")
    l_max: int = Field(2, ge=2, le=4, description="highest degree of the irreps; cost grows with its fourth power")
    n_interactions: int = Field(1, ge=0, description="message-passing layers after the density layer")
    n_radial: int = Field(8, gt=0, description="radial Bessel functions")


class StressEquivariant(Model, name="stress_equivariant", outputs={"stresses"}):
    """See the module's text."""

    Config = StressEquivariantConfig
    config: StressEquivariantConfig

    def __init__(self, config: StressEquivariantConfig) -> None:
        super().__init__(config)
        c = config
        self.reads = frozenset({"vectors"} | ({"velocities"} if c.with_velocities else set()))
        self.includes_kinetic = c.part == "total"
        self.depth = 1 + c.n_interactions
        self.species_index = SpeciesIndex(c.species)
        self.radial = BesselBasis(c.n_radial, c.cutoff)
        self.harmonics = SphericalHarmonics(c.l_max)
        self.density = Density(
            len(c.species), n_radial=c.n_radial, features=c.features, l_max=c.l_max, mean_neighbors=c.mean_neighbors
        )
        self.motion = nn.Embedding(len(c.species), c.features) if c.with_velocities else None
        self.first, self.interactions = atom_layers(
            n_interactions=c.n_interactions,
            l_last=2,  # the readout takes l = 0 and 2
            features=c.features,
            edge_features=c.edge_features,
            n_radial=c.n_radial,
            l_max=c.l_max,
            mean_neighbors=c.mean_neighbors,
        )
        self.trace = nn.Sequential(nn.Linear(c.features, c.features), nn.SiLU(), nn.Linear(c.features, 1))
        self.weights = nn.Sequential(nn.Linear(c.features, c.features), nn.SiLU(), nn.Linear(c.features, c.features))
        self.square_weights = nn.Linear(c.features, c.features)
        self.tensor = SymmetricTensor()
        self.scale = SpeciesScale(len(c.species))

    def forward(self, graph: Graph) -> Properties:
        """Stress times volume of each atom."""
        species_n = self.species_index(graph.numbers)
        b_pr, y_pk = expand_edges(graph, self.radial, self.harmonics, self.config.cutoff)
        x = self.first(self.density(graph, species_n, b_pr, y_pk))
        for interaction in self.interactions:
            x = interaction(graph, x, b_pr, y_pk)
        t0_n = self.trace(x[0])[:, 0]
        t2_nm = (x[4:9] * self.weights(x[0])).sum(dim=2).T * self.config.features**-0.5
        tensor_nab = self.tensor(t0_n, t2_nm)
        v_anf = self._with_motion(x[1:4], graph, species_n)
        squares_nab = torch.einsum("anf,bnf,nf->nab", v_anf, v_anf, self.square_weights(x[0]))
        return Properties(stresses=self.scale(tensor_nab + squares_nab * self.config.features**-0.5, species_n))

    def _with_motion(self, x_anf: Tensor, graph: Graph, species_n: Tensor) -> Tensor:
        """Velocities added to the features of degree 1, whose components are x, y, z."""
        if self.motion is None:
            return x_anf
        assert graph.velocities is not None  # the potential refuses structures without
        v_nc = (graph.velocities / self.config.velocity_scale).to(x_anf.dtype)
        return x_anf + v_nc.T[:, :, None] * self.motion(species_n)
