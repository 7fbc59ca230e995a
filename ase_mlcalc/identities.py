"""What a job is, kept in its output folder: the same command goes on there, another one is refused.

Studies, campaigns and samplings each say what their identity is and how it may grow; here is what they have in common.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.files import write_text

JOB_FILE = "job.json"
FORMAT = 1


def contents(path: Path | str, key: str) -> str:
    """A file by its contents; `key` is what named it.

    Raises
    ------
    DataError
        It is not there.
    """
    try:
        with open(path, "rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    except OSError as error:
        raise DataError(f"{key}: cannot read {path} ({error.strerror or error}); give a file that is there") from error


def in_words(change: str) -> str:
    """A change as a message says it: nobody knows a file by its digest."""
    return f"contents of the file of {change}" if "sha256:" in change else change


def read_identity(path: Path) -> dict[str, Any] | None:
    """What `write_identity` wrote; ``None`` where there is nothing.

    Raises
    ------
    ConfigError
        It is of another version.
    DataError
        It is damaged.
    """
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


def write_identity(path: Path, identity: dict[str, Any]) -> None:
    """Keep an identity in a file."""
    write_text(path, json.dumps({"format": FORMAT, "identity": identity}, indent=1, ensure_ascii=False) + "\n")
