"""Sections of a study: drift, the dt² law and temperature of runs that go on, and what predicted survival."""

from collections.abc import Sequence

import numpy as np

from ase_mlcalc.plots import GREY, logarithmic, new_axes, new_figure
from ase_mlcalc.report.page import PANEL, Block, Gallery, Picture, Section, Table, picture
from ase_mlcalc.report.study_groups import Condition, condition_words, file_words, group_words, lines, shades
from ase_mlcalc.report.study_survival import p_words
from ase_mlcalc.report.words import UNKNOWN, number, plus_minus
from ase_mlcalc.study.scans import DECIMALS
from ase_mlcalc.study.summary import Predictor, StudySummary, TimestepCheck

_MOST_PANELS = 12


def drift_section(study: StudySummary) -> Section | None:
    """Drift of the conserved energy per group, the heating rate where there is none; ``None`` without either."""
    pictures = [
        _slopes(study, "drift", "drift_meV_per_atom_per_ps", "drift_stderr", "meV/atom/ps"),
        _slopes(study, "heating", "heating_K_per_ps", "heating_stderr", "K/ps"),
    ]
    shown = [each for each in pictures if each is not None]
    if not shown:
        return None
    rows = [
        [
            group_words(study, group),
            str(group.n_drift),
            _or_unknown(group.drift_meV_per_atom_per_ps, group.drift_stderr),
            _or_unknown(group.drift_K_per_ns, group.drift_K_per_ns_stderr),
            _or_unknown(group.heating_K_per_ps, group.heating_stderr),
            _or_unknown(group.fluctuation_meV_per_atom, group.fluctuation_stderr, sign=False),
        ]
        for group in study.groups
        if group.drift_meV_per_atom_per_ps is not None or group.heating_K_per_ps is not None
    ]
    columns = ("group", "runs", "drift / meV/atom/ps", "drift / K/ns", "heating / K/ps", "fluctuation / meV/atom")
    caption = (
        "Slope of the conserved energy ± standard error, over runs that came to their end; runs are weighted by their "
        "errors, and the scatter between runs is in the error. In K/ns: as kinetic energy alone, slope/(1.5 k_B); "
        "vibrating atoms heat half as fast. Heating: slope of the temperature. Fluctuation: rms about the line."
    )
    return Section("Drift of the conserved energy", [Gallery(shown), Table(columns, rows, caption)])


def _or_unknown(value: float | None, stderr: float | None, *, sign: bool = True) -> str:
    return UNKNOWN if value is None else plus_minus(value, stderr, sign=sign)


def _slopes(study: StudySummary, name: str, value: str, stderr: str, unit: str) -> Picture | None:
    """One line a group: its runs as points and the pooled value with two standard errors."""
    groups = [group for group in study.groups if getattr(group, value) is not None][:40]
    conserved = any(group.drift_meV_per_atom_per_ps is not None for group in study.groups)
    if not groups or (name == "heating" and conserved and not _without_energy(study)):
        return None
    figure = new_figure(PANEL[0], 1.0 + 0.27 * max(len(groups), 3))
    axes = new_axes(figure, 1, 1, 0)
    colors = shades(study.timesteps_fs)
    for position, group in enumerate(groups):
        y = len(groups) - 1 - position
        color = colors[group.timestep_fs]
        mine = [run for run in study.runs if _same(run, group) and getattr(run, value) is not None]
        offsets = np.linspace(-0.22, 0.22, len(mine)) if len(mine) > 1 else np.zeros(len(mine))
        axes.plot([getattr(run, value) for run in mine], y + offsets, ".", color=color, alpha=0.45, markersize=4)
        axes.errorbar(getattr(group, value), y, xerr=2.0 * (getattr(group, stderr) or 0.0), fmt="D", color=color,
                      markersize=5, linewidth=1.8, capsize=3)  # fmt: skip
    axes.axvline(0.0, color="black", linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(groups)), [group_words(study, group) for group in reversed(groups)], fontsize=8.5)
    axes.set(xlabel=f"{name} / {unit}", ylim=(-0.6, len(groups) - 0.4))
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5)
    values = "; ".join(f"{group_words(study, group)} {number(getattr(group, value))}" for group in groups)
    what = "conserved energy" if name == "drift" else "temperature"
    caption = f"Slope of the {what} of each run (points), and over runs with two standard errors (diamonds)."
    if len(study.timesteps_fs) > 1:
        caption += " Colours tell time steps apart."
    return picture(figure, name, alt=f"{name} in {unit}: {values}", caption=caption)


def _without_energy(study: StudySummary) -> bool:
    return any(g.heating_K_per_ps is not None and g.drift_meV_per_atom_per_ps is None for g in study.groups)


