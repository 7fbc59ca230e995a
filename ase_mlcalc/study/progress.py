"""What is seen of a study while it goes on: a bar with the time left on a terminal, else a line per run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rich.progress import TaskProgressColumn, TimeElapsedColumn

from ase_mlcalc.bars import TimeLeft, bar_on_terminal
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.md.thermo import THERMO_FILE
from ase_mlcalc.study.plan import PlannedRun
from ase_mlcalc.study.summary import RunSummary

_TAIL = 4096
"""Bytes at the end of a thermo file that surely hold a whole row."""


class StudyProgress:
    """Shows a study; use it as a context manager.

    Parameters
    ----------
    runs : sequence of PlannedRun
        All of them.
    over : set of int
        Positions of those that were made by an earlier command.
    folder : path
        Of the study.
    shown : bool
    """

    def __init__(self, runs: Sequence[PlannedRun], over: set[int], folder: Path, *, shown: bool) -> None:
        self._runs, self._folder, self._shown = runs, folder, shown
        self._over = set(over)
        self._total = sum(run.steps for run in runs)
        self._steps = [run.steps if k in over else steps_done(run, folder) for k, run in enumerate(runs)]
        self._at_start = sum(self._steps)
        self._time_left = TimeLeft()
        self._ended = {"stable": 0, "failed": 0, "error": 0}
        self._bar = bar_on_terminal(TaskProgressColumn(), TimeElapsedColumn(), shown=shown)
        if self._bar is not None:
            self._task = self._bar.add_task("study", total=self._total, completed=self._at_start, state="")
        elif shown and over:
            print(f"{len(over)} of {len(runs)} runs were made before and are kept", flush=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tick(self, at_work: set[int]) -> None:
        """Show how far the runs are that are at work, by their positions."""
        done = self._done_steps(at_work)
        left = self._left(done)
        if self._bar is not None:
            counts = ", ".join(f"{count} {status}" for status, count in self._ended.items() if count)
            state = f"{len(self._over)}/{len(self._runs)} runs  {counts}  {left}"
            self._bar.update(self._task, completed=done, state=state, refresh=True)

    def over(self, position: int, summary: RunSummary, at_work: set[int]) -> None:
        """A run came to its end, one way or another."""
        self._over.add(position)
        self._steps[position] = self._runs[position].steps
        self._ended[summary.status] = self._ended.get(summary.status, 0) + 1
        if self._bar is None and self._shown:
            left = self._left(self._done_steps(at_work))
            print(f"{len(self._over)}/{len(self._runs)}  {describe(summary)}  {left}", flush=True)

    def _done_steps(self, at_work: set[int]) -> int:
        for position in at_work - self._over:
            self._steps[position] = steps_done(self._runs[position], self._folder)
        return sum(self._steps)

    def _left(self, done: int) -> str:
        """Time left, from when the first step was seen."""
        if done > self._at_start:
            self._time_left.begin(done)
        return self._time_left.say(done, self._total)


def describe(run: RunSummary) -> str:
    """A run in one line."""
    name = f"{run.model} {run.structure} {run.temperature_K:g} K {run.timestep_fs:g} fs seed {run.seed}"
    if run.status == "error":
        return f"{name}: could not be made: {run.error}"
    if run.status != "failed":
        return f"{name}: {run.status}, {run.time_ps:g} ps"
    where = "" if run.time_ps else f" in stage {run.stage}"
    return f"{name}: {run.outcome} after {run.time_ps:.4g} ps{where}" + (f", {run.detail}" if run.detail else "")


def steps_done(run: PlannedRun, folder: Path) -> int:
    """How many time steps of a run are done."""
    return steps_of_job(run.job, folder / run.folder)


def steps_of_job(job: MDJob, folder: Path) -> int:
    """How many time steps of a job are done, from the end of its thermo file."""
    path = folder / THERMO_FILE
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().decode("utf-8", errors="replace").split("\n")[:-1]
        stage, step = lines[-1].split(",")[:2]
        before = 0
        for name, config in job.stages():
            if name == stage:
                return before + int(step)
            before += config.steps
    except (OSError, IndexError, ValueError):  # not there yet, or no row yet
        pass
    return 0
