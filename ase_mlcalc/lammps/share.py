"""What a process computes of a structure that several share: energies of its own atoms, and what its edges pull.

Edges belong to their centre, so that every edge is at one process.  What it does to the atom at its other end comes
out in a row of its own and is given back to the owner of that atom.
"""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_mlcalc.accelerate import with_kernels
from ase_mlcalc.accelerate.engines import Kernel
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.graph import Graph, Halo
from ase_mlcalc.lammps.halo import Ownership
from ase_mlcalc.neighbors import OpenPairs
from ase_mlcalc.potential import Derived, Potential, edge_mechanics, isolated_energies
from ase_mlcalc.properties import VOIGT
from ase_mlcalc.slopes import species_rows


class Edges(NamedTuple):
    """Directed edges whose centres a process owns, in the rows of `Ownership`."""

    centers: NDArray[np.int64]
    neighbors: NDArray[np.int64]
    vectors: NDArray[np.float64]
    """(E, 3) Å."""


class Share(NamedTuple):
    """Results of one process; rows of others' atoms are behind those of its own."""

    energies: NDArray[np.float64]
    """(own,) eV."""
    forces: NDArray[np.float64]
    """(rows, 3) eV/Å."""
    virials: NDArray[np.float64]
    """(rows, 6) eV, stress times volume by the definition ``edge``, positive under tension, in ASE's order."""


class Evaluate(Protocol):
    """A potential, for one process of several."""

    def __call__(self, numbers: NDArray[np.int64], edges: Edges, halo: Halo) -> Share:
        """Results for atomic numbers (rows,), edges, and what knows of the other processes."""


def reason_against(potential: Potential) -> str:
    """Why processes cannot share the work of a potential; "" if they can."""
    if isinstance(potential, Ensemble):
        return "it is an ensemble; export one of its members"
    if not isinstance(potential, Derived):
        return f"a {type(potential).__name__} shows no model"
    model = potential.model
    if "energies" not in model.outputs:
        return f"model {model.name!r} gives {', '.join(sorted(model.outputs))} and no energies of atoms"
    if not model.transferable:
        return f"model {model.name!r} is made for one molecule"
    if not model.local or model.reads != {"vectors"}:
        return f"what model {model.name!r} gives an atom does not depend on the vectors to its neighbours alone"
    return ""


def evaluation(potential: Potential) -> Evaluate:
    """The fastest way to evaluate a potential in one process of several: by a kernel, or by torch.

    Raises
    ------
    ConfigError
        Processes cannot share its work.
    """
    if reason := reason_against(potential):
        raise ConfigError(f"this potential does not run in LAMMPS: {reason}")
    assert isinstance(potential, Derived)  # there would have been a reason
    fast = with_kernels(Derived(potential.model, potential.baseline))
    assert isinstance(fast, Derived)
    return ByKernel(fast.compiled) if isinstance(fast.compiled, Kernel) else ByTorch(potential)


class ByKernel:
    """The kernel for `equivariant`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __call__(self, numbers: NDArray[np.int64], edges: Edges, halo: Halo) -> Share:
        """See `Evaluate`."""
        own, reference, forces, virials = self._kernel.of_share(numbers, edges, halo)
        return Share(own + reference, forces, virials)


class ByTorch:
    """Any model with energies of atoms, by autograd."""

    def __init__(self, potential: Derived) -> None:
        self.potential = potential
        with torch.no_grad():
            self._isolated = isolated_energies(potential.model, potential.device).double()

    def __call__(self, numbers: NDArray[np.int64], edges: Edges, halo: Halo) -> Share:
        """See `Evaluate`."""
        graph = graph_of(numbers, edges, halo)
        energies, g_pc = self.slopes(graph, halo.n_owned)
        forces, virials = edge_mechanics(graph, g_pc)
        voigt = np.stack([virials[:, a, b].numpy() for a, b in VOIGT], axis=1)
        return Share(energies.numpy(), forces.numpy(), voigt)

    def slopes(self, graph: Graph, n_owned: int) -> tuple[Tensor, Tensor]:
        """Energies (own,) in eV, and the gradient of all processes' energies by the edges (E, 3) in eV/Å."""
        model, baseline = self.potential.model, self.potential.baseline
        with torch.enable_grad():
            r_pc = graph.vectors.to(model.dtype).requires_grad_()
            energies = model(graph._replace(vectors=r_pc)).energies
            assert energies is not None  # as it declares
            e_n = energies[:n_owned].double()
            # also where there are no edges: others wait for what this process says to theirs
            (g_pc,) = torch.autograd.grad(e_n.sum(), r_pc, materialize_grads=True)
        own = graph.numbers[:n_owned]
        relative = (e_n.detach() - self._isolated[species_rows(model, own)]) * baseline.energy_scale
        return relative + baseline.reference_energies(own), g_pc.double() * baseline.energy_scale


def graph_of(numbers: NDArray[np.int64], edges: Edges, halo: Halo | None) -> Graph:
    """A graph of one process's rows and edges, in a cell of 1 Å³: stresses are virials."""
    n = len(numbers)
    return Graph(
        numbers=torch.from_numpy(numbers),
        positions=torch.zeros(n, 3, dtype=torch.float64),  # no model with energies looks at these
        cell=torch.eye(3, dtype=torch.float64)[None],
        system=torch.zeros(n, dtype=torch.int64),
        centers=torch.from_numpy(edges.centers),
        neighbors=torch.from_numpy(edges.neighbors),
        vectors=torch.from_numpy(edges.vectors),
        halo=halo,
    )


class EdgesOfShare:
    """The edges of a process while its atoms move; made anew when LAMMPS hands out atoms anew.

    Parameters
    ----------
    ownership : Ownership
    positions : (own and ghosts, 3) Å
    cutoff, skin : float, Å
        The list is searched again by itself when atoms have moved by half of the skin.
    """

    def __init__(self, ownership: Ownership, positions: NDArray[np.float64], cutoff: float, skin: float) -> None:
        self._ownership, self._cutoff, self._skin = ownership, cutoff, skin
        self._pairs = self._search(positions)

    def __call__(self, positions: NDArray[np.float64]) -> tuple[Edges, int]:
        """Edges within the cutoff, and the number of the shortest (-1: there is none)."""
        found = self._pairs(positions)
        if found is None:
            self._pairs = self._search(positions)
            found = self._pairs(positions)
            assert found is not None  # nothing has moved
        return Edges(found.pairs.centers, self._ownership.row_of[found.pairs.neighbors], found.vectors), found.shortest

    def _search(self, positions: NDArray[np.float64]) -> OpenPairs:
        return OpenPairs(positions, self._ownership.n_owned, self._cutoff, self._skin)
