"""Answers requests about the models of one program, in the environment of that program.

Run as ``python -P worker.py PROGRAM``.  Requests and answers are lines of JSON on standard input and output::

    {"do": "calls", "count": 20}
    {"seconds": [0.0021, 0.0020, ...]}

What goes wrong is answered as ``{"error": "..."}``.  When standard input ends, the process ends with all that it
started, so that nothing trains on after a benchmark that was killed.

Each ``with_PROGRAM.py`` has the same functions: ``versions``, ``train``, ``calculator`` and ``time_model``.
"""

import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.verlet import VelocityVerlet

TIMESTEP_FS = 0.5
TEMPERATURE_K = 300.0
ENERGY_EVERY = 50
"""Steps of dynamics between looks at the energy, as a log takes them."""
EPISODE_STEPS = 200
"""Dynamics then starts again from the same structure, before models that know no chemistry lead it far away."""
WARM_UP = 2
"""Untimed calls at the start of a turn of several: memory and caches belonged to other processes."""


class Session:
    """One calculator, one structure, and what is asked about them."""

    def __init__(self, program: ModuleType) -> None:
        self.program = program
        self.make: Callable[[], Calculator] = Calculator
        self.device = "cpu"
        self.base_MB = 0.0
        self.calculator: Calculator | None = None
        self.model_seconds: Callable[[], float] = lambda: float("nan")
        self.start = Atoms()
        self.moved = Atoms()
        self.rng = np.random.default_rng(0)
        self.dynamics: VelocityVerlet | None = None
        self.steps_done = 0

    def versions(self) -> dict[str, Any]:
        """Of the program and what it computes with."""
        found = {"python": sys.version.split()[0], "ase": ase.__version__}
        if "torch" in sys.modules:
            found["torch"] = sys.modules["torch"].__version__
        return {**found, **self.program.versions()}

    def train(self, **job: Any) -> dict[str, Any]:
        """Train a network with the program's own tools; see ``train`` of the programs."""
        return self.program.train(self._job(job))

    def compiled(self, *, trained: str, **job: Any) -> dict[str, Any]:
        """Compile a trained network ahead of time, where the program has a tool for that."""
        return self.program.compiled(self._job(job), Path(trained))

    @staticmethod
    def _job(asked: dict[str, Any]) -> Any:
        from peers.job import Job

        return Job(**{**asked, "data": Path(asked["data"]), "out": Path(asked["out"])})

    def open(self, *, network: str, run: dict[str, Any], device: str, threads: int) -> dict[str, Any]:
        """Take a network that was trained before."""
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        self.make = lambda: self.program.calculator(Path(network), run, device)
        self.device = device
        self.base_MB = self.base_MB or _peak_MB()
        return {}

    def structure(self, *, file: str) -> dict[str, Any]:
        """Take a structure, with a new calculator, and make the first calls, which may compile."""
        self.start = ase.io.read(file)
        self.calculator = self.make()
        self.model_seconds = self.program.time_model(self.calculator, self.device)
        self.moved = self.start.copy()
        self.moved.calc = self.calculator
        self.rng = np.random.default_rng(0)
        self.dynamics = None
        seconds = [self._call() for _ in range(WARM_UP)]
        return {"first_s": seconds[0], "next_s": seconds[-1]}

    def calls(self, *, count: int, properties: tuple[str, ...] = ("forces",)) -> dict[str, Any]:
        """Wall time of calls for these properties, each at new positions."""
        for _ in range(min(count - 1, WARM_UP)):
            self._call(properties)
        return {"seconds": [self._call(properties) for _ in range(count)]}

    def _call(self, properties: tuple[str, ...] = ("forces",)) -> float:
        self.moved.positions = self.start.positions + self.rng.normal(scale=1e-3, size=self.start.positions.shape)
        begin = time.perf_counter()
        for name in properties:
            _ASK[name](self.moved)
        return time.perf_counter() - begin

    def steps(self, *, count: int) -> dict[str, Any]:
        """Wall time of steps of molecular dynamics, and the part of it that the model took."""
        if self.dynamics is None or self.steps_done + count > EPISODE_STEPS:
            self._begin_dynamics()
        assert self.dynamics is not None
        self.dynamics.atoms.get_forces()  # calls at other positions were between: not to be paid by the first step
        for _ in range(min(count - 1, WARM_UP)):
            self._step()
        before = self.model_seconds()
        begin = time.perf_counter()
        for _ in range(count):
            self._step()
        return {
            "seconds": time.perf_counter() - begin,
            "model_seconds": self.model_seconds() - before,
            "temperature_K": float(self.dynamics.atoms.get_temperature()),
        }

    def _begin_dynamics(self) -> None:
        atoms = self.start.copy()
        spread = np.sqrt(units.kB * TEMPERATURE_K * atoms.get_masses())[:, None]
        momenta = spread * np.random.default_rng(0).normal(size=(len(atoms), 3))
        atoms.set_momenta(momenta - momenta.mean(axis=0))
        atoms.calc = self.calculator
        atoms.get_forces()
        self.dynamics = VelocityVerlet(atoms, timestep=TIMESTEP_FS * units.fs)
        self.steps_done = 0

    def _step(self) -> None:
        assert self.dynamics is not None
        self.dynamics.step()
        self.steps_done += 1
        if self.steps_done % ENERGY_EVERY == 0:
            self.dynamics.atoms.get_potential_energy()

    def errors(self, *, file: str) -> dict[str, Any]:
        """Errors of forces and energies on labelled structures, through the ASE calculator."""
        calculator = self.make()
        forces, energies = [], []
        for labelled in ase.io.iread(file):
            atoms = labelled.copy()
            atoms.calc = calculator
            forces.append(atoms.get_forces() - labelled.get_forces())
            energies.append((atoms.get_potential_energy() - labelled.get_potential_energy()) / len(atoms))
        error = np.concatenate(forces)
        return {
            "structures": len(forces),
            "force_mae_meV_per_A": 1e3 * float(np.abs(error).mean()),
            "force_rmse_meV_per_A": 1e3 * float(np.sqrt((error**2).mean())),
            "energy_mae_meV_per_atom": 1e3 * float(np.abs(energies).mean()),
        }

    def peak(self) -> dict[str, Any]:
        """Most memory that was held since the first network."""
        return {"MB": _peak_MB() - self.base_MB}


def _peak_MB() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


_ASK: dict[str, Callable[[Atoms], Any]] = {
    "forces": Atoms.get_forces,
    "stress": Atoms.get_stress,
    "stresses": Atoms.get_stresses,
}


def main() -> None:
    """Answer until standard input ends."""
    sys.path.append(str(Path(__file__).parents[1]))  # last, so that nothing of the program is hidden
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the program prints goes to the log
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    session: Session | None = None
    while True:
        request = requests.get()
        try:
            if session is None:
                session = Session(importlib.import_module(f"peers.with_{sys.argv[1]}"))
            answer = getattr(session, request.pop("do"))(**request)
        except Exception as error:  # noqa: BLE001 (whatever a program raises is its answer)
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
            traceback.print_exc()
        print(json.dumps(answer), file=answers, flush=True)


def _read(requests: "queue.Queue[dict[str, Any]]") -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    os.killpg(0, signal.SIGKILL)  # this process leads its group


if __name__ == "__main__":
    main()
