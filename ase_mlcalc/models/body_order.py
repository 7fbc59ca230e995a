r"""Inductive bias by body order: learned pairs and triplets at short range, and message passing for what is left.

.. math::

    E = E_\mathrm{GNN} + \sum_i \sum_j \mathrm{NN}_2(R_{ij}^2)
        + \sum_i \sum_{j<k} \mathrm{NN}_3(R_{ij}^2, R_{ik}^2, R_{jk}^2, \cos\theta_{jik})

NN2 and NN3 end smoothly at ``short_cutoff``, the message passing at ``cutoff``.  Each term belongs to its centre i.
Every bond type, an unordered pair of elements, has an NN2 of its own for i and j, and an NN3 of its own for the two
ends j and k: six networks for two elements, as in the paper.  An NN3 is also told the element of its centre.  It gets
:math:`R_{ij}^2` and :math:`R_{ik}^2` as their sum and their difference (squared for ends of one element), so that it
cannot tell j from k.

Message passing starts from a vector for each element and a vector that a small network makes of each squared distance,
then alternates:

.. math::

    e_{ij} \leftarrow e_{ij} + A\,\sigma(B h_i + C h_j + D e_{ij}), \qquad
    h_i \leftarrow h_i + P\,\sigma\Big(Q h_i + \frac{1}{\sqrt{\bar n}} \sum_j u(R_{ij})\, S e_{ij}\Big)

with the envelope u, and a network of the last :math:`h_i` gives the energy of the atom.

Trained in stages (`BodyOrder.stages`): NN2, then NN3, then both fixed while the message passing learns the rest.
``terms`` leaves parts out: message passing alone is the control.

Published: Rajak, Krishnamoorthy, Kalia, Nakano, Vashishta and Cubuk, "Inductive bias graph network for robust molecular
dynamics", eq. 1, for SiC and GeSe2.  Edges and nodes in turn: Battaglia et al., arXiv:1806.01261 (2018).
Different here: the paper has no envelopes; its networks see bare numbers, ours see each as smooth steps at fixed places
between 0 and 1, or bonds and next neighbours would hardly differ.
"""

from collections.abc import Callable
from typing import Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn.functional import one_hot, silu

from ase_mlcalc.graph import Graph, within
from ase_mlcalc.model import Model, ModelConfig, NetworkConfig, SpeciesIndex, Stage
from ase_mlcalc.nn.constant import Constant
from ase_mlcalc.nn.dense import dense
from ase_mlcalc.nn.gather import of_neighbors
from ase_mlcalc.nn.radial import envelope
from ase_mlcalc.nn.triplets import find_triplets
from ase_mlcalc.properties import Properties

Term = Literal["pair", "triplet", "message_passing"]
TERMS: tuple[Term, ...] = ("pair", "triplet", "message_passing")
SHARES: dict[Term, float] = {"pair": 0.1, "triplet": 0.2, "message_passing": 0.7}
"""Of the training time, for the stage that learns this term."""

STEP_WIDTH = 0.08
"""Of the steps that squared distances are expanded in, as a fraction of the cutoff."""
SMALL_START = 0.2
"""Weights of the last layer of each term, so that a stage begins close to where the one before it ended."""
STEPS_OF_TRIPLETS = 8
"""Steps for each number that a triplet is described by."""


class BodyOrderConfig(NetworkConfig):
    """Hyper-parameters of `BodyOrder`."""

    cutoff: float = Field(7.0, gt=0, description="Å; of the message passing")
    short_cutoff: float = Field(3.0, gt=0, description="Å; where pair and triplet energies end, at most cutoff")
    terms: tuple[Term, ...] = Field(
        TERMS, min_length=1, description='parts of the energy; ["message_passing"] alone is the control'
    )
    features: int = Field(32, ge=2, description="channels of each atom and of each edge")
    n_steps: int = Field(3, ge=1, description="rounds of message passing, each an edge and a node convolution")
    hidden: int = Field(32, ge=2, description="hidden units in both layers of each pair and triplet network")
    mean_neighbors: float = Field(100.0, gt=0, description="neighbours of an atom on average; sums are scaled by it")

    @field_validator("terms")
    @classmethod
    def _in_order(cls, terms: tuple[Term, ...]) -> tuple[Term, ...]:
        if len(set(terms)) != len(terms):
            raise ValueError(f"terms are listed twice: {terms}")
        return tuple(term for term in TERMS if term in terms)

    @model_validator(mode="after")
    def _short_is_shorter(self) -> Self:
        if self.short_cutoff > self.cutoff:
            raise ValueError(f"short_cutoff ({self.short_cutoff} Å) is at most cutoff ({self.cutoff} Å)")
        return self


