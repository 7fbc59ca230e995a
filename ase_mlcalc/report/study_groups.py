"""Names and colours of a study's groups: only what varies is named, and a model has the same colour everywhere."""

from collections.abc import Iterable
from itertools import cycle
from typing import NamedTuple

from ase_mlcalc.plots import COLORS
from ase_mlcalc.report.words import number
from ase_mlcalc.study.summary import GroupSummary, RunSummary, StudySummary

_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))


class Line(NamedTuple):
    """How the curve of a model is drawn."""

    color: str
    dashes: str | tuple[float, tuple[float, ...]]


class Condition(NamedTuple):
    """What a run is about, apart from model and seed."""

    structure: str
    temperature_K: float
    timestep_fs: float


def lines(study: StudySummary) -> dict[str, Line]:
    """A line for each model."""
    return {
        model: Line(COLORS[position % len(COLORS)], _DASHES[position // len(COLORS) % len(_DASHES)])
        for position, model in enumerate(study.models)
    }


def shades(values: Iterable[float]) -> dict[float, str]:
    """A colour for each of a few numbers."""
    return dict(zip(sorted(values), cycle(COLORS), strict=False))


def condition_of(of: GroupSummary | RunSummary) -> Condition:
    """The condition of a group or a run."""
    return Condition(of.structure, of.temperature_K, of.timestep_fs)


def conditions(study: StudySummary) -> list[Condition]:
    """All conditions in the order of the study."""
    return list(dict.fromkeys(condition_of(group) for group in study.groups))


def condition_words(study: StudySummary, condition: Condition, *, always_temperature: bool = False) -> str:
    """Structure, temperature and time step of a condition, as far as they vary in the study."""
    words = []
    if len(study.structures) > 1:
        words.append(condition.structure)
    if len(study.temperatures_K) > 1 or always_temperature:
        words.append(f"{number(condition.temperature_K, 5)} K")
    if len(study.timesteps_fs) > 1:
        words.append(f"{number(condition.timestep_fs)} fs")
    return ", ".join(words)


def group_words(study: StudySummary, group: GroupSummary | RunSummary) -> str:
    """A group by what varies in the study."""
    rest = condition_words(study, condition_of(group))
    if len(study.models) > 1 or not rest:
        return f"{group.model}, {rest}" if rest else group.model
    return rest


def file_words(*parts: str | float) -> str:
    """Parts as a name of a file."""
    text = "-".join(f"{part:g}" if isinstance(part, float) else part for part in parts)
    return "".join(letter if letter.isalnum() or letter in "._+-" else "_" for letter in text)
