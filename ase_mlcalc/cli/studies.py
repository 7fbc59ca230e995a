"""What ``ase-mlcalc study`` is told on the command line, and how it shows what was found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ase_mlcalc.cli.campaign_tables import seeds_of
from ase_mlcalc.config import apply_overrides, read_toml, validate
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.study import GroupSummary, StudyJob, StudySummary
from ase_mlcalc.study.config import named_models, split_index, structure_name
from ase_mlcalc.study.words import plus_minus

REQUIRED = {"models": "--model or --calculator", "structures": "--structure"}


def job_of(
    file: Path | None,
    *,
    models: Sequence[str],
    compile: bool,  # noqa: A002  (as in MLCalculator)
    calculators: Sequence[str],
    arguments: Sequence[str],
    structures: Sequence[str],
    reference: str | None,
    temperatures: str | None,
    timesteps: str | None,
    seeds: str | None,
    equilibration: str | None,
    stage: dict[str, Any],
    out: Path | None,
    workers: int | None,
    overrides: Sequence[str],
    engine: str | None = None,
) -> StudyJob:
    """A study from a file, or from options, which have the names of the file.

    Where it is written and by how many workers can be said beside a file; `stage` has the keys of ``[md]``, ``None``
    where one was not given.

    Raises
    ------
    ConfigError
        Options beside a file that has them; no model or no structure; numbers that are none.
    """
    wishes: dict[str, Any] = {
        "models": _sources(models, calculators, arguments, compiled=compile),
        "structures": _structures(structures, reference),
        "temperatures_K": _numbers(temperatures, "--temperature"),
        "timesteps_fs": _numbers(timesteps, "--timestep"),
        "seeds": seeds_of(seeds),
        "equilibration": equilibration,
        "engine": engine,
    }
    study = {key: value for key, value in wishes.items() if value is not None}
    stage = {key: value for key, value in stage.items() if value is not None}
    if file is None:
        missing = [option for key, option in REQUIRED.items() if key not in study]
        if missing:
            raise ConfigError(f"give a file (`ase-mlcalc template study` prints one), or {' and '.join(missing)}")
        raw: dict[str, Any] = {"study": study, "md": stage}
    else:
        if also := [*study, *stage]:
            raise ConfigError(
                f"{file} has {', '.join(also)} already; change values of a file with --set section.key=value"
            )
        raw = read_toml(file)
    anywhere = {"output": None if out is None else str(out), "workers": workers}
    raw["study"] = {**raw.get("study", {}), **{key: value for key, value in anywhere.items() if value is not None}}
    return validate(StudyJob, apply_overrides(raw, overrides), "the command line" if file is None else str(file))


def _structures(files: Sequence[str], reference: str | None) -> Any:
    if reference is None:
        return list(files) or None
    if len(files) != 1:
        raise ConfigError(
            f"--reference belongs to one --structure, got {len(files)}; name several in a file, in "
            "[study.structures.NAME] tables"
        )
    file, index = split_index(files[0])
    return {
        structure_name(files[0]): {"file": file, "reference": reference} | ({} if index is None else {"index": index})
    }


def _sources(models: Sequence[str], calculators: Sequence[str], arguments: Sequence[str], *, compiled: bool) -> Any:
    if arguments and len(calculators) != 1:
        raise ConfigError(
            f"--argument belongs to one --calculator, got {len(calculators)}; name several in a file, in "
            "[study.models.NAME] tables"
        )
    try:
        sources: dict[str, dict[str, Any]] = named_models([*models, *calculators])
    except ValueError as error:
        raise ConfigError(f"--model and --calculator: {error}") from error
    for source in sources.values():
        if "calculator" in source and arguments:
            source["calculator_arguments"] = apply_overrides({}, arguments)
        if "model" in source and compiled:
            source["compile"] = True
    return sources or None


def _numbers(text: str | None, option: str) -> list[float] | None:
    """``300,600`` as numbers."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} reads a number or several with commas, 300,600; got {text!r}") from error


def study_table(summary: StudySummary) -> Table:
    """One row for the runs that differ only by their seed; what is the same in all of them stands in the title."""
    varied = {
        "model": [group.model for group in summary.groups],
        "structure": [group.structure for group in summary.groups],
        "K": [f"{group.temperature_K:g}" for group in summary.groups],
        "fs": [f"{group.timestep_fs:g}" for group in summary.groups],
    }
    columns = {name: values for name, values in varied.items() if len(set(values)) > 1}
    same = [
        values[0] if name in ("model", "structure") else f"{values[0]} {name}"
        for name, values in varied.items()
        if name not in columns
    ]
    columns["stable"] = [_stable(group) for group in summary.groups]
    columns["half failed\nafter, ps"] = [_number(group.median_time_to_failure_ps) for group in summary.groups]
    columns |= _judged(summary)
    columns["failures"] = [
        ", ".join(f"{count} {name}" for name, count in group.reasons.items()) for group in summary.groups
    ]
    columns["ms/step"] = [_number(group.ms_per_step) for group in summary.groups]
    title = ", ".join([*same, f"{summary.ensemble} for {summary.planned_ps:g} ps"])
    table = Table(title=escape(title), title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")  # nothing is cut off where the terminal is narrow
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(escape, row))
    table.caption = "in brackets: 95 % interval of the fraction that is stable"
    return table


