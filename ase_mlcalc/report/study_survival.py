"""Sections of a study: who survives for how long, why runs fail, and whether models differ."""

import re

import numpy as np

from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.plots import COLORS, new_axes, new_figure, whole_ticks
from ase_mlcalc.report.page import PANEL, Block, Gallery, Picture, Section, State, Table, Verdict, picture
from ase_mlcalc.report.study_groups import (
    Condition,
    condition_of,
    condition_words,
    conditions,
    file_words,
    group_words,
    lines,
)
from ase_mlcalc.report.words import UNKNOWN, counted, minus, number, sentence
from ase_mlcalc.study.summary import GroupSummary, ModelComparison, StudySummary
from ase_mlcalc.study.words import describe_group

MOST_VERDICTS = 12
_MOST_PANELS = 24


def group_verdicts(study: StudySummary) -> list[Verdict]:
    """The sentence of the study, and one for each of a few groups."""
    found = [Verdict(_state_of(study), f"{_plain(study.verdict)}.")]
    if 1 < len(study.groups) <= MOST_VERDICTS:
        found += [Verdict(_state(group), _words(group), group_words(study, group)) for group in study.groups]
    return found


def _state_of(study: StudySummary) -> State:
    if not study.finished:
        return "open"
    states = {_state(group) for group in study.groups}
    return "good" if states == {"good"} else "bad" if states == {"bad"} else "note"


def _state(group: GroupSummary) -> State:
    ended = group.n_stable + group.n_failed
    if group.n_waiting or not ended:
        return "open"
    if group.n_stable == group.n_runs:
        return "good"
    return "bad" if group.n_stable < 0.5 * ended else "note"


def _words(group: GroupSummary) -> str:
    """A group in one sentence."""
    words = describe_group(group)
    if group.n_errors:
        words += f"; {counted(group.n_errors, 'run')} could not be made"
    if group.n_waiting:
        words += f"; {counted(group.n_waiting, 'run')} not finished"
    return sentence(_plain(words))


def _plain(words: str) -> str:
    """With true minus signs, and names of outcomes as words."""
    names = "|".join(Outcome.__members__)
    return minus(re.sub(rf"\b(?:{names})\b", lambda name: outcome_words(name.group()), words))


def outcome_words(name: str) -> str:
    """The name of an outcome as a word."""
    return name.lower().replace("_", " ")


def survival_section(study: StudySummary) -> Section:
    """Survival curves, the table of groups, why runs failed, and the tests between models."""
    blocks: list[Block] = []
    if curves := [
        _curves(study, condition) for condition in conditions(study)[:_MOST_PANELS] if _has(study, condition)
    ]:
        caption = (
            "Kaplan-Meier estimates with pointwise 95 % bands; ticks are runs that ended without a failure. Where "
            "nothing failed, the bar at the end is the exact 95 % interval of the stable fraction."
        )
        blocks.append(Gallery(curves, caption))
    blocks.append(_table(study))
    if reasons := _reasons(study):
        blocks.append(Gallery([reasons]))
    if study.comparisons:
        blocks.append(_comparisons(study))
    return Section("Survival", blocks)


def _groups_at(study: StudySummary, condition: Condition) -> list[GroupSummary]:
    return [group for group in study.groups if condition_of(group) == condition and group.survival is not None]


def _has(study: StudySummary, condition: Condition) -> bool:
    return bool(_groups_at(study, condition))


def _curves(study: StudySummary, condition: Condition) -> Picture:
    """Kaplan-Meier curves of all models at one condition."""
    figure = new_figure(*PANEL)
    axes = new_axes(figure, 1, 1, 0)
    style = lines(study)
    groups = _groups_at(study, condition)
    end = max(group.planned_ps for group in groups)
    for position, group in enumerate(groups):
        curve, line = group.survival, style[group.model]
        assert curve is not None  # these groups have one
        time, survival = np.array(curve.times_ps), np.array(curve.survival)
        axes.step(time, survival, where="post", color=line.color, linestyle=line.dashes, linewidth=1.8,
                  label=f"{group.model}, {group.n_stable}/{group.n_runs} stable", zorder=3)  # fmt: skip
        low = np.array([value if low is None else low for value, low in zip(survival, curve.low, strict=True)])
        high = np.array([value if high is None else high for value, high in zip(survival, curve.high, strict=True)])
        axes.fill_between(time, low, high, step="post", color=line.color, alpha=0.15, linewidth=0)
        if curve.censored_ps:
            places = np.searchsorted(time, curve.censored_ps, side="right") - 1
            axes.plot(curve.censored_ps, survival[places], "|", color=line.color, markersize=7, zorder=4)
        if group.n_failed == 0 and group.stable_low is not None:
            # without a failure the curve has no band; the fraction of stable runs has an interval
            x = end * (1.012 + 0.012 * position)
            axes.plot([x, x], [group.stable_low, 1.0], color=line.color, linewidth=1.6, clip_on=False)
    axes.set(xlim=(0.0, end * (1.02 + 0.012 * len(groups))), ylim=(0.0, 1.04), xlabel="time / ps", ylabel="survival")
    words = condition_words(study, condition, always_temperature=True)
    axes.set_title(words, fontsize=11, loc="left")
    axes.legend(loc="lower left", frameon=True, framealpha=0.85, edgecolor="none", fontsize=8)
    alt = f"Survival against time at {words}: " + "; ".join(
        f"{group.model} {group.n_stable} of {group.n_runs} stable" for group in groups
    )
    return picture(
        figure,
        file_words("survival", condition.structure, condition.temperature_K, condition.timestep_fs),
        alt=alt,
    )


