"""Calculators and models of the user, or of other packages, by import path."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ase.calculators.calculator import Calculator

from ase_mlcalc.errors import ConfigError


def make_foreign(path: str, arguments: Mapping[str, Any], *, named: tuple[str, str]) -> Calculator:
    """Any calculator from the import path of its factory; errors use the names that path and arguments were given by.

    Raises
    ------
    ConfigError
        Nothing to import there; arguments that it does not take.
    """
    module_name, separator, factory_name = path.partition(":")
    if not separator:
        raise ConfigError(f"{named[0]} reads package.module:Factory, got {path!r}")
    try:
        factory = getattr(import_named(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{named[0]} = {path!r} cannot be imported: {error}") from error
    try:
        made: Calculator = factory(**arguments)
    except TypeError as error:
        raise ConfigError(f"{named[0]} = {path!r} does not take {named[1]}: {error}") from error
    return made


def import_named(module: str) -> ModuleType:
    """A module that the user has named: installed, or a file of the working directory."""
    here = str(Path.cwd())
    if here not in sys.path:  # the command ase-mlcalc is started without it; last, so that it hides nothing
        sys.path.append(here)
    return importlib.import_module(module)
