"""Calculators for studies that cost microseconds, and that break in ways that potentials break."""

import os
import signal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ase_mlcalc.errors import ConfigError

SPRING = 20.0
LENGTH = 1.2


def chain(n=3):
    """Atoms in a zigzag, each bond at rest."""
    angles = np.radians(120.0) * np.arange(n - 1) % np.pi / 2.0
    steps = LENGTH * np.stack([np.cos(angles), np.sin(angles), 0.0 * angles], axis=1)
    return Atoms(["C"] * n, positions=np.vstack([np.zeros(3), np.cumsum(steps, axis=0)]))


class Chain(Calculator):
    """Harmonic springs (eV/Å²) between atoms that follow one another.

    `breaks_at_A` makes forces NaN where a bond is longer, as beyond what a potential was trained on; `noise` adds
    forces that are the derivative of nothing; `log` names a file that gets a letter for each evaluation.
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, spring=SPRING, breaks_at_A=np.inf, noise=0.0, log=None):
        super().__init__()
        self.spring, self.breaks_at_A, self.noise, self.log = spring, breaks_at_A, noise, log
        self.parameters = {"spring": spring, "breaks_at_A": str(breaks_at_A), "noise": noise}

    def check_state(self, atoms, tol=0.0):  # noqa: ARG002
        """Only positions change here; ASE's own comparison takes longer than the forces."""
        same = self.atoms is not None and np.array_equal(self.atoms.positions, atoms.positions)
        return [] if same else ["positions"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.log is not None:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(".")
        bonds = np.diff(self.atoms.positions, axis=0)
        lengths = np.linalg.norm(bonds, axis=1)
        pull = self.spring * (lengths - LENGTH)
        along = (pull / lengths)[:, None] * bonds
        forces = np.zeros((len(self.atoms), 3))
        forces[:-1] += along
        forces[1:] -= along
        if lengths.max() > self.breaks_at_A:
            forces[:] = np.nan
        forces += self.noise * np.sin(1e6 * self.atoms.positions)
        self.results = {"energy": 0.5 * self.spring * float(((lengths - LENGTH) ** 2).sum()), "forces": forces}


class Crash(Chain):
    """Takes its process with it where a bond is long."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if np.isnan(self.results["forces"]).any():
            os.kill(os.getpid(), signal.SIGSEGV)


def refuse():
    """A factory that cannot make its calculator."""
    raise ConfigError("no parameters for this calculator")
