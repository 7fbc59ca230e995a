"""Executors for tests, found by their import path as those of a cluster are, and tasks for them."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import ClassVar

from ase_mlcalc.errors import ConfigError


class Threads(futures.ThreadPoolExecutor):
    """Jobs are threads of the command; they do tasks in processes of their own all the same."""


class Detached(futures.Executor):
    """Jobs are processes that outlive the command, as those of a queue do.

    Their answers go back by their output, as long as somebody reads it.
    """

    processes: ClassVar[list[subprocess.Popen]] = []

    def submit(self, function, text):
        code = f"import sys\nfrom {function.__module__} import {function.__name__} as do\nprint(do(sys.argv[1]))"
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", code, text], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.processes.append(process)
        future = futures.Future()
        threading.Thread(target=self._hear, args=(process, future), daemon=True).start()
        return future

    def _hear(self, process, future):
        text, _ = process.communicate()
        if process.returncode:
            future.set_exception(RuntimeError(f"node failed with status {process.returncode}"))
        else:
            future.set_result(text.strip())


class NoQueue(futures.Executor):
    """Of a machine without a queue."""

    def submit(self, *_):
        future = futures.Future()
        future.set_exception(FileNotFoundError("no such program: sbatch"))
        return future


class Recorded(Threads):
    """Remembers what it was made with and what was submitted."""

    made: ClassVar[list[dict]] = []
    submitted: ClassVar[list[tuple]] = []

    def __init__(self, **arguments):
        super().__init__()
        self.made.append(arguments)

    def submit(self, function, text):
        self.submitted.append((function, text))
        return super().submit(function, text)


def square(value):
    return {"square": value**2}


def refuse():
    raise ConfigError("this cannot\nbe done")


def die(status):
    os._exit(status)


def settings():
    """What a task sees of the machine."""
    return {"threads": os.environ["OMP_NUM_THREADS"], "cwd": str(Path.cwd()), "executor_cases": __file__}


def slow(path, word, seconds):
    """Write a word that says it has begun, and one that says how it ended."""
    try:  # from the first word on, which is what a test waits for before it stops this
        say(path, f"{word} begins")
        time.sleep(seconds)
    except KeyboardInterrupt:
        say(path, f"{word} stops")
        raise
    say(path, f"{word} ends")
    return word


def say(path, line):
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def kill_job():
    """End the job that this process works for, and not this process."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(100)


def never():
    raise ConfigError("no licence here")