class BodyOrder(Model, name="body_order", outputs={"energies"}):
    """Two-body, three-body and message-passing energies; see the equations at the top of this file."""

    Config = BodyOrderConfig
    config: BodyOrderConfig

    def __init__(self, config: BodyOrderConfig) -> None:
        super().__init__(config)
        self.species_index = SpeciesIndex(config.species)
        self.pair = PairTerm(config) if "pair" in config.terms else None
        self.triplet = TripletTerm(config) if "triplet" in config.terms else None
        self.message_passing = MessagePassing(config) if "message_passing" in config.terms else None
        self.depth = config.n_steps if "message_passing" in config.terms else 1

    def forward(self, graph: Graph) -> Properties:
        """Per-atom energies."""
        species_n = self.species_index(graph.numbers)
        terms = [term for term in (self.pair, self.triplet, self.message_passing) if term is not None]
        return Properties(energies=torch.stack([term(graph, species_n) for term in terms]).sum(dim=0))

    @classmethod
    def stages(cls, config: ModelConfig) -> tuple[Stage, ...]:
        """One term after the other, those before it fixed; short terms alone need the short cutoff only."""
        assert isinstance(config, BodyOrderConfig)
        whole = sum(SHARES[term] for term in config.terms)
        found = []
        for count, term in enumerate(config.terms, start=1):
            cutoff = config.cutoff if term == config.terms[-1] else config.short_cutoff
            part = config.model_copy(update={"terms": config.terms[:count], "cutoff": cutoff})
            found.append(Stage(term, part, learned=(term,), share=SHARES[term] / whole))
        return tuple(found)

    def tabulate(self, table: Callable[[Callable[[Tensor], Tensor], float], nn.Module]) -> None:
        """Energies of pairs, and the embedding of edges; see `ase_mlcalc.model.Tabulable`."""
        if self.pair is not None:
            self.pair.table = table(self.pair.of_all_types, self.pair.cutoff)
        if self.message_passing is not None:
            self.message_passing.table = table(self.message_passing.embedded, self.message_passing.cutoff)


class PairTerm(nn.Module):
    """NN2: an energy for each edge up to the short cutoff, from its squared distance."""

    def __init__(self, config: BodyOrderConfig) -> None:
        super().__init__()
        self.cutoff = config.short_cutoff
        self.bonds = BondTypes(len(config.species))
        self.steps = steps_of_squared_distance(config.hidden)
        self.networks = NetworkPerType(len(self.bonds), config.hidden, config.hidden)
        self.table: nn.Module | None = None
        """In place of the networks."""

    def forward(self, graph: Graph, species_n: Tensor) -> Tensor:
        """(N,) half of the energy of a pair at each of its ends."""
        edges = within(graph, self.cutoff)
        d_p = edges.vectors.square().sum(dim=1).sqrt()
        type_p = self.bonds(species_n[edges.centers], species_n[edges.neighbors])
        e_p = self.energies(d_p, type_p) if self.table is None else self.table(d_p).gather(1, type_p[:, None])[:, 0]
        return e_p.new_zeros(graph.n_atoms).index_add(0, edges.centers, e_p)

    def energies(self, d_p: Tensor, type_p: Tensor) -> Tensor:
        """(E,) Å and types of bonds to (E,)."""
        steps_pk = self.steps((d_p / self.cutoff).square()[:, None])
        e_p: Tensor = self.networks(steps_pk, type_p) * envelope(d_p, self.cutoff)
        return e_p

    def of_all_types(self, d_p: Tensor) -> Tensor:
        """(E,) Å to (E, types of bonds)."""
        types = [torch.full_like(d_p, t, dtype=torch.int64) for t in range(len(self.bonds))]
        return torch.stack([self.energies(d_p, type_p) for type_p in types], dim=1)


