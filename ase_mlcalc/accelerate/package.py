"""One ``.compiled`` file for a potential: machine code, the checkpoint that it was made of, and a JSON header.

It is a zip of three entries, uncompressed.  Code is for the machine and the PyTorch that it was made with; where it
does not fit, the checkpoint in the file is evaluated instead.  Nothing is unpickled, but code is code: use files of
people that you trust.
"""

import copy
import json
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from ase_mlcalc import checkpoint
from ase_mlcalc.accelerate.engines import ENGINES, engine_for
from ase_mlcalc.accelerate.tables import DEFAULT_TOLERANCE, tabulate
from ase_mlcalc.accelerate.verify import check_code
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import CheckpointError, ConfigError, MLCalcError
from ase_mlcalc.files import atomic_path
from ase_mlcalc.model import Tabulable
from ase_mlcalc.native.build import processor
from ase_mlcalc.potential import Derived

SUFFIX = ".compiled"
FORMAT_VERSION = 1
HEADER, CHECKPOINT, CODE = "header.json", "model.safetensors", "code"


class Header(BaseModel):
    """What the header says: where the code runs, and what it is of."""

    model_config = ConfigDict(extra="forbid")

    format_version: int
    package_version: str
    engine: str
    torch: str
    processor: str
    """System, architecture and all that the processor can do."""
    fingerprint: str
    """Of the checkpoint; see `checkpoint.fingerprint`."""
    model: str
    dtype: str
    several_threads: bool
    outputs: tuple[str, ...]
    """Names of the results, in the order of the code."""
    cutoff: float
    species: tuple[int, ...]
    tables: float | None
    """Tolerance of the tables in place of functions of the distance; ``None``: none."""
    force_error: float
    """Largest deviation of a force from the model in float64, as measured, relative to the largest force."""


def compile_model(
    source: Derived | Path | str,
    out: Path | str | None = None,
    *,
    dtype: torch.dtype | None = None,
    tolerance: float | None = DEFAULT_TOLERANCE,
    several_threads: bool = False,
) -> Header:
    """Write a potential as a ``.compiled`` file, which `MLCalculator` and all commands take in place of a checkpoint.

    It takes about a minute and a C++ compiler; loading takes neither.

    Parameters
    ----------
    source : path or Derived
        A checkpoint, or a model with its baseline.
    out : path, optional
        Default: that of the checkpoint with the suffix ``.compiled``.
    dtype : torch.dtype, optional
        Precision of the model; default: as stored.
    tolerance : float, optional
        Functions of the distance become tables where the model has such; slopes are off by less than this, relatively.
        ``None``: no tables.
    several_threads : bool
        For large systems on several cores; slower on one.  Otherwise matrix products alone use several threads.

    Raises
    ------
    CannotCompileError, NoCompilerError
        Not for this model, or not here.
    ConfigError
        An ensemble; no place to write to.
    """
    if out is None:
        if isinstance(source, Derived):
            raise ConfigError("compile_model needs a file to write where it is given a potential; give out")
        out = Path(source).with_suffix(SUFFIX)
    potential = source if isinstance(source, Derived) else checkpoint.load(source)
    if not isinstance(potential, Derived):
        raise ConfigError(
            "an ensemble is not one file of code; MLCalculator(..., compile=True), or compile = true in a job, "
            "compiles each of its members"
        )
    potential = in_precision(potential, dtype)
    engine = engine_for(potential)
    fast, tables = with_tables(potential, tolerance if engine.uses_tables else None)
    payload, outputs = engine.make(fast, several_threads=several_threads)
    code = engine.load(payload, outputs, fast)
    header = Header(
        format_version=FORMAT_VERSION,
        package_version=checkpoint.package_version(),
        engine=engine.name,
        torch=torch.__version__,
        processor=processor(),
        fingerprint=checkpoint.fingerprint(potential),
        model=potential.model.name,
        dtype=str(potential.dtype).removeprefix("torch."),
        several_threads=several_threads,
        outputs=outputs,
        cutoff=potential.cutoff,
        species=potential.species,
        tables=tables,
        force_error=check_code(code, potential, tables),
    )
    _write(Path(out), header, potential, payload)
    return header


def in_precision(potential: Derived, dtype: torch.dtype | None) -> Derived:
    """The same potential, or a copy in that precision."""
    if dtype in (None, potential.dtype):
        return potential
    return Derived(copy.deepcopy(potential.model).to(dtype), potential.baseline)


def with_tables(potential: Derived, tolerance: float | None) -> tuple[Derived, float | None]:
    """With tables where the model has functions to replace, and their tolerance; otherwise the potential itself."""
    if tolerance is None or not isinstance(potential.model, Tabulable):
        return potential, None
    return Derived(tabulate(potential.model, tolerance), potential.baseline), tolerance


