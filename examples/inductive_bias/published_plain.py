r"""Message passing as it was published for SiC and GeSe2, and what `body_order` changed, each to be had alone.

As in `ase_mlcalc.models.body_order`, edges and nodes are convolved in turn and the last vector of an atom gives its
energy.  As published, as far as the paper says it,

- a network sees the bare number :math:`R_{ij}^2`, here as a fraction of the cutoff squared, and goes on as a straight
  line below the distances that it has learned; `body_order` sees fixed smooth steps of it, which end there;
- an edge counts as much at the cutoff as nearby, so that energies jump when an atom comes or goes there; `body_order`
  lets it end smoothly.

With ``steps`` and ``envelope`` it is the message passing of `body_order`.

How weights began is not published.  With usual ones, and zero biases, a first layer bends nowhere between 0 and the
cutoff: it sees distances as straight lines, and learned nothing of the forces of GeSe2 in 2400 steps.  Here its units
begin with bends that are spread over the distances.

    ASE_MLCALC_MODELS=published_plain, from this folder
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from ase_mlcalc import Graph, Model, Properties
from ase_mlcalc.model import NetworkConfig, SpeciesIndex
from ase_mlcalc.models.body_order import EdgeConvolution, NodeConvolution, steps_of_squared_distance
from ase_mlcalc.nn.dense import dense
from ase_mlcalc.nn.radial import envelope

STEEPNESS = 30.0
"""Largest weights that a first layer begins with; smallest are a third of it."""


class PublishedPlainConfig(NetworkConfig):
    """Hyper-parameters, with the values of the paper."""

    cutoff: float = Field(7.0, gt=0, description="Å")
    features: int = Field(32, ge=2, description="channels of each atom and of each edge")
    n_rounds: int = Field(3, ge=1, description="of message passing, each an edge and a node convolution")
    steps: bool = Field(False, description="true: distances are seen as smooth steps")
    envelope: bool = Field(False, description="true: sums end smoothly at the cutoff")


class PublishedPlain(Model, name="published_plain", outputs={"energies"}):
    """The plain network of the paper."""

    Config = PublishedPlainConfig
    config: PublishedPlainConfig
    smooth = False

    def __init__(self, config: PublishedPlainConfig) -> None:
        super().__init__(config)
        f = config.features
        self.depth = config.n_rounds
        self.scale = config.mean_neighbors**-0.5
        self.species_index = SpeciesIndex(config.species)
        self.node_embedding = nn.Embedding(len(config.species), f)
        first = [steps_of_squared_distance(f), dense(f, f)] if config.steps else [bent(f)]
        self.edge_embedding = nn.Sequential(*first, nn.SiLU(), dense(f, f))
        self.edge_rounds = nn.ModuleList(EdgeConvolution(f) for _ in range(config.n_rounds))
        self.node_rounds = nn.ModuleList(NodeConvolution(f) for _ in range(config.n_rounds))
        self.decoder = nn.Sequential(dense(f, f), nn.SiLU(), dense(f, 1))

    def forward(self, graph: Graph) -> Properties:
        """Energies of atoms."""
        cutoff = self.config.cutoff
        d2_p = graph.vectors.square().sum(dim=1)
        e_pf: Tensor = self.edge_embedding((d2_p / cutoff**2)[:, None])
        u_p = envelope(d2_p.sqrt(), cutoff) if self.config.envelope else torch.ones_like(d2_p)
        h_nf = self.node_embedding(self.species_index(graph.numbers))
        for edges, nodes in zip(self.edge_rounds, self.node_rounds, strict=True):
            e_pf = e_pf + edges(h_nf, e_pf, graph)
            h_nf = h_nf + nodes(h_nf, e_pf, u_p[:, None] * self.scale, graph)
        return Properties(energies=self.decoder(h_nf)[:, 0])


def bent(features: int) -> nn.Linear:
    """A layer of a squared distance, as a fraction of that of the cutoff, whose units bend at distances all over."""
    layer = dense(1, features)
    places = (torch.arange(features) + 0.5) / features
    with torch.no_grad():
        weights = STEEPNESS * torch.randn(features).sign() * (1 + 2 * torch.rand(features)) / 3
        layer.weight.copy_(weights[:, None])
        layer.bias.copy_(-weights * places**2)
    return layer
