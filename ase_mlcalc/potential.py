r"""The physics of derivatives: one gradient, all the mechanics.

A model gives per-atom energies :math:`U_i` from edge vectors :math:`r_{ij} = r_j - r_i`.  With the gradient of the
total energy :math:`g_{ij} = \partial E / \partial r_{ij}` over directed edges (centre i, neighbour j):

.. math::

    F_i &= \sum_{j} g_{ij} - \sum_{j} g_{ji}

    \sigma &= \frac{1}{V} \frac{\partial E}{\partial \varepsilon}
            = \frac{1}{V} \sum_{ij} r_{ij} \otimes g_{ij}

    \sigma_i &= \frac{1}{2V} \Big( \sum_j r_{ij} \otimes g_{ij} + \sum_j r_{ji} \otimes g_{ji} \Big),
    \qquad \sum_i \sigma_i = \sigma

so that forces sum to zero and the energy does not depend on where the structure is, for any model.  The split of
:math:`\sigma` over atoms, half of each edge to each of its ends and the symmetric part kept, is the definition
``edge``: for pair and EAM potentials the one of LAMMPS' ``compute stress/atom``, half of the virial of a pair to each
atom (Thompson, Plimpton and Mattson, J. Chem. Phys. 131, 154107 (2009), treat many-body terms and periodic cells).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from ase.data import chemical_symbols
from torch import Tensor

from ase_mlcalc.errors import DataError, ModelError, StructureError
from ase_mlcalc.graph import SMALLEST_VOLUME_A3, Graph, isolated_atoms
from ase_mlcalc.model import Model, MoleculeConfig, check_species, in_order
from ase_mlcalc.properties import VOIGT, Properties, from_voigt
from ase_mlcalc.slopes import InPieces, Slopes, atoms_at_once, gradient, is_large, species_rows

DERIVED_FROM: dict[str, frozenset[str]] = {
    "energies": frozenset({"energy", "energies", "forces", "stress", "stresses"}),
    "energy": frozenset({"energy", "forces", "stress", "stresses"}),
    "forces": frozenset({"forces"}),
    "edge_forces": frozenset({"forces", "stress", "stresses"}),
    "stresses": frozenset({"stress", "stresses"}),
}
"""What each output of a model buys; properties not listed are not implemented by the potential."""


@dataclass(frozen=True)
class Baseline:
    """Reference energies and scales between a model's numbers of order one and eV and eV/Å.

    Parameters
    ----------
    species_energy : mapping of atomic number to eV
        E0, the energy of the isolated atom (or a fitted reference); missing species count as 0 eV.
    energy_scale : float, eV
        Multiplies per-atom energies, and so the forces and stresses derived from them.
    force_scale : float, eV/Å
        Multiplies forces that a model predicts directly.
    stress_scale : float, eV
        Multiplies per-atom stresses that a model predicts directly, which are stress times volume: that product stays
        the same in a supercell or with more vacuum around a slab, while `Properties.stresses` do not.
    """

    species_energy: Mapping[int, float] = field(default_factory=dict)
    energy_scale: float = 1.0
    force_scale: float = 1.0
    stress_scale: float = 1.0

    def reference_energies(self, numbers: Tensor) -> Tensor:
        """(N,) eV, float64: E0 of each atom."""
        table = [self.species_energy.get(number, 0.0) for number in range(119)]
        return torch.tensor(table, dtype=torch.float64, device=numbers.device)[numbers]


@runtime_checkable
class Potential(Protocol):
    """What calculators, evaluation and molecular dynamics use."""

    @property
    def cutoff(self) -> float:
        """Å."""

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that it knows."""

    @property
    def properties(self) -> frozenset[str]:
        """Fields of `Properties` that a call fills in."""

    @property
    def reads(self) -> frozenset[str]:
        """Fields of `Graph` that results depend on beside elements and edges."""

    @property
    def device(self) -> torch.device:
        """Where graphs have to be."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the model; energies are summed and forces gathered in float64."""

    def __call__(self, graph: Graph) -> Properties:
        """Evaluate; the results are detached."""


