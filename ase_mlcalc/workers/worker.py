"""A worker process: ``python -m ase_mlcalc.workers.worker``.

It does tasks one after another; what it was told to do first, its setup, is done once.  A task that crashes takes only
this process with it.
"""

import faulthandler
import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import TextIO

from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.workers.protocol import GRACE_S, Answer, Task, in_one_line


def main() -> None:
    """Do tasks until the input ends."""
    answers = _private_output()
    faulthandler.enable()  # a crash leaves its traceback in the log
    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    at_work = threading.Event()
    threading.Thread(target=_listen, args=(sys.stdin, tasks, at_work), daemon=True).start()
    try:
        while (task := tasks.get()) is not None:
            answer = _done(task)
            at_work.clear()
            _say(answers, answer)
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    sys.stderr.flush()
    os._exit(0)  # the pool may be gone, and with it whoever reads what is left to be flushed


def _private_output() -> TextIO:
    """Standard output for answers alone: what tasks print goes to the log."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _say(answers: TextIO, answer: Answer) -> None:
    answers.write(answer.encode())
    answers.flush()


def _listen(stdin: TextIO, tasks: "queue.SimpleQueue[Task | None]", at_work: threading.Event) -> None:
    """Hand on tasks; at the end of the input interrupt the one that is at work, as Ctrl-C does."""
    for line in stdin:
        at_work.set()
        tasks.put(Task.decode(line))
    tasks.put(None)
    if at_work.is_set():
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE_S)
    os._exit(1)  # a task that does not come back


def _done(task: Task) -> Answer:
    """Do a task; its result, or why it could not be done."""
    try:
        return Answer(result=task.do())
    except Exception as error:  # noqa: BLE001  (tasks raise anything, and the others are to go on)
        if not isinstance(error, MLCalcError):
            traceback.print_exc()
        return Answer(error=in_one_line(error))


if __name__ == "__main__":
    main()
