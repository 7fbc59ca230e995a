r"""How the stress of a structure is split over its atoms: the definitions, each by name.

With directed edges e = (c -> o) from centre c to neighbour o, edge vectors r_e, the edge gradient
:math:`g_e = \partial E / \partial r_e`, energies of atoms :math:`U_i` and
:math:`w_{ij} = (R_j - R_i) \otimes \partial U_i / \partial R_j` (i: whose energy changes, j: which image moves):

========== =================================================================================================
``edge``    :math:`\tfrac12 \sum_{c=k} r_e \otimes g_e + \tfrac12 \sum_{o=k} r_e \otimes g_e`
``center``  :math:`\sum_{c=k} r_e \otimes g_e`
``other``   :math:`\sum_{o=k} r_e \otimes g_e`
``site``    :math:`\sum_j w_{kj} = \partial U_k / \partial \varepsilon`
``heat``    :math:`\sum_i w_{ik}`
``cluster`` each term of n atoms: 1/n of its virial to each of them
========== =================================================================================================

All sum to :math:`V \sigma = \partial E / \partial \varepsilon`; for one atom they differ, except for pair potentials.
Without message passing ``center`` is ``site`` and ``other`` is ``heat``.  Only ``site``, ``heat`` and ``cluster`` are
facts about the energies of atoms or terms; the other three depend on which edges a model happens to use.

``site`` takes six forward-mode products, because :math:`U_k` does not change with a rotation.  ``heat`` needs to know
whose energy felt whose motion, which a gradient of the total energy has forgotten.  Langer, Frank and Knoop (J. Chem.
Phys. 159, 174105 (2023)) unfold the periodic cell until the system is open.  Here nothing is unfolded: if the gradient
that flows back from edge e to the features of its neighbour is multiplied by :math:`1 - q \cdot r_e`
(`nn.gather.of_neighbors`), the edge gradient :math:`\tilde g(q)` carries how far from the atom whose energy changed it
arose, and

.. math::

    \sum_i w_{ik} = \sum_{o=k} r_e \otimes g_e
        - \frac{d}{dq} \Big[ \sum_{o=k} \tilde g_e - \sum_{c=k} \tilde g_e \Big]_{q=0}

with :math:`\tilde g` a polynomial in q whose degree is one less than the number of layers that gather features, so that
differences at a few q give the derivative exactly.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Clustered, Model
from ase_mlcalc.potential import Derived, Potential, edge_gradient

DEFAULT_STRESS_DEFINITION = "edge"
LEARNED_STRESS_DEFINITION = "that of its labels"
"""Of a potential that predicts per-atom stress itself; followed by which that is, if its checkpoint knows."""


class Definition(NamedTuple):
    """One way to split the stress over atoms."""

    virials: Callable[[Derived, Graph], Tensor]
    """(N, 3, 3) eV of a potential and a graph."""
    unavailable: Callable[[Model], str]
    """Why a model cannot give it; "" if it can."""
    meaning: str


def virials(potential: Potential, graph: Graph, definition: str = "edge") -> Tensor:
    """Stress times volume of each atom by one of the `DEFINITIONS`, positive under tension, all nine components.

    Parameters
    ----------
    potential : Derived or Ensemble
        Of an ensemble, whose energy is the mean of its members', the mean.
    graph : Graph
        On the device of the potential; structures need no volume.
    definition : str

    Returns
    -------
    (N, 3, 3) eV
        Float64.  First index: along r, second: along the gradient; ``edge``, ``center``, ``other`` and ``heat`` are not
        symmetric.

    Raises
    ------
    ConfigError
        Unknown definition, or one that the model cannot give; the message says which it can.
    """
    check_definition(potential, definition)
    if isinstance(potential, Ensemble):
        return torch.stack([virials(member, graph, definition) for member in potential.members]).mean(dim=0)
    assert isinstance(potential, Derived)  # checked before
    return DEFINITIONS[definition].virials(potential, graph)


def available(model: Model) -> tuple[str, ...]:
    """The definitions that a model can give."""
    return tuple(name for name, definition in DEFINITIONS.items() if not definition.unavailable(model))


def definition_at_hand(potential: Potential, of_labels: Sequence[str] = ()) -> str:
    """How the ``stresses`` that a potential returns are split over atoms; if it learned them, as its labels were."""
    if "stresses" not in potential.properties or "forces" in potential.properties:
        return DEFAULT_STRESS_DEFINITION
    return LEARNED_STRESS_DEFINITION + (f": {' or '.join(of_labels)}" if of_labels else "")


def check_definition(potential: Potential, definition: str) -> None:
    """Raise `ConfigError` if there is no such definition, or if the potential cannot give it."""
    if definition not in DEFINITIONS:
        raise ConfigError(f"stress_definition is one of {', '.join(DEFINITIONS)}; got {definition!r}")
    if isinstance(potential, Ensemble):
        for member in potential.members:
            check_definition(member, definition)
        return
    if not isinstance(potential, Derived):
        raise ConfigError(
            f"stress_definition {definition!r} needs the model behind a potential, and a {type(potential).__name__} "
            "shows none; use a checkpoint, a model, or an ensemble of these"
        )
    model = potential.model
    reason = DEFINITIONS[definition].unavailable(model)
    if reason:
        can = ", ".join(available(model)) or "none"
        raise ConfigError(
            f"stress_definition {definition!r} is not there for model {model.name!r}: {reason}; it has {can}"
        )


def _edge(potential: Derived, graph: Graph) -> Tensor:
    w_pab = _edge_virials(graph, edge_gradient(potential.model, graph, potential.baseline))
    return 0.5 * (_at(graph.centers, graph, w_pab) + _at(graph.neighbors, graph, w_pab))


def _center(potential: Derived, graph: Graph) -> Tensor:
    return _at(graph.centers, graph, _edge_virials(graph, edge_gradient(potential.model, graph, potential.baseline)))


def _other(potential: Derived, graph: Graph) -> Tensor:
    return _at(graph.neighbors, graph, _edge_virials(graph, edge_gradient(potential.model, graph, potential.baseline)))


def _site(potential: Derived, graph: Graph) -> Tensor:
    model = potential.model
    vectors = graph.vectors.detach().to(model.dtype)

    def energies(r_pc: Tensor) -> Tensor:
        e_n = model(graph._replace(vectors=r_pc)).energies
        assert e_n is not None  # checked before
        return e_n

    virials_nab = vectors.new_zeros(graph.n_atoms, 3, 3)
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        stretch = torch.zeros_like(vectors)
        stretch[:, a] += 0.5 * vectors[:, b]  # a symmetric strain: rotations change no energy
        stretch[:, b] += 0.5 * vectors[:, a]
        slope_n = torch.func.jvp(energies, (vectors,), (stretch,))[1]
        virials_nab[:, a, b] = virials_nab[:, b, a] = slope_n
    return virials_nab.double() * potential.baseline.energy_scale


def _heat(potential: Derived, graph: Graph) -> Tensor:
    model, baseline = potential.model, potential.baseline
    g_pc = edge_gradient(model, graph, baseline)
    virials_nab = _at(graph.neighbors, graph, _edge_virials(graph, g_pc))
    if model.depth < 2:
        return virials_nab
    nodes, weights = _derivative_at_zero(model.depth, step=0.3 / model.config.cutoff)
    for axis in range(3):
        slope_pc = torch.zeros_like(g_pc)
        for node, weight in zip(nodes, weights, strict=True):
            gauge = g_pc.new_zeros(3)
            gauge[axis] = node
            at_node = g_pc if node == 0 else edge_gradient(model, graph._replace(gauge=gauge), baseline)
            slope_pc += weight * at_node
        change = _at(graph.neighbors, graph, slope_pc) - _at(graph.centers, graph, slope_pc)
        virials_nab[:, axis] -= change
    return virials_nab


def _derivative_at_zero(n_nodes: int, step: float) -> tuple[list[float], list[float]]:
    """Nodes around zero, and the weights that give the derivative at zero of any polynomial of degree below n_nodes."""
    nodes = step * (np.arange(n_nodes) - (n_nodes - 1) // 2)
    powers = np.vander(nodes / step, increasing=True).T
    first = np.zeros(n_nodes)
    first[1] = 1.0
    return nodes.tolist(), (np.linalg.solve(powers, first) / step).tolist()


def _cluster(potential: Derived, graph: Graph) -> Tensor:
    model = potential.model
    assert isinstance(model, Clustered)  # checked before
    vectors = graph.vectors.detach().to(model.dtype)
    virials_nab = vectors.new_zeros(graph.n_atoms, 3, 3, dtype=torch.float64)
    for terms in model.clusters(graph._replace(vectors=vectors)):
        r_tmc = vectors[terms.edges].requires_grad_()
        with torch.enable_grad():
            (g_tmc,) = torch.autograd.grad(terms.energy(r_tmc).sum(), r_tmc)
        w_tab = torch.einsum("tma,tmb->tab", r_tmc.detach(), g_tmc).double()
        n = terms.atoms.shape[1]
        for member_t in terms.atoms.unbind(dim=1):
            virials_nab.index_add_(0, member_t, w_tab / n)
    return virials_nab * potential.baseline.energy_scale


def _edge_virials(graph: Graph, g_pc: Tensor) -> Tensor:
    return graph.vectors.detach().double()[:, :, None] * g_pc[:, None, :]


def _at(ends: Tensor, graph: Graph, values: Tensor) -> Tensor:
    return values.new_zeros(graph.n_atoms, *values.shape[1:]).index_add(0, ends, values)


def _needs_gradient(model: Model) -> str:
    has = model.outputs & {"energies", "energy", "edge_forces"}
    return "" if has else f"it predicts {', '.join(sorted(model.outputs))} and no energy or forces of pairs"


def _needs_energies(model: Model) -> str:
    return "" if "energies" in model.outputs else "it has no energies of atoms"


def _needs_rotations(model: Model) -> str:
    return _needs_energies(model) or ("" if model.equivariant else "its energies change with rotations")


def _needs_terms(model: Model) -> str:
    return "" if isinstance(model, Clustered) else "its energy is not a sum of terms of few atoms"


DEFINITIONS: dict[str, Definition] = {
    "edge": Definition(_edge, _needs_gradient, "half of each edge to each of its ends"),
    "center": Definition(_center, _needs_energies, "each edge to its centre"),
    "other": Definition(_other, _needs_energies, "each edge to its neighbour"),
    "site": Definition(_site, _needs_rotations, "derivative of the atom's own energy by strain"),
    "heat": Definition(_heat, _needs_energies, "what the atom's motion does to all energies: for heat flux"),
    "cluster": Definition(_cluster, _needs_terms, "each term in equal parts to its atoms"),
}
"""Definition by name."""