class TripletTerm(nn.Module):
    """NN3: an energy for each two edges of an atom up to the short cutoff, from squared distances and the angle."""

    def __init__(self, config: BodyOrderConfig) -> None:
        super().__init__()
        self.cutoff = config.short_cutoff
        self.n_species = len(config.species)
        self.bonds = BondTypes(self.n_species)
        self.steps = even_steps(STEPS_OF_TRIPLETS)
        self.networks = NetworkPerType(len(self.bonds), 4 * STEPS_OF_TRIPLETS + self.n_species, config.hidden)

    def forward(self, graph: Graph, species_n: Tensor) -> Tensor:
        """(N,) the energies of all angles at each atom."""
        edges = within(graph, self.cutoff)
        first, second = find_triplets(edges.centers)
        centers_t, species_p = edges.centers[first], species_n[edges.neighbors]
        shape_tk, u_t = self._shape(edges.vectors, first, second, species_p)
        center_tk = one_hot(species_n[centers_t], self.n_species).to(shape_tk.dtype)
        type_t = self.bonds(species_p[first], species_p[second])
        e_t = self.networks(torch.cat([self.steps(shape_tk), center_tk], dim=1), type_t) * u_t
        return e_t.new_zeros(graph.n_atoms).index_add(0, centers_t, e_t)

    def _shape(self, r_pc: Tensor, first: Tensor, second: Tensor, species_p: Tensor) -> tuple[Tensor, Tensor]:
        """What a triplet looks like, (T, 4), unchanged when its two edges change places; and its envelope (T,)."""
        d_p = torch.linalg.vector_norm(r_pc, dim=1)
        both_pk = torch.cat([r_pc, d_p[:, None], envelope(d_p, self.cutoff)[:, None]], dim=1)
        one_tk, other_tk = both_pk.index_select(0, first), both_pk.index_select(0, second)
        d_t2 = torch.stack([one_tk[:, 3], other_tk[:, 3]], dim=1)
        x_t2 = (d_t2 / self.cutoff) ** 2
        # where the ends are of two elements, these say which comes first
        order_t = torch.sign(species_p[first] - species_p[second]).to(r_pc.dtype)
        difference_t = x_t2[:, 0] - x_t2[:, 1]
        difference_t = torch.where(order_t == 0, difference_t.square(), order_t * difference_t)
        across_t = (one_tk[:, :3] - other_tk[:, :3]).square().sum(dim=1) / (2 * self.cutoff) ** 2
        cosine_t = (one_tk[:, :3] * other_tk[:, :3]).sum(dim=1) / (d_t2[:, 0] * d_t2[:, 1])
        shape_tk = torch.stack([x_t2.mean(dim=1), difference_t, across_t, 0.5 * cosine_t + 0.5], dim=1)
        return shape_tk, one_tk[:, 4] * other_tk[:, 4]


class MessagePassing(nn.Module):
    """Alternating edge and node convolutions over all edges; the decoder gives the energy of each atom."""

    def __init__(self, config: BodyOrderConfig) -> None:
        super().__init__()
        f = config.features
        self.cutoff = config.cutoff
        self.scale = config.mean_neighbors**-0.5
        self.node_embedding = nn.Embedding(len(config.species), f)
        self.edge_embedding = nn.Sequential(steps_of_squared_distance(f), dense(f, f), nn.SiLU(), dense(f, f))
        self.table: nn.Module | None = None
        """In place of the embedding of edges."""
        self.edge_steps = nn.ModuleList(EdgeConvolution(f) for _ in range(config.n_steps))
        self.node_steps = nn.ModuleList(NodeConvolution(f) for _ in range(config.n_steps))
        self.decoder = nn.Sequential(dense(f, f), nn.SiLU(), dense(f, 1, size=SMALL_START))

    def forward(self, graph: Graph, species_n: Tensor) -> Tensor:
        """(N,) what the surroundings of each atom up to the cutoff are worth."""
        d_p = graph.vectors.square().sum(dim=1).sqrt()
        u_p = envelope(d_p, self.cutoff)[:, None] * self.scale
        h_nf = self.node_embedding(species_n)
        e_pf = self.embedded(d_p) if self.table is None else self.table(d_p)
        for edge_step, node_step in zip(self.edge_steps, self.node_steps, strict=True):
            e_pf = e_pf + edge_step(h_nf, e_pf, graph)
            h_nf = h_nf + node_step(h_nf, e_pf, u_p, graph)
        energies: Tensor = self.decoder(h_nf)[:, 0]
        return energies

    def embedded(self, d_p: Tensor) -> Tensor:
        """(E,) Å to (E, F)."""
        e_pf: Tensor = self.edge_embedding((d_p / self.cutoff).square()[:, None])
        return e_pf