def _write(path: Path, header: Header, potential: Derived, payload: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="ase_mlcalc-") as folder:
        weights = Path(folder) / CHECKPOINT
        checkpoint.save(potential, weights)
        with atomic_path(path) as part, zipfile.ZipFile(part, "w") as archive:
            archive.writestr(HEADER, header.model_dump_json(indent=2))
            archive.write(weights, CHECKPOINT)
            archive.writestr(CODE, payload)


def is_package(path: Path | str) -> bool:
    """Whether a file is one of code: a zip with a header."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return HEADER in archive.namelist()


def definitions_of_labels(path: Path | str) -> list[str]:
    """How the per-atom stress that a model predicts itself is defined; see `checkpoint.definitions_of_labels`."""
    return [] if is_package(path) else checkpoint.definitions_of_labels(path)  # such models are not compiled


def load(path: Path | str) -> Derived | Ensemble:
    """Read a potential: a checkpoint, or a ``.compiled`` file.

    Where code does not fit this machine, the potential is that of the checkpoint in the file, and a warning says so.
    Another is for corrections to a calculator, which are no potential of their own.

    Raises
    ------
    CheckpointError
        See `checkpoint.load`; also a damaged ``.compiled`` file.
    """
    path = Path(path)
    if not (path.suffix == SUFFIX or (path.is_file() and is_package(path))):
        _warn_of_correction(path)
        return checkpoint.load(path)
    potential, reason = open_package(path)
    if reason:
        warnings.warn(
            f"the code in {path} is {reason}; the model in the file is evaluated without it, which is slower: "
            "`ase-mlcalc compile` makes code for this machine",
            stacklevel=2,
        )
    return potential


def _warn_of_correction(path: Path) -> None:
    if below := checkpoint.calculator_below(path):
        warnings.warn(
            f"{path} holds what was learned on top of the calculator {below} and is no potential alone; "
            "ase_mlcalc.training.delta.corrected(path) makes a calculator of both (commands: --calculator "
            "ase_mlcalc.training.delta:corrected --argument path=...)",
            stacklevel=3,
        )


def open_package(path: Path) -> tuple[Derived, str]:
    """The potential in a ``.compiled`` file, and why it is without code, or "" if it is with it.

    Raises
    ------
    CheckpointError
        As `load`.
    """
    header, potential, payload = _read(path)
    engine = ENGINES.get(header.engine)
    if engine is None:
        return potential, f"for the engine {header.engine!r}, which this version does not have"
    if reason := engine.reason_not_here(header.torch, header.processor):
        return potential, reason
    try:
        code = engine.load(payload, header.outputs, potential)
    except (RuntimeError, OSError, MLCalcError) as error:
        return potential, f"not to be loaded: {' '.join(str(error).split())[:200]}"
    return Derived(potential.model, potential.baseline, compiled=code), ""


def read_header(path: Path | str) -> Header:
    """The header of a ``.compiled`` file.

    Raises
    ------
    CheckpointError
        No such file, or another.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _header(path, archive)
    except OSError as error:
        raise CheckpointError(f"no compiled potential at {path}; `ase-mlcalc compile` writes one") from error
    except zipfile.BadZipFile as error:
        raise CheckpointError(_damaged(path, error)) from error


def _read(path: Path) -> tuple[Header, Derived, bytes]:
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="ase_mlcalc-") as folder:
            header = _header(path, archive)
            weights = Path(folder) / CHECKPOINT
            weights.write_bytes(archive.read(CHECKPOINT))  # reading checks sums
            potential = checkpoint.load(weights)
            payload = archive.read(CODE)
    except FileNotFoundError as error:
        raise CheckpointError(f"no compiled potential at {path}; `ase-mlcalc compile` writes one") from error
    except (zipfile.BadZipFile, KeyError, OSError, EOFError) as error:
        raise CheckpointError(_damaged(path, error)) from error
    if not isinstance(potential, Derived) or checkpoint.fingerprint(potential) != header.fingerprint:
        raise CheckpointError(f"{path}: the code is not of the checkpoint beside it; compile the checkpoint again")
    return header, potential, payload


def _header(path: Path | str, archive: zipfile.ZipFile) -> Header:
    try:
        raw: dict[str, Any] = json.loads(archive.read(HEADER))
        written_in = int(raw["format_version"])
        if written_in > FORMAT_VERSION:
            raise CheckpointError(
                f"{path} has format {written_in}, this version reads up to {FORMAT_VERSION}: upgrade ase-mlcalc"
            )
        return Header.model_validate(raw)
    except (ValidationError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(_damaged(path, error)) from error


def _damaged(path: Path | str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return f"{path} is damaged, or no compiled potential ({reason}); copy it again or compile its checkpoint again"
