"""Inputs of LAMMPS with ``pair_style ase_mlcalc``: what LAMMPS reads itself, and the two lines that it does not know.

An input is cut at these lines.  Everything between them goes to LAMMPS as it stands, in files of its own, so that
variables, loops, conditions and continued lines are LAMMPS' and not ours.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ase_mlcalc.errors import ConfigError

STYLE = "ase_mlcalc"
SUB_STYLES = "hybrid/overlay"
TRIPLE = '"""'


class Section(NamedTuple):
    """Lines for LAMMPS."""

    text: str


class PairStyle(NamedTuple):
    """A line that asks for a model."""

    line: str
    where: str
    """File and line, for messages."""


class PairCoeff(NamedTuple):
    """A line that says which elements the types of atoms are."""

    line: str
    where: str


class OtherStyle(NamedTuple):
    """A pair style follows that takes the place of the model's."""


Step = Section | PairStyle | PairCoeff | OtherStyle


class Asked(NamedTuple):
    """What a `PairStyle` says."""

    model: str
    """Path."""
    before: tuple[str, ...]
    after: tuple[str, ...]
    """Words around the model's, ``pair_style`` not counted."""

    def for_lammps(self, cutoff: float) -> str:
        """The line for LAMMPS, with a style that computes nothing and has the cutoff (Å)."""
        return " ".join(["pair_style", *self.before, "zero", f"{cutoff:.12g}", *self.after])

    @property
    def coefficients(self) -> str:
        """The line of coefficients that goes with it."""
        return "pair_coeff * * zero" if self.before else "pair_coeff * *"


def read_input(path: Path) -> list[Step]:
    """The steps of an input file; files that it includes are part of it if they name the style.

    Raises
    ------
    ConfigError
        No such file, or one that never names the style.
    """
    steps = list(_cut(path, _Position()))
    if not any(isinstance(step, PairStyle) for step in steps):
        raise ConfigError(f"{path} has no line `pair_style {STYLE} MODEL`; add one, or run it with LAMMPS itself")
    return steps


class _Position:
    """Where the style is in force while lines are read."""

    ours = False
    mixed = False


def _cut(path: Path, now: _Position) -> Iterator[Step]:
    kept: list[str] = []

    def so_far() -> Iterator[Section]:
        if kept:
            yield Section("".join(kept))
            kept.clear()

    for number, text in _logical_lines(path):
        where = f"{path}, line {number}"
        words = words_of(text)
        command = words[0] if words else ""
        if command == "include" and len(words) == 2 and _names_style(Path(words[1])):
            yield from so_far()
            yield from _cut(Path(words[1]), now)
        elif command == "pair_style" and STYLE in words:
            yield from so_far()
            now.ours, now.mixed = True, words[1] != STYLE
            yield PairStyle(joined(text), where)
        elif command == "pair_style" and now.ours:
            yield from so_far()
            now.ours = False
            yield OtherStyle()
            kept.append(text)
        elif command == "pair_coeff" and now.ours and (not now.mixed or STYLE in words):
            yield from so_far()
            yield PairCoeff(joined(text), where)
        else:
            kept.append(text)
    yield from so_far()


def _logical_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with those that continue them, and the number of the first; all as they stand."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the LAMMPS input {path}: {error}") from error
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    first, whole = 1, ""
    for number, line in enumerate(lines, 1):
        first = first if whole else number
        whole += line
        if line.rstrip().endswith("&") or whole.count(TRIPLE) % 2:
            continue
        yield first, whole
        whole = ""
    if whole:
        yield first, whole


def joined(text: str) -> str:
    """A continued line as one, without its comment."""
    whole = re.sub(r"&\s*\n", " ", text)
    return whole.split("#", 1)[0].strip()


def words_of(text: str) -> list[str]:
    """Words of a line, without quotes; enough to recognise commands by."""
    return joined(text).split()


def _names_style(path: Path) -> bool:
    try:
        return STYLE in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False  # LAMMPS says what is wrong


def parse_pair_style(line: str, where: str) -> Asked:
    """The words of ``pair_style ase_mlcalc MODEL`` or ``pair_style hybrid/overlay ... ase_mlcalc MODEL ...``.

    Raises
    ------
    ConfigError
        Any other form.
    """
    words = line.split()[1:]
    at = words.index(STYLE)
    before, after = tuple(words[:at]), tuple(words[at + 2 :])
    if at + 1 == len(words):
        raise ConfigError(f"{where}: `pair_style {STYLE}` needs the path of a model, got none")
    if before and before[0] != SUB_STYLES:
        raise ConfigError(
            f"{where}: the model acts on all atoms, so that {STYLE} can be a part of {SUB_STYLES} only; got {before[0]}"
        )
    if STYLE in after:
        raise ConfigError(f"{where}: {STYLE} is there twice; make one model of two with `ase_mlcalc.sums.add`")
    if after and not before:
        raise ConfigError(f"{where}: `pair_style {STYLE}` takes the path of a model and nothing else, got {after[0]}")
    return Asked(words[at + 1], before, after)


def parse_pair_coeff(line: str, where: str) -> list[str]:
    """Symbols of the elements in ``pair_coeff * * O H``, in the order of the types.

    Raises
    ------
    ConfigError
        Another form.
    """
    words = line.split()
    if words[1:3] != ["*", "*"]:
        raise ConfigError(
            f"{where}: one line `pair_coeff * * ELEMENT ...` says which element each type is, got `{line}`"
        )
    return [word for word in words[3:] if word != STYLE]
