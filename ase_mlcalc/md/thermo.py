"""Thermodynamic rows of a run: what is measured at a time step, and the file `thermo.csv`."""

import csv
import math
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from numpy.typing import NDArray

from ase_mlcalc.errors import DataError, NumericalError
from ase_mlcalc.foreign import potential_energy
from ase_mlcalc.graph import has_volume
from ase_mlcalc.md.velocities import temperature_K

THERMO_FILE = "thermo.csv"


class ThermoRow(NamedTuple):
    """State of a run at one time; ``None`` where the calculator or the structure gives no such quantity."""

    step: int
    time_ps: float
    temperature_K: float | None
    """From the kinetic energy and the degrees of freedom of the ensemble."""
    potential_eV: float | None
    kinetic_eV: float
    total_eV: float | None
    conserved_eV: float | None
    """What the equations of motion conserve: the total energy in nve; with a thermostat also what it exchanged."""
    volume_A3: float | None
    """Of the cell; ``None`` without three independent vectors."""
    pressure_GPa: float | None
    """-tr(stress)/3 plus the kinetic part 2K/(3V); fully periodic structures only."""
    max_force_eV_per_A: float


COLUMNS = ("stage", *ThermoRow._fields)
Series = dict[str, NDArray[np.float64]]


def measure(
    atoms: Atoms, step: int, timestep_fs: float, n_degrees: int, conserved_eV: float | None = None
) -> ThermoRow:
    """Thermodynamic quantities of the present state, from results that the calculator has at hand.

    Raises
    ------
    NumericalError
        The potential energy or the stress is NaN or Inf.
    """
    kinetic = float(atoms.get_kinetic_energy())
    potential = quantity(atoms, "energy")
    return ThermoRow(
        step=step,
        time_ps=step * timestep_fs / 1000.0,
        temperature_K=temperature_K(kinetic, n_degrees),
        potential_eV=None if potential is None else float(potential),
        kinetic_eV=kinetic,
        total_eV=None if potential is None else float(potential) + kinetic,
        conserved_eV=conserved_eV,
        volume_A3=float(atoms.get_volume()) if has_volume(atoms) else None,
        pressure_GPa=_pressure_GPa(atoms, kinetic),
        max_force_eV_per_A=float(np.linalg.norm(atoms.get_forces(), axis=1).max()),
    )


def quantity(atoms: Atoms, name: str) -> Any:
    """A property from the calculator of a structure, or ``None`` if the calculator does not provide it.

    The energy is the one that forces are derivatives of: the free energy, where there is one.

    Raises
    ------
    NumericalError
        It is NaN or Inf.
    """
    if name not in atoms.calc.implemented_properties:
        return None
    try:
        energy = name == "energy"
        value = potential_energy(atoms, apply_constraint=False) if energy else atoms.calc.get_property(name, atoms)
    except PropertyNotImplementedError:
        return None
    if not np.isfinite(value).all():
        raise NumericalError(f"the calculator gave NaN or Inf for {name}")
    return value


def _pressure_GPa(atoms: Atoms, kinetic_eV: float) -> float | None:
    if not (atoms.pbc.all() and has_volume(atoms)):
        return None
    stress = quantity(atoms, "stress")
    if stress is None:
        return None
    kinetic_part = 2.0 * kinetic_eV / (3.0 * atoms.get_volume())
    return float((kinetic_part - np.mean(stress[:3])) / units.GPa)


class ThermoFile:
    """Appends rows of one stage to a thermo file; each row is on disk when `write` returns."""

    def __init__(self, path: Path, stage: str) -> None:
        self._stage = stage
        self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115
        self._csv = csv.writer(self._file)
        if self._file.tell() == 0:
            self._csv.writerow(COLUMNS)
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: ThermoRow) -> None:
        """Append a row with all digits: energy drift is measured on them."""
        self._csv.writerow([self._stage, *row])
        self._file.flush()


def read_thermo(path: Path) -> dict[str, Series]:
    """Stages of a thermo file in order, each as columns; NaN where a cell is empty.

    A last row that a kill cut short is left out.

    Raises
    ------
    DataError
        No such file, or not a thermo file.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError as error:
        raise DataError(f"no {THERMO_FILE} at {path}; give the folder that a run was written to") from error
    complete = text[: text.rfind("\n") + 1]
    header, *rows = list(csv.reader(complete.splitlines())) or [[]]
    if tuple(header) != COLUMNS:
        raise DataError(f"{path} is not a thermo file: columns {','.join(header)!r}, expected {','.join(COLUMNS)!r}")
    stages: dict[str, list[list[float]]] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(COLUMNS):
            raise DataError(f"{path}, line {number}: {len(row)} cells, expected {len(COLUMNS)}; remove the line")
        stages.setdefault(row[0], []).append([float(cell) if cell else math.nan for cell in row[1:]])
    return {
        stage: dict(zip(ThermoRow._fields, np.array(values, dtype=float).T, strict=True))
        for stage, values in stages.items()
    }
