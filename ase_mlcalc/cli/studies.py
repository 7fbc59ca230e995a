"""What ``ase-mlcalc study`` is told on the command line, and how it shows what was found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ase_mlcalc.config import apply_overrides, read_toml, validate
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.study import GroupSummary, StudyJob, StudySummary
from ase_mlcalc.study.config import split_index, structure_name
from ase_mlcalc.study.words import plus_minus

REQUIRED = {"models": "--model or --calculator", "structures": "--structure"}


def job_of(
    file: Path | None,
    *,
    models: Sequence[str],
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
        "models": _sources(models, calculators, arguments),
        "structures": _structures(structures, reference),
        "temperatures_K": _numbers(temperatures, "--temperature"),
        "timesteps_fs": _numbers(timesteps, "--timestep"),
        "seeds": _seeds(seeds),
        "equilibration": equilibration,
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


def _sources(models: Sequence[str], calculators: Sequence[str], arguments: Sequence[str]) -> Any:
    if arguments and len(calculators) != 1:
        raise ConfigError(
            f"--argument belongs to one --calculator, got {len(calculators)}; name several in a file, in "
            "[study.models.NAME] tables"
        )
    if arguments:
        (path,) = calculators
        name = path.rpartition(":")[2] or path
        own = {name: {"calculator": path, "calculator_arguments": apply_overrides({}, arguments)}}
        return own | {Path(model).stem: {"model": model} for model in models}
    return [*models, *calculators] or None


def _numbers(text: str | None, option: str) -> list[float] | None:
    """``300,600`` as numbers."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} reads a number or several with commas, 300,600; got {text!r}") from error


def _seeds(text: str | None) -> int | list[int] | None:
    """A number of seeds, or with a comma a list of them."""
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--seeds reads how many, 8, or a list of them, 3,4,5; got {text!r}") from error
    return numbers if "," in text else numbers[0]


def study_table(summary: StudySummary) -> Table:
    """One row for the runs that differ only by their seed."""
    columns = ["model", "structure", "K", "fs", "stable", "95 %", "half failed\nafter, ps"]
    judged = _judged(summary)
    table = Table(*columns, *([judged[0]] if judged else []), "failures", "ms/step", title_justify="left")
    for group in summary.groups:
        ended = group.n_stable + group.n_failed
        median = group.median_time_to_failure_ps
        low, high = group.stable_low, group.stable_high
        interval = "" if low is None or high is None else f"{100 * low:.0f}-{100 * high:.0f} %"
        table.add_row(
            escape(group.model),
            escape(group.structure),
            f"{group.temperature_K:g}",
            f"{group.timestep_fs:g}",
            f"{group.n_stable}/{ended}" + (f" of {group.n_runs}" if ended < group.n_runs else ""),
            interval,
            "-" if median is None else f"{median:.3g}",
            *([_value(group, *judged[1:])] if judged else []),
            ", ".join(f"{count} {name}" for name, count in group.reasons.items()),
            "-" if group.ms_per_step is None else f"{group.ms_per_step:.3g}",
        )
    table.caption = f"{summary.ensemble} for {summary.planned_ps:g} ps; 95 %: interval of the fraction that is stable"
    return table


def _judged(summary: StudySummary) -> tuple[str, str, str] | None:
    """What says most beside survival: title, value and its error."""
    if any(group.drift_meV_per_atom_per_ps is not None for group in summary.groups):
        return "drift,\nmeV/atom/ps", "drift_meV_per_atom_per_ps", "drift_stderr"
    if any(group.heating_K_per_ps is not None for group in summary.groups):
        return "heating,\nK/ps", "heating_K_per_ps", "heating_stderr"
    return None


def _value(group: GroupSummary, value: str, error: str) -> str:
    found = getattr(group, value)
    return "-" if found is None else plus_minus(found, getattr(group, error) or 0.0)


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
