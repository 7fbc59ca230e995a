r"""`SGDML`: symmetrised gradient-domain machine learning, a kernel model of one molecule in closed form.

Forces are the data and the energy is their integral.  With descriptors x of inverse distances, their Jacobians J and a
Matérn covariance k of energies, forces have the covariance :math:`J^T (\partial^2 k / \partial x \partial x') J'`, and

.. math:: E(x) = c - \sum_{m s} a_m \cdot \frac{\partial k (P_s x, x_m)}{\partial x_m} , \qquad a_m = J_m w_m

where the P_s are the permutations of atoms that the molecule undergoes, and the weights w solve one linear system.
The forces that follow from this energy are those of the kernel.

Reference: Chmiela, Tkatchenko, Sauceda, Poltavsky, Schütt and Müller, Sci. Adv. 3, e1603015 (2017); Chmiela, Sauceda,
Müller and Tkatchenko, Nat. Commun. 9, 3887 (2018).  The order of pairs, ``sigma`` and ``ridge`` mean what they mean in
their package ``sgdml``.  Its model files are read by `read_npz` and written by `write_npz`.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from ase_mlcalc.errors import ConfigError, DataError, NotFittedError, StructureError
from ase_mlcalc.graph import Graph, collate
from ase_mlcalc.kernels import inverse_distances, order
from ase_mlcalc.kernels.fit import Fit, Molecules, Settings, best_fit
from ase_mlcalc.kernels.symmetry import find_symmetries
from ase_mlcalc.memory import GB, available_bytes
from ase_mlcalc.model import Model, MoleculeConfig
from ase_mlcalc.properties import Properties

USABLE_MEMORY = 0.8
"""Part of the free memory that is used where `max_memory_GB` is not given."""
TINY = 1e-30
"""Added to squared distances: the distance has a derivative everywhere."""


class SGDMLConfig(MoleculeConfig):
    """Which molecule it is, and how its linear system is made and solved."""

    cutoff: float = Field(30.0, gt=0, description="Å; longer than the molecule, whose atoms all see each other")
    sigma: tuple[float, ...] = Field(
        (7.0, 10.0, 14.0, 20.0, 28.0, 40.0, 56.0),
        min_length=1,
        description="lengths of the kernel, 1/Å; of several, the one with the smallest error of validation forces",
    )
    ridge: float = Field(
        1e-10, gt=0, description="added to the diagonal of the kernel matrix (lam in the package sgdml)"
    )
    symmetries: bool = Field(True, description="find the permutations of like atoms that the molecule undergoes")
    solver: Literal["auto", "direct", "iterative"] = Field(
        "auto", description="of the linear system; auto is direct for small systems and iterative for large ones"
    )
    max_memory_GB: float | None = Field(None, gt=0, description="for solving; default 80 % of what is free")
    tolerance: float = Field(
        1e-4, gt=0, lt=1, description="part of the training forces that the iterative solver may leave unexplained"
    )
    max_iterations: int = Field(3000, ge=1, description="of the iterative solver")

    @field_validator("sigma", mode="before")
    @classmethod
    def _one_or_more(cls, lengths: Any) -> Any:
        return (lengths,) if isinstance(lengths, int | float) else lengths

    @field_validator("sigma")
    @classmethod
    def _rising(cls, lengths: tuple[float, ...]) -> tuple[float, ...]:
        if min(lengths) <= 0:
            raise ValueError("a length of the kernel has to be positive")
        return tuple(sorted(set(lengths)))


class SGDML(Model, name="sgdml", outputs={"energy"}):
    """Kernel model of one molecule, in closed form; its numbers are buffers, as many as it was solved on needs.

    It computes in float64, whatever precision is asked for.
    """

    Config = SGDMLConfig
    config: SGDMLConfig
    transferable = False
    periodic = False
    local = False
    smooth = False  # it ends at the cutoff: molecules that reach farther are refused

    origin_d: Tensor
    points_md: Tensor
    weights_md: Tensor
    permutations_sn: Tensor
    sigma: Tensor
    energy_constant: Tensor
    order_sd: Tensor
    lengths_m: Tensor
    overlaps_m: Tensor
    bonds_k: Tensor
    longest_k: Tensor

    def __init__(self, config: SGDMLConfig) -> None:
        super().__init__(config)
        n_atoms = len(config.numbers)
        if n_atoms < 2:  # said here, because numbers can come from the training structures after the configuration
            raise ConfigError(
                f"model 'sgdml' learns from distances between atoms, got numbers = {list(config.numbers)}; give at "
                "least two atoms"
            )
        n_pairs = n_atoms * (n_atoms - 1) // 2
        nothing = torch.zeros(0, n_pairs, dtype=torch.float64)
        self.put(Fit(torch.zeros(n_pairs, dtype=torch.float64), nothing, nothing, 1.0), torch.arange(n_atoms)[None])

    def put(self, fit: Fit, permutations_sn: Tensor, energy_constant: float = 0.0) -> None:
        """Take over the numbers of a solved model."""
        self.register_buffer("origin_d", fit.origin_d)
        self.register_buffer("points_md", fit.points_md)
        self.register_buffer("weights_md", fit.weights_md)
        self.register_buffer("permutations_sn", permutations_sn)
        self.register_buffer("sigma", fit.points_md.new_tensor(fit.sigma))
        self.register_buffer("energy_constant", fit.points_md.new_tensor(energy_constant))
        self._prepare()

    def _prepare(self) -> None:
        """What follows from the numbers and is not stored."""
        order_sd = inverse_distances.permutations_of_pairs(self.permutations_sn)
        self.register_buffer("order_sd", order_sd, persistent=False)
        self.register_buffer("lengths_m", self.points_md.square().sum(dim=1), persistent=False)
        self.register_buffer("overlaps_m", (self.points_md * self.weights_md).sum(dim=1), persistent=False)
        distances = 1.0 / (self.points_md + self.origin_d).cpu()
        bonds = order.known_bonds(distances.numpy(), np.array(self.config.numbers))
        self.register_buffer("bonds_k", torch.from_numpy(bonds.pairs), persistent=False)
        self.register_buffer("longest_k", torch.from_numpy(bonds.longest), persistent=False)

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any) -> None:
        for name in self._persistent_buffers():
            if prefix + name in state_dict:
                self.register_buffer(name, torch.empty_like(state_dict[prefix + name], dtype=getattr(self, name).dtype))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._prepare()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move between devices, and stay in float64: weights of the kernel cancel to many digits in every sum."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor.new_empty(0)).device), recurse)

    def _persistent_buffers(self) -> list[str]:
        return [name for name in self._buffers if name not in self._non_persistent_buffers_set]

    def forward(self, graph: Graph) -> Properties:
        """Energies of all structures of a graph.

        Raises
        ------
        NotFittedError
            The model was not solved.
        StructureError
            Periodic images, or a molecule longer than the cutoff.
        DataError
            Like atoms that are not in the order of the training geometries; see `kernels.order`.
        """
        if len(self.points_md) == 0:
            raise NotFittedError(
                "model 'sgdml' was not solved yet; train it (`ase-mlcalc train`), call solve, or load a checkpoint"
            )
        r_bd = self._distances(graph)
        if not torch.compiler.is_compiling():
            self._refuse_another_order(r_bd.detach())
        x_bd = 1.0 / r_bd - self.origin_d
        u_bsd = x_bd[:, self.order_sd]
        u_td = u_bsd.flatten(0, 1)
        squares_tm = torch.addmm(u_td.square().sum(dim=1)[:, None] + self.lengths_m, u_td, self.points_md.T, alpha=-2.0)
        n_tm = (5.0 * squares_tm.clamp(min=0.0) + TINY).sqrt() / self.sigma
        along_tm = (1.0 + n_tm) * torch.exp(-n_tm) * (5.0 / (3.0 * self.sigma**2))
        projected_tm = torch.addmm(-self.overlaps_m, u_td, self.weights_md.T)
        e_bs = -(along_tm * projected_tm).sum(dim=1).reshape(u_bsd.shape[:2])
        return Properties(energy=e_bs.sum(dim=1) + self.energy_constant)

    def _distances(self, graph: Graph) -> Tensor:
        """(B, D) Å"""
        a_d, b_d = inverse_distances.pairs_of(len(self.config.numbers))
        return self._complete(graph, torch.linalg.vector_norm(graph.vectors, dim=1))[:, a_d, b_d]

    def _complete(self, graph: Graph, value_p: Tensor) -> Tensor:
        """(B, N, N, ...) what the edges hold, for each pair of atoms; every pair has to have one edge."""
        n_atoms, n_structures = len(self.config.numbers), graph.n_structures
        place_p = graph.centers * n_atoms + graph.neighbors - n_atoms * graph.system[graph.centers]
        if not torch.compiler.is_compiling():
            edges = torch.bincount(place_p, minlength=n_structures * n_atoms**2).reshape(-1, n_atoms, n_atoms)
            _refuse_incomplete(edges, self.config.cutoff)
        pairs = value_p.new_zeros(n_structures * n_atoms**2, *value_p.shape[1:]).index_add(0, place_p, value_p)
        return pairs.reshape(n_structures, n_atoms, n_atoms, *value_p.shape[1:])

    def _refuse_another_order(self, r_bd: Tensor) -> None:
        """Refuse molecules whose bonds are those of the training geometries between other atoms.

        Exchanges that the model's own permutations undo are none to it, and broken bonds are its user's business.
        """
        missing_b = (r_bd[:, self.bonds_k] > self.longest_k).any(dim=1)
        if not bool(missing_b.any()):
            return
        r_bd = r_bd[missing_b]
        missing_bs = (r_bd[:, self.order_sd][:, :, self.bonds_k] > self.longest_k).any(dim=2)
        known = order.KnownBonds(self.bonds_k.cpu().numpy(), self.longest_k.cpu().numpy())
        for r_d in r_bd[missing_bs.all(dim=1)].cpu().numpy():
            why = order.exchanged(r_d, np.array(self.config.numbers), known)
            if why:
                raise DataError(
                    f"model 'sgdml' knows these atoms in another order: in its training geometries {why}; sort the "
                    "atoms as in its training data, or use a transferable model"
                )

    def solve(
        self,
        train: Sequence[tuple[Graph, Properties]],
        validation: Sequence[tuple[Graph, Properties]],
        report: Callable[[str], None],
    ) -> None:
        """Determine symmetries, length of the kernel and weights; see `Solvable`.

        Raises
        ------
        DataError
            Training structures without forces; several lengths and no validation forces to choose by.
        StructureError
            Periodic images, or a molecule longer than the cutoff.
        ConfigError
            Not enough memory.
        NumericalError
            A singular system, or an iterative solver that does not converge.
        """
        config = self.config
        known = self._molecules(train, "training")
        held_back = self._molecules(validation, "validation") if len(config.sigma) > 1 else known
        permutations_sn = torch.arange(len(config.numbers))[None]
        if config.symmetries:
            graph = collate([sample[0] for sample in train])
            distances = self._complete(graph, torch.linalg.vector_norm(graph.vectors, dim=1))
            permutations_sn = torch.from_numpy(find_symmetries(distances.numpy(), np.array(config.numbers)))
        limit_bytes = USABLE_MEMORY * available_bytes() if config.max_memory_GB is None else config.max_memory_GB * GB
        settings = Settings(
            permutations=permutations_sn,
            ridge=config.ridge,
            method=config.solver,
            limit_bytes=int(limit_bytes),
            tolerance=config.tolerance,
            max_iterations=config.max_iterations,
        )
        fit = best_fit(known, held_back, config.sigma, settings, report)
        self.put(fit, permutations_sn)
        self.energy_constant.fill_(self._energy_constant(train, report))

    def _molecules(self, samples: Sequence[tuple[Graph, Properties]], which: str) -> Molecules:
        if not samples:
            hint = ", and several lengths sigma are compared on these; give one" if which == "validation" else ""
            raise DataError(f"model 'sgdml' is solved on forces and got no {which} structures{hint}")
        for place, (_, labels) in enumerate(samples):
            if labels.forces is None or not bool(labels.forces.isfinite().all()):
                raise DataError(
                    f"model 'sgdml' is solved on forces, and {which} structure {place} of {len(samples)} has none on "
                    "some atom; leave such structures out"
                )
        a_d, b_d = inverse_distances.pairs_of(len(self.config.numbers))
        graph = collate([sample[0] for sample in samples])
        forces = torch.stack([sample[1].forces.flatten() for sample in samples])  # type: ignore[union-attr]
        return Molecules(self._complete(graph, graph.vectors)[:, a_d, b_d].cpu().double(), forces.cpu().double())

    def _energy_constant(self, samples: Sequence[tuple[Graph, Properties]], report: Callable[[str], None]) -> float:
        """Mean difference of training energies and the integral of the forces."""
        labelled = [s for s in samples if s[1].energy is not None and bool(s[1].energy.isfinite().all())]
        if not labelled:
            report("no training structure has an energy: energies are known up to a constant only")
            return 0.0
        with torch.no_grad():
            differences = [labels.energy - self(graph).energy for graph, labels in labelled]
        return float(torch.cat(differences).mean())


def _refuse_incomplete(edges_bnn: Tensor, cutoff: float) -> None:
    """Refuse graphs in which two atoms have no edge, or several, or an atom has one with its own image."""
    n_atoms = edges_bnn.shape[1]
    expected = 1 - torch.eye(n_atoms, dtype=edges_bnn.dtype, device=edges_bnn.device)
    if torch.equal(edges_bnn, expected.expand_as(edges_bnn)):
        return
    b, i, j = (edges_bnn != expected).nonzero()[0].tolist()
    if edges_bnn[b, i, j] > expected[i, j]:
        raise StructureError(
            f"atoms {i} and {j} see each other's periodic images, and model 'sgdml' is for one molecule alone; "
            "set atoms.pbc = False"
        )
    raise StructureError(
        f"atoms {i} and {j} are farther apart than the cutoff of {cutoff:g} Å; has the molecule dissociated? If it is "
        "that long, train with a larger model.cutoff"
    )


def __getattr__(name: str) -> Any:
    # reading and writing files is not a model's business, but this is where one looks for it
    if name in ("read_npz", "write_npz"):
        return getattr(import_module("ase_mlcalc.sgdml_npz"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
