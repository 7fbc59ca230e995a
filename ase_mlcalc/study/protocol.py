"""What a study and its worker processes say to each other: one JSON object a line.

A task goes in by standard input, an answer comes back by standard output.  The end of the input tells a worker to stop:
at once, with a checkpoint, also when the study was killed and could say nothing.
"""

import json
from typing import Any, Literal, NamedTuple

from ase_mlcalc.md.config import JobFiles
from ase_mlcalc.md.stages import MDJob

GRACE_S = 20.0
"""Time that a worker has for a checkpoint when it is told to stop."""


class Task(NamedTuple):
    """Something for a worker to do."""

    kind: Literal["run", "scan"]
    job: MDJob | JobFiles
    """Of a run; for a scan, model and structure, and the file to write as its output."""

    def encode(self) -> str:
        """As a line."""
        # what was set and what is a default has to survive: stages after the first have other defaults
        return json.dumps({"kind": self.kind, "job": self.job.model_dump(mode="json", exclude_unset=True)}) + "\n"

    @classmethod
    def decode(cls, line: str) -> "Task":
        """From a line."""
        raw = json.loads(line)
        kind = MDJob if raw["kind"] == "run" else JobFiles
        return cls(raw["kind"], kind.model_validate(raw["job"]))


class Answer(NamedTuple):
    """That a worker is ready for the next task."""

    error: str | None = None
    """Why the last one could not be done, in one line."""

    def encode(self) -> str:
        """As a line."""
        return json.dumps(self._asdict()) + "\n"

    @classmethod
    def decode(cls, line: str) -> "Answer":
        """From a line."""
        raw: dict[str, Any] = json.loads(line)
        return cls(**raw)
