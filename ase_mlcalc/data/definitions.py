"""Definitions of per-atom stress: how labels were split over atoms, as ``stress_definition`` in ``Atoms.info`` says.

The values of one atom differ from definition to definition although their sum does not, so that labels of two teach,
and are measured as, a split that neither has.  One of the names in `ase_mlcalc.virials.DEFINITIONS` says exactly what
was computed; any other words, those of another program say, are taken as they are.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from ase_mlcalc.data.frames import DEFINITION_KEY, Frame
from ase_mlcalc.data.levels import in_words
from ase_mlcalc.data.problems import Labelled, Problem
from ase_mlcalc.errors import DataError
from ase_mlcalc.virials import DEFAULT_STRESS_DEFINITION, DEFINITIONS


def definitions(frames: Sequence[Frame]) -> dict[str, int]:
    """Definition to number of structures with per-atom stress, the most frequent first; "" are those that name none."""
    labelled = [frame for frame in frames if frame.labels.stresses is not None]
    return dict(Counter(str(frame.atoms.info.get(DEFINITION_KEY, "")) for frame in labelled).most_common())


def check_definitions(data: Labelled) -> Iterator[Problem]:
    """Per-atom stress of several definitions in one set."""
    found = definitions(data.frames)
    if len(_named(found)) > 1:
        yield Problem(
            "warning",
            f"per-atom stresses of several definitions in one data set: {in_words(found)}; the values of one atom "
            "differ between them: keep one per data set, training on the mixture is refused",
        )


def only_definition(frames: Sequence[Frame], todo: str) -> str:
    """The one definition that labelled per-atom stresses name; "" if none is named.

    Structures that name none beside others that do are taken to be of the same.

    Parameters
    ----------
    frames : sequence of Frame
    todo : str
        What to do about several, for the message.

    Raises
    ------
    DataError
        Several are named.
    """
    found = definitions(frames)
    if len(_named(found)) > 1:
        raise DataError(
            f"the per-atom stresses are labelled by several definitions, {in_words(found)}, which differ from atom to "
            f"atom; {todo}"
        )
    return next(iter(_named(found)), "")


def refuse_other_definitions(frames: Sequence[Frame], outputs: frozenset[str]) -> None:
    """Refuse to learn per-atom stresses of several definitions, or of one that a model does not give in training.

    Parameters
    ----------
    frames : sequence of Frame
        What is trained and validated on.
    outputs : set of str
        What the model predicts itself; per-atom stress that follows from an energy or from forces of pairs is by the
        definition ``edge``.

    Raises
    ------
    DataError
    """
    named = only_definition(frames, "train on structures of one, or leave them out (train.loss.stresses = 0)")
    if "stresses" not in outputs and named in DEFINITIONS and named != DEFAULT_STRESS_DEFINITION:
        raise DataError(
            f"the per-atom stresses are labelled by definition {named!r}, and in training a model with outputs "
            f"{sorted(outputs)} gives definition {DEFAULT_STRESS_DEFINITION!r}; label by that one, leave them out "
            "(train.loss.stresses = 0), or choose a model that predicts per-atom stress itself"
        )


def what_is_not_named(frames: Sequence[Frame]) -> str:
    """What users of a model that learned per-atom stress will not know about its definition; "" if it is named."""
    found = definitions(frames)
    missing, n_labelled = found.get("", 0), sum(found.values())
    if not missing:
        return ""
    todo = f"set info[{DEFINITION_KEY!r}] of the structures to its name, or describe it in words"
    if missing == n_labelled:
        return f"no structure names the definition of its per-atom stress, nor can files that the model writes; {todo}"
    name = next(iter(_named(found)))
    return (
        f"{missing} of {n_labelled} structures do not name the definition of their per-atom stress, which is taken to "
        f"be that of the others, {name!r}; {todo}"
    )


def _named(found: dict[str, int]) -> list[str]:
    return [name for name in found if name]