def _same(run: object, group: object) -> bool:
    keys = ("model", "structure", "temperature_K", "timestep_fs")
    return all(getattr(run, key) == getattr(group, key) for key in keys)


def timestep_section(study: StudySummary) -> Section | None:
    """Fluctuation of the conserved energy against the time step."""
    if not study.timestep_checks:
        return None
    places = list(dict.fromkeys((check.structure, check.temperature_K) for check in study.timestep_checks))
    pictures = [_fluctuations(study, *place) for place in places[:_MOST_PANELS]]
    rows = [_check_row(study, check) for check in study.timestep_checks]
    caption = (
        "Velocity Verlet conserves a shadow energy that differs from the true one by a term in dt². With smooth "
        "forces that are the derivative of the energy, the fluctuation grows by the square of the ratio of time "
        "steps: order 2."
    )
    columns = ("run", "time steps / fs", "fluctuation / meV/atom", "ratio", "expected", "order", "verdict")
    drawn = (
        "Root mean square of the conserved energy about its line, with two standard errors. Dashed: growth with dt² "
        "from the shortest time step."
    )
    return Section("Time step", [Gallery(pictures, drawn), Table(columns, rows, caption)])


def _check_row(study: StudySummary, check: TimestepCheck) -> list[str]:
    words = condition_words(study, Condition(check.structure, check.temperature_K, 0.0)).rsplit(", ", 1)[0]
    place = words if len(study.structures) > 1 or len(study.temperatures_K) > 1 else ""
    return [
        ", ".join(part for part in (check.model, place) if part),
        f"{check.short_fs:g} : {check.long_fs:g}",
        f"{number(check.short_meV_per_atom)} : {number(check.long_meV_per_atom)}",
        plus_minus(check.ratio, check.ratio_stderr, sign=False),
        number(check.expected_ratio),
        plus_minus(check.order, check.order_stderr, sign=False),
        check.verdict,
    ]


def _fluctuations(study: StudySummary, structure: str, temperature_K: float) -> Picture:
    figure = new_figure(*PANEL)
    axes = new_axes(figure, 1, 1, 0)
    words = []
    for model, line in lines(study).items():
        groups = [
            group
            for group in study.groups
            if (group.model, group.structure, group.temperature_K) == (model, structure, temperature_K)
            and group.fluctuation_meV_per_atom
        ]
        if not groups:
            continue
        groups.sort(key=lambda group: group.timestep_fs)
        dt = np.array([group.timestep_fs for group in groups])
        rms = np.array([group.fluctuation_meV_per_atom for group in groups], dtype=float)
        errors = np.array([group.fluctuation_stderr or 0.0 for group in groups])
        axes.errorbar(dt, rms, yerr=2.0 * errors, fmt="o", color=line.color, markersize=5, capsize=3, label=model)
        axes.plot(dt, rms[0] * (dt / dt[0]) ** 2, color=line.color, linestyle=(0, (4, 2)), linewidth=1.0)
        words.append(f"{model} {', '.join(f'{number(r)} at {number(t)} fs' for t, r in zip(dt, rms, strict=True))}")
    logarithmic(axes)
    logarithmic(axes, x=True)
    axes.set(xlabel="time step / fs", ylabel="energy fluctuation / meV/atom")
    axes.margins(0.12)
    place = condition_words(study, Condition(structure, temperature_K, study.timesteps_fs[0]), always_temperature=True)
    axes.set_title(place.rsplit(", ", 1)[0] if len(study.timesteps_fs) > 1 else place, fontsize=11, loc="left")
    axes.legend(loc="upper left", frameon=False, fontsize=8.5)
    return picture(
        figure,
        file_words("time-step", structure, temperature_K),
        alt=f"Energy fluctuation in meV/atom: {'; '.join(words)}",
    )


def temperature_section(study: StudySummary) -> Section | None:
    """Temperature of runs with a thermostat against the canonical ensemble."""
    rows = []
    for group in study.groups:
        check = group.temperature
        if check is None:
            continue
        rows.append(
            [
                group_words(study, group),
                number(check.target_K, 5),
                plus_minus(check.mean_K, check.mean_stderr_K, sign=False),
                check.mean_verdict,
                _or_unknown(check.kinetic_variance_ratio, check.kinetic_variance_stderr, sign=False),
                check.variance_verdict or UNKNOWN,
            ]
        )
    if not rows:
        return None
    caption = (
        "Mean of the kinetic temperature ± standard error (block averaging within runs, scatter between them). "
        "Variance: of the kinetic energy over the canonical (f/2)(k_B T)². “undecided”: the error bar is too wide to "
        "tell."
    )
    columns = ("group", "thermostat / K", "mean / K", "mean", "variance ratio", "variance")
    return Section(
        "Temperature against the canonical ensemble", [Table(columns, rows, caption, words=("mean", "variance"))]
    )


