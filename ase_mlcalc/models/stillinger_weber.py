r"""The Stillinger-Weber potential: pairs, and triplets that prefer the tetrahedral angle.

.. math::

    E &= \tfrac12 \sum_{ij} A \epsilon \Big[ B \Big(\frac{\sigma}{d_{ij}}\Big)^p - 1 \Big]
         \exp\frac{\sigma}{d_{ij} - r_c}
       + \sum_i \sum_{j<k} \lambda \epsilon \, h(d_{ij}) \, h(d_{ik}) \, (\cos\theta_{jik} + \tfrac13)^2

    h(d) &= \exp\frac{\gamma \sigma}{d - r_c}

with :math:`r_c = a \sigma` the cutoff; all derivatives vanish there.  Nothing is learned: the potential is an oracle
for many-body forces and stress, through the same path as every trained model.

Reference: F. H. Stillinger and T. A. Weber, Phys. Rev. B 31, 5262 (1985), eqs. 2.3-2.6; defaults are their silicon
with 2.1683 eV for :math:`\epsilon`.
"""

import torch
from pydantic import Field
from torch import Tensor

from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Clusters, Model, ModelConfig
from ase_mlcalc.nn.triplets import find_triplets
from ase_mlcalc.properties import Properties

TETRAHEDRAL_COSINE = -1.0 / 3.0


class StillingerWeberConfig(ModelConfig):
    """Parameters of the Stillinger-Weber potential, the same for all species."""

    cutoff: float = Field(1.80 * 2.0951, gt=0, description="Å; a σ, where all interactions end")
    species: tuple[int, ...] = Field((14,), min_length=1, description="atomic numbers that the model knows")
    epsilon: float = Field(2.1683, gt=0, description="eV; depth of the pair energy")
    sigma: float = Field(2.0951, gt=0, description="Å; length unit")
    A: float = Field(7.049556277, description="strength of the pair energy")
    B: float = Field(0.6022245584, description="repulsion relative to attraction")
    p: float = Field(4.0, gt=0, description="exponent of the repulsion")
    lambda_: float = Field(21.0, ge=0, description="λ, strength of the triplet energy")
    gamma: float = Field(1.20, gt=0, description="γ, range of the triplet energy")


class StillingerWeber(Model, name="stillinger_weber", outputs={"energies"}):
    """Stillinger-Weber potential; see the equations at the top of this file."""

    Config = StillingerWeberConfig
    trainable = False
    epsilon: Tensor
    sigma: Tensor

    def __init__(self, config: StillingerWeberConfig) -> None:
        super().__init__(config)
        self.register_buffer("epsilon", torch.tensor(config.epsilon, dtype=torch.float64))
        self.register_buffer("sigma", torch.tensor(config.sigma, dtype=torch.float64))
        self.A, self.B, self.p, self.lambda_, self.gamma = config.A, config.B, config.p, config.lambda_, config.gamma

    def forward(self, graph: Graph) -> Properties:
        """Per-atom energies: half of each pair to each of its ends, each triplet to its central atom."""
        e_n = graph.vectors.new_zeros(graph.n_atoms)
        for terms in self.clusters(graph):
            e_n = e_n.index_add(0, terms.atoms[:, 0], terms.energy(graph.vectors[terms.edges]))
        return Properties(energies=e_n)

    def clusters(self, graph: Graph) -> tuple[Clusters, Clusters]:
        """Half pairs (one for each directed edge) and triplets."""
        angles = find_triplets(graph.centers)
        ij = torch.stack([graph.centers, graph.neighbors], dim=1)
        ijk = torch.stack(
            [graph.centers[angles.first], graph.neighbors[angles.first], graph.neighbors[angles.second]], 1
        )
        each = torch.arange(graph.centers.shape[0], device=graph.centers.device)[:, None]
        return (
            Clusters(ij, each, self._half_pair_energy),
            Clusters(ijk, torch.stack([angles.first, angles.second], dim=1), self._triplet_energy),
        )

    def _half_pair_energy(self, r_tmc: Tensor) -> Tensor:
        d_t = torch.linalg.vector_norm(r_tmc[:, 0], dim=1)
        inside_t, gap_t = self._gap(d_t)
        bracket_t = self.B * (self.sigma / d_t) ** self.p - 1
        u_t = self.A * self.epsilon * bracket_t * torch.exp(self.sigma / gap_t)
        return torch.where(inside_t, 0.5 * u_t, 0.0)

    def _triplet_energy(self, r_tmc: Tensor) -> Tensor:
        d_tm = torch.linalg.vector_norm(r_tmc, dim=2)
        inside_tm, gap_tm = self._gap(d_tm)
        h_tm = torch.where(inside_tm, torch.exp(self.gamma * self.sigma / gap_tm), 0.0)
        cosine_t = (r_tmc[:, 0] * r_tmc[:, 1]).sum(dim=1) / (d_tm[:, 0] * d_tm[:, 1])
        return self.lambda_ * self.epsilon * h_tm[:, 0] * h_tm[:, 1] * (cosine_t - TETRAHEDRAL_COSINE) ** 2

    def _gap(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """Which distances are below the cutoff, and d - r_c there (anything negative elsewhere)."""
        inside = d < self.config.cutoff
        return inside, torch.where(inside, d - self.config.cutoff, -1.0)