def derive(
    model: Model,
    graph: Graph,
    baseline: Baseline,
    *,
    create_graph: bool = False,
    isolated: Tensor | None = None,
    slopes: Slopes | None = None,
) -> Properties:
    """Evaluate a model and everything that follows from its outputs.

    Parameters
    ----------
    model : Model
    graph : Graph
        On the device of the model.
    baseline : Baseline
    create_graph : bool
        Keep what is needed to differentiate the results with respect to the parameters (training).
    isolated : (len(species),), optional
        The model's output for isolated atoms from `isolated_energies`, subtracted from every atom so that a
        structure dissociates to its reference energies; computed here when not given.
    slopes : Slopes, optional
        What evaluates the model in place of ``forward`` and autograd.

    Returns
    -------
    Properties
        Float64 except directly predicted forces; NaN stress where the cell has no volume.

    Raises
    ------
    StructureError
        The model uses velocities and a structure has none.
    DataError
        The model is for one molecule, and this is another or has its atoms in another order.
    """
    _refuse_other_atoms(model, graph)
    vectors = graph.vectors.detach().to(model.dtype)
    if model.outputs & {"energies", "energy"}:
        with torch.enable_grad():
            if slopes is not None:
                e_n, g_pc = (values * baseline.energy_scale for values in slopes(graph))
                return _with_mechanics(graph, _sum_over(graph, e_n), e_n, g_pc, baseline, create_graph)
            return _derive_from_energy(model, graph._replace(vectors=vectors), baseline, create_graph, isolated)
    _require_what_it_reads(model, graph)
    with torch.set_grad_enabled(create_graph):
        raw = model(graph._replace(vectors=vectors))
        return _from_direct(model, raw, graph, baseline)


def _derive_from_energy(
    model: Model, graph: Graph, baseline: Baseline, create_graph: bool, isolated: Tensor | None
) -> Properties:
    r_pc = graph.vectors.requires_grad_()  # the only way in which geometry enters a model
    raw = model(graph)
    e_n = None
    if raw.energies is not None:
        if isolated is None:
            isolated = isolated_energies(model, graph.numbers.device)
        own_n = isolated[species_rows(model, graph.numbers)]
        e_n = (raw.energies.double() - own_n.double()) * baseline.energy_scale
        e_b = _sum_over(graph, e_n)
    elif raw.energy is not None:
        e_b = raw.energy.double() * baseline.energy_scale
    else:
        raise ModelError(f"model {model.name!r} declares {sorted(model.outputs)} but returned no energy")
    g_pc = gradient(e_b, r_pc, create_graph=create_graph)
    return _with_mechanics(graph, e_b, e_n, g_pc.double(), baseline, create_graph)


def _with_mechanics(
    graph: Graph, e_b: Tensor, e_n: Tensor | None, g_pc: Tensor, baseline: Baseline, create_graph: bool
) -> Properties:
    """All that follows from energies without references, of structures and perhaps of atoms, and their gradient."""
    reference_n = baseline.reference_energies(graph.numbers)
    energy = e_b + _sum_over(graph, reference_n)
    energies = None if e_n is None else e_n + reference_n
    forces, stresses = edge_mechanics(graph, g_pc)
    properties = Properties(energy, energies, forces, _sum_over(graph, stresses), stresses)
    return properties if create_graph else _detached(properties)


def edge_gradient(model: Model, graph: Graph, baseline: Baseline) -> Tensor:
    """The gradient dE/dr_ij of each directed edge, or what a model of pair forces predicts in its place.

    Parameters
    ----------
    model : Model
    graph : Graph
        On the device of the model.
    baseline : Baseline

    Returns
    -------
    (E, 3) eV/Å
        Float64; the force of j on i is g_ij - g_ji, with g_ji of the reversed edge.

    Raises
    ------
    ModelError
        The model predicts neither an energy nor forces of pairs.
    """
    _refuse_other_atoms(model, graph)
    r_pc = graph.vectors.detach().to(model.dtype)
    if "edge_forces" in model.outputs:
        with torch.no_grad():
            edge_forces = model(graph._replace(vectors=r_pc)).edge_forces
        assert edge_forces is not None
        return edge_forces.double() * baseline.force_scale
    if not model.outputs & {"energies", "energy"}:
        raise ModelError(
            f"model {model.name!r} predicts {', '.join(sorted(model.outputs))}: there are no forces of pairs in it; "
            "use a model with energies, or one that predicts forces of pairs"
        )
    with torch.enable_grad():
        r_pc.requires_grad_()
        raw = model(graph._replace(vectors=r_pc))
        energies = raw.energies if raw.energies is not None else raw.energy
        assert energies is not None
        return gradient(energies.double(), r_pc, create_graph=False).double() * baseline.energy_scale


