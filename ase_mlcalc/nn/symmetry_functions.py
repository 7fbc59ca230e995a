r"""Atom-centred symmetry functions: the surroundings of an atom as numbers that do not change under rotations.

With cutoff function :math:`f_c`, neighbours j and unordered pairs of neighbours j, k of the atom i,

.. math::

    G^2 &= \sum_j e^{-\eta (d_{ij} - r_s)^2} f_c(d_{ij})

    G^4 &= 2^{1 - \zeta} \sum_{j<k} (1 + \lambda \cos\theta_{jik})^\zeta \,
           e^{-\eta [(d_{ij} - r_s)^2 + (d_{ik} - r_s)^2 + (d_{jk} - r_s)^2]} \, f_c(d_{ij}) f_c(d_{ik}) f_c(d_{jk})

    G^5 &= 2^{1 - \zeta} \sum_{j<k} (1 + \lambda \cos\theta_{jik})^\zeta \,
           e^{-\eta [(d_{ij} - r_s)^2 + (d_{ik} - r_s)^2]} \, f_c(d_{ij}) f_c(d_{ik})

over neighbours of given elements, or over all neighbours weighted by :math:`Z_j` or :math:`Z_j Z_k`.

References: J. Behler, J. Chem. Phys. 134, 074106 (2011), eqs. 5-9 (there with r_s = 0 in the angular ones); weighted:
M. Gastegger et al., J. Chem. Phys. 148, 241709 (2018), eqs. 5 and 6.  Cutoff functions: A. Singraber, J. Behler and
C. Dellago, J. Chem. Theory Comput. 15, 1827 (2019).
Code names: η -> ``eta``, r_s -> ``shift``, λ -> ``lambda_``, ζ -> ``zeta``.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ase_mlcalc.graph import Graph
from ase_mlcalc.nn.triplets import find_triplets

RADIAL, NARROW, WIDE, WEIGHTED_RADIAL, WEIGHTED_NARROW = 2, 3, 9, 12, 13
"""Kinds of symmetry functions, numbered as in RuNNer and n2p2: G2, G4, G5, and G2 and G4 weighted by atomic numbers."""
N_NEIGHBORS = {RADIAL: 1, NARROW: 2, WIDE: 2, WEIGHTED_RADIAL: 0, WEIGHTED_NARROW: 0}
"""How many elements of neighbours a function of each kind names."""
CUTOFF_FUNCTIONS = ("hard", "cos", "tanhu", "tanh", "exp", "poly1", "poly2", "poly3", "poly4")
"""Names of the cutoff functions; their places are their numbers in n2p2."""
_ANGULAR = (NARROW, WIDE, WEIGHTED_NARROW)
_WEIGHTED = (WEIGHTED_RADIAL, WEIGHTED_NARROW)


class SymmetryFunction(NamedTuple):
    """One symmetry function of the atoms of one element."""

    center: int
    """Atomic number of the atom that it describes."""
    kind: int
    """2 (G2), 3 (G4), 9 (G5), 12 (G2 weighted) or 13 (G4 weighted)."""
    neighbors: tuple[int, ...]
    """Atomic numbers: one for G2, two for G4 and G5, none for the weighted ones."""
    eta: float
    """1/Å²."""
    shift: float
    """Å."""
    lambda_: float
    zeta: float
    cutoff: float
    """Å."""


def cutoff_function(d: Tensor, cutoff: float, name: str, alpha: float = 0.0) -> Tensor:
    r"""How much an atom at a distance counts: 1 up to :math:`\alpha r_c`, then down to 0 at :math:`r_c`.

    With :math:`x = (d - \alpha r_c) / (r_c - \alpha r_c)`: ``cos`` (1 + cos πx) / 2; ``exp`` exp(1 - 1 / (1 - x²));
    ``poly1`` to ``poly4`` the polynomials of degree 3, 5, 7, 9 whose first 1 to 4 derivatives vanish at both ends.
    Without alpha: ``tanhu`` tanh³(1 - d / r_c), ``tanh`` the same divided by tanh³(1), and ``hard`` 1.

    Parameters
    ----------
    d : (...,) Å
    cutoff : float, Å
    name : str
        One of `CUTOFF_FUNCTIONS`.
    alpha : float
        Where the decay begins, in units of the cutoff; from 0 to below 1.

    Returns
    -------
    (...,) dimensionless, 0 beyond the cutoff.
    """
    x = ((d - alpha * cutoff) / (cutoff - alpha * cutoff)).clamp(0.0, 1.0)
    if name == "hard":
        f = torch.ones_like(d)
    elif name == "cos":
        f = 0.5 * (torch.cos(torch.pi * x) + 1)
    elif name in ("tanhu", "tanh"):
        f = torch.tanh(1 - d / cutoff) ** 3 * (1.0 if name == "tanhu" else math.tanh(1.0) ** -3)
    elif name == "exp":
        f = torch.exp(1 - 1 / (1 - x * x).clamp_min(1e-3))  # below 1e-3 it is zero in any precision
    elif name == "poly1":
        f = (2 * x - 3) * x**2 + 1
    elif name == "poly2":
        f = ((15 - 6 * x) * x - 10) * x**3 + 1
    elif name == "poly3":
        f = (((20 * x - 70) * x + 84) * x - 35) * x**4 + 1
    elif name == "poly4":
        f = ((((315 - 70 * x) * x - 540) * x + 420) * x - 126) * x**5 + 1
    else:
        raise ValueError(f"unknown cutoff function {name!r}; known are {', '.join(CUTOFF_FUNCTIONS)}")
    return torch.where(d < cutoff, f, 0.0)


class _Form(NamedTuple):
    """What distinguishes functions that are summed over the same neighbours."""

    eta: float
    shift: float
    lambda_: float
    zeta: float


class _Neighborhood(NamedTuple):
    """Edges of a graph with what all functions need of them.  S species, P = S (S + 1) / 2 pairs of species."""

    n_atoms: int
    vectors: Tensor  # (E, 3)
    d_p: Tensor  # (E,)
    centers: Tensor  # (E,)
    centers_p: Tensor  # (E,) species of the centre
    others_p: Tensor  # (E,) species of the neighbour
    charges_p: Tensor  # (E,) atomic number of the neighbour


class _Triplets(NamedTuple):
    """Pairs of edges i -> j and i -> k, so near that some function may count them.  T triplets."""

    first: Tensor  # (T,) edge i -> j
    second: Tensor  # (T,) edge i -> k
    place_t: Tensor  # (T,) which elements they are: species of the centre * P + pair of species of j and k
    d_jk_t: Tensor  # (T,) without gradient


class _Sums(nn.Module):
    """Functions of one kind and cutoff whose forms are the same for all combinations of elements in `slots`.

    `slots` maps (species of the centre, species or pair of species of the neighbours) to where the sum goes.
    """

    slot_of: Tensor

    def __init__(
        self,
        kind: int,
        cutoff: float,
        forms: Sequence[_Form],
        slots: dict[tuple[int, int], int],
        shape: tuple[int, int],
    ) -> None:
        super().__init__()
        self.kind, self.cutoff, self.forms = kind, cutoff, tuple(forms)
        self.n_slots = max(slots.values()) + 1
        slot_of = torch.full(shape, -1)
        for place, slot in slots.items():
            slot_of[place] = slot
        self.n_places = shape[1]
        self.register_buffer("slot_of", slot_of.flatten(), persistent=False)

    @property
    def is_weighted(self) -> bool:
        return self.kind in _WEIGHTED

    def gather(self, terms: Iterable[Tensor], centers_t: Tensor, slots_t: Tensor, n_atoms: int) -> Tensor:
        """Terms of each form, summed over the neighbours or pairs of each atom: (N, forms * slots)."""
        target_t = centers_t * self.n_slots + slots_t
        sums = [term.new_zeros(n_atoms * self.n_slots).index_add(0, target_t, term) for term in terms]
        return torch.cat([each.view(n_atoms, self.n_slots) for each in sums], dim=1)


class _RadialSums(_Sums):
    def forward(self, around: _Neighborhood, decay: Callable[[Tensor, float], Tensor]) -> Tensor:
        slot_p = self.slot_of[around.centers_p * self.n_places + around.others_p]
        chosen = torch.nonzero((slot_p >= 0) & (around.d_p < self.cutoff)).squeeze(1)
        d_p = around.d_p[chosen]
        weight_p = decay(d_p, self.cutoff)
        if self.is_weighted:
            weight_p = weight_p * around.charges_p[chosen]
        terms = (weight_p * torch.exp(-form.eta * (d_p - form.shift) ** 2) for form in self.forms)
        return self.gather(terms, around.centers[chosen], slot_p[chosen], around.n_atoms)


class _AngularSums(_Sums):
    def forward(self, around: _Neighborhood, decay: Callable[[Tensor, float], Tensor], triplets: _Triplets) -> Tensor:
        slot_t = self.slot_of.index_select(0, triplets.place_t)
        inside_t = slot_t >= 0
        if self.kind != WIDE:
            inside_t = inside_t & (triplets.d_jk_t < self.cutoff)
        chosen = torch.nonzero(inside_t).squeeze(1)
        j_t, k_t = triplets.first.index_select(0, chosen), triplets.second.index_select(0, chosen)
        d_p, v_pc = around.d_p, around.vectors
        d_ij, d_ik = d_p.index_select(0, j_t), d_p.index_select(0, k_t)
        # from the third side, not from the scalar product: one difference of vectors serves both
        d2_jk = (v_pc.index_select(0, k_t) - v_pc.index_select(0, j_t)).square().sum(dim=1)
        sides = [d_ij, d_ik]
        cos_t = (d_ij.square() + d_ik.square() - d2_jk) / (2 * d_ij * d_ik)
        weight_p = decay(d_p, self.cutoff)
        if self.is_weighted:
            weight_p = weight_p * around.charges_p
        weight_t = 2 * weight_p.index_select(0, j_t) * weight_p.index_select(0, k_t)
        if self.kind != WIDE:
            sides.append(d2_jk.sqrt())
            weight_t = weight_t * decay(sides[2], self.cutoff)
        terms = self._terms(sides, cos_t, weight_t)
        return self.gather(terms, around.centers.index_select(0, j_t), slot_t.index_select(0, chosen), around.n_atoms)

    def _terms(self, sides: list[Tensor], cos_t: Tensor, weight_t: Tensor) -> list[Tensor]:
        """The term of each triplet for each form; exponentials and powers that forms share are computed once."""
        square = {
            shift: reduce(torch.add, [(d_t - shift).square() for d_t in sides])
            for shift in {form.shift for form in self.forms}
        }
        decayed = {
            (eta, shift): weight_t * torch.exp(-eta * square[shift])
            for eta, shift in {(form.eta, form.shift) for form in self.forms}
        }
        angular = {
            (lambda_, zeta): _power(0.5 + 0.5 * lambda_ * cos_t, zeta)
            for lambda_, zeta in {(form.lambda_, form.zeta) for form in self.forms}
        }
        return [decayed[form.eta, form.shift] * angular[form.lambda_, form.zeta] for form in self.forms]


class SymmetryFunctions(nn.Module):
    """A list of symmetry functions, evaluated for all atoms of a graph.

    Parameters
    ----------
    functions : sequence of SymmetryFunction
    species : sequence of int
        Atomic numbers, ascending.
    cutoff_name : str
        One of `CUTOFF_FUNCTIONS`, for all functions.
    alpha : float
        Where cutoff functions begin to decay, in units of their cutoff.
    """

    pair_of: Tensor

    def __init__(
        self, functions: Sequence[SymmetryFunction], species: Sequence[int], cutoff_name: str, alpha: float
    ) -> None:
        super().__init__()
        self.cutoff_name, self.alpha = cutoff_name, alpha
        self.species = tuple(species)
        n = len(species)
        pairs = [(a, b) for a in range(n) for b in range(a, n)]
        pair_of = torch.zeros(n, n, dtype=torch.int64)
        for k, (a, b) in enumerate(pairs):
            pair_of[a, b] = pair_of[b, a] = k
        self.register_buffer("pair_of", pair_of, persistent=False)
        self.radial, self.angular = nn.ModuleList(), nn.ModuleList()
        columns: dict[SymmetryFunction, int] = {}
        width = 0
        for angular in (False, True):  # in the order in which `forward` puts the sums beside each other
            of_kind = [f for f in functions if (f.kind in _ANGULAR) == angular]
            for sums, own in _grouped(of_kind, self.species, pairs):
                columns |= {function: width + column for function, column in own.items()}
                width += sums.n_slots * len(sums.forms)
                (self.angular if angular else self.radial).append(sums)
        self.angular_cutoff = max((f.cutoff for f in functions if f.kind in _ANGULAR), default=0.0)
        self.has_wide = any(f.kind == WIDE for f in functions)
        for row, z in enumerate(self.species):
            own_columns = [columns[function] for function in functions if function.center == z]
            self.register_buffer(f"columns_{row}", torch.tensor(own_columns, dtype=torch.int64), persistent=False)

    def forward(self, graph: Graph, species_n: Tensor) -> list[Tensor]:
        """Values for the atoms of each species.

        Parameters
        ----------
        graph : Graph
        species_n : (N,)
            Place of each atom's element in ``species``.

        Returns
        -------
        list of (atoms of that species, functions of that species)
            Atoms in the order of the graph, functions in the order of the list.
        """
        around = _Neighborhood(
            graph.n_atoms,
            graph.vectors,
            torch.linalg.vector_norm(graph.vectors, dim=1),
            graph.centers,
            species_n[graph.centers],
            species_n[graph.neighbors],
            graph.numbers[graph.neighbors].to(graph.vectors.dtype),
        )
        parts = [sums(around, self._decay) for sums in self.radial]
        if len(self.angular):
            triplets = self._triplets(around)
            parts += [sums(around, self._decay, triplets) for sums in self.angular]
        values_nk = torch.cat(parts, dim=1)
        return [
            values_nk.index_select(0, torch.nonzero(species_n == row).squeeze(1)).index_select(
                1, self.get_buffer(f"columns_{row}")
            )
            for row in range(len(self.species))
        ]

    def _decay(self, d: Tensor, cutoff: float) -> Tensor:
        return cutoff_function(d, cutoff, self.cutoff_name, self.alpha)

    @torch.no_grad()
    def _triplets(self, around: _Neighborhood) -> _Triplets:
        near = torch.nonzero(around.d_p < self.angular_cutoff).squeeze(1)
        first, second = (near.index_select(0, each) for each in find_triplets(around.centers[near]))
        side_tc = around.vectors.index_select(0, second) - around.vectors.index_select(0, first)
        d_jk_t = torch.linalg.vector_norm(side_tc, dim=1)
        if not self.has_wide:
            inside = torch.nonzero(d_jk_t < self.angular_cutoff).squeeze(1)
            first, second, d_jk_t = (each.index_select(0, inside) for each in (first, second, d_jk_t))
        n = len(self.species)
        own = around.others_p.index_select(0, first) * n + around.others_p.index_select(0, second)
        pair_t = self.pair_of.flatten().index_select(0, own)
        n_pairs = n * (n + 1) // 2
        return _Triplets(first, second, around.centers_p.index_select(0, first) * n_pairs + pair_t, d_jk_t)


def _grouped(
    functions: Sequence[SymmetryFunction], species: tuple[int, ...], pairs: list[tuple[int, int]]
) -> list[tuple[_Sums, dict[SymmetryFunction, int]]]:
    """Functions in groups that are summed together, with the column of each function in the sums of its group.

    Two combinations of elements share a group if their functions have the same forms, as those that a model makes for
    itself have; then each form is computed once for all elements.
    """
    by_place: dict[tuple[int, float, tuple[int, int]], dict[_Form, SymmetryFunction]] = defaultdict(dict)
    for function in functions:
        rows = [species.index(z) for z in function.neighbors]
        place = -1 if not rows else rows[0] if len(rows) == 1 else pairs.index((min(rows), max(rows)))
        form = _Form(function.eta, function.shift, function.lambda_, function.zeta)
        by_place[function.kind, function.cutoff, (species.index(function.center), place)][form] = function
    merged: dict[tuple[int, float, frozenset[_Form]], list[tuple[int, int]]] = defaultdict(list)
    for (kind, cutoff, place_2), by_form in by_place.items():
        merged[kind, cutoff, frozenset(by_form)].append(place_2)
    groups: list[tuple[_Sums, dict[SymmetryFunction, int]]] = []
    for (kind, cutoff, form_set), places in merged.items():
        forms = sorted(form_set)
        is_angular = kind in _ANGULAR
        n_places = len(pairs) if is_angular else len(species)
        slot_of_place = {place: slot for slot, place in enumerate(sorted({place for _, place in places}))}
        slots = {
            (center, each): slot_of_place[place]
            for center, place in places
            for each in (range(n_places) if place < 0 else [place])
        }
        sums = (_AngularSums if is_angular else _RadialSums)(kind, cutoff, forms, slots, (len(species), n_places))
        columns = {
            by_place[kind, cutoff, (center, place)][form]: f * sums.n_slots + slot_of_place[place]
            for center, place in places
            for f, form in enumerate(forms)
        }
        groups.append((sums, columns))
    return groups


def _power(x: Tensor, exponent: float) -> Tensor:
    """Powers, 0 where x is not positive; integer powers by repeated squaring, which is much faster."""
    if exponent != int(exponent) or not 0 < exponent <= 256:
        return x.clamp_min(1e-12) ** exponent  # not 0, where higher derivatives may be infinite
    square, left, result = x.clamp_min(0.0), int(exponent), None
    while True:
        if left % 2:
            result = square if result is None else result * square
        left //= 2
        if not left:
            assert result is not None
            return result
        square = square * square
