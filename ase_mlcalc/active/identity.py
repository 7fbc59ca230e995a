"""What a learning is, kept in its folder: the same command goes on with it, another one is refused.

Budgets may change: rounds, labels in all, and the length of the runs that are to survive.
"""

from typing import Any

from ase_mlcalc.active.config import LearnJob
from ase_mlcalc.campaigns.identity import claim as claim_folder
from ase_mlcalc.campaigns.identity import identity
from ase_mlcalc.identities import contents

_FREE: dict[str, Any] = {
    "executor": True,
    "learn": {"output", "rounds", "max_labels", "workers", "threads"},
    "train": {"workers"},
    "study": {"structures"},
}


def claim(job: LearnJob, level: str) -> None:
    """Put the identity of a learning into its folder, or make sure that it goes on with what is there.

    Parameters
    ----------
    job : LearnJob
    level : str
        Level of theory of the reference.

    Raises
    ------
    ConfigError
        The folder holds another learning; the message says what differs.
    DataError
        A file that is not there.
    """
    raw = identity(job, _FREE)
    raw["learn"]["reference"]["level_of_theory"] = level
    raw["md"] = {str(position): stage for position, stage in enumerate(raw["md"])}
    del raw["md"][str(len(job.md) - 1)]["time_ps"]
    if job.study.structures is not None:
        raw["study"]["structures"] = _of_files(job)
    claim_folder(job.learn.output, raw, ())


def _of_files(job: LearnJob) -> dict[str, Any]:
    """Where runs start, by the contents of the files."""
    assert job.study.structures is not None
    found = {}
    for name, source in job.study.structures.items():
        files = {"file": source.file, "reference": source.reference}
        found[name] = {
            "index": source.index,
            **{key: contents(path, f"study.structures.{name}.{key}") for key, path in files.items() if path},
        }
    return found
