"""What a labelling is, kept in its folder: the same command goes on with it, another calculation is refused."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase_mlcalc.config import Section, changed_keys
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.files import write_text
from ase_mlcalc.labelling.level import digest, is_checkpoint, level_of_theory
from ase_mlcalc.labelling.tasks import Reference
from ase_mlcalc.properties import SPECS

SUFFIXES = (".extxyz", ".xyz")
IDENTITY_FILE = "job.json"


class LabelJob(Section):
    """A calculator, what is asked of it, and where its labels go."""

    out: Path
    calculator: str
    """Import path of a factory, or a checkpoint."""
    arguments: dict[str, Any] | None
    """Of the factory; ``None`` for a checkpoint."""
    properties: tuple[str, ...] | None
    level: str
    """Level of theory in words."""

    @property
    def failed(self) -> Path:
        """File of the structures that were set aside."""
        return self.out.with_suffix(f".failed{self.out.suffix}")

    @property
    def folder(self) -> Path:
        """Results as they came, and what the processes printed."""
        return self.out.with_suffix(".labelling")

    def reference(self) -> Reference:
        """What worker processes are told."""
        scratch = str((self.folder / "scratch").absolute())
        return Reference(self.calculator, self.arguments, self.properties, scratch)


def label_job(
    calculator: str,
    out: Path | str,
    arguments: Mapping[str, Any],
    properties: Sequence[str] | None,
    level: str | None,
) -> LabelJob:
    """What `label` is told, checked.

    Raises
    ------
    ConfigError
        An output that is no extended XYZ file, properties that are no labels, arguments that no file can hold.
    DataError
        A checkpoint that is not there.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"labels are written as extended XYZ, so the output ends in {SUFFIXES[0]}; got {str(out)!r}")
    known = [name for name in SPECS if name != "edge_forces"]
    if unknown := [name for name in properties or () if name not in known]:
        raise ConfigError(f"no label is called {', '.join(unknown)}; labels are {', '.join(known)}")
    if is_checkpoint(calculator) and arguments:
        raise ConfigError("arguments are for a calculator by import path, package.module:Factory, not for a checkpoint")
    return LabelJob(
        out=out,
        calculator=calculator,
        arguments=None if is_checkpoint(calculator) else dict(arguments),
        properties=None if properties is None else tuple(properties),
        level=level_of_theory(calculator, arguments) if level is None else level,
    )


def claim(job: LabelJob, *, has_results: bool) -> bool:
    """Put a labelling's identity into its folder, or make sure that it continues what is there.

    One without results, as of a calculator whose name was misspelt, makes room for another.

    Returns
    -------
    bool
        Whether what is there is of the same labelling.

    Raises
    ------
    ConfigError
        The folder belongs to another calculation; the message says what differs.
    """
    path = job.folder / IDENTITY_FILE
    new = _identity(job)
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        old = None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); choose another output, or remove {job.folder}") from error
    changes = [] if old is None else changed_keys(old, new)
    if changes and has_results:
        raise ConfigError(
            f"{job.folder} holds another calculation: {'; '.join(changes)}; undo the change to go on with it, or "
            "choose another output"
        )
    if old != new:
        write_text(path, json.dumps(new, indent=1, ensure_ascii=False) + "\n")
    return not changes


def _identity(job: LabelJob) -> dict[str, Any]:
    """What makes labels these labels, and the file that they are for."""
    found = {
        "out": job.out.name,
        "calculator": job.calculator if job.arguments is not None else digest(job.calculator),
        "arguments": job.arguments,
        "properties": job.properties,
        "level": job.level,
        "version": level_of_theory(job.calculator, job.arguments or {}),
    }
    stored: dict[str, Any] = json.loads(json.dumps(found))  # as it comes back from a file
    return stored
