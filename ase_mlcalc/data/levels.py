"""Levels of theory: what labels were computed with, as ``level_of_theory`` in ``Atoms.info`` says.

Energies of two levels differ by many eV and forces by more than a good potential errs, so that a set of both teaches a
surface that neither has.
"""

from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase

from ase_mlcalc.data.frames import LEVEL_KEY, Frame
from ase_mlcalc.errors import DataError


def level_of(frame: Frame) -> str:
    """The level of theory of a structure's labels; "" if it does not say."""
    return str(frame.atoms.info.get(LEVEL_KEY, ""))


def levels(frames: Sequence[Frame]) -> dict[str, int]:
    """Level of theory to number of structures, the most frequent first; "" are those that do not say theirs."""
    return dict(Counter(level_of(frame) for frame in frames).most_common())


def of_levels(frames: Sequence[Frame], wanted: Sequence[str] | None) -> list[Frame]:
    """The structures of the levels that are meant.

    Parameters
    ----------
    frames : sequence of Frame
    wanted : sequence of str, optional
        Levels of theory, or patterns such as ``GFN2-xTB*``; "" for structures that do not say theirs.  Structures of
        other levels are left out.  Without it all structures are taken, and have to be of one level.

    Raises
    ------
    DataError
        Several levels and none named, or a name that fits no structure.
    """
    found = levels(frames)
    if wanted is None:
        if len(found) > 1:
            raise DataError(
                f"the structures are of several levels of theory, {in_words(found)}; name what is meant, for example "
                f"data.level_of_theory = [{next(iter(found))!r}], and the others are left out"
                + (' ("" names those that do not say)' if "" in found else "")
            )
        return list(frames)
    for name in wanted:
        if not any(_fits(level, name) for level in found):
            raise DataError(f"data.level_of_theory names {name!r}, which no structure has; there are {in_words(found)}")
    return [frame for frame in frames if any(_fits(level_of(frame), name) for name in wanted)]


def in_words(found: dict[str, int]) -> str:
    """Levels with their numbers of structures."""
    return ", ".join(f"{name or 'not stated'} ({count})" for name, count in found.items())


def _fits(level: str, pattern: str) -> bool:
    return level == pattern or fnmatchcase(level, pattern)
