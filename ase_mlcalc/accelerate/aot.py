"""The engine AOTInductor: a potential, with all that follows from its gradient, as machine code of its own.

`potential.derive` is traced once, forward and backward pass together, with open numbers of atoms, edges and structures;
PyTorch turns the trace into C++ and a compiler into a library.  Tracing sees sizes of examples; these are chosen all
different, so that none is mistaken for another or for the width of a layer.

Code for one thread adds messages up without atomic operations, which is several times faster on one thread than code
that leaves the number of threads open.
"""

import copy
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ase_mlcalc.accelerate.inputs import checked_inputs
from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.graph import Graph, collate, from_atoms
from ase_mlcalc.model import MoleculeConfig
from ase_mlcalc.native.build import find_compiler
from ase_mlcalc.potential import Derived, derive, isolated_energies
from ase_mlcalc.properties import SPECS, Properties

CLOSE = 0.45
"""Distance of neighbours in examples, in cutoffs."""
_AT_WORK = threading.Lock()


class CannotCompileError(MLCalcError):
    """A potential that has no compiled code, or a machine that cannot make any."""


class Code:
    """Compiled code of a potential: takes a graph, gives its properties.

    Parameters
    ----------
    payload : bytes
        What `make` made.
    outputs : sequence of str
        Names of the results, in their order.
    """

    def __init__(self, payload: bytes, outputs: tuple[str, ...]) -> None:
        self._payload, self._outputs = payload, outputs
        with tempfile.TemporaryDirectory(prefix="ase_mlcalc-") as folder:
            path = Path(folder) / "code.pt2"
            path.write_bytes(payload)
            # the loader in C++, which knows libraries and no pickles; it keeps its own copy while it lives
            self._run = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1).run  # noqa: SLF001

    def __call__(self, graph: Graph) -> Properties:
        """Energies, forces and stresses; a graph has to be on the CPU, and without gauge."""
        return Properties(**dict(zip(self._outputs, self._run(checked_inputs(graph)), strict=True)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # nothing in it changes

    def __reduce__(self) -> tuple[Any, ...]:
        return Code, (self._payload, self._outputs)


def reason_against(potential: Derived) -> str:
    """Why this engine makes no code of a potential; "" if it does."""
    model = potential.model
    if not model.outputs & {"energies", "energy", "edge_forces"}:
        return "it predicts neither an energy nor forces of pairs"
    if isinstance(model.config, MoleculeConfig):
        return "it is made for one molecule"
    if potential.reads != {"vectors"}:
        return f"it reads {', '.join(sorted(potential.reads - {'vectors'}))}"
    if potential.device.type != "cpu":
        return f"it is on {potential.device}, and code is for the CPU"
    return ""


def make(potential: Derived, *, several_threads: bool) -> tuple[bytes, tuple[str, ...]]:
    """Compile a potential for this machine.

    Parameters
    ----------
    potential : Derived
        One that there is no `reason_against`.
    several_threads : bool
        Leave the number of threads open; otherwise everything but matrix products runs on one.

    Returns
    -------
    payload : bytes
    outputs : tuple of str
        What `Code` takes.

    Raises
    ------
    CannotCompileError
        PyTorch cannot do it.
    NoCompilerError
        There is no compiler.
    """
    find_compiler()  # tracing takes its time, and may go on without one
    example = example_graph(potential.species, potential.cutoff)
    try:
        with _AT_WORK, _quiet_and_private():
            module, outputs = _traced(potential, example)
            exported = _exported(module, example)
            return _built(exported, several_threads), outputs
    except MLCalcError:
        raise
    except Exception as error:  # PyTorch raises anything
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CannotCompileError(
            f"PyTorch cannot compile model {potential.model.name!r} ({type(error).__name__}: {reason.strip()[:200]}); "
            "use the checkpoint itself"
        ) from error


def example_graph(species: tuple[int, ...], cutoff: float) -> Graph:
    """Three structures for tracing, which no energy has to be sensible for; all sizes are different and odd ones."""
    return collate([from_atoms(atoms, cutoff) for atoms in example_structures(species, cutoff)])


def example_structures(species: tuple[int, ...], cutoff: float) -> list[Atoms]:
    """A cluster of 23 atoms, a slab of 11 and a crystal of 13, rattled, of all elements."""
    noise = np.random.default_rng(6)
    spacing = CLOSE * cutoff
    structures = []
    for n_atoms, pbc in ((23, (False,) * 3), (11, (True, True, False)), (13, (True,) * 3)):
        places = np.array(list(np.ndindex(3, 3, 3)))[:n_atoms] * spacing
        positions = places + noise.uniform(-0.1, 0.1, (n_atoms, 3)) * spacing
        numbers = [species[k % len(species)] for k in range(n_atoms)]
        structures.append(Atoms(numbers, positions, cell=np.diag([3.0, 3.1, 3.2]) * spacing, pbc=pbc))
    return structures


def _traced(potential: Derived, example: Graph) -> tuple[torch.fx.GraphModule, tuple[str, ...]]:
    """All of `derive` as one list of operations."""
    from torch.fx.experimental import _config as fx_config
    from torch.fx.experimental.proxy_tensor import make_fx

    model = copy.deepcopy(potential.model)  # caches of constants must not keep what tracing leaves
    isolated = None
    if "energies" in model.outputs:
        isolated = isolated_energies(model, "cpu").detach()
    outputs: list[str] = []

    def evaluate(*inputs: Tensor) -> tuple[Tensor, ...]:
        numbers, cell, system, centers, neighbors, vectors = inputs
        graph = Graph(
            numbers=numbers,
            positions=vectors.new_zeros(numbers.shape[0], 3),  # no model with energies looks at these
            cell=cell,
            system=system,
            centers=centers,
            neighbors=neighbors,
            shifts=torch.zeros_like(vectors),
            vectors=vectors,
        )
        properties = derive(model, graph, potential.baseline, isolated=isolated)
        outputs[:] = [name for name in SPECS if getattr(properties, name) is not None]
        return tuple(getattr(properties, name) for name in outputs)

    with fx_config.patch(use_duck_shape=False):  # type: ignore[attr-defined]  # sizes that happen to be equal stay different sizes
        module = make_fx(
            evaluate,
            tracing_mode="symbolic",
            _allow_non_fake_inputs=True,  # weights
            decomposition_table={torch.ops.aten._linalg_det.default: _determinant},  # noqa: SLF001
        )(*checked_inputs(example))
    for node in module.graph.nodes:
        if node.target is torch.ops.aten.view.default:  # the second trace may choose other strides
            node.target = torch.ops.aten.reshape.default
    module.graph.eliminate_dead_code()
    module.recompile()
    return module, tuple(outputs)


def _determinant(cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of (B, 3, 3), in place of a call into LAPACK; factors and pivots, which come with it, are not used."""
    volume_b = (torch.linalg.cross(cell[:, 0], cell[:, 1], dim=1) * cell[:, 2]).sum(dim=1)
    return volume_b, cell, cell.new_zeros(cell.shape[0], 3, dtype=torch.int32)


def _exported(module: torch.fx.GraphModule, example: Graph) -> torch.export.ExportedProgram:
    from torch.fx.experimental import _config as fx_config

    atoms, edges, structures = (torch.export.Dim(name, min=2) for name in ("atoms", "edges", "structures"))
    open_sizes = ({0: atoms}, {0: structures}, {0: atoms}, {0: edges}, {0: edges}, {0: edges})
    with fx_config.patch(use_duck_shape=False):  # type: ignore[attr-defined]
        return torch.export.export(module, tuple(checked_inputs(example)), dynamic_shapes=open_sizes)


def _built(exported: torch.export.ExportedProgram, several_threads: bool) -> bytes:
    from torch._inductor import aoti_compile_and_package

    settings: dict[str, Any] = {
        "aot_inductor.compile_wrapper_opt_level": "O0",  # it calls kernels and takes the longest to compile
        "cpp_cache_precompile_headers": False,  # which pay from the third model on, and stay in the folder for /tmp
        "compile_threads": 1,
        "cpp.threads": -1 if several_threads else 1,
        "cpp.dynamic_threads": several_threads,
    }
    with tempfile.TemporaryDirectory(prefix="ase_mlcalc-") as folder:
        made = aoti_compile_and_package(
            exported, package_path=str(Path(folder) / "code.pt2"), inductor_configs=settings
        )
        return Path(made).read_bytes()


@contextmanager
def _quiet_and_private() -> Iterator[None]:
    """PyTorch's warnings about itself are not for users; its files go where they are removed again."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ase_mlcalc-"))
        stack.enter_context(_variable("TORCHINDUCTOR_CACHE_DIR", folder))
        stack.enter_context(_compiling())
        yield


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextmanager
def _compiling() -> Iterator[None]:
    """Layers that work in blocks do not where `torch.compiler.is_compiling`; tracing alone does not say so."""
    before = torch.compiler._is_compiling_flag  # noqa: SLF001
    torch.compiler._is_compiling_flag = True  # noqa: SLF001
    try:
        yield
    finally:
        torch.compiler._is_compiling_flag = before  # noqa: SLF001
