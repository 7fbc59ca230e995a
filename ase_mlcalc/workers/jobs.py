"""Tasks as jobs of an executor: handed over, watched by the files that they write, and never lost."""

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

from ase_mlcalc.errors import ConfigError, MLCalcError
from ase_mlcalc.workers import exchange as _exchange
from ase_mlcalc.workers.exchange import Exchange, Place, Word
from ase_mlcalc.workers.executor import Executor
from ase_mlcalc.workers.job import Order, do_task
from ase_mlcalc.workers.protocol import GRACE_S, Done, Task

TICK_S = 0.5
"""Between two looks at the jobs."""


def in_jobs(
    tasks: Iterable[Task],
    at_once: int,
    threads: int,
    folder: Path,
    tick: Callable[[set[int]], None],
    *,
    executor: Executor,
    setup: Task | None = None,
    timeout_s: float | None = None,
) -> Generator[Done, None, None]:
    """Do tasks in jobs of an executor; yields each as it is over.

    A job that dies ends its task with an error.  Where jobs cannot be started, those at work are waited for, and
    nothing more is begun.

    If this process is killed, jobs at work go on: the next command waits for them, and takes the answers that they
    left.  Leaving the iteration, by an interrupt for example, stops them.

    Parameters
    ----------
    tasks : iterable of Task
        Taken one at a time, as there is room for them.
    at_once : int
        Most jobs that are with the executor, those included that it has not started yet.
    threads : int
        Of each task.
    folder : path
        That this process and all jobs can write to.
    tick : callable
        Called every `TICK_S` with the numbers of the tasks at work.
    executor : Executor
    setup, timeout_s
        As in `work_on`.

    Raises
    ------
    ConfigError
        An executor that is not there; another command took over the folder.
    MLCalcError
        Jobs that cannot be started, or cannot do `setup`.
    """
    with _Jobs(folder, threads, executor, setup, timeout_s).open() as jobs:
        later = enumerate(tasks)
        while True:
            while jobs.broken is None and len(jobs) < at_once and (task := next(later, None)) is not None:
                jobs.begin(*task)
            if not len(jobs):
                break
            for number, job, word in jobs.listen():
                yield Done(number, word.result, word.error, jobs.at_work())
                jobs.noted(job, word)  # whoever asked for it knows it now
            tick(jobs.at_work())
    if jobs.broken is not None:
        raise MLCalcError(f"a job cannot be started: {jobs.broken}")


class _Job:
    """A task that is not over."""

    def __init__(self, task: Task, place: Place) -> None:
        self.task, self.place = task, place
        self.future: futures.Future[str] | None = None
        """``None``: a job of an earlier command does it."""
        self.at_work = False

    def end(self) -> Word | None:
        """What became of the task, if its job has ended."""
        if self.future is None:
            return self.place.answered() if not self.at_work else None
        if not self.future.done():
            return None
        error = None if self.future.cancelled() else self.future.exception()
        if error is None and not self.future.cancelled():
            return Word.decode(self.future.result())
        if (word := self.place.answered()) is not None:
            return word
        why = "it was cancelled" if error is None else " ".join(f"{type(error).__name__}: {error}".split())
        if self.place.is_at_work():
            return Word("over", error=f"its job died ({why}); see {self.place.folder}")
        return Word("broken", error=why)


