"""What a campaign is, kept in its folder: the same command goes on with it, another one is refused.

A campaign may grow: further sizes, seeds, models and values add trainings.  Whatever would change a training that is
already there, or take one out, is refused.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ase_mlcalc.config import Section, changed_keys
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.identities import JOB_FILE, contents, in_words, read_identity, write_identity


def identity(job: Section, exclude: Any) -> dict[str, Any]:
    """The configuration of a campaign, with files known by their contents and not by their names.

    Parameters
    ----------
    job : Section
    exclude
        Keys that do not change what a training is, as in pydantic.

    Raises
    ------
    DataError
        A file that is not there.
    """
    found: dict[str, Any] = _with_contents(job.model_dump(exclude=exclude), "")
    return found


def claim(folder: Path, new: dict[str, Any], growing: Collection[str]) -> None:
    """Put the identity of a campaign into its folder, or make sure that it goes on with what is there.

    Parameters
    ----------
    folder : path
        Of the campaign.
    new : dict
        Its identity.
    growing : collection of str
        Dotted keys of lists and tables that may get more entries.

    Raises
    ------
    ConfigError
        The folder holds another campaign; the message says what differs.
    DataError
        The file there is damaged.
    """
    path = folder / JOB_FILE
    old = read_identity(path)
    new = json.loads(json.dumps(new))  # as it will be read: a tuple becomes a list
    if old is not None:
        changes = [in_words(change) for change in _not_grown(old, new, growing)]
        if changes:
            raise ConfigError(
                f"{folder} holds another campaign: {'; '.join(changes)}; undo the change to go on with it, or choose "
                "another output folder"
            )
    if old != new:
        write_identity(path, new)


def _not_grown(old: dict[str, Any], new: dict[str, Any], growing: Collection[str], path: str = "") -> list[str]:
    """Where the second table is not the first one with more in it."""
    changes = []
    for key in sorted(old.keys() | new.keys()):
        name = f"{path}.{key}" if path else key
        before, after = old.get(key), new.get(key)
        if name not in growing or before is None:
            both = isinstance(before, dict) and isinstance(after, dict)
            changes += (
                _not_grown(before, after, growing, name)  # type: ignore[arg-type]
                if both
                else changed_keys({key: before}, {key: after}, path)
            )
        elif isinstance(before, dict) and isinstance(after, dict):
            changes += changed_keys(before, {each: after.get(each) for each in before}, name)
        elif [value for value in before or () if value not in (after or ())]:
            changes.append(f"{name} (was {before}, now {after}; values may be added, not taken out)")
    return changes


def _with_contents(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _with_contents(inner, f"{key}.{name}" if key else name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_contents(inner, key) for inner in value]
    return contents(value, key) if isinstance(value, Path) else value
