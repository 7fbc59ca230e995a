r"""Tensor field network: forces predicted directly, without an energy and so without a derivative.

Features x of atoms are irreps of degrees l = 0, 1, ... up to l_max, in several channels.  A block is a convolution over
neighbours, a self-interaction (for each degree a matrix W that mixes channels) and a nonlinearity :math:`\eta`:

.. math::

    x_i \leftarrow \eta\Big( x_i + W \frac{1}{\sqrt{\bar n}} \sum_{j} R(d_{ij}) \, Y(u_{ij}) \otimes x_j \Big)

with radial functions R that end smoothly at the cutoff, spherical harmonics Y of the directions u_ij from i to j, and
Clebsch-Gordan products (see `ase_mlcalc.nn.convolution`).  A last self-interaction takes the vectors (l = 1) to one for
each atom, its force; or a small network takes the features of both ends to a force of each pair.

Published: Thomas, Smidt, Kearnes, Yang, Li, Kohlhoff and Riley, arXiv:1802.08219 (2018); as a direct force field:
S. Batzner, master's thesis (2019), chapters 2 and 3.  Different here:

- There the sum runs over all atoms of a molecule, i itself included.  Here it runs over neighbours within a cutoff, so
  that the network runs on extended systems, and atom i adds its own features.
- Embedding and first convolution are linear in the elements, so that the sum over edges is taken first, one for each
  element, and weights act on atoms, which are few; radial functions of the first block may differ between elements.
- Besides the nonlinearity of norms there is ``product``, from the model ``equivariant``: products of irreps on atoms,
  then gates.  They couple directions with directions where it is cheap, so that few channels are enough on edges
  (``edge_channels``).
- Only natural parity (-1)^l is kept, so that a mirror image has the mirrored forces.
"""

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import silu

from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model, NetworkConfig, SpeciesIndex
from ase_mlcalc.nn.convolution import Convolution, NormNonlinearity, RadialFunctions
from ase_mlcalc.nn.equivariant import AtomBlock, Density
from ase_mlcalc.nn.gather import of_neighbors
from ase_mlcalc.nn.irreps import IrrepsLinear, SphericalHarmonics
from ase_mlcalc.nn.radial import GaussianBasis, envelope
from ase_mlcalc.properties import Properties

VECTOR = slice(1, 4)
"""Components of l = 1, which e3nn orders x, y, z."""


class TensorFieldConfig(NetworkConfig):
    """Hyper-parameters of `TensorField`."""

    variant: Literal["free", "zero_net_force", "pairwise"] = Field(
        "free",
        description="free: a vector for each atom, momentum is not conserved; zero_net_force: the mean force of each "
        "structure is taken out; pairwise: antisymmetric forces of pairs, which conserve momentum and give a stress",
    )
    layers: tuple[PositiveInt, ...] = Field((64, 64, 64), min_length=1, description="channels of each block")
    l_max: int = Field(2, ge=1, le=4, description="highest degree of features and filters")
    nonlinearity: Literal["norm", "product"] = Field(
        "product",
        description="norm: tensors are scaled by functions of their norm, except in the last block; product: products "
        "of irreps on atoms, then gates",
    )
    coupling: Literal["scalar", "full"] = Field(
        "full",
        description="products on edges; full: of all filters with all features; scalar: those where one is a scalar",
    )
    edge_channels: int = Field(
        16, ge=0, description="channels that are convolved after the first block; 0: all of the block before"
    )
    n_radial: int = Field(10, ge=2, description="Gaussians that radial functions are made of")
    radial_max: float | None = Field(
        None, gt=0, description="Å; centre of the last Gaussian, the first is at 0; not given: the cutoff"
    )
    radial_hidden: int = Field(0, ge=0, description="hidden units of each block's radial network; 0: sums of Gaussians")


class TensorField(Model, name="tensor_field", outputs={"forces"}):
    """See the module's text."""

    Config = TensorFieldConfig
    config: TensorFieldConfig

    def __init__(self, config: TensorFieldConfig) -> None:
        super().__init__(config)
        c = config
        pairwise = c.variant == "pairwise"
        if pairwise:
            self.outputs = frozenset({"edge_forces"})
        self.local = c.variant != "zero_net_force"
        self.depth = len(c.layers) + pairwise
        self.species_index = SpeciesIndex(c.species)
        self.gaussians = GaussianBasis(c.n_radial, c.radial_max or c.cutoff)
        self.harmonics = SphericalHarmonics(c.l_max)
        self.radial = RadialFunctions(c.n_radial, c.radial_hidden)
        self.density = Density(
            len(c.species),
            n_radial=self.radial.n_functions,
            features=c.layers[0],
            l_max=c.l_max,
            mean_neighbors=c.mean_neighbors,
        )
        self.first = make_nonlinearity(c, c.layers[0], last=len(c.layers) == 1)
        self.blocks = nn.ModuleList(Block(c, k) for k in range(1, len(c.layers)))
        self.readout = PairReadout(c) if pairwise else AtomReadout(c)

    def forward(self, graph: Graph) -> Properties:
        """Forces of atoms, or of edges."""
        species_n = self.species_index(graph.numbers)
        d_p = graph.vectors.square().sum(dim=1).sqrt()
        y_pk = self.harmonics(graph.vectors / d_p[:, None])
        u_p = envelope(d_p, self.config.cutoff)
        basis_pk = self.gaussians(d_p)
        x = self.first(self.density(graph, species_n, self.radial(basis_pk, u_p), y_pk))
        for block in self.blocks:
            x = block(graph, x, basis_pk, u_p, y_pk)
        return self.readout(graph, x, basis_pk, u_p)


