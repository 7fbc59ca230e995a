"""The lock that worker processes hold on the folder that they work for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ase_mlcalc.errors import ConfigError

WORKERS_LOCK = ".workers-lock"
LEFTOVER_WAIT_S = 60.0
"""How long workers of a command that was killed may take to notice it."""


@contextmanager
def workers_lock(folder: Path) -> Iterator[IO[str] | None]:
    """A lock that workers hold too: after a kill of the command, wait until the last of them has noticed.

    Otherwise they would write into what the next command continues.

    Raises
    ------
    ConfigError
        Some are still at work after a minute.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield None
        return
    with open(folder / WORKERS_LOCK, "w") as lock:
        give_up = time.monotonic() + LEFTOVER_WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if time.monotonic() > give_up:
                    raise ConfigError(
                        f"worker processes of an earlier command are still at work in {folder}; end them "
                        "(python -m ase_mlcalc.workers.worker)"
                    ) from error
                time.sleep(0.1)
            else:
                break
        yield lock