class _Jobs:
    """The jobs of a command."""

    def __init__(
        self, folder: Path, threads: int, executor: Executor, setup: Task | None, timeout_s: float | None
    ) -> None:
        self.broken: str | None = None
        """Why no more tasks can be started."""
        self._exchange = Exchange(folder)
        self._threads, self._executor, self._setup, self._timeout_s = threads, executor, setup, timeout_s
        self._jobs: dict[int, _Job] = {}
        self._keys: Counter[str] = Counter()
        self._next_look = 0.0
        self._failures = self._lost = False

    def __len__(self) -> int:
        return len(self._jobs)

    @contextmanager
    def open(self) -> Iterator["_Jobs"]:
        """Take the folder and start the executor; at the end, stop what is still at work."""
        self._pool = self._executor.make(self._threads, self._exchange.folder)
        self._token = self._exchange.take()
        try:
            yield self
        except BaseException:
            ours = self._exchange.belongs_to(self._token)  # or else they work for the command that took over
            try:
                if ours:
                    self._stop()
            finally:
                self._pool.shutdown(wait=False, cancel_futures=ours)
            raise
        self._pool.shutdown(wait=not self._lost, cancel_futures=self._lost)
        if not self._failures:
            self._exchange.clear()

    def _stop(self) -> None:
        """Tell jobs to stop, and give those at work time for it."""
        self._exchange.stop()
        end = time.monotonic() + GRACE_S + 2 * _exchange.BEAT_S
        while time.monotonic() < end and self._exchange.is_anyone_at_work():
            time.sleep(TICK_S / 2)

    def at_work(self) -> set[int]:
        """Numbers of the tasks that jobs have begun."""
        return {number for number, job in self._jobs.items() if job.at_work}

    def begin(self, number: int, task: Task) -> None:
        """Start a task, or find what an earlier command has of it."""
        key = hashlib.sha256(task.encode().encode()).hexdigest()[:24]
        self._keys[key] += 1
        place = self._exchange.place(key if self._keys[key] == 1 else f"{key}-{self._keys[key]}")
        self._jobs[number] = job = _Job(task, place)
        job.at_work = place.is_at_work() and not place.is_lost(self._exchange.now())
        # where a task has no result its files say what was done, and it finds that out when it is done again
        is_known = (word := place.answered()) is not None and word.result is not None
        if not job.at_work and not is_known:
            self._submit(job)

    def _submit(self, job: _Job) -> None:
        order = Order(
            task=job.task,
            setup=self._setup,
            key=job.place.folder.name,
            exchange=str(self._exchange.folder.absolute()),
            token=self._token,
            threads=self._threads,
            timeout_s=self._timeout_s,
            cwd=str(Path.cwd()),
            paths=[path for path in sys.path if path],
            beat_s=_exchange.BEAT_S,
        )
        job.future = self._pool.submit(do_task, order.encode())

    def listen(self) -> list[tuple[int, _Job, Word]]:
        """Wait a moment; tasks that are over by then, which are no longer among the jobs."""
        waiting = [job.future for job in self._jobs.values() if job.future is not None]
        if waiting:
            futures.wait(waiting, TICK_S, futures.FIRST_COMPLETED)
        elif all(job.at_work for job in self._jobs.values()):
            time.sleep(TICK_S)
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _exchange.BEAT_S
            self._look()
        found = []
        for number, job in list(self._jobs.items()):
            word = job.end()
            if word is None:
                continue
            if word.state == "left":  # a job of an earlier command is at work on it, or was
                job.future, job.at_work = None, True
                continue
            del self._jobs[number]
            if word.state == "broken":
                self.broken = self.broken or word.error
                self._failures = True
            else:
                found.append((number, job, word))
        return found

    def _look(self) -> None:
        """Which tasks are at work, by their files; what was lost is ended, or done again if it was not ours.

        Raises
        ------
        ConfigError
            Another command has taken over.
        """
        if not self._exchange.belongs_to(self._token):
            raise ConfigError(f"another command has taken over {self._exchange.folder}; jobs at work go on for it")
        now = self._exchange.now()
        for job in self._jobs.values():
            is_lost = job.place.is_lost(now)
            job.at_work = job.place.is_at_work() and not is_lost
            if job.future is None and not job.at_work and job.place.answered() is None:
                self._submit(job)
            elif job.future is not None and is_lost and not job.future.done():
                self._lost = True
                job.future = futures.Future()
                job.future.set_exception(TimeoutError("no sign of life any more"))

    def noted(self, job: _Job, word: Word) -> None:
        """The answer of a task has been heard, and its place is cleared; what failed can be looked into."""
        if word.error is None:
            job.place.clear()
        else:
            self._failures = True
