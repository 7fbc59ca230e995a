"""Engines: ways to make code of a potential, and to load it again.

An engine has a name, which files carry; says which potentials it is for; makes bytes of one; and loads them.  The first
engine of the list that takes a potential is the one that is used.
"""

import platform
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ase_mlcalc.accelerate import aot, native
from ase_mlcalc.accelerate.inputs import checked_inputs
from ase_mlcalc.errors import SpeciesError
from ase_mlcalc.graph import Graph, Halo
from ase_mlcalc.model import Model
from ase_mlcalc.native.build import processor
from ase_mlcalc.potential import Baseline, Derived
from ase_mlcalc.properties import Properties

Evaluate = Callable[[Graph], Properties]


class Engine(Protocol):
    """See the module's text."""

    name: str
    uses_tables: bool
    """Whether tables of functions of the distance go into its code."""

    def reason_against(self, potential: Derived) -> str:
        """Why there is no code of a potential; "" if there is."""

    def make(self, potential: Derived, *, several_threads: bool) -> tuple[bytes, tuple[str, ...]]:
        """Code, and the names of its results in their order."""

    def reason_not_here(self, torch_version: str, made_for: str) -> str:
        """Why code does not run here, from the PyTorch and the processor that it was made with; "" if it does."""

    def load(self, payload: bytes, outputs: tuple[str, ...], potential: Derived) -> Evaluate:
        """Code, ready to be called.

        Raises
        ------
        RuntimeError, OSError, MLCalcError
            Code that cannot be loaded.
        """


class Kernel:
    """The kernel for `equivariant` behind the checks that it does not make itself; can be copied and pickled."""

    def __init__(self, model: Model, baseline: Baseline) -> None:
        self._parts = model, baseline
        self._known = np.zeros(119, dtype=bool)
        self._known[list(model.config.species)] = True
        self._evaluate = native.NativeEquivariant(model, baseline)  # type: ignore[arg-type]  # it asks itself

    def __call__(self, graph: Graph) -> Properties:
        """Energies, forces and stresses; a graph has to be on the CPU, and without gauge."""
        checked_inputs(graph)
        if not self._known[graph.numbers.numpy()].all():
            raise SpeciesError("the structure has elements that the model does not know")
        return self._evaluate(graph)

    def of_structure(self, numbers: NDArray[np.int64], edges: Sequence[NDArray[Any]], volume: float) -> dict[str, Any]:
        """See `native.NativeEquivariant.of_structure`."""
        return self._evaluate.of_structure(numbers, edges, volume)

    def of_share(
        self, numbers: NDArray[np.int64], edges: Sequence[NDArray[Any]], halo: Halo
    ) -> tuple[NDArray[np.float64], ...]:
        """See `native.NativeEquivariant.of_share`."""
        return self._evaluate.of_share(numbers, edges, halo)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # nothing in it changes

    def __reduce__(self) -> tuple[Any, ...]:
        return Kernel, self._parts


class _Native:
    """The kernel of this package, which is compiled in seconds where it is loaded, so that files hold no code."""

    name = "native"
    uses_tables = False

    def reason_against(self, potential: Derived) -> str:
        return native.reason_against(potential.model) or ""

    def make(self, potential: Derived, *, several_threads: bool) -> tuple[bytes, tuple[str, ...]]:  # noqa: ARG002
        Kernel(potential.model, potential.baseline)  # says now what would be wrong later
        return b"", ("energy", "energies", "forces", "stress", "stresses")

    def reason_not_here(self, torch_version: str, made_for: str) -> str:  # noqa: ARG002
        return ""

    def load(self, payload: bytes, outputs: tuple[str, ...], potential: Derived) -> Evaluate:  # noqa: ARG002
        return Kernel(potential.model, potential.baseline)


class _AOTInductor:
    """PyTorch's compiler, for nearly all models."""

    name = "aotinductor"
    uses_tables = True

    def reason_against(self, potential: Derived) -> str:
        return aot.reason_against(potential)

    def make(self, potential: Derived, *, several_threads: bool) -> tuple[bytes, tuple[str, ...]]:
        return aot.make(potential, several_threads=several_threads)

    def reason_not_here(self, torch_version: str, made_for: str) -> str:
        if torch_version != torch.__version__:
            return f"made with PyTorch {torch_version}, and this is {torch.__version__}"
        wanted, have = made_for.split(), processor().split()
        if wanted[:2] != have[:2]:
            return f"for {' '.join(wanted[:2])}, and this is {platform.system()} {platform.machine()}"
        if missing := sorted(set(wanted) - set(have)):
            return f"for a processor with {', '.join(missing[:3])}, which this one lacks"
        return ""

    def load(self, payload: bytes, outputs: tuple[str, ...], potential: Derived) -> Evaluate:  # noqa: ARG002
        return aot.Code(payload, outputs)


ENGINES: dict[str, Engine] = {engine.name: engine for engine in (_Native(), _AOTInductor())}


def engine_for(potential: Derived) -> Engine:
    """The engine that makes code of a potential.

    Raises
    ------
    CannotCompileError
        None does.
    """
    reason = ""
    for engine in ENGINES.values():
        reason = engine.reason_against(potential)
        if not reason:
            return engine
    raise aot.CannotCompileError(f"model {potential.model.name!r} is not compiled: {reason}; use the checkpoint itself")
