"""The folder in which a command and its jobs, on other nodes perhaps, leave word for each other.

Locks of files do not reach across nodes on every file system; files that are there do.  The command writes a token that
no other command has.  A job does its task only while that token stands there: another one means that another command
took over, and an empty one that all are to stop.  While it is at work it touches a file, so that its death is noticed,
and its answer is a file, so that it is not lost when the command is not there to hear it.
"""

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from ase_mlcalc.files import make_folder, write_text

BEAT_S = 5.0
"""Between two signs of life of a job, and two looks at the token."""
LOST_S = 180.0
"""Without a sign of life a job counts as dead; file systems of clusters may show a change a minute late."""

COMMAND, CLOCK, AT_WORK, ANSWER = "command", "clock", "at-work", "answer.json"


class Word(NamedTuple):
    """What a job says at its end."""

    state: Literal["over", "broken", "left"]
    """The task is over; no task can be done there; it was left alone, because it is not this job's to do."""
    result: Any = None
    error: str | None = None

    def encode(self) -> str:
        """As text."""
        return json.dumps(self._asdict())

    @classmethod
    def decode(cls, text: str) -> Self:
        """From text."""
        return cls(**json.loads(text))


class Place:
    """Where the jobs of one task leave word."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, now: float) -> bool:
        """Be the one job at work on the task; ``False``: another is."""
        make_folder(self.folder)
        try:
            os.close(os.open(self.folder / AT_WORK, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            if not self.is_lost(now):
                return False
            self.beat()
        (self.folder / ANSWER).unlink(missing_ok=True)  # of an earlier try
        return True

    def beat(self) -> bool:
        """A sign of life; ``False``: the place was cleared, nobody waits for the task any more."""
        try:
            os.utime(self.folder / AT_WORK)
        except FileNotFoundError:
            return False
        return True

    def end(self) -> None:
        """Not at work any more."""
        (self.folder / AT_WORK).unlink(missing_ok=True)

    def is_at_work(self) -> bool:
        """A job has begun the task and has not ended, unless it died."""
        return (self.folder / AT_WORK).exists()

    def is_lost(self, now: float) -> bool:
        """A job has begun the task, and there is no sign of life of it."""
        try:
            return now - (self.folder / AT_WORK).stat().st_mtime > LOST_S
        except FileNotFoundError:
            return False

    def answer(self, word: Word) -> None:
        """Leave the answer to the task."""
        write_text(self.folder / ANSWER, word.encode())

    def answered(self) -> Word | None:
        """The answer, if there is one."""
        try:
            return Word.decode((self.folder / ANSWER).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def clear(self) -> None:
        """Forget the task."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Exchange:
    """The folder as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self) -> str:
        """Be the command that the folder belongs to; the token that says so."""
        make_folder(self.folder)
        token = uuid.uuid4().hex
        write_text(self.folder / COMMAND, token)
        return token

    def stop(self) -> None:
        """Tell all jobs to stop, and those that were not started yet to leave their task."""
        write_text(self.folder / COMMAND, "")

    def belongs_to(self, token: str) -> bool:
        """Whether the command with this token has the word, and work is to go on."""
        return self._token() == token

    def is_stopped(self) -> bool:
        """Whether all jobs are to stop, whichever command started them."""
        return self._token() == "" or not self.folder.exists()

    def _token(self) -> str | None:
        """``None``: it cannot be read just now, because it is being replaced."""
        try:
            return (self.folder / COMMAND).read_text(encoding="utf-8")
        except OSError:
            return None

    def now(self) -> float:
        """The time by the clock of the file system, which need not be that of any node."""
        clock = self.folder / CLOCK
        clock.touch()
        return clock.stat().st_mtime

    def place(self, key: str) -> Place:
        """Of a task."""
        return Place(self.folder / "tasks" / key)

    def is_anyone_at_work(self) -> bool:
        """Whether jobs are at work, for whichever command."""
        places = [Place(path.parent) for path in self.folder.glob(f"tasks/*/{AT_WORK}")]
        return bool(places) and not all(place.is_lost(self.now()) for place in places)

    def clear(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder, ignore_errors=True)