def edge_mechanics(graph: Graph, g_pc: Tensor) -> tuple[Tensor, Tensor]:
    """Forces and per-atom stress from the edge gradient; see the equations at the top of this module.

    Parameters
    ----------
    graph : Graph
    g_pc : (E, 3) eV/Å
        dE/dr_ij, float64.

    Returns
    -------
    forces : (N, 3) eV/Å
    stresses : (N, 3, 3) eV/Å³
        Definition ``edge``, symmetric; NaN for atoms of structures without volume.
    """
    r_p, g_p = graph.vectors.detach().double().unbind(dim=1), g_pc.unbind(dim=1)
    quarter_w_p = [0.25 * (r_p[a] * g_p[b] + r_p[b] * g_p[a]) for a, b in VOIGT]
    both_pk = torch.stack([*g_p, *quarter_w_p], dim=1)  # one gather for forces and stresses
    blank_nk = both_pk.new_zeros(graph.n_atoms, 3 + len(VOIGT))
    at_center = blank_nk.index_add(0, graph.centers, both_pk)
    at_neighbor = blank_nk.index_add(0, graph.neighbors, both_pk)
    forces = at_center[:, :3] - at_neighbor[:, :3]
    virials = from_voigt(at_center[:, 3:] + at_neighbor[:, 3:])
    return forces, per_volume(graph, virials)


def isolated_energies(model: Model, device: torch.device | str = "cpu") -> Tensor:
    """(len(species),) the model's raw energies of isolated atoms, in the order of its species."""
    lonely = isolated_atoms(model.config.species, device)
    energies = model(lonely._replace(vectors=lonely.vectors.to(model.dtype))).energies
    if energies is None:
        raise ModelError(f"model {model.name!r} returned no per-atom energies")
    return energies


def _from_direct(model: Model, raw: Properties, graph: Graph, baseline: Baseline) -> Properties:
    """Directly predicted forces, forces of pairs, or per-atom stress."""
    if raw.edge_forces is not None:
        # antisymmetric whatever the model says, F_ij = g_ij - g_ji: momentum is conserved and there is a virial
        forces, stresses = edge_mechanics(graph, raw.edge_forces.double() * baseline.force_scale)
        return Properties(forces=forces, stress=_sum_over(graph, stresses), stresses=stresses)
    if raw.forces is not None:
        return Properties(forces=raw.forces * baseline.force_scale)
    if raw.stresses is not None:
        stresses = per_volume(graph, raw.stresses.double() * baseline.stress_scale)
        if model.includes_kinetic:
            stresses = stresses - kinetic_stresses(graph)
        return Properties(stress=_sum_over(graph, stresses), stresses=stresses)
    raise ModelError(f"model {model.name!r} declares {sorted(model.outputs)} but returned {sorted(raw.given())}")


def kinetic_stresses(graph: Graph) -> Tensor:
    """(N, 3, 3) eV/Å³: the kinetic part -m v v / V of per-atom stress (ASE's ``include_ideal_gas``), which is exact.

    NaN for atoms without velocities and for structures without volume.
    """
    if graph.velocities is None or graph.masses is None:
        return graph.positions.new_full((graph.n_atoms, 3, 3), torch.nan)
    v_nc = graph.velocities
    return per_volume(graph, -graph.masses[:, None, None] * v_nc[:, :, None] * v_nc[:, None, :])


def _require_what_it_reads(model: Model, graph: Graph) -> None:
    moving = "velocities" in model.reads or model.includes_kinetic
    if moving and (graph.velocities is None or bool(graph.velocities.isnan().any())):
        raise StructureError(
            f"model {model.name!r} uses velocities and the structure has none; set them, for example with "
            "ase.md.velocitydistribution.MaxwellBoltzmannDistribution or atoms.set_velocities (structures with labels "
            "need the momenta that their labels belong to)"
        )


