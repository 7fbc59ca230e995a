"""A potential in the shape of LAMMPS' ``MLIAPUnified``, for builds of LAMMPS with ML-IAP and Python (Kokkos, GPUs).

Such a build reads a pickle of an object with a few attributes and calls ``compute_forces`` with its arrays.  The pickle
holds a checkpoint as bytes, and this package reads it there as any other; it is written here, and never read.
"""

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ase_mlcalc.checkpoint import load
from ase_mlcalc.errors import ConfigError, ModelError
from ase_mlcalc.files import atomic_path
from ase_mlcalc.graph import Graph
from ase_mlcalc.lammps.share import ByTorch, reason_against
from ase_mlcalc.potential import Derived


class UnifiedPotential:
    """What ``pair_style mliap unified FILE`` calls.

    Parameters
    ----------
    checkpoint : bytes
        Of one potential.
    """

    def __init__(self, checkpoint: bytes) -> None:
        self.checkpoint = checkpoint
        potential = self._load()
        self.interface: Any = None
        """Set by LAMMPS."""
        self.element_types = _symbols(potential.species)
        self.ndescriptors, self.nparams = 1, 1
        """None, but LAMMPS makes room for them."""
        self.cutoff = potential.cutoff
        self.rcutfac = potential.cutoff / 2
        """Of one element: two of them make the cutoff, in versions that know this name and not the one before."""
        self._evaluate: ByTorch | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "interface": None, "_evaluate": None}

    def _load(self) -> Derived:
        with tempfile.TemporaryDirectory(prefix="ase_mlcalc-") as folder:
            path = Path(folder) / "model.safetensors"
            path.write_bytes(self.checkpoint)
            potential = load(path)
        if reason := reason_against(potential):
            raise ConfigError(f"this potential does not run in LAMMPS: {reason}")
        assert isinstance(potential, Derived)  # there would have been a reason
        return potential

    def compute_gradients(self, data: Any) -> None:
        """Nothing; LAMMPS calls it."""

    def compute_descriptors(self, data: Any) -> None:
        """Nothing; LAMMPS calls it."""

    def compute_forces(self, data: Any) -> None:
        """Energies of atoms and gradients of edges, in the arrays of LAMMPS.

        Raises
        ------
        ModelError
            The model passes messages, and this LAMMPS neither exchanges features nor gives edges of ghosts.
        """
        rij = torch.as_tensor(data.rij)
        evaluate = self._on(rij.device)
        model = evaluate.potential.model
        exchanges = hasattr(data, "forward_exchange")
        if model.depth > 1 and not exchanges and data.nlistatoms <= data.nlocal < data.ntotal:
            raise ModelError(
                f"model {model.name!r} passes messages {model.depth} times, and this LAMMPS exchanges no features; use "
                "a build with Kokkos, or `pair_style mliap unified FILE 1` with `comm_modify cutoff` of as many cutoffs"
            )
        numbers = torch.tensor(model.config.species, device=rij.device)[_indices(data.elems, rij)]
        centers, neighbors = _indices(data.pair_i, rij), _indices(data.pair_j, rij)
        near = torch.nonzero(rij.square().sum(dim=1) < self.cutoff**2)[:, 0]
        near = near[torch.argsort(centers[near], stable=True)]
        graph = Graph(
            numbers=numbers[: data.ntotal],
            positions=rij.new_zeros(data.ntotal, 3),
            cell=torch.eye(3, dtype=torch.float64, device=rij.device)[None],
            system=torch.zeros(data.ntotal, dtype=torch.int64, device=rij.device),
            centers=centers[near],
            neighbors=neighbors[near],
            vectors=rij[near].double(),
            halo=_Exchanged(data) if exchanges and model.depth > 1 else None,
        )
        energies, slopes = evaluate.slopes(graph, data.nlocal)
        g_pc = torch.zeros_like(rij, dtype=torch.float64).index_copy(0, near, slopes)
        data.energy = float(energies.sum())
        if hasattr(data, "update_pair_forces_gpu"):
            torch.as_tensor(data.eatoms)[: data.nlocal].copy_(energies)
            data.update_pair_forces_gpu(g_pc)
        else:
            data.update_pair_forces(g_pc.numpy())
            _set_energies(data, energies)

    def _on(self, device: torch.device) -> ByTorch:
        """The potential, read at the first call."""
        if self._evaluate is None or self._evaluate.potential.device != device:
            potential = self._load()
            self._evaluate = ByTorch(Derived(potential.model.to(device), potential.baseline))
        return self._evaluate


class _Exchanged:
    """A `ase_mlcalc.graph.Halo` by functions of LAMMPS, whose ghosts have a row each."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.n_owned: int = data.nlocal

    def exchange(self, x: Tensor, dim: int) -> Tensor:
        """See there."""
        exchanged: Tensor = _Exchange.apply(x, self.data, dim)
        return exchanged

    def fill(self, rows: Any) -> None:
        """See there; nobody asks for it."""
        raise NotImplementedError


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, data: Any, dim: int) -> Tensor:
        ctx.data, ctx.dim = data, dim
        return _by(data.forward_exchange, x, dim)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        returned = _by(ctx.data.reverse_exchange, slope, ctx.dim)
        returned.movedim(ctx.dim, 0)[ctx.data.nlocal :] = 0  # they have gone to their owners
        return returned, None, None


def _by(function: Any, x: Tensor, dim: int) -> Tensor:
    rows = x.detach().movedim(dim, 0).contiguous()
    flat = rows.reshape(rows.shape[0], int(np.prod(rows.shape[1:])))
    changed = flat.clone()
    function(flat, changed, flat.shape[1])
    return changed.view(rows.shape).movedim(0, dim)


def _indices(values: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(values, device=like.device).long()


def _set_energies(data: Any, energies: Tensor) -> None:
    """Of atoms, where LAMMPS has room for them: it has none in steps in which nobody asks."""
    values = np.zeros(data.nlistatoms)
    values[: data.nlocal] = energies.numpy()
    try:
        data.eatoms = values
    except ValueError:
        return


def _symbols(species: tuple[int, ...]) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[number] for number in species]


def write_unified(model: Path, out: Path) -> UnifiedPotential:
    """Write the pickle that ``pair_style mliap unified`` reads, from a checkpoint."""
    unified = UnifiedPotential(model.read_bytes())
    with atomic_path(out) as part:
        part.write_bytes(pickle.dumps(unified))
    return unified
