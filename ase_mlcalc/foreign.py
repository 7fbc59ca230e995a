"""Calculators and models of the user, or of other packages."""

import importlib
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, PropertyNotImplementedError

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


def forget(calculator: BaseCalculator) -> None:
    """Take away all results of a calculator, and whatever it keeps of earlier structures, such as neighbour lists.

    Several of ASE's calculators have no ``reset`` of their own: sums and mixtures of calculators, `DFTD3`, and those
    that start programs.  What they are made of is reset in its turn.
    """
    if hasattr(calculator, "reset"):
        calculator.reset()
        return
    calculator.atoms, calculator.results = None, {}
    parts = [*vars(calculator).values(), *getattr(getattr(calculator, "mixer", None), "calcs", ())]
    for part in parts:
        if isinstance(part, BaseCalculator):
            forget(part)


def potential_energy(atoms: Atoms, *, apply_constraint: bool = True) -> float:
    """eV, the energy whose derivatives the forces are; constraints that are springs have a share in both if applied.

    Calculators with smeared electrons call it ``free_energy``, and their ``energy`` is extrapolated to no smearing.
    """
    if "free_energy" in atoms.calc.implemented_properties:
        with suppress(PropertyNotImplementedError):  # declared, and not there in some modes
            return float(atoms.get_potential_energy(force_consistent=True, apply_constraint=apply_constraint))
    return float(atoms.get_potential_energy(apply_constraint=apply_constraint))


def import_named(module: str) -> ModuleType:
    """A module that the user has named: installed, or a file of the working directory."""
    here = str(Path.cwd())
    if here not in sys.path:  # the command ase-mlcalc is started without it; last, so that it hides nothing
        sys.path.append(here)
    return importlib.import_module(module)
