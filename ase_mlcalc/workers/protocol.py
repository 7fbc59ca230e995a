"""What a pool and its worker processes say to each other: one JSON object a line.

A task goes in by standard input, an answer comes back by standard output.  The end of the input tells a worker to stop:
at once, as Ctrl-C does, also when the pool was killed and could say nothing.
"""

import importlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from ase_mlcalc.errors import MLCalcError

GRACE_S = 20.0
"""Time that a worker has to leave things in order when it is told to stop."""


class Task(NamedTuple):
    """A function to call in a worker process."""

    function: str
    """Its import path, ``package.module:function``."""
    arguments: dict[str, Any]
    """Keyword arguments: whatever JSON can hold."""

    @classmethod
    def of(cls, function: Callable[..., Any], **arguments: Any) -> Self:
        """To call a function of a module with arguments that JSON can hold; its result is one too."""
        return cls(f"{function.__module__}:{function.__qualname__}", arguments)

    def encode(self) -> str:
        """As a line."""
        return json.dumps(self._asdict()) + "\n"

    @classmethod
    def decode(cls, line: str) -> Self:
        """From a line."""
        return cls(**json.loads(line))

    def do(self) -> Any:
        """Call the function here."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)(**self.arguments)


def in_one_line(error: Exception) -> str:
    """What went wrong; errors of this package are written for users and need no name."""
    text = " ".join(str(error).split())
    return text if isinstance(error, MLCalcError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def nothing() -> None:
    """What a worker does first that needs no setup."""


class Answer(NamedTuple):
    """That a worker is ready for the next task."""

    result: Any = None
    """Of the last one."""
    error: str | None = None
    """Why the last one could not be done, in one line."""

    def encode(self) -> str:
        """As a line."""
        return json.dumps(self._asdict()) + "\n"

    @classmethod
    def decode(cls, line: str) -> Self:
        """From a line."""
        return cls(**json.loads(line))


class Done(NamedTuple):
    """A task that is over."""

    number: int
    """Of the task, in the order in which they were given."""
    result: Any
    """What its function returned; ``None`` if it failed."""
    error: str | None
    """Why it could not be done."""
    at_work: set[int]
    """Tasks that go on beside it."""