def _refuse_other_atoms(model: Model, graph: Graph) -> None:
    if not isinstance(model.config, MoleculeConfig):
        return
    numbers = model.config.numbers
    expected = torch.tensor(numbers, device=graph.numbers.device).repeat(graph.n_structures)
    sizes = torch.bincount(graph.system, minlength=graph.n_structures)
    if bool((sizes != len(numbers)).any()) or not torch.equal(graph.numbers, expected):
        other = next(
            of_one
            for of_one in (graph.numbers[graph.system == b].tolist() for b in range(graph.n_structures))
            if of_one != list(numbers)
        )
        raise DataError(
            f"model {model.name!r} was made for {in_order(numbers)} in this order, got {in_order(other)}; "
            "sort the atoms as in its training data, or use a transferable model"
        )


def _sum_over(graph: Graph, values: Tensor) -> Tensor:
    """Sum over the atoms of each structure."""
    return values.new_zeros(graph.n_structures, *values.shape[1:]).index_add(0, graph.system, values)


def per_volume(graph: Graph, virials: Tensor) -> Tensor:
    """(N, 3, 3) eV/Å³ of atoms from stress times volume; NaN for atoms of structures without volume."""
    volume_b = torch.linalg.det(graph.cell).abs()
    # the division stays finite where there is no volume, so that NaN does not reach the gradients of other structures
    solid_b = volume_b > SMALLEST_VOLUME_A3
    solid_n = solid_b[graph.system][:, None, None]
    safe_n = torch.where(solid_b, volume_b, 1.0)[graph.system][:, None, None]
    return torch.where(solid_n, virials / safe_n, torch.nan)


def _detached(properties: Properties) -> Properties:
    return Properties(*(None if value is None else value.detach() for value in properties))


class Derived:
    """A model with its baseline: energies, forces, stress and per-atom stress of any graph.

    The model is put into evaluation mode and its parameters are frozen.

    Parameters
    ----------
    model : Model
    baseline : Baseline, optional
    compiled : callable, optional
        Code that gives what `derive` gives for this model and baseline, only faster; see `ase_mlcalc.accelerate`.
    """

    def __init__(
        self,
        model: Model,
        baseline: Baseline | None = None,
        compiled: Callable[[Graph], Properties] | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.baseline = Baseline() if baseline is None else baseline
        self.compiled = compiled
        self._isolated: Tensor | None = None
        self._known = torch.zeros(len(chemical_symbols), dtype=torch.bool)
        self._known[list(self.species)] = True

    @property
    def cutoff(self) -> float:
        """Å."""
        return self.model.config.cutoff

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that the model knows."""
        return self.model.config.species

    @property
    def properties(self) -> frozenset[str]:
        """Fields of `Properties` that a call fills in."""
        return frozenset().union(*(DERIVED_FROM[name] for name in self.model.outputs))

    @property
    def reads(self) -> frozenset[str]:
        """Fields of `Graph` that the model reads."""
        return self.model.reads

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the model."""
        return self.model.dtype

    def __call__(self, graph: Graph) -> Properties:
        """Evaluate all structures of a graph; the results are detached.

        Raises
        ------
        SpeciesError
            An element that the model does not know.
        """
        self._refuse_unknown(graph.numbers)
        if self.compiled is not None:
            return self.compiled(graph)
        if self._isolated is None and "energies" in self.model.outputs:
            with torch.no_grad():
                self._isolated = isolated_energies(self.model, graph.numbers.device)
        if self._isolated is not None and is_large(self.model, graph):
            at_once = atoms_at_once(self.model, graph)
            if at_once < graph.n_atoms:
                slopes = InPieces(self.model, self._isolated, at_once)
                return derive(self.model, graph, self.baseline, slopes=slopes)
        return derive(self.model, graph, self.baseline, isolated=self._isolated)

    def _refuse_unknown(self, numbers: Tensor) -> None:
        self._known = self._known.to(numbers.device)
        if not torch.compiler.is_compiling() and not bool(self._known[numbers].all()):
            check_species(numbers.unique().tolist(), self.species, f"the model {self.model.name!r}")
