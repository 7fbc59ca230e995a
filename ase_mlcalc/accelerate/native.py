"""The model `equivariant` by the kernel ``native/equivariant.cpp``: some ten times the speed of torch on a processor.

The kernel holds the model a second time, energies and their gradient written out by hand.  The torch model stays the
reference: it is what is trained, what other definitions of per-atom stress are computed with, and what the tests
compare with.
"""

import ctypes
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_mlcalc.accelerate.couplings import couplings_header
from ase_mlcalc.errors import ModelError
from ase_mlcalc.graph import SMALLEST_VOLUME_A3, Graph, Halo
from ase_mlcalc.model import Model
from ase_mlcalc.models.equivariant import Equivariant
from ase_mlcalc.native.build import library
from ase_mlcalc.neighbors import cell_volume
from ase_mlcalc.nn.equivariant import AtomBlock
from ase_mlcalc.nn.radial import radial_weights
from ase_mlcalc.potential import Baseline, isolated_energies
from ase_mlcalc.properties import FROM_VOIGT, Properties

VECTOR_BYTES = (64, 32, 16)
"""Widths of vectors that the kernel knows, from the widest; channels have to be whole vectors."""
C_TYPES = {torch.float32: "float", torch.float64: "double"}
C_NUMBERS: dict[torch.dtype, Any] = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}
NUMBERS: list[Any] = [ctypes.c_int, ctypes.c_int, *[ctypes.c_double] * 3, ctypes.c_void_p]
"""Types of `sizes_and_scales` and the weights behind them."""
EXCHANGE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
"""Of rows and their width; 0 if it worked."""
EXCHANGE_FAILED = 2
STRUCTURE: list[Any] = [ctypes.c_int64, ctypes.c_int64, *[ctypes.c_void_p] * 4]
"""Types of numbers of atoms and edges, species, and `edges_of`."""
ATOMS_PER_THREAD = 4
"""A thread with fewer atoms takes longer to wake than it saves."""


def reason_against(model: Model) -> str | None:
    """Why the kernel cannot evaluate a model, or ``None`` if it can."""
    if type(model) is not Equivariant:
        return f"the kernel is for the model {Equivariant.name!r}, not {model.name!r}"
    if model.device.type != "cpu":
        return f"the kernel runs on the CPU, the model is on {model.device}"
    if _vector_bytes(model) is None:
        smallest = VECTOR_BYTES[-1] // model.dtype.itemsize
        return f"features and edge_features must be multiples of {smallest} for the kernel"
    return None


def evaluation_library(model: Equivariant) -> ctypes.CDLL:
    """``equivariant.cpp`` for models with these sizes of layers, ready to be called."""
    lib = kernel("equivariant.cpp", model)
    pointer = ctypes.c_void_p
    lib.equivariant_create.argtypes = NUMBERS
    lib.equivariant_create.restype = pointer
    lib.equivariant_destroy.argtypes = [pointer]
    lib.equivariant_destroy.restype = None
    lib.equivariant_evaluate.argtypes = [
        pointer,
        *[ctypes.c_int64] * 3,
        *[pointer] * 4,
        ctypes.c_int,
        EXCHANGE,
        *[pointer] * 4,
    ]
    lib.equivariant_evaluate.restype = ctypes.c_int
    return lib