class EdgeConvolution(nn.Module):
    """What an edge learns from its two ends."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.of_center = dense(features, features)
        self.of_neighbor = dense(features, features, bias=False)
        self.of_edge = dense(features, features, bias=False)
        self.out = dense(features, features, size=0.3)

    def forward(self, h_nf: Tensor, e_pf: Tensor, graph: Graph) -> Tensor:
        """(N, F) and (E, F) to (E, F)."""
        center_pf = self.of_center(h_nf).index_select(0, graph.centers)
        neighbor_pf = of_neighbors(self.of_neighbor(h_nf), graph)
        out: Tensor = self.out(silu(center_pf + neighbor_pf + self.of_edge(e_pf)))
        return out


class NodeConvolution(nn.Module):
    """What an atom learns from its edges."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.of_edge = dense(features, features, bias=False)
        self.of_node = dense(features, features)
        self.out = dense(features, features, size=0.3)

    def forward(self, h_nf: Tensor, e_pf: Tensor, u_p: Tensor, graph: Graph) -> Tensor:
        """(N, F), (E, F) and the weights (E, 1) of the edges to (N, F)."""
        sum_nf = torch.zeros_like(h_nf).index_add(0, graph.centers, e_pf * u_p)
        out: Tensor = self.out(silu(self.of_node(h_nf) + self.of_edge(sum_nf)))
        return out


class SmoothSteps(nn.Module):
    """A first layer with fixed weights: each number, between 0 and 1, as smooth steps at places between 0 and 1.

    Bonds and next neighbours differ little in squared distances; a learned layer would start with straight lines.
    """

    def __init__(self, places: Tensor, widths: Tensor) -> None:
        super().__init__()
        self.places, self.widths = Constant(places), Constant(widths)

    def forward(self, x_pk: Tensor) -> Tensor:
        """(P, K) to (P, K times the number of steps)."""
        return torch.tanh((x_pk[:, :, None] - self.places(x_pk)) / self.widths(x_pk)).flatten(1)


def steps_of_squared_distance(count: int) -> SmoothSteps:
    """Steps of (R / cutoff)² that are equally spaced and equally wide in R."""
    places = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return SmoothSteps(places**2, (2 * places + STEP_WIDTH) * STEP_WIDTH)


def even_steps(count: int) -> SmoothSteps:
    """Equally spaced steps, as wide as their spacing."""
    return SmoothSteps((torch.arange(count, dtype=torch.float64) + 0.5) / count, torch.full((count,), 1.0 / count))


class BondTypes(nn.Module):
    """Unordered pairs of elements as numbers 0, 1, ..."""

    table: Tensor

    def __init__(self, n_species: int) -> None:
        super().__init__()
        rows, columns = torch.triu_indices(n_species, n_species)
        table = torch.zeros(n_species, n_species, dtype=torch.int64)
        table[rows, columns] = table[columns, rows] = torch.arange(len(rows))
        self.register_buffer("table", table, persistent=False)
        self.count = len(rows)

    def __len__(self) -> int:
        return self.count

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Rows of elements, twice (P,), to (P,)."""
        return self.table[one, other]


class NetworkPerType(nn.Module):
    """Networks of two hidden layers that give a number, one for each type; their weights are stacked by type."""

    def __init__(self, n_types: int, n_in: int, hidden: int) -> None:
        super().__init__()
        self.n_types = n_types
        self.weight_1 = nn.Parameter(torch.randn(n_types, n_in, hidden) * n_in**-0.5)
        self.bias_1 = nn.Parameter(0.5 * torch.randn(n_types, hidden))
        self.weight_2 = nn.Parameter(torch.randn(n_types, hidden, hidden) * hidden**-0.5)
        self.bias_2 = nn.Parameter(torch.zeros(n_types, hidden))
        self.weight_3 = nn.Parameter(SMALL_START * torch.randn(n_types, hidden, 1) * hidden**-0.5)
        self.bias_3 = nn.Parameter(torch.zeros(n_types, 1))

    def forward(self, x_pk: Tensor, type_p: Tensor) -> Tensor:
        """(P, n_in) numbers and types (P,) to (P,)."""
        y_p = x_pk.new_zeros(x_pk.shape[0])
        for t in range(self.n_types):
            mine = torch.nonzero(type_p == t)[:, 0]
            h_pf = silu(torch.addmm(self.bias_1[t], x_pk.index_select(0, mine), self.weight_1[t]))
            h_pf = silu(torch.addmm(self.bias_2[t], h_pf, self.weight_2[t]))
            y_p = y_p.index_add(0, mine, torch.addmm(self.bias_3[t], h_pf, self.weight_3[t])[:, 0])
        return y_p
