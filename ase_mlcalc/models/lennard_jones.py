r"""The Lennard-Jones pair potential, cut off as in ASE.

.. math::

    E = \tfrac12 \sum_{ij} u(d_{ij}), \qquad
    u(d) = 4 \epsilon \Big[ \Big(\frac{\sigma}{d}\Big)^{12} - \Big(\frac{\sigma}{d}\Big)^{6} \Big]

either multiplied by a switching function s that goes from 1 at the onset :math:`r_o` to 0 at the cutoff :math:`r_c`,

.. math:: s(d) = \frac{(r_c^2 - d^2)^2 (r_c^2 + 2 d^2 - 3 r_o^2)}{(r_c^2 - r_o^2)^3}

(continuous forces; the default), or shifted by :math:`-u(r_c)` (continuous energy, forces jump at the cutoff).
Nothing is learned: the potential is an oracle, through the same path as every trained model.

Reference: J. E. Jones, Proc. R. Soc. A 106, 463 (1924).  Defaults are those of ``ase.calculators.lj`` except for the
smooth cutoff.
"""

import torch
from pydantic import Field, field_validator
from torch import Tensor

from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Clusters, Model, ModelConfig
from ase_mlcalc.properties import Properties


class LennardJonesConfig(ModelConfig):
    """Parameters of the Lennard-Jones potential, the same for all pairs of species."""

    cutoff: float = Field(3.0, gt=0, description="Å; atoms farther apart do not see each other")
    species: tuple[int, ...] = Field((18,), min_length=1, description="atomic numbers that the model knows")
    epsilon: float = Field(1.0, gt=0, description="eV; depth of the well")
    sigma: float = Field(1.0, gt=0, description="Å; where the pair energy is zero")
    smooth: bool = Field(True, description="switch the pair energy off between onset and cutoff, or else shift it")
    onset_fraction: float = Field(0.66, gt=0, description="where switching starts, as a fraction of the cutoff")

    @field_validator("onset_fraction")
    @classmethod
    def _below_cutoff(cls, onset_fraction: float) -> float:
        if onset_fraction >= 1:
            raise ValueError(f"switching has to start below the cutoff, at a fraction < 1, got {onset_fraction}")
        return onset_fraction


class LennardJones(Model, name="lennard_jones", outputs={"energies"}):
    """Lennard-Jones potential; see the equations at the top of this file."""

    Config = LennardJonesConfig
    trainable = False
    epsilon: Tensor
    sigma: Tensor

    def __init__(self, config: LennardJonesConfig) -> None:
        super().__init__(config)
        self.register_buffer("epsilon", torch.tensor(config.epsilon, dtype=torch.float64))
        self.register_buffer("sigma", torch.tensor(config.sigma, dtype=torch.float64))
        self.smooth = config.smooth
        self.onset = config.onset_fraction * config.cutoff

    def forward(self, graph: Graph) -> Properties:
        """Per-atom energies: half of each pair to each of its ends."""
        u_p = self._half_pair_energy(graph.vectors[:, None])
        return Properties(energies=u_p.new_zeros(graph.n_atoms).index_add(0, graph.centers, u_p))

    def clusters(self, graph: Graph) -> tuple[Clusters]:
        """Half pairs, one for each directed edge."""
        each = torch.arange(graph.centers.shape[0], device=graph.centers.device)[:, None]
        return (Clusters(torch.stack([graph.centers, graph.neighbors], dim=1), each, self._half_pair_energy),)

    def _half_pair_energy(self, r_tmc: Tensor) -> Tensor:
        squared_t = r_tmc[:, 0].square().sum(dim=1)
        return 0.5 * self._cut_off(squared_t, self._pair_energy(squared_t))

    def _pair_energy(self, squared: Tensor) -> Tensor:
        s6 = (self.sigma**2 / squared) ** 3
        return 4 * self.epsilon * (s6**2 - s6)

    def _cut_off(self, squared_p: Tensor, u_p: Tensor) -> Tensor:
        outer, inner = self.config.cutoff**2, self.onset**2
        if self.smooth:
            switch_p = (outer - squared_p) ** 2 * (outer + 2 * squared_p - 3 * inner) / (outer - inner) ** 3
            u_p = u_p * torch.where(squared_p < inner, 1.0, switch_p)
        else:
            u_p = u_p - self._pair_energy(squared_p.new_tensor(outer))
        return torch.where(squared_p <= outer, u_p, 0.0)
