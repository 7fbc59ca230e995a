"""Writing files so that a kill or a full disk never leaves half of one behind."""

import errno
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ase_mlcalc.errors import ConfigError, MLCalcError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block succeeds, and vanishes otherwise."""
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        part = Path(name)
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except OSError as error:
        raise MLCalcError(
            f"cannot write {path}: {error.strerror or error}; the earlier file, if any, is untouched: "
            "free space or choose another folder"
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk is full, the user's share of it is used up, or the file is as large as files may be."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that no space is left, also where `atomic_path` put it into words of its own."""
    cause = error.__cause__ if isinstance(error, MLCalcError) else error
    if not isinstance(cause, OSError):
        return False
    # numpy's tofile, by which ASE writes arrays of a trajectory, gives no errno
    by_numpy = r"\d+ requested and \d+ written|Not enough free space to write \d+ bytes"
    return cause.errno in NO_SPACE or (cause.errno is None and re.fullmatch(by_numpy, str(cause)) is not None)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the block is over: for writing by libraries that are not made to stop half-way.

    In the midst of a file numpy and zipfile turn a `KeyboardInterrupt` into other exceptions.  Other threads than the
    main one get no interrupts.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:  # None: set by other than Python
        yield
        return
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def make_folder(folder: Path) -> None:
    """Make the output folder of a run; raises `ConfigError` if that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the output folder {folder}: {error.strerror or error}; choose another"
        ) from error


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Refuse a second process at work in the same folder; the system frees the lock of a killed one."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"another process is at work in {folder}; wait for it or choose another folder"
            ) from error
        yield


def remove_leftovers(folder: Path) -> None:
    """Temporary files of a process that was killed while writing."""
    for leftover in folder.glob(".*.part"):
        leftover.unlink(missing_ok=True)
