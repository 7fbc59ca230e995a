"""What can be said about a structure without any label: contacts, isolation, identity."""

import hashlib
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ase_mlcalc.graph import has_volume
from ase_mlcalc.neighbors import find_pairs

ISOLATED_ANGSTROM = 8.0
"""A single atom whose periodic images are at least this far away counts as isolated."""

SEARCH_ANGSTROM = 1.5

G_PER_CM3 = 1e27 / units.kg
"""One u/Å³ in g/cm³; `units.kg` is a kilogram in u."""


class Contact(NamedTuple):
    """The closest pair of atoms of a structure."""

    distance: float
    """Å."""
    first: int
    second: int


def closest_contact(atoms: Atoms, within: float) -> Contact | None:
    """The closest pair of atoms, periodic images included, if it is nearer than `within` Å.

    Raises
    ------
    StructureError
        No atoms, or positions or cell that have no neighbour list.
    """
    cell = atoms.cell.array
    # the cell list gets slow, and warns, where its bins are much smaller than the distances between atoms
    pairs = find_pairs(atoms.positions, cell, atoms.pbc, max(within, SEARCH_ANGSTROM))
    if len(pairs.centers) == 0:
        return None
    distance = np.linalg.norm(pairs.vectors(atoms.positions, cell), axis=1)
    k = int(distance.argmin())
    if distance[k] >= within:
        return None
    return Contact(float(distance[k]), int(pairs.centers[k]), int(pairs.neighbors[k]))


def is_isolated_atom(atoms: Atoms) -> bool:
    """One atom with nothing near: no periodic direction, or images at least `ISOLATED_ANGSTROM` away.

    One whose ``config_type`` is ``IsolatedAtom``, as files for MACE say it, is taken at its word.
    """
    if len(atoms) != 1:
        return False
    if atoms.info.get("config_type") == "IsolatedAtom":
        return True
    return not atoms.pbc.any() or closest_contact(atoms, ISOLATED_ANGSTROM) is None


def volume(atoms: Atoms) -> float:
    """Å³; NaN where the cell has no volume."""
    return float(atoms.get_volume()) if has_volume(atoms) else float("nan")


def kinetic_part(atoms: Atoms) -> NDArray[np.float64]:
    """(N, 3, 3) eV/Å³, the kinetic part -m v v / V of the stress of each atom; NaN without momenta or volume."""
    if not atoms.has("momenta"):
        return np.full((len(atoms), 3, 3), np.nan)
    momenta = atoms.get_momenta()
    return -np.einsum("n,na,nb->nab", 1 / atoms.get_masses(), momenta, momenta) / volume(atoms)


def fingerprint(atoms: Atoms) -> str:
    """Equal for structures with the same atoms in the same order at the same places, to 1e-5 Å."""
    digest = hashlib.sha256(atoms.numbers.astype(np.int64).tobytes())
    digest.update(atoms.pbc.tobytes())
    for lengths in (atoms.cell.array, atoms.positions):
        digest.update((np.round(lengths, 5) + 0.0).tobytes())  # + 0.0 turns -0.0 into 0.0
    return digest.hexdigest()
