"""NaN or Inf: nothing that follows from such numbers means anything."""

import math

import numpy as np
from ase import Atoms

from ase_mlcalc.md.monitors.base import Array, Finding, Monitor, Setting, Snapshot
from ase_mlcalc.md.monitors.bond_graph import label
from ase_mlcalc.md.monitors.config import FiniteConfig
from ase_mlcalc.md.outcome import Outcome


class Finite(Monitor):
    """NaN or Inf in positions, momenta, cell, forces or energies.

    ASE's integrators go on with such numbers and return as if nothing had happened.
    """

    name = "finite"
    outcome = Outcome.NAN

    def __init__(self, config: FiniteConfig, setting: Setting) -> None:  # noqa: ARG002
        super().__init__(config)

    def look(self, snapshot: Snapshot) -> Finding | None:
        """What is not a number."""
        return not_finite(snapshot)


def not_finite(snapshot: Snapshot) -> Finding | None:
    """The first quantity of a snapshot that holds NaN or Inf."""
    with np.errstate(invalid="ignore", over="ignore"):
        return _first_not_finite(snapshot, snapshot.atoms)


def _first_not_finite(snapshot: Snapshot, atoms: Atoms) -> Finding | None:
    for what, values in (
        ("positions", atoms.positions),
        ("momenta", atoms.arrays.get("momenta")),
        ("forces", snapshot.forces),
        ("the spread of forces", snapshot.forces_spread),
    ):
        # the sum of finite numbers of any reasonable size is finite: one pass, and no array of booleans
        if values is not None and not math.isfinite(np.add.reduce(values, axis=None)):
            found = _of_atoms(what, values, atoms)
            if found is not None:
                return found
    if not np.isfinite(np.asarray(atoms.cell)).all():
        return Finding(f"the cell is {np.asarray(atoms.cell).tolist()}")
    for what, value in (
        ("potential energy", snapshot.potential_eV),
        ("conserved energy", snapshot.conserved_eV),
        ("temperature", snapshot.temperature_K),
    ):
        if value is not None and not math.isfinite(value):
            return Finding(f"the {what} is {value}")
    return None


def _of_atoms(what: str, values: Array, atoms: Atoms) -> Finding | None:
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(atoms), -1)).all(axis=1))
    if len(bad) == 0:
        return None
    where = "all atoms" if len(bad) == len(atoms) else f"{len(bad)} of {len(atoms)} atoms"
    return Finding(f"{what} of {where} are NaN or Inf, first {label(atoms, int(bad[0]))}", atoms=tuple(bad.tolist()))
