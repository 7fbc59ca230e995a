"""What labels were computed with, in words."""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase_mlcalc.errors import DataError


def level_of_theory(calculator: str, arguments: Mapping[str, Any]) -> str:
    """Method, further arguments and program with its version: ``GFN2-xTB (tblite 0.4.0)``.

    The method is the argument of this name if there is one, else the calculator.  The program is the package that the
    calculator is imported from; where that only calls another program, its version is not known here.

    Parameters
    ----------
    calculator : str
        ``package.module:Factory``, or the path of a checkpoint.
    arguments : mapping
        Of the factory.
    """
    if is_checkpoint(calculator):
        return f"{Path(calculator).name} {digest(calculator)} ({_program('ase_mlcalc')})"
    module, _, factory = calculator.partition(":")
    others = dict(arguments)
    method = others.pop("method") if isinstance(others.get("method"), str) else factory
    words = [str(method), *(f"{key}={value}" for key, value in others.items())]
    return f"{' '.join(words)} ({_program(module.split('.')[0])})"


def is_checkpoint(calculator: str) -> bool:
    """A path of a file, and not an import path."""
    return ":" not in calculator or Path(calculator).exists()


def digest(path: str | Path) -> str:
    """The beginning of the SHA-256 of a file.

    Raises
    ------
    DataError
        It cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise DataError(
            f"cannot read the checkpoint {path} ({error.strerror or error}); give one, or package.module:Factory"
        ) from error


def _program(package: str) -> str:
    """A package with the version of its distribution, which need not have its name."""
    for name in importlib.metadata.packages_distributions().get(package, [package]):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return package
