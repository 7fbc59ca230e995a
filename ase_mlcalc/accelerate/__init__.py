"""Faster evaluation of a trained potential: compiled code, and tables in place of functions of the distance."""

from ase_mlcalc.accelerate.aot import CannotCompileError
from ase_mlcalc.accelerate.cache import compiled, with_kernels
from ase_mlcalc.accelerate.package import (
    SUFFIX,
    Header,
    compile_model,
    definitions_of_labels,
    is_package,
    load,
    read_header,
)
from ase_mlcalc.accelerate.tables import DEFAULT_TOLERANCE, tabulate

__all__ = [
    "DEFAULT_TOLERANCE",
    "SUFFIX",
    "CannotCompileError",
    "Header",
    "compile_model",
    "compiled",
    "definitions_of_labels",
    "is_package",
    "load",
    "read_header",
    "tabulate",
    "with_kernels",
]
