"""What was calculated, a line each as it comes: a kill at any byte costs no more than the line that it cut."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple, Self

from ase_mlcalc.errors import MLCalcError


class Entry(NamedTuple):
    """The outcome of one calculation."""

    structure: str
    """Its key."""
    results: dict[str, Any] | None = None
    error: str | None = None
    """Why there are none."""


class Journal:
    """Entries of a file by the key of their structure; the last one of a structure counts.

    The file is read when it is opened; then only where the lines begin is kept.  A line that cannot be read, because a
    kill or a full disk cut it, counts as never written.

    Raises
    ------
    MLCalcError
        The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        self._failed: dict[str, str] = {}
        self.n_damaged = 0
        """Lines that could not be read."""
        try:
            self._file = open(path, "a+b")  # noqa: SIM115  (closed by __exit__)
            self._read()
        except OSError as error:
            raise _unwritable(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    @property
    def failed(self) -> dict[str, str]:
        """Structures without results, and why."""
        return self._failed

    def results(self, key: str) -> dict[str, Any]:
        """Of a structure that was calculated."""
        self._file.seek(self._places[key])
        found: dict[str, Any] = json.loads(self._file.readline())["results"]
        return found

    def add(self, entry: Entry) -> None:
        """Put an entry at the end of the file, and do not return before it is on the disk."""
        # NaN is no JSON, and results are finite
        line = json.dumps(entry._asdict(), allow_nan=False, separators=(",", ":")).encode() + b"\n"
        try:
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(line)
            self._file.flush()
            self._know(entry.structure, entry.error, place)
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self._path, error) from error

    @property
    def has_results(self) -> bool:
        """Whether anything was calculated."""
        return len(self._places) > len(self._failed)

    def clear(self) -> None:
        """Begin anew."""
        self._file.truncate(0)
        self._places, self._failed = {}, {}

    def forget_failures(self) -> None:
        """Let failed structures be calculated once more; their new entries will count."""
        for key in self._failed:
            del self._places[key]
        self._failed = {}

    def _read(self) -> None:
        self._file.seek(0)
        place = end = 0
        for line in self._file:
            try:
                if not line.endswith(b"\n"):
                    break
                entry = Entry(**json.loads(line))
                self._know(entry.structure, entry.error, place)
            except (ValueError, TypeError):
                self.n_damaged += 1
            place += len(line)
            end = place
        self._file.truncate(end)

    def _know(self, key: str, error: str | None, place: int) -> None:
        self._places[key] = place
        self._failed.pop(key, None)
        if error is not None:
            self._failed[key] = error


def _unwritable(path: Path, error: OSError) -> MLCalcError:
    return MLCalcError(
        f"cannot write {path}: {error.strerror or error}; what was calculated before is kept: free space, then give "
        "the same command again"
    )