class Evaluation:
    """The weights of a model in the kernel's memory, which one thread of Python uses at a time."""

    def __init__(self, lib: ctypes.CDLL, model: Equivariant) -> None:
        self._lib, self._lock, self._real = lib, threading.Lock(), C_NUMBERS[model.dtype]
        weights = flat_weights(model)
        self._handle = lib.equivariant_create(*sizes_and_scales(model), weights.ctypes.data)
        if not self._handle:
            raise MemoryError("the weights of the model do not fit into memory")

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._lib.equivariant_destroy(self._handle)

    def __call__(
        self,
        species: NDArray[np.int64],
        edges: Sequence[NDArray[Any]],
        *,
        with_slopes: bool = False,
        halo: Halo | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
        """Energies (N,), forces (N, 3), virials (N, 6) and, if asked for, gradients of edges (E, 3).

        In the unit of the model; `species` are rows of elements, and may go on behind the atoms that the `edges` (see
        `edges_of`) belong to with atoms that have none.  With a halo, energies are those of the atoms of this process,
        and what its edges bring to atoms of others is in the rows of these.
        """
        n, n_edges = len(species), len(edges[0])
        n_centers = n if halo is None else halo.n_owned
        energies, forces, virials = np.empty(n_centers), np.empty((n, 3)), np.empty((n, 6))
        failures: list[BaseException] = []
        slopes = np.empty((n_edges, 3)) if with_slopes else None
        with self._lock:
            status = self._lib.equivariant_evaluate(
                self._handle,
                n,
                n_edges,
                n_centers,
                species.ctypes.data,
                *[array.ctypes.data for array in edges],
                threads_for(n_centers),
                EXCHANGE() if halo is None else self._exchange(halo, n, failures),
                energies.ctypes.data,
                None if slopes is None else slopes.ctypes.data,
                forces.ctypes.data,
                virials.ctypes.data,
            )
        if failures:
            raise failures[0]
        if status != 0:
            raise MemoryError(f"{n} atoms with {n_edges} edges do not fit into memory")
        return energies, forces, virials, slopes

    def _exchange(self, halo: Halo, n_atoms: int, failures: list[BaseException]) -> Any:
        """What the kernel calls between its passes; no exception goes through C++."""

        def exchange(address: int | None, width: int) -> int:
            try:
                numbers = (self._real * (n_atoms * width)).from_address(address or 0)
                halo.fill(np.frombuffer(numbers, dtype=self._real).reshape(n_atoms, width))
            except BaseException as error:  # noqa: BLE001  (raised again behind the kernel)
                failures.append(error)
                return EXCHANGE_FAILED
            return 0

        return EXCHANGE(exchange)


class NativeEquivariant:
    """Energies, forces, stress and per-atom stress of an `Equivariant`, as `potential.derive` gives them.

    Takes as many threads as torch has (`torch.set_num_threads`), but no more than the structure is worth.

    Parameters
    ----------
    model : Equivariant
        On the CPU; its numbers are copied.
    baseline : Baseline

    Raises
    ------
    ModelError
        The kernel does not fit the model, see `reason_against`.
    NoCompilerError
        The kernel is not in the cache and cannot be compiled.
    """

    def __init__(self, model: Equivariant, baseline: Baseline) -> None:
        why = reason_against(model)
        if why is not None:
            raise ModelError(why)
        self._evaluate = Evaluation(evaluation_library(model), model)
        with torch.no_grad():
            isolated = isolated_energies(model).double().numpy()
        self._scale = baseline.energy_scale
        self._row = rows_of_species(model)
        self._isolated = isolated
        self._reference = np.array([baseline.species_energy.get(z, 0.0) for z in model.config.species])

    def __call__(self, graph: Graph) -> Properties:
        """All structures of a graph whose edges have their twins, as those of `graph.from_atoms` do."""
        own, reference, forces, virials = self.of_share(graph.numbers.numpy(), edges_of(graph))
        volumes = np.array([cell_volume(cell) for cell in graph.cell.numpy()])
        volumes[volumes <= SMALLEST_VOLUME_A3] = np.nan
        system = graph.system.numpy()
        total = np.stack([np.bincount(system, column, len(volumes)) for column in virials.T], axis=1)
        return Properties(
            energy=torch.from_numpy(sum(np.bincount(system, part, len(volumes)) for part in (own, reference))),
            energies=torch.from_numpy(own + reference),
            forces=torch.from_numpy(forces),
            stress=_full(total / volumes[:, None]),
            stresses=_full(virials / volumes[system][:, None]),
        )

    def of_structure(self, numbers: NDArray[np.int64], edges: Sequence[NDArray[Any]], volume: float) -> dict[str, Any]:
        """Results for one structure under ASE's names, stress in Voigt order and left out without a volume (Å³)."""
        own, reference, forces, virials = self.of_share(numbers, edges)
        results = {"energy": float(own.sum() + reference.sum()), "energies": own + reference, "forces": forces}
        if volume > SMALLEST_VOLUME_A3:
            stresses = virials / volume
            results |= {"stress": stresses.sum(axis=0), "stresses": stresses}
        return results

    def of_share(
        self, numbers: NDArray[np.int64], edges: Sequence[NDArray[Any]], halo: Halo | None = None
    ) -> tuple[NDArray[np.float64], ...]:
        """Energies (N,) above references, these (N,), both eV, forces (N, 3) eV/Å and virials (N, 6) eV.

        With a halo of the atoms that are here; see `Evaluation`.
        """
        species = self._row[numbers]
        energies, forces, virials, _ = self._evaluate(species, edges, halo=halo)
        species = species[: len(energies)]
        forces *= self._scale
        virials *= self._scale
        # small and large numbers apart: their sums keep more digits
        return (energies - self._isolated[species]) * self._scale, self._reference[species], forces, virials


def kernel(source: str, model: Equivariant) -> ctypes.CDLL:
    """A kernel for models with these sizes of layers."""
    c = model.config
    macros = {
        "REAL": C_TYPES[model.dtype],
        "L_MAX": c.l_max,
        "N_RADIAL": c.n_radial,
        "FEATURES": c.features,
        "EDGE_FEATURES": c.edge_features,
        "VECTOR_BYTES": _vector_bytes(model),
    }
    weights = ", ".join(repr(weight) for weight in radial_weights(c.n_radial, c.radial_decay).tolist())
    of_radial = f"constexpr double RADIAL_WEIGHTS[N_RADIAL] = {{{weights}}};\n"
    return library(source, macros, {"couplings.h": couplings_header(c.l_max), "radial.h": of_radial})


def sizes_and_scales(model: Equivariant) -> tuple[int, int, float, float, float]:
    """What kernels take beside the weights."""
    c = model.config
    return len(c.species), c.n_interactions, c.cutoff, model.density.scale, c.mean_neighbors**-0.5


def rows_of_species(model: Equivariant) -> NDArray[np.int64]:
    """(119,) row of each atomic number, -1 for elements that the model does not know."""
    rows = np.full(119, -1, dtype=np.int64)
    rows[list(model.config.species)] = np.arange(len(model.config.species))
    return rows


def flat_weights(model: Equivariant) -> NDArray[Any]:
    """All weights in the order in which kernels read them."""
    return torch.cat([weight.detach().flatten() for weight in weights_in_order(model)]).numpy()


def _vector_bytes(model: Equivariant) -> int | None:
    """The widest vectors that the processor has and that channels are whole numbers of."""
    widest = 64 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 32
    for n_bytes in VECTOR_BYTES:
        lanes = n_bytes // model.dtype.itemsize
        channels = (model.config.features, model.config.edge_features)
        if n_bytes <= widest and not any(c % lanes for c in channels):
            return n_bytes
    return None


def weights_in_order(model: Equivariant) -> Iterator[Tensor]:
    """Parameters in the order in which kernels read them."""
    yield from (model.density.mix.weight, model.density.embedding.weight, model.density.gain.weight)
    yield from _of_block(model.first)
    for interaction in model.interactions:
        layer: Any = interaction
        yield from (layer.down.weight, layer.radial_weights.weight, layer.up.weight)
        yield from _of_block(layer.atoms)
    hidden, _, out = model.readout
    for linear in (hidden, out):
        yield from (linear.weight, linear.bias)  # type: ignore[misc]


def threads_for(n_atoms: int) -> int:
    """As many as torch has, but no more than the atoms are worth."""
    return max(1, min(torch.get_num_threads(), n_atoms // ATOMS_PER_THREAD))


def _of_block(block: AtomBlock) -> Iterator[Tensor]:
    yield block.factors.weight
    yield from block.product.weights
    for linear in (block.hidden, block.gates):
        yield from (linear.weight, linear.bias)


def edges_of(graph: Graph) -> list[NDArray[Any]]:
    """Centres, neighbours and vectors, rows one after the other in memory."""
    return [np.ascontiguousarray(each.detach().numpy()) for each in (graph.centers, graph.neighbors, graph.vectors)]


def _full(voigt: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(voigt.take(FROM_VOIGT, axis=1).reshape(-1, 3, 3))
