"""A worker process of a study: ``python -m ase_mlcalc.study.worker``.

It makes runs one after another with calculators that it loads once.  A potential that crashes takes only this process
with it.
"""

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import TextIO

from ase.calculators.calculator import Calculator

from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.md.config import JobFiles
from ase_mlcalc.md.job import make_calculator, run_job
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.study.protocol import GRACE_S, Answer, Task
from ase_mlcalc.study.scans import scan

OF_A_RUN = {"structure", "index", "reference", "equilibration", "output", "overwrite"}
"""Keys of a job that have nothing to do with its calculator."""


def main() -> None:
    """Do tasks until the input ends."""
    answers = _private_output()
    faulthandler.enable()  # a crash leaves its traceback in the log
    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    at_work = threading.Event()
    threading.Thread(target=_listen, args=(sys.stdin, tasks, at_work), daemon=True).start()
    calculators: dict[str, Calculator] = {}
    try:
        _say(answers, Answer())
        while (task := tasks.get()) is not None:
            error = _done(task, calculators)
            at_work.clear()
            _say(answers, Answer(error=error))
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    sys.stderr.flush()
    os._exit(0)  # the study may be gone, and with it whoever reads what is left to be flushed


def _private_output() -> TextIO:
    """Standard output for answers alone: what calculators print goes to the log."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _say(answers: TextIO, answer: Answer) -> None:
    answers.write(answer.encode())
    answers.flush()


def _listen(stdin: TextIO, tasks: "queue.SimpleQueue[Task | None]", at_work: threading.Event) -> None:
    """Hand on tasks; at the end of the input interrupt the run that is at work, as Ctrl-C does."""
    for line in stdin:
        at_work.set()
        tasks.put(Task.decode(line))
    tasks.put(None)
    if at_work.is_set():
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE_S)
    os._exit(1)  # a calculator that does not come back


def _done(task: Task, calculators: dict[str, Calculator]) -> str | None:
    """Do a task; why it could not be done, if it could not."""
    files = task.job.job if isinstance(task.job, MDJob) else task.job
    key = _key(files)
    try:
        if key not in calculators:
            calculators[key] = make_calculator(files)
        calculator = calculators[key]
        calculator.reset()
        if isinstance(task.job, MDJob):
            run_job(task.job, progress=False, calculator=calculator)
        else:
            scan(calculator, task.job)
    except MLCalcError as error:
        return " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001  (calculators raise anything, and the other runs are to go on)
        traceback.print_exc()
        calculators.pop(key, None)  # it may be left in any state
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def _key(files: JobFiles) -> str:
    """What tells one calculator from another."""
    return json.dumps(files.model_dump(mode="json", exclude=OF_A_RUN))


if __name__ == "__main__":
    main()
