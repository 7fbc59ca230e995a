"""Archives of molecular trajectories: MD17, rMD17 and sGDML data sets (``.npz``)."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ase_mlcalc.data.labels import AUTO, NONE, LabelKeys
from ase_mlcalc.errors import DataError

ENERGY_UNITS: dict[str, float] = {
    "kcal/mol": units.kcal / units.mol,
    "kj/mol": units.kJ / units.mol,
    "ev": 1.0,
    "mev": 1e-3,
    "ha": units.Hartree,
    "hartree": units.Hartree,
    "eh": units.Hartree,
    "ry": units.Rydberg,
}
LENGTH_UNITS: dict[str, float] = {
    "ang": 1.0,
    "angstrom": 1.0,
    "å": 1.0,
    "a": 1.0,
    "bohr": units.Bohr,
    "a0": units.Bohr,
    "nm": units.nm,
}
E_UNIT, R_UNIT = "kcal/mol", "Ang"
NUMBERS = ("nuclear_charges", "z")
POSITIONS = ("coords", "R")
ENERGY = ("energies", "E")
FORCES = ("forces", "F")


def read_npz(path: Path, keys: LabelKeys) -> tuple[list[Atoms], LabelKeys]:
    """Structures of an MD17, rMD17 or sGDML archive with their labels in eV and Å, and the keys of these labels.

    Arrays are ``z``/``nuclear_charges`` (N,), ``R``/``coords`` (n, N, 3), ``E``/``energies`` (n,) or (n, 1) and
    ``F``/``forces`` (n, N, 3).  Units are those that the archive names in ``e_unit`` and ``r_unit`` (sGDML), and
    otherwise kcal/mol and Å, as in MD17 and rMD17.  ``keys.energy`` and ``keys.forces`` choose other arrays.

    Raises
    ------
    DataError
        Not an archive, arrays missing or of the wrong shape, unknown units, or pickled contents (never loaded).
    """
    archive = _load(path)
    if _text(archive.get("type")) == "m":
        raise DataError(f"{path} is a fitted sGDML model, not a data set; give the data set it was made from")
    numbers = _required(archive, NUMBERS, path)
    positions = np.asarray(_required(archive, POSITIONS, path), dtype=np.float64)
    energy_eV = _unit(archive, "e_unit", E_UNIT, ENERGY_UNITS, path)
    length_A = _unit(archive, "r_unit", R_UNIT, LENGTH_UNITS, path)
    if positions.ndim == 2:
        positions = positions[None]
    n = len(positions)
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise DataError(f"{path}: coordinates have shape {positions.shape}; expected (structures, atoms, 3)")
    numbers = np.broadcast_to(numbers, positions.shape[:2]) if numbers.ndim == 1 else numbers
    if numbers.shape != positions.shape[:2]:
        raise DataError(f"{path}: atomic numbers have shape {numbers.shape}, coordinates {positions.shape}")
    energy = _label(archive, keys.energy, ENERGY, (n,), path)
    forces = _label(archive, keys.forces, FORCES, positions.shape, path)
    cell = np.asarray(archive["lattice"]).T * length_A if "lattice" in archive else None  # sGDML: columns
    theory = _text(archive.get("theory"))
    e_unit, r_unit = _text(archive.get("e_unit")) or E_UNIT, _text(archive.get("r_unit")) or R_UNIT
    energy_key = f"{energy[0]} ({e_unit})" if energy else NONE
    forces_key = f"{forces[0]} ({e_unit}/{r_unit})" if forces else NONE
    structures = []
    for k in range(n):
        atoms = Atoms(numbers[k].astype(int), positions[k] * length_A, cell=cell, pbc=cell is not None)
        if energy:
            atoms.info[energy_key] = float(energy[1][k]) * energy_eV
        if forces:
            atoms.set_array(forces_key, forces[1][k] * (energy_eV / length_A), float, (3,))
        if theory:
            atoms.info["level_of_theory"] = theory
        structures.append(atoms)
    return structures, LabelKeys(energy=energy_key, forces=forces_key)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # opened here, because numpy leaves a broken archive open
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path} holds a single array; expected an archive with z, R, E, F")
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path} as an npz archive of plain arrays: {error}") from error


def _required(archive: Mapping[str, NDArray[Any]], names: tuple[str, ...], path: Path) -> NDArray[Any]:
    for name in names:
        if name in archive:
            return archive[name]
    raise DataError(f"{path}: no array {' or '.join(names)}; it holds {', '.join(archive) or 'nothing'}")


def _label(
    archive: Mapping[str, NDArray[Any]], setting: str, names: tuple[str, ...], shape: tuple[int, ...], path: Path
) -> tuple[str, NDArray[np.float64]] | None:
    """The name of the array that holds a label, and the label."""
    if setting == NONE:
        return None
    if setting != AUTO:
        names = (setting,)
    name = next((name for name in names if name in archive), None)
    if name is None and setting == AUTO:
        return None
    if name is None:
        raise DataError(f"{path}: no array {setting}; it holds {', '.join(archive)}")
    value = np.asarray(archive[name], dtype=np.float64)
    if value.size != np.prod(shape):
        raise DataError(f"{path}: array {name} has shape {value.shape}; expected {shape}")
    return name, value.reshape(shape)


def _unit(archive: Mapping[str, NDArray[Any]], key: str, default: str, known: Mapping[str, float], path: Path) -> float:
    name = _text(archive.get(key)) or default
    if name.lower() not in known:
        raise DataError(f"{path}: {key} is {name!r}; known are {', '.join(known)}")
    return known[name.lower()]


def _text(value: NDArray[Any] | None) -> str:
    if value is None:
        return ""
    item = value.item() if value.size == 1 else ""
    return item.decode() if isinstance(item, bytes) else str(item)
