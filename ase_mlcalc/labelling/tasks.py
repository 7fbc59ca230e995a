"""What worker processes of a labelling do: make the calculator once, then calculate one structure after another.

Nothing here imports torch, so that processes start in a moment and are small.
"""

import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    BaseCalculator,
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)
from ase.calculators.genericfileio import GenericFileIOCalculator
from ase.io.jsonio import decode
from ase.stress import full_3x3_to_voigt_6_stress

from ase_mlcalc.errors import ConfigError, NumericalError, StructureError
from ase_mlcalc.foreign import forget, make_foreign

USUAL = ("energy", "forces", "stress")
"""What is asked of a calculator as far as it has it."""
OF_VOLUME = {"stress", "stresses"}


class Reference(NamedTuple):
    """A calculator, and what is asked of it."""

    calculator: str
    """Import path of a factory, or a checkpoint."""
    arguments: dict[str, Any] | None
    """Of the factory; ``None`` for a checkpoint."""
    properties: Sequence[str] | None
    """``None``: `USUAL`, as far as the calculator has them."""
    scratch: str
    """Folder for files of calculators that write some."""


_made: list[tuple[Reference, BaseCalculator]] = []
"""The calculator of this process and what it was made for, or nothing: a second one would keep its memory."""


def prepare(reference: dict[str, Any]) -> None:
    """Make the calculator, in a worker.

    Raises
    ------
    ConfigError, CheckpointError
        It cannot be made, or has not what is asked of it.
    """
    asked = Reference(**reference)
    wanted_properties(_calculator(asked), asked)


def calculate(reference: dict[str, Any], atoms: str) -> dict[str, Any]:
    """Calculate a structure, in a worker; energy (eV), forces (eV/Å) and so on as lists.

    Parameters
    ----------
    reference : dict
        A `Reference`.
    atoms : str
        As ``ase.io.jsonio`` has it.

    Raises
    ------
    StructureError
        No atoms, or coordinates that are not finite.
    NumericalError
        Results that are not finite.
    """
    asked = Reference(**reference)
    structure: Atoms = decode(atoms)
    if not len(structure) or not np.isfinite(structure.positions).all() or not np.isfinite(structure.cell.array).all():
        raise StructureError("no atoms, or positions or a cell that are not finite")
    calculator = _calculator(asked)
    wanted = wanted_properties(calculator, asked)
    if not (structure.pbc.any() and structure.cell.rank == 3):
        wanted = [name for name in wanted if name not in OF_VOLUME]
    try:
        results = _results(calculator, structure, wanted, may_lack_stress=asked.properties is None)
    except Exception:
        _made.clear()  # it may be left in any state
        raise
    finally:
        with suppress(OSError):  # it is not there, or has files in it
            _own_folder(asked).rmdir()
    return {name: _checked(name, value, len(structure)) for name, value in results.items()}


def wanted_properties(calculator: BaseCalculator, asked: Reference) -> list[str]:
    """What to ask of a calculator.

    Raises
    ------
    ConfigError
        Something that it does not have.
    """
    has = set(calculator.implemented_properties)
    if asked.properties is None:
        found = [name for name in USUAL if name in has]
    else:
        found = list(asked.properties)
        if lacks := [name for name in found if name not in has]:
            raise ConfigError(
                f"the calculator {asked.calculator} has no {', '.join(lacks)}; it has {', '.join(sorted(has))}"
            )
    if not found:
        raise ConfigError(f"the calculator {asked.calculator} has none of {', '.join(USUAL)}, nothing to label with")
    return found


def _results(
    calculator: BaseCalculator, atoms: Atoms, wanted: Sequence[str], *, may_lack_stress: bool
) -> dict[str, np.ndarray | float]:
    """All at once: a program that computes only what is asked for would start again for each property."""
    try:
        forget(calculator)  # no result of another structure may be left
        if isinstance(calculator, Calculator):
            calculator.calculate(atoms.copy(), list(wanted), all_changes)
        given = getattr(calculator, "results", {})
        results = {name: given[name] if name in given else calculator.get_property(name, atoms) for name in wanted}
    except PropertyNotImplementedError:
        # some calculators have a stress in some of their modes only
        if not may_lack_stress or "stress" not in wanted:
            raise
        return _results(calculator, atoms, [name for name in wanted if name != "stress"], may_lack_stress=False)
    if "energy" in wanted and (free := getattr(calculator, "results", {}).get("free_energy")) is not None:
        results["energy"] = free
    return results


def _checked(name: str, value: Any, n_atoms: int) -> Any:
    """A result as numbers that JSON can hold, in the shape that ASE's files have.

    Raises
    ------
    NumericalError
    """
    numbers = np.asarray(value, dtype=np.float64)
    if name in OF_VOLUME and numbers.shape[-2:] == (3, 3):
        numbers = full_3x3_to_voigt_6_stress(numbers)
    shape = {"energy": (), "energies": (n_atoms,), "forces": (n_atoms, 3), "stress": (6,), "stresses": (n_atoms, 6)}
    if numbers.shape != shape[name]:
        numbers = numbers.reshape(shape[name]) if numbers.size == np.prod(shape[name], dtype=int) else numbers
    if numbers.shape != shape[name]:
        raise NumericalError(f"the calculator gave {name} of shape {numbers.shape}, expected {shape[name]}")
    if not (finite := np.isfinite(numbers)).all():
        raise NumericalError(f"the calculator gave {name} that is NaN or infinite, {(~finite).sum()} of {finite.size}")
    return numbers.tolist()


def _calculator(asked: Reference) -> BaseCalculator:
    """Made when it is first asked for, after one failed, and after one for another reference."""
    if not _made or _made[0][0] != asked:
        _made[:] = [(asked, _make(asked))]
    return _made[0][1]


def _make(asked: Reference) -> BaseCalculator:
    if asked.arguments is None:
        from ase_mlcalc.calculator import MLCalculator  # other calculators do without torch

        return MLCalculator(asked.calculator)
    made = make_foreign(asked.calculator, asked.arguments, named=("calculator", "its arguments"))
    if isinstance(made, Calculator | GenericFileIOCalculator):
        # processes side by side, on several nodes perhaps, would write over each other's input files; Vasp and CP2K
        # are calculators that write some and do not say so by their class
        made.directory = _own_folder(asked)
    return made


def _own_folder(asked: Reference) -> Path:
    """For files of the calculator of this process."""
    return Path(asked.scratch) / f"{platform.node()}-{os.getpid()}"