def _stable(group: GroupSummary) -> str:
    """How many were stable of those that ended, and what that says of the fraction."""
    ended = group.n_stable + group.n_failed
    low, high = group.stable_low, group.stable_high
    interval = "" if low is None or high is None else f" ({100 * low:.0f}-{100 * high:.0f} %)"
    return f"{group.n_stable}/{ended}{interval}" + (f" of {group.n_runs}" if ended < group.n_runs else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _judged(summary: StudySummary) -> dict[str, list[str]]:
    """What says most beside survival: drift, or the heating of potentials without energy."""
    drift = [(group.drift_meV_per_atom_per_ps, group.drift_stderr) for group in summary.groups]
    heating = [(group.heating_K_per_ps, group.heating_stderr) for group in summary.groups]
    for title, pairs in (("drift,\nmeV/atom/ps", drift), ("heating,\nK/ps", heating)):
        if any(value is not None for value, _ in pairs):
            return {title: ["-" if value is None else plus_minus(value, error or 0.0) for value, error in pairs]}
    return {}


def show_study(summary: StudySummary, console: Console) -> None:
    """The table, then whatever else was found, a line each."""
    console.print(study_table(summary))
    notes = list(dict.fromkeys(note for run in summary.runs for note in run.notes))
    lines = [
        *describe_comparisons(summary),
        *describe_timesteps(summary),
        *describe_temperatures(summary),
        *describe_predictors(summary),
        *(f"note: {note}" for note in notes),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False)


def describe_comparisons(summary: StudySummary) -> list[str]:
    """Each pair of models in a line for each time step, over structures and temperatures where there are several."""
    lines = []
    told = set()
    for one in summary.comparisons:
        about = (one.model_a, one.model_b, one.timestep_fs)
        if about in told or one.p_value is None:
            continue
        told.add(about)
        where = f" at {one.timestep_fs:g} fs" if len(summary.timesteps_fs) > 1 else ""
        verdict = f"; {one.more_stable} is more stable" if one.more_stable else ", which does not tell them apart"
        lines.append(
            f"{one.model_a} against {one.model_b}{where}: {one.failed_a} of {one.n_a} and {one.failed_b} of {one.n_b} "
            f"failed, log-rank p = {one.p_value:.2g}{verdict}"
        )
    return lines


def describe_timesteps(summary: StudySummary) -> list[str]:
    """Each pair of time steps in a line."""
    words = {
        "agrees": "as it should",
        "differs": "which is not the dt² law: the forces are not the smooth derivative of the energy, the precision is "
        "too low or the time step too long",
        "undecided": "too uncertain to tell; run longer or with more seeds",
    }
    return [
        f"{one.model} {one.structure} {one.temperature_K:g} K: energy fluctuation at {one.long_fs:g} fs is "
        f"{plus_minus(one.ratio, one.ratio_stderr)} times that at {one.short_fs:g} fs, dt² says "
        f"{one.expected_ratio:.3g}: {words[one.verdict]}"
        for one in summary.timestep_checks
    ]


def describe_temperatures(summary: StudySummary) -> list[str]:
    """Groups whose temperature is not canonical, a line each."""
    lines = []
    for group in summary.groups:
        check = group.temperature
        if check is None:
            continue
        name = f"{group.model} {group.structure} {group.temperature_K:g} K {group.timestep_fs:g} fs"
        if check.mean_verdict == "differs":
            mean = plus_minus(check.mean_K, check.mean_stderr_K)
            lines.append(f"{name}: mean temperature {mean} K is not that of the thermostat")
        if check.variance_verdict == "differs":
            ratio = plus_minus(check.kinetic_variance_ratio or 0.0, check.kinetic_variance_stderr or 0.0)
            lines.append(f"{name}: the kinetic energy fluctuates {ratio} times as canonical, in variance")
    return lines


def describe_predictors(summary: StudySummary) -> list[str]:
    """How well scores of the scans ranked the models by their survival, a line each."""
    return [
        f"{one.score} against survival of {one.n_models} models on {one.structure}: rank correlation "
        f"{one.rank_correlation:+.2f} (-1 predicts best), p = {one.p_value:.2g}"
        for one in summary.predictors
    ]
