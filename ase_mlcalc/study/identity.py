"""What a study is, kept in its folder: the same command goes on with it, another one is refused.

A study may grow: further models, structures, temperatures, time steps and seeds add runs.  Whatever would change a run
that is already there, or take one out, is refused.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ase_mlcalc.config import changed_keys
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.files import write_text
from ase_mlcalc.study.config import StudyJob

JOB_FILE = "job.json"
FORMAT = 1
_GROWING = ("temperatures_K", "timesteps_fs", "seeds")
_FREE = {"output", "workers", "threads", "scans"}
"""Keys that change how a study is made and not what its runs are."""


def identity(job: StudyJob) -> dict[str, Any]:
    """What makes a study this study: its configuration, with files known by their contents and not by their names.

    Raises
    ------
    DataError
        A file that is not there.
    """
    raw = job.model_dump(mode="json", exclude={"study": _FREE, "executor": True})
    if job.study.engine == "ase":
        del raw["study"]["engine"]  # as in folders from before there was another
    for name, source in job.study.models.items():
        if source.model is not None:
            raw["study"]["models"][name]["model"] = _digest(Path(source.model), f"study.models.{name}.model")
    for name, structure in job.study.structures.items():
        for key in ("file", "reference"):
            path = getattr(structure, key)
            if path is not None:
                raw["study"]["structures"][name][key] = _digest(Path(path), f"study.structures.{name}.{key}")
    return raw


def claim(job: StudyJob) -> dict[str, Any]:
    """Put a study's identity into its folder, or make sure that it continues what is there.

    Raises
    ------
    ConfigError
        The folder holds another study; the message says what differs.
    """
    path = job.study.output / JOB_FILE
    new = identity(job)
    old = _read(path)
    if old is not None:
        changes = _not_grown(old["study"], new["study"]) + changed_keys(_stages(old), _stages(new))
        if changes:
            raise ConfigError(
                f"{job.study.output} holds another study: {'; '.join(_words(each) for each in changes)}; undo the "
                "change to go on with it, or choose another output folder"
            )
    if old != new:
        write_text(path, json.dumps({"format": FORMAT, "identity": new}, indent=1, ensure_ascii=False) + "\n")
    return new


def _stages(identity: dict[str, Any]) -> dict[str, Any]:
    """Stages by their position, so that what differs is named key by key."""
    return {f"md.{position}": stage for position, stage in enumerate(identity["md"])}


def _not_grown(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Where the second table is not the first one with more in it."""
    old, new = dict(old), dict(new)
    changes = []
    for key in _GROWING:
        before, after = old.pop(key), new.pop(key)
        gone = [value for value in before if value not in after]
        if gone:
            changes.append(f"study.{key} (was {before}, now {after}; values may be added, not taken out)")
    for key in ("models", "structures"):
        before, after = old.pop(key), new.pop(key)
        for name, source in before.items():
            if name not in after:
                changes.append(f"study.{key}.{name} is gone")
            else:
                changes += changed_keys(source, after[name], f"study.{key}.{name}")
    return changes + changed_keys(old, new, "study")


def _words(change: str) -> str:
    return f"contents of the file of {change}" if "sha256:" in change else change


def _read(path: Path) -> dict[str, Any] | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise ConfigError(
                f"{path} has format {stored['format']}, this version reads {FORMAT}; choose another folder"
            )
        found: dict[str, Any] = stored["identity"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}); choose another output folder") from error
    return found


def _digest(path: Path, key: str) -> str:
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    except OSError as error:
        raise DataError(f"{key}: cannot read {path} ({error.strerror or error}); give a file that is there") from error
