"""Code that was compiled at first use, kept for the next: in the user's folder for caches, one file for each potential.

Processes that want the same code wait for the one that compiles it.
"""

import hashlib
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import overload

import torch

from ase_mlcalc import checkpoint
from ase_mlcalc.accelerate import native
from ase_mlcalc.accelerate.aot import CannotCompileError
from ase_mlcalc.accelerate.engines import Kernel, engine_for
from ase_mlcalc.accelerate.package import FORMAT_VERSION, SUFFIX, compile_model, open_package
from ase_mlcalc.accelerate.sums import SumOfParts
from ase_mlcalc.accelerate.tables import DEFAULT_TOLERANCE
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import CheckpointError, MLCalcError
from ase_mlcalc.models.sum import Sum
from ase_mlcalc.native.build import NoCompilerError, cache_folder, processor, told_while_compiling
from ase_mlcalc.potential import Derived, Potential
from ase_mlcalc.sums import parts_of

SEVERAL_THREADS = 4
"""From so many on, code that leaves their number open is faster than code for one."""


def compiled(potential: Potential) -> Potential:
    """The same potential with compiled code, from the cache or for the cache; each member of an ensemble.

    With one warning, potentials that cannot be compiled here are returned as they are.
    """
    if isinstance(potential, Ensemble):
        return Ensemble([compiled(member) for member in potential.members], potential.uncertainty_scale)
    if isinstance(potential, Derived) and potential.compiled is not None:
        return potential
    try:
        if not isinstance(potential, Derived):
            raise CannotCompileError(f"a {type(potential).__name__} shows no model to compile")
        engine = engine_for(potential)
        return _from_cache(potential, engine.name)
    except (MLCalcError, OSError) as error:  # the cache may be where nothing can be written
        warnings.warn(f"{error}; going on without compiled code", stacklevel=2)
        return potential


@overload
def with_kernels(potential: Derived | Ensemble) -> Derived | Ensemble: ...
@overload
def with_kernels(potential: Potential) -> Potential: ...
def with_kernels(potential: Potential) -> Potential:
    """The same potential, evaluated by a kernel of this package where there is one for it and a compiler is here.

    A kernel is compiled in seconds, which a terminal is told, and fits all models with these sizes of layers; nothing
    is said where it is not used.
    """
    if isinstance(potential, Ensemble):
        return Ensemble([with_kernels(member) for member in potential.members], potential.uncertainty_scale)
    if not isinstance(potential, Derived) or potential.compiled is not None:
        return potential
    if isinstance(potential.model, Sum):
        parts = [with_kernels(part) for part in parts_of(potential)]
        some = any(isinstance(part, Derived) and part.compiled is not None for part in parts)
        return Derived(potential.model, potential.baseline, compiled=SumOfParts(parts)) if some else potential
    if native.reason_against(potential.model) is not None:
        return potential
    try:
        with told_while_compiling(_on_terminal if sys.stderr.isatty() else None):
            return Derived(potential.model, potential.baseline, compiled=Kernel(potential.model, potential.baseline))
    except NoCompilerError:
        return potential


def _on_terminal(message: str) -> None:
    print(message, file=sys.stderr)


def _from_cache(potential: Derived, engine: str) -> Derived:
    path = _path(potential, engine)
    if path.exists() and (found := _loaded(path)) is not None:
        return found
    with _one_at_a_time(path.with_suffix(".lock")):
        if path.exists() and (found := _loaded(path)) is not None:  # another process was faster
            return found
        if sys.stderr.isatty():
            _on_terminal(f"compiling {potential.model.name} for this machine, which takes a minute once")
        compile_model(potential, path, several_threads=_several_threads())
        found = _loaded(path)
        if found is None:
            raise CheckpointError(f"what was compiled to {path} cannot be read again; is the disk full?")
        return found


def _loaded(path: Path) -> Derived | None:
    """With code; ``None``, and the file is gone, if it is of no use."""
    try:
        found, reason = open_package(path)
    except CheckpointError as error:
        reason = str(error)
    if not reason:
        return found
    path.unlink(missing_ok=True)
    return None


def _path(potential: Derived, engine: str) -> Path:
    """Named by all that code depends on."""
    key = [
        engine,
        checkpoint.fingerprint(potential),
        str(potential.dtype),
        torch.__version__,
        processor(),
        checkpoint.package_version(),
        FORMAT_VERSION,
        DEFAULT_TOLERANCE,
        _several_threads(),
    ]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
    return cache_folder() / "compiled" / f"{potential.model.name}-{digest}{SUFFIX}"


def _several_threads() -> bool:
    return torch.get_num_threads() >= SEVERAL_THREADS


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Wait for whoever holds the lock; the system frees that of a killed process."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # not a POSIX system: what is written twice is the same
        yield
        return
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
