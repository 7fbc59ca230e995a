"""What a study is, kept in its folder: the same command goes on with it, another one is refused.

A study may grow: further models, structures, temperatures, time steps and seeds add runs, and a longer last stage
lets all of them go on.  Whatever else would change a run that is already there, or take one out, is refused.
"""

from typing import Any

from ase_mlcalc.config import changed_keys
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.identities import JOB_FILE, contents, in_words, read_identity, write_identity
from ase_mlcalc.md.result import RESULT_FILE, can_be_longer
from ase_mlcalc.study.config import StudyJob
from ase_mlcalc.study.plan import RUNS

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
            raw["study"]["models"][name]["model"] = contents(source.model, f"study.models.{name}.model")
    for name, structure in job.study.structures.items():
        for key in ("file", "reference"):
            path = getattr(structure, key)
            if path is not None:
                raw["study"]["structures"][name][key] = contents(path, f"study.structures.{name}.{key}")
    return raw


def claim(job: StudyJob) -> dict[str, Any]:
    """Put a study's identity into its folder, or make sure that it continues what is there.

    One of which no run began, as of a calculator whose name was misspelt, makes room for another.

    Raises
    ------
    ConfigError
        The folder holds another study; the message says what differs.
    """
    path = job.study.output / JOB_FILE
    new = identity(job)
    old = read_identity(path)
    if old is not None:
        grown = new if can_be_longer(job.md[-1]) else old
        changes = _not_grown(old["study"], new["study"]) + changed_keys(_stages(old, grown), _stages(new))
        if changes and any((job.study.output / RUNS).rglob(RESULT_FILE)):
            raise ConfigError(
                f"{job.study.output} holds another study: {'; '.join(in_words(each) for each in changes)}; undo the "
                "change to go on with it, or choose another output folder"
            )
    if old != new:
        write_identity(path, new)
    return new


def _stages(identity: dict[str, Any], grown: dict[str, Any] | None = None) -> dict[str, Any]:
    """Stages by their position, so that what differs is named key by key; the last as long as in `grown`, if longer."""
    *others, last = identity["md"]
    longer = max(last["time_ps"], (grown or identity)["md"][-1]["time_ps"])
    return {f"md.{position}": stage for position, stage in enumerate([*others, last | {"time_ps": longer}])}


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