def make_nonlinearity(config: TensorFieldConfig, channels: int, *, last: bool) -> nn.Module:
    """What ends a block; of the last one only scalars and vectors are needed."""
    if config.nonlinearity == "product":
        return AtomBlock(channels, config.l_max, 1 if last else config.l_max)
    return nn.Identity() if last else NormNonlinearity(channels, config.l_max)


class Block(nn.Module):
    """Block k > 0: convolution, self-interaction, nonlinearity."""

    def __init__(self, config: TensorFieldConfig, k: int) -> None:
        super().__init__()
        c = config
        before, after = c.layers[k - 1], c.layers[k]
        channels = c.edge_channels or before
        last = k == len(c.layers) - 1
        # a last block without nonlinearity leaves vectors to themselves
        only_vectors = last and c.nonlinearity == "norm" and c.variant != "pairwise"
        self.own = nn.Identity() if before == after else IrrepsLinear(before, after, c.l_max)
        self.down = nn.Identity() if before == channels else IrrepsLinear(before, channels, c.l_max)
        self.radial = RadialFunctions(c.n_radial, c.radial_hidden)
        self.convolution = Convolution(
            channels=channels,
            l_max=c.l_max,
            n_radial=self.radial.n_functions,
            full=c.coupling == "full",
            degrees=[1] if only_vectors else range(c.l_max + 1),
            mean_neighbors=c.mean_neighbors,
        )
        self.up = IrrepsLinear(channels, after, c.l_max)
        self.nonlinearity = make_nonlinearity(c, after, last=last)

    def forward(self, graph: Graph, x: Tensor, basis_pk: Tensor, u_p: Tensor, y_pk: Tensor) -> Tensor:
        """((l_max + 1)², N, channels before) to (..., N, channels after)."""
        summed = self.convolution(graph, self.down(x), self.radial(basis_pk, u_p), y_pk)
        return self.nonlinearity(self.own(x) + self.up(summed))


class AtomReadout(nn.Module):
    """A self-interaction of the vectors of each atom."""

    def __init__(self, config: TensorFieldConfig) -> None:
        super().__init__()
        self.without_mean = config.variant == "zero_net_force"
        self.mix = nn.Linear(config.layers[-1], 1, bias=False)

    def forward(self, graph: Graph, x: Tensor, basis_pk: Tensor, u_p: Tensor) -> Properties:  # noqa: ARG002
        """Forces of atoms."""
        forces = self.mix(x[VECTOR])[:, :, 0].transpose(0, 1)
        return Properties(forces=forces - _mean_force(forces, graph) if self.without_mean else forces)


def _mean_force(forces: Tensor, graph: Graph) -> Tensor:
    """(N, 3) the mean over the structure of each atom."""
    total = forces.new_zeros(graph.n_structures, 3).index_add(0, graph.system, forces)
    count = forces.new_zeros(graph.n_structures).index_add(0, graph.system, torch.ones_like(forces[:, 0]))
    return (total / count[:, None]).index_select(0, graph.system)


class PairReadout(nn.Module):
    r"""A vector for each edge, made of vectors of both of its ends and of the bond.

    .. math:: g_{ij} = u(d_{ij}) \Big( s_{ij} \, r_{ij} + \sum_q ( a_{ijq} v_{iq} + b_{ijq} v_{jq} ) \Big)

    with the envelope u and coefficients s, a, b from a small network of the scalars of both ends and the distance.  The
    potential makes the force of the pair of it, g_ij - g_ji.
    """

    def __init__(self, config: TensorFieldConfig) -> None:
        super().__init__()
        channels = config.layers[-1]
        self.n_vectors = max(1, channels // 8)
        self.ends = nn.Linear(channels, 2 * channels)
        self.distance = nn.Linear(config.n_radial, channels, bias=False)
        self.vectors = nn.Linear(channels, 2 * self.n_vectors, bias=False)
        self.coefficients = nn.Linear(channels, 1 + 2 * self.n_vectors)

    def forward(self, graph: Graph, x: Tensor, basis_pk: Tensor, u_p: Tensor) -> Properties:
        """Stand-ins for dE/dr_ij of edges."""
        at_i, at_j = self.ends(x[0]).chunk(2, dim=1)
        hidden_pf = silu(at_i.index_select(0, graph.centers) + of_neighbors(at_j, graph) + self.distance(basis_pk))
        s_p, ab_p = self.coefficients(hidden_pf).split([1, 2 * self.n_vectors], dim=1)
        v_i, v_j = self.vectors(x[VECTOR]).transpose(0, 1).chunk(2, dim=2)  # (N, 3, Q)
        v_p = torch.cat([v_i.index_select(0, graph.centers), of_neighbors(v_j, graph)], dim=2)
        return Properties(edge_forces=u_p[:, None] * (s_p * graph.vectors + (v_p @ ab_p[:, :, None])[:, :, 0]))
