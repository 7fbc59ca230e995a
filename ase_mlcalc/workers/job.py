"""What an executor is given to do: `do_task`, with one task as text."""

import contextlib
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.workers.exchange import Exchange, Place, Word
from ase_mlcalc.workers.pool import in_processes
from ase_mlcalc.workers.protocol import Task


class Order(NamedTuple):
    """A task, and what a job has to know to do it."""

    task: tuple[str, dict[str, Any]]
    setup: tuple[str, dict[str, Any]] | None
    key: str
    """Of the task's place in the exchange."""
    exchange: str
    token: str
    """Of the command that asks for it."""
    threads: int
    timeout_s: float | None
    cwd: str
    """Working folder of the command, which paths are relative to."""
    paths: list[str]
    """Where the command imports from."""
    beat_s: float

    def encode(self) -> str:
        """As text."""
        return json.dumps(self._asdict())

    @classmethod
    def decode(cls, text: str) -> Self:
        """From text."""
        return cls(**json.loads(text))


def do_task(text: str) -> str:
    """Do the task of an `Order` in a process of its own beside this one; a `Word` as text.

    That process is one of `pool`: it is ended alone by a crash or a limit of time, and told to stop with this one.
    """
    order = Order.decode(text)
    exchange = Exchange(Path(order.exchange))
    place = exchange.place(order.key)
    if not exchange.belongs_to(order.token) or not place.begin(exchange.now()):
        return Word("left").encode()
    # a command that took over just now either sees this job at work, or is seen here
    starter = os.getppid()
    word = _word(order, exchange, place) if exchange.belongs_to(order.token) else Word("left")
    if word.state == "over":
        place.answer(word)
    place.end()
    if _is_process_of_its_own() and os.getppid() != starter:
        os._exit(0)  # it was killed, and nobody else would tell this process to end
    return word.encode()


def _is_process_of_its_own() -> bool:
    """Not a thread beside others."""
    return threading.current_thread() is threading.main_thread()


def _word(order: Order, exchange: Exchange, place: Place) -> Word:
    looked = time.monotonic()

    def look(_: set[int]) -> None:
        nonlocal looked
        if time.monotonic() - looked > order.beat_s:
            looked = time.monotonic()
            if not place.beat() or exchange.is_stopped():
                raise KeyboardInterrupt

    sys.path += [path for path in order.paths if path not in sys.path]
    try:
        with _deaf_to_interrupts(), contextlib.chdir(order.cwd):
            (done,) = in_processes(
                [Task(*order.task)],
                1,
                order.threads,
                place.folder,
                None,
                look,
                setup=None if order.setup is None else Task(*order.setup),
                timeout_s=order.timeout_s,
            )
    except KeyboardInterrupt:
        return Word("left")
    except (MLCalcError, OSError) as error:
        return Word("broken", error=f"{platform.node()}: {' '.join(str(error).split())}")
    return Word("over", done.result, done.error)


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Ctrl-C reaches the command, which tells its jobs once; a terminal would send it to those beside it as well."""
    if not _is_process_of_its_own():
        yield
        return
    # not SIG_IGN, which processes started from here would inherit
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
