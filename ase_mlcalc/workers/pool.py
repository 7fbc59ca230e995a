"""A pool of worker processes: started with a share of the cores, watched, and replaced when they die."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.files import make_folder
from ase_mlcalc.workers.protocol import GRACE_S, Answer, Done, Task, nothing

TICK_S = 0.5
"""Between two looks at the progress."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
LONGEST_QUOTE = 200
"""Characters of the last line of a log."""


class _Heard(NamedTuple):
    worker: "_Worker"
    answer: Answer | None
    """``None``: the process is gone."""


class _Worker:
    """A process and the task that it is at."""

    def __init__(
        self,
        number: int,
        log: Path,
        threads: int,
        setup: Task,
        held_file: IO[str] | None,
        inbox: "queue.SimpleQueue[_Heard]",
    ) -> None:
        self.number, self.log = number, log
        self.task: int | None = None
        self.ready = False
        self._began = time.monotonic()
        self._stopped_for: str | None = None
        share = dict.fromkeys(THREAD_VARIABLES, str(threads))
        # calculators are found as in this process, and in the working folder, which comes last to shadow nothing
        paths = os.pathsep.join([*filter(None, sys.path), str(Path.cwd())])
        with open(log, "ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ase_mlcalc.workers.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                encoding="utf-8",
                env={**os.environ, **share, "PYTHONPATH": paths},
                pass_fds=() if held_file is None else (held_file.fileno(),),
                start_new_session=True,  # Ctrl-C reaches the command alone, which then tells its workers once
            )
        threading.Thread(target=self._hear, args=(inbox,), daemon=True).start()
        self._tell(setup)

    def _hear(self, inbox: "queue.SimpleQueue[_Heard]") -> None:
        assert self.process.stdout is not None
        with self.process.stdout as answers:
            for line in answers:
                inbox.put(_Heard(self, Answer.decode(line)))
        inbox.put(_Heard(self, None))

    def _tell(self, task: Task) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it died just now, which its last word will say
            self.process.stdin.write(task.encode())
            self.process.stdin.flush()

    def start(self, number: int, task: Task) -> None:
        self.task, self._began = number, time.monotonic()
        self._tell(task)

    def stop_if_longer(self, seconds: float | None) -> None:
        """End the process if its task takes longer; its last word will come."""
        if seconds is None or self.task is None or self._stopped_for is not None:
            return
        if time.monotonic() - self._began > seconds:
            self._stopped_for = f"took longer than {seconds:g} s and was stopped"
            self._kill()

    def _kill(self) -> None:
        """The process, and those that it started."""
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def tell_to_stop(self) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()

    def wait(self, seconds: float) -> None:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._kill()
            self.process.wait()

    def cause_of_death(self) -> str:
        self.tell_to_stop()
        status = self.process.wait()
        if self._stopped_for is not None:
            return self._stopped_for
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = f"; last line of {self.log}: {lines[-1].strip()[:LONGEST_QUOTE]}" if lines else ""
        if status < 0:
            name = signal.Signals(-status).name
            hint = ", often for want of memory" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{hint}{last}"
        return f"its process ended by itself with status {status}{last}"


class _Waiting:
    """Tasks with their numbers, taken from an iterable only when they are needed."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._later = enumerate(tasks)
        self._next: deque[tuple[int, Task]] = deque()

    def look_ahead(self, most: int) -> int:
        """How many there are, up to `most`."""
        self._next.extend(islice(self._later, most - len(self._next)))
        return len(self._next)

    def take(self) -> tuple[int, Task] | None:
        return self._next.popleft() if self._next else next(self._later, None)

    def put_back(self, task: tuple[int, Task]) -> None:
        self._next.appendleft(task)


def in_processes(
    tasks: Iterable[Task],
    n_workers: int,
    threads: int,
    logs: Path,
    held_file: IO[str] | None,
    tick: Callable[[set[int]], None],
    *,
    setup: Task | None = None,
    timeout_s: float | None = None,
) -> Generator[Done, None, None]:
    """Do tasks in several processes, in order; yields each as it is over.

    A process that dies ends its task with an error and is replaced.  Leaving the iteration, by an interrupt for
    example, stops all of them: a task that is at work gets a `KeyboardInterrupt` and `GRACE_S`.

    Parameters
    ----------
    tasks : iterable of Task
        Taken one at a time, as workers get free.
    n_workers, threads : int
        Processes, and threads of each.
    logs : path
        Folder for what the processes print.
    held_file : file, optional
        Kept open by the processes: the lock on it (`workers_lock`) lives as long as one of them.
    tick : callable
        Called every `TICK_S` and after each task with the numbers of the tasks at work.
    setup : Task, optional
        Done by each process before its first task; where it fails, nothing can be done.
    timeout_s : float, optional
        Longest that a task may take; its process is killed then, and replaced.

    Raises
    ------
    MLCalcError
        Processes that die before they are ready, or cannot do `setup`.
    """
    waiting = _Waiting(tasks)
    inbox: queue.SimpleQueue[_Heard] = queue.SimpleQueue()
    make_folder(logs)

    def new_worker(number: int) -> _Worker:
        log = logs / f"worker-{number}.txt"
        return _Worker(number, log, threads, setup or Task.of(nothing), held_file, inbox)

    with _stopped_at_the_end() as workers:
        workers += [new_worker(number + 1) for number in range(waiting.look_ahead(n_workers))]
        while workers:
            for worker in workers:
                worker.stop_if_longer(timeout_s)
            try:
                worker, answer = inbox.get(timeout=TICK_S)
            except queue.Empty:
                tick(_at_work(workers))
                continue
            over, worker.task = worker.task, None
            result = None if answer is None else answer.result
            error = answer.error if answer is not None else worker.cause_of_death()
            if error is not None and not worker.ready:
                raise MLCalcError(f"a worker process cannot be started: {error}")
            task = waiting.take()
            if answer is None:
                workers.remove(worker)
                if task is not None:
                    waiting.put_back(task)
                    workers.append(new_worker(worker.number))
            else:
                worker.ready = True
                if task is not None:
                    worker.start(*task)
                else:
                    worker.tell_to_stop()
            if over is not None:
                yield Done(over, result, error, _at_work(workers))
            tick(_at_work(workers))


def _at_work(workers: Sequence[_Worker]) -> set[int]:
    return {worker.task for worker in workers if worker.task is not None}


@contextmanager
def _stopped_at_the_end() -> Iterator[list[_Worker]]:
    workers: list[_Worker] = []
    try:
        yield workers
    finally:
        for worker in workers:
            worker.tell_to_stop()
        for worker in workers:
            worker.wait(GRACE_S)
