"""Runs of molecular dynamics side by side in one process: each is watched and recorded as if it were alone."""

import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import suppress

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import ConfigError, MLCalcError
from ase_mlcalc.md.engines import Engine
from ase_mlcalc.md.job import job_steps
from ase_mlcalc.md.result import RunResult
from ase_mlcalc.md.run import Stage
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.torchsim.moving import Kind, Moving, integrator

Running = Generator[Stage, None, list[RunResult]]


class _SharedClock:
    """Seconds that one run of several would have taken alone: each second is divided among those at work."""

    def __init__(self) -> None:
        self._now, self._last = 0.0, time.perf_counter()

    def __call__(self) -> float:
        return self._now

    def advance(self, n_runs: int) -> None:
        last, self._last = self._last, time.perf_counter()
        self._now += (self._last - last) / n_runs


def run_jobs(jobs: Sequence[MDJob], calculator: MLCalculator) -> list[list[RunResult] | Exception]:
    """Run jobs together, to what `ase_mlcalc.md.job.run_job` returns for each of them.

    The same call goes on with jobs that were killed.  Files of each run are those of a run by ASE, and so are its
    monitors and outcomes; ``wall_seconds`` is its share.

    Parameters
    ----------
    jobs : sequence of MDJob
        With constant energy, or Langevin dynamics; of any structures, temperatures and time steps.
    calculator : MLCalculator
        That all of them name.

    Returns
    -------
    list of (list of RunResult, or exception)
        For each job the results of its stages, or why it could not be made; the others go on.

    Raises
    ------
    ConfigError
        The potential gives no energy.
    KeyboardInterrupt
        After the outcomes of the interrupted runs are on disk.
    """
    clock = _SharedClock()
    engine = Engine("torchsim", integrator, clock, ("torch-sim-atomistic",))
    potential = calculator.potential
    if "energy" not in potential.properties:
        raise ConfigError(
            f'engine = "torchsim" needs a potential with energies, and this one predicts '
            f'{", ".join(sorted(potential.properties))}; use engine = "ase"'
        )

    def started(job: MDJob) -> Running:
        own = MLCalculator(potential, compile=False)  # what is compiled stays so; results are of each run alone
        return (yield from job_steps(job, calculator=own, progress=False, engine=engine))

    return _Together([started(job) for job in jobs], clock).run()


class _Together:
    """Runs that stop for each time step, and go on where there is something to look at."""

    def __init__(self, runs: Sequence[Running], clock: _SharedClock) -> None:
        self._runs, self._clock = runs, clock
        self._outcomes: list[list[RunResult] | Exception] = [[] for _ in runs]
        self._asking: dict[int, Stage] = {}
        """Runs that are at work, by their numbers, and the stage of each that needs a step."""
        self._groups: list[tuple[list[int], Moving]] = []

    def run(self) -> list[list[RunResult] | Exception]:
        """To the end of all."""
        try:
            for number in range(len(self._runs)):
                self._go_on(number)
            while self._asking:
                self._group()
                self._move()
        except KeyboardInterrupt:
            self._interrupt()
            raise
        return self._outcomes

    def _group(self) -> None:
        """Put runs together whose steps are of one kind, each where it is now."""
        for numbers, moving in self._groups:
            moving.leave([k for k, number in enumerate(numbers) if self._asking.get(number) is moving.stages[k]])
        by_kind: dict[Kind, list[int]] = {}
        for number, stage in self._asking.items():
            by_kind.setdefault(Kind.of(stage), []).append(number)
        self._groups = [(numbers, Moving([self._asking[number] for number in numbers])) for numbers in by_kind.values()]

    def _move(self) -> None:
        """Make steps until a run or a stage of one ends."""
        together = True
        while together:
            for numbers, moving in self._groups:
                for place in moving.step():
                    stage, number = moving.stages[place], numbers[place]
                    self._go_on(number, moving.show(place))
                    if self._asking.get(number) is stage:
                        moving.looked(place)
                    else:
                        together = False
            self._clock.advance(max(1, len(self._asking)))

    def _go_on(self, number: int, error: MLCalcError | None = None) -> None:
        """Let a run look at its step, or tell it what went wrong, until it needs another step or ends."""
        run = self._runs[number]
        self._asking.pop(number, None)
        try:
            self._asking[number] = next(run) if error is None else run.throw(error)
        except StopIteration as end:
            self._outcomes[number] = end.value
        except Exception as problem:  # noqa: BLE001  (the others are to go on)
            if not isinstance(problem, MLCalcError):
                traceback.print_exc()
            self._outcomes[number] = problem

    def _interrupt(self) -> None:
        for number in self._asking:
            with suppress(KeyboardInterrupt, MLCalcError):  # that it was interrupted, or could not say so
                self._runs[number].throw(KeyboardInterrupt())
