"""Worker processes of a study: started with a share of the cores, watched, and replaced when they die."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.files import make_folder
from ase_mlcalc.study.protocol import GRACE_S, Answer, Task

TICK_S = 0.5
"""Between two looks at the progress."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Done(NamedTuple):
    """A task that is over."""

    number: int
    """Of the task."""
    error: str | None
    """Why it could not be done."""
    at_work: set[int]
    """Tasks that go on beside it."""


class _Worker:
    """A process and the task that it is at."""

    def __init__(
        self, number: int, log: Path, threads: int, held_file: IO[str] | None, inbox: "queue.SimpleQueue[_Heard]"
    ) -> None:
        self.number, self.log = number, log
        self.task: int | None = None
        self.ready = False
        share = dict.fromkeys(THREAD_VARIABLES, str(threads))
        # calculators are found as in this process, and in the working folder, which comes last to shadow nothing
        paths = os.pathsep.join([*filter(None, sys.path), str(Path.cwd())])
        with open(log, "ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ase_mlcalc.study.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                encoding="utf-8",
                env={**os.environ, **share, "PYTHONPATH": paths},
                pass_fds=() if held_file is None else (held_file.fileno(),),
                start_new_session=True,  # Ctrl-C reaches the study alone, which then tells its workers once
            )
        threading.Thread(target=self._hear, args=(inbox,), daemon=True).start()

    def _hear(self, inbox: "queue.SimpleQueue[_Heard]") -> None:
        assert self.process.stdout is not None
        with self.process.stdout as answers:
            for line in answers:
                inbox.put(_Heard(self, Answer.decode(line)))
        inbox.put(_Heard(self, None))

    def start(self, number: int, task: Task) -> None:
        self.task = number
        assert self.process.stdin is not None
        with suppress(OSError):  # it died just now, which its last word will say
            self.process.stdin.write(task.encode())
            self.process.stdin.flush()

    def tell_to_stop(self) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()

    def wait(self, seconds: float) -> None:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cause_of_death(self) -> str:
        self.tell_to_stop()
        status = self.process.wait()
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = f"; last line of {self.log}: {lines[-1].strip()}" if lines else ""
        if status < 0:
            name = signal.Signals(-status).name
            hint = ", often for want of memory" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{hint}{last}"
        return f"its process ended by itself with status {status}{last}"


class _Heard(NamedTuple):
    worker: _Worker
    answer: Answer | None
    """``None``: the process is gone."""


def work_on(
    tasks: Sequence[Task],
    n_workers: int,
    threads: int,
    logs: Path,
    held_file: IO[str] | None,
    tick: Callable[[set[int]], None],
) -> Iterator[Done]:
    """Do tasks in several processes, in order; yields each as it is over.

    A process that dies ends its task with an error and is replaced.  Leaving the iteration, by an interrupt for
    example, stops all of them; a run that is at work goes on from its last checkpoint later.

    Parameters
    ----------
    tasks : sequence of Task
    n_workers, threads : int
        Processes, and threads of each.
    logs : path
        Folder for what the processes print.
    held_file : file, optional
        Kept open by the processes: the lock on it lives as long as one of them.
    tick : callable
        Called every `TICK_S` and after each task with the numbers of the tasks at work.

    Raises
    ------
    MLCalcError
        Processes that die before they are ready.
    """
    waiting = deque(enumerate(tasks))
    inbox: queue.SimpleQueue[_Heard] = queue.SimpleQueue()
    make_folder(logs)
    with _stopped_at_the_end() as workers:
        for number in range(min(n_workers, len(tasks))):
            workers.append(_Worker(number, logs / f"worker-{number + 1}.txt", threads, held_file, inbox))
        while workers:
            try:
                worker, answer = inbox.get(timeout=TICK_S)
            except queue.Empty:
                tick(_at_work(workers))
                continue
            over, worker.task = worker.task, None
            error = answer.error if answer is not None else worker.cause_of_death()
            if answer is None:
                if not worker.ready:
                    raise MLCalcError(f"a worker of the study cannot be started: {error}")
                workers.remove(worker)
                if waiting:
                    workers.append(_Worker(worker.number, worker.log, threads, held_file, inbox))
            else:
                worker.ready = True
                if waiting:
                    worker.start(*waiting.popleft())
                else:
                    worker.tell_to_stop()
            if over is not None:
                yield Done(over, error, _at_work(workers))
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
