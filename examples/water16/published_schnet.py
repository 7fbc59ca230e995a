r"""The network of the earlier study of 16 water molecules, with its two faults, each of which can be repaired.

It means to be SchNet (Schütt et al., J. Chem. Phys. 148, 241722 (2018)) for a periodic box, all pairs by their nearest
images.  Two lines of its convolution are not what the paper says:

- radial functions are exp(+γ (d - μ)²) with γ = Δμ²/2, where Gaussians as wide as their spacing have
  exp(-γ (d - μ)²) with γ = 1/(2 Δμ²).  With 300 centres on 12 bohr all of them stay between 1 and 1.13, so that filters
  hardly depend on the distance;
- the filters of all pairs of an atom multiply the features of the atom itself, not those of its neighbours:
  x_i Σ_j W(d_ij) in place of Σ_j x_j W(d_ij).  So oxygen and hydrogen around an atom look the same, and nothing is
  ever passed from atom to atom.

Distances are in bohr, as there; there is no cutoff function, so that forces jump where nearest images change.

Importing this module registers the model as ``water16_published``.
"""

import torch
from ase.units import Bohr
from pydantic import Field
from torch import Tensor, nn

from ase_mlcalc import Graph, Model, Properties
from ase_mlcalc.model import ModelConfig, SpeciesIndex

LAST_CENTER_BOHR = 12.0


class PublishedConfig(ModelConfig):
    """Hyper-parameters, with the values of the study."""

    cutoff: float = Field(6.8, gt=0, description="Å; reaches every nearest image in the box of the study")
    features: int = Field(64, ge=2, description="channels per atom")
    n_interactions: int = Field(3, ge=1, description="rounds of convolution")
    n_gaussians: int = Field(300, ge=2, description="radial functions")
    gaussians: bool = Field(False, description="true: radial functions are Gaussians")
    gather: bool = Field(False, description="true: filters multiply the features of the neighbours")


class Convolution(nn.Module):
    """Filters from distances, and the sum over pairs."""

    centers: Tensor

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        f = config.features
        self.gather = config.gather
        self.register_buffer("centers", torch.linspace(0.0, LAST_CENTER_BOHR, config.n_gaussians), persistent=False)
        spacing = LAST_CENTER_BOHR / (config.n_gaussians - 1)
        self.exponent = -0.5 / spacing**2 if config.gaussians else 0.5 * spacing**2
        self.filter_net = nn.Sequential(
            nn.Linear(config.n_gaussians, f), nn.Softplus(beta=2), nn.Linear(f, f), nn.Softplus(beta=2), nn.Linear(f, f)
        )

    def forward(self, x_nf: Tensor, d_p: Tensor, i_p: Tensor, j_p: Tensor) -> Tensor:
        """(N, F) features, (P,) distances in bohr and the two atoms of each pair to (N, F)."""
        w_pf = self.filter_net(torch.exp(self.exponent * (d_p[:, None] - self.centers) ** 2))
        return torch.zeros_like(x_nf).index_add(0, i_p, x_nf[j_p if self.gather else i_p] * w_pf)


class Interaction(nn.Module):
    """One round; returns what is added to the features."""

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        f = config.features
        self.before = nn.Linear(f, f)
        self.convolution = Convolution(config)
        self.after = nn.Sequential(nn.Linear(f, f), nn.Softplus(beta=2), nn.Linear(f, f))

    def forward(self, x_nf: Tensor, *pairs: Tensor) -> Tensor:
        """(N, F) to (N, F)."""
        out_nf: Tensor = self.after(self.convolution(self.before(x_nf), *pairs))
        return out_nf


class Published(Model, name="water16_published", outputs={"energies"}):
    """The network of the study."""

    Config = PublishedConfig
    smooth = False

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__(config)
        f = config.features
        self.depth = config.n_interactions
        self.species_index = SpeciesIndex(config.species)
        self.embedding = nn.Embedding(len(config.species), f)
        self.interactions = nn.ModuleList(Interaction(config) for _ in range(config.n_interactions))
        self.readout = nn.Sequential(nn.Linear(f, f // 2), nn.Softplus(beta=2), nn.Linear(f // 2, 1))

    def forward(self, graph: Graph) -> Properties:
        """Energies of atoms."""
        nearest = nearest_images(graph)
        i_p, j_p = graph.centers[nearest], graph.neighbors[nearest]
        d_p = torch.linalg.vector_norm(graph.vectors[nearest], dim=1) / Bohr
        x_nf = self.embedding(self.species_index(graph.numbers))
        for interaction in self.interactions:
            x_nf = x_nf + interaction(x_nf, d_p, i_p, j_p)
        return Properties(energies=self.readout(x_nf).squeeze(-1))


def nearest_images(graph: Graph) -> Tensor:
    """(P,) edges that are the shortest between two different atoms."""
    n = graph.n_atoms
    d_p = torch.linalg.vector_norm(graph.vectors.detach(), dim=1)
    pair_p = graph.centers * n + graph.neighbors
    shortest = d_p.new_full((n * n,), torch.inf).scatter_reduce(0, pair_p, d_p, "amin")
    return torch.nonzero((d_p == shortest[pair_p]) & (graph.centers != graph.neighbors)).squeeze(1)