def _table(study: StudySummary) -> Table:
    columns = ["group", "stable", "95 % interval", "median time to failure / ps", "mean survival / ps", "failures",
               "ms/step", "ns/day"]  # fmt: skip
    rows = []
    for group in study.groups:
        left = [f"{counted(group.n_errors, 'error')}"] * bool(group.n_errors)
        left += [f"{group.n_waiting} not finished"] * bool(group.n_waiting)
        interval = UNKNOWN
        if group.stable_low is not None and group.stable_high is not None:
            interval = f"{100 * group.stable_low:.0f}–{100 * group.stable_high:.0f} %"
        median = number(group.median_time_to_failure_ps)
        if group.median_time_to_failure_ps is None and group.survival is not None:
            median = "not reached"
        rows.append(
            [
                group_words(study, group),
                f"{group.n_stable}/{group.n_runs}",
                interval,
                median,
                number(group.mean_survival_ps),
                ", ".join([f"{outcome_words(name)} {count}" for name, count in group.reasons.items()] + left)
                or UNKNOWN,
                number(group.ms_per_step),
                number(group.ns_per_day),
            ]
        )
    caption = (
        f"Stable: ran to the end of production, {number(study.planned_ps, 4)} ps. The interval of that fraction is "
        "exact (Clopper and Pearson); the median is where the survival curve reaches one half; mean survival is the "
        "area under the curve up to the planned time. Speed is the median over runs, of one process beside the others."
    )
    return Table(columns, rows, caption, words=("failures",))


def _reasons(study: StudySummary) -> Picture | None:
    """Failures by outcome as bars, one bar a group, or one a model if there are many groups."""
    counts: dict[str, dict[str, int]] = {}
    many = len(study.groups) > 14
    for group in study.groups:
        bar = counts.setdefault(group.model if many else group_words(study, group), {})
        for name, count in group.reasons.items():
            bar[name] = bar.get(name, 0) + count
    kinds = sorted({name for bar in counts.values() for name in bar}, key=list(Outcome.__members__).index)
    if not kinds:
        return None
    figure = new_figure(PANEL[0], 1.25 + 0.27 * len(counts))
    axes = new_axes(figure, 1, 1, 0)
    places = np.arange(len(counts))[::-1]
    left = np.zeros(len(counts))
    for position, kind in enumerate(kinds):
        widths = np.array([bar.get(kind, 0) for bar in counts.values()], dtype=float)
        axes.barh(places, widths, left=left, height=0.68, label=outcome_words(kind),
                  color=COLORS[(position + 1) % len(COLORS)], edgecolor="white", linewidth=0.8)  # fmt: skip
        left += widths
    axes.set_yticks(places, list(counts), fontsize=8.5)
    whole_ticks(axes.xaxis)
    axes.set(xlabel="failed runs")
    axes.grid(visible=False, axis="y")
    axes.set_title("Why runs failed", fontsize=11, loc="left")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    alt = "Failed runs by reason: " + "; ".join(
        f"{name}: " + (", ".join(f"{outcome_words(kind)} {count}" for kind, count in bar.items()) or "none")
        for name, bar in counts.items()
    )
    return picture(figure, "reasons", alt=alt, caption="Outcome of the runs that failed, as named by the monitor.")


def _comparisons(study: StudySummary) -> Table:
    rows = [_comparison_row(study, comparison) for comparison in study.comparisons]
    caption = (
        "Log-rank test that two models fail at the same rate. Expected: failures of each if they did. Where a row is "
        "over several conditions, each is a stratum of its own. p-values are two-sided and not corrected for their "
        "number."
    )
    columns = ("models", "condition", "failed", "expected", "p-value", "more stable")
    return Table(columns, rows, caption, words=("condition", "more stable"))


def _comparison_row(study: StudySummary, found: ModelComparison) -> list[str]:
    parts = [
        found.structure if len(study.structures) > 1 else None,
        None if found.temperature_K is None else f"{number(found.temperature_K, 5)} K",
        None if found.timestep_fs is None or len(study.timesteps_fs) == 1 else f"{number(found.timestep_fs)} fs",
    ]
    where = ", ".join(part for part in parts if part) or "all"
    return [
        f"{found.model_a} : {found.model_b}",
        where,
        f"{found.failed_a}/{found.n_a} : {found.failed_b}/{found.n_b}",
        f"{number(found.expected_a)} : {number(found.failed_a + found.failed_b - found.expected_a)}",
        UNKNOWN if found.p_value is None else p_words(found.p_value),
        found.more_stable or "not told apart",
    ]


def p_words(p: float) -> str:
    """A p-value; tiny ones as a bound."""
    return "< 0.0001" if p < 1e-4 else number(p, 2)