def predictors_section(study: StudySummary) -> Section | None:
    """Scores of the quick scans beside the survival that was measured."""
    if not study.scans:
        return None
    names = list(dict.fromkeys(name for scan in study.scans for name in scan.scores))
    shown = [name for name in names if _tells_apart([scan.scores.get(name) for scan in study.scans])]
    several = len(study.structures) > 1
    rows = [
        [
            f"{scan.model}, {scan.structure}" if several else scan.model,
            *(number(scan.scores.get(name)) for name in shown),
            number(_survived(study, scan.model, scan.structure)),
        ]
        for scan in study.scans
    ]
    columns = ("model", *(score_words(name) for name in shown), "survived fraction")
    caption = (
        "Scores of the scans of bonds and dimers (`ase-mlcalc check`), which cost seconds; larger is worse. Survived "
        "fraction: mean survival over the planned time, over all conditions."
    )
    if left_out := [score_words(name, unit=False) for name in names if name not in shown]:
        caption += f" Left out, for they are zero, unknown or the same in all: {', '.join(left_out)}."
    blocks: list[Block] = [Table(columns, rows, caption)]
    if study.predictors:
        best = sorted(study.predictors, key=lambda each: each.p_value)[:_MOST_PANELS]
        pictures = [each for predictor in best[:4] if (each := _scatter(study, predictor)) is not None]
        blocks = [Gallery(pictures), *blocks] if pictures else blocks
        blocks.append(_ranks(study, several=several))
    return Section("Scans against survival", blocks)


def score_words(name: str, *, unit: bool = True) -> str:
    """A score of the scans in words: bond_force_jump_eV_per_A is "bond force jump / eV/Å"."""
    words, separator, of = name.partition("_eV")
    text = words.replace("_", " ")
    return f"{text} / eV{of.replace('_per_A', '/Å')}" if unit and separator else text


def _tells_apart(values: Sequence[float | None]) -> bool:
    """Whether a column of scores has something to see: of one model any number but zero, of several a difference."""
    known = {None if value is None else round(value, DECIMALS) for value in values}
    return len(known) > 1 or (len(values) == 1 and not known & {None, 0.0})


def _ranks(study: StudySummary, *, several: bool) -> Table:
    """How well each score ranked the models."""
    rows = [
        [
            score_words(each.score, unit=False),
            *([each.structure] * several),
            str(each.n_models),
            number(each.rank_correlation, 2),
            p_words(each.p_value),
        ]
        for each in sorted(study.predictors, key=lambda each: each.p_value)
    ]
    caption = (
        "Spearman's rank correlation of score and survival over models: −1 if a larger score always meant an earlier "
        "failure."
    )
    columns = ("score", *(["structure"] * several), "models", "rank correlation", "p-value")
    return Table(columns, rows, caption, words=("structure",))


def _survived(study: StudySummary, model: str, structure: str) -> float | None:
    found = [
        group.mean_survival_ps / group.planned_ps
        for group in study.groups
        if group.model == model and group.structure == structure and group.mean_survival_ps is not None
    ]
    return float(np.mean(found)) if found else None


def _scatter(study: StudySummary, predictor: Predictor) -> Picture | None:
    points = [
        (scan.model, score, survived)
        for scan in study.scans
        if scan.structure == predictor.structure
        and (score := scan.scores.get(predictor.score)) is not None
        and (survived := _survived(study, scan.model, scan.structure)) is not None
    ]
    if len(points) < 3:
        return None
    figure = new_figure(*PANEL)
    axes = new_axes(figure, 1, 1, 0)
    style = lines(study)
    for model, score, survived in points:
        axes.plot([score], [survived], "o", color=style[model].color, markersize=7)
        axes.annotate(model, (score, survived), xytext=(5, 4), textcoords="offset points", fontsize=8, color=GREY)
    label = score_words(predictor.score)
    axes.set(xlabel=label, ylabel="survived fraction", ylim=(-0.05, 1.08))
    axes.margins(x=0.2)
    axes.set_title(
        f"{predictor.structure}: rank correlation {number(predictor.rank_correlation, 2)}, "
        f"p {p_words(predictor.p_value)}",
        fontsize=10, loc="left",
    )  # fmt: skip
    words = "; ".join(f"{model} {number(score)} and {number(survived)}" for model, score, survived in points)
    what = score_words(predictor.score, unit=False).capitalize()
    return picture(
        figure, file_words("scan", predictor.structure, predictor.score),
        alt=f"{label} and survived fraction: {words}", caption=f"{what} of the scan against the survival measured.",
    )  # fmt: skip
