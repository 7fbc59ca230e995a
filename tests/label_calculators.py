"""Reference calculators that cost nothing and break in the ways that real ones break."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    BaseCalculator,
    CalculationFailed,
    Calculator,
    FileIOCalculator,
    PropertyNotImplementedError,
    all_changes,
)
from ase.calculators.mixing import SumCalculator

from ase_mlcalc.errors import ConfigError

SPRING = 3.0


def structures(n, *, periodic=True):
    """Two atoms each, all different; the first coordinate says which one it is."""
    found = []
    for k in range(n):
        atoms = Atoms("CO", positions=[[0.1 * k, 0.0, 0.0], [0.1 * k, 1.1, 0.2]], cell=[8, 9, 10], pbc=periodic)
        atoms.info["number"] = k
        found.append(atoms)
    return found


def number(atoms):
    """Which of `structures` it is."""
    return round(atoms.positions[0, 0] / 0.1)


class Springs(Calculator):
    """A harmonic well at the origin; `log` names a file that gets a line for each call.

    Lists of structures: `fails` do not converge, `nan` have NaN in a force, `crashes` end the process by a signal,
    `exits` by themselves, `hangs` never come back.
    """

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, spring=SPRING, log=None, seconds=0.0, fails=(), nan=(), crashes=(), exits=(), hangs=()):
        super().__init__()
        self.spring, self.log, self.seconds = spring, log, seconds
        self.fails, self.nan, self.crashes, self.exits, self.hangs = fails, nan, crashes, exits, hangs

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        k = number(self.atoms)
        if self.log is not None:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{k} {','.join(properties)} {os.environ['OMP_NUM_THREADS']}\n")
        time.sleep(self.seconds)
        if k in self.crashes:
            os.kill(os.getpid(), signal.SIGSEGV)
        if k in self.exits:
            os._exit(3)
        while k in self.hangs:
            time.sleep(0.1)
        if k in self.fails:
            raise CalculationFailed("SCF not converged\nin 250 cycles")
        forces = -self.spring * self.atoms.positions
        if k in self.nan:
            forces[0, 0] = np.nan
        energy = 0.5 * self.spring * float((self.atoms.positions**2).sum())
        self.results = {"energy": energy + 0.5, "free_energy": energy, "forces": forces}
        if self.atoms.pbc.any():
            self.results["stress"] = 0.01 * np.arange(6.0) * (k + 1)


class NoStress(Springs):
    """As some programs: has a stress in some of its modes, and this is none of them."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if "stress" in properties:
            raise PropertyNotImplementedError("no stress in this mode")
        super().calculate(atoms, properties, system_changes)


class Plain(BaseCalculator):
    """Only what the smallest interface of ASE has."""

    implemented_properties = ("energy",)

    def calculate(self, atoms, properties, system_changes):  # noqa: ARG002
        self.results = {"energy": 0.5 * SPRING * float((atoms.positions**2).sum())}


def twice():
    """A sum of two, which has no ``reset``."""
    return SumCalculator([Springs(), Springs()])


def wait_for_another(directory):
    """Until another process, which begins at its own time, has a folder beside this one; and long enough to be seen."""
    until = time.monotonic() + 60
    while len(list(Path(directory).resolve().parent.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.1)


class Files(FileIOCalculator):
    """Writes an input, and reads its results from where another program would write them."""

    implemented_properties = ("energy",)

    def __init__(self):
        super().__init__(command="true")

    def write_input(self, atoms, properties=None, system_changes=None):
        super().write_input(atoms, properties, system_changes)
        Path(self.directory, "input").write_text(str(number(atoms)), encoding="utf-8")
        wait_for_another(self.directory)

    def read_results(self):
        self.results = {"energy": float(Path(self.directory, "input").read_text(encoding="utf-8"))}


class Shell(Calculator):
    """Calls a program that works in its folder, and is of no class that says so, as Vasp."""

    implemented_properties = ("energy",)

    def calculate(self, atoms=None, properties=None, system_changes=None):
        super().calculate(atoms, properties, system_changes)
        Path(self.directory, "input").write_text(str(number(atoms)), encoding="utf-8")
        wait_for_another(self.directory)
        self.results = {"energy": float(Path(self.directory, "input").read_text(encoding="utf-8"))}


def refuse():
    """A factory that cannot make its calculator."""
    raise ConfigError("no parameters for this calculator")


def while_not(flag):
    """Springs that fail as long as a file is there."""
    return Springs(fails=range(100) if Path(flag).exists() else ())
