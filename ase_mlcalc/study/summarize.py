"""From the runs of a study to what they say together: groups of seeds, models against each other, time steps."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from ase import units

from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.provenance import provenance
from ase_mlcalc.study.averages import Estimate, agreement, pooled
from ase_mlcalc.study.config import StudyJob
from ase_mlcalc.study.measure import measure_run
from ase_mlcalc.study.plan import PlannedRun, plan
from ase_mlcalc.study.scans import predictors, read_scans
from ase_mlcalc.study.summary import (
    GroupSummary,
    ModelComparison,
    PooledValue,
    RunSummary,
    StudySummary,
    TemperatureCheck,
    TimestepCheck,
    read_study,
    write_study,
)
from ase_mlcalc.study.survival import (
    Lifetimes,
    log_rank,
    median_time,
    restricted_mean,
    stable_interval,
    survival_curve,
)
from ase_mlcalc.study.words import verdict

SIGNIFICANT = 0.05
MEAN_TOLERANCE = 0.02
"""Of the target: what a mean temperature may be off before it is called different."""
VARIANCE_TOLERANCE = 0.1
ORDER_TOLERANCE = 0.2
"""Of the order of the time step error: a ratio between 3.5 and 4.6 where 4 is expected."""
TIMESTEP_DRIVERS = ("verlet", "nose-hoover", "npt")
"""Equations of motion whose conserved quantity is off by a term in dt²; stochastic thermostats break it at each step.
"""

Key = tuple[str, str, float, float]
"""Model, structure, temperature, time step."""


def summarize(job: StudyJob, runs: Sequence[PlannedRun]) -> StudySummary:
    """Everything that the files of a study say, finished or not."""
    table, folder = job.study, job.study.output
    measured = [measure_run(run, folder) for run in runs]
    grouped: dict[Key, list[RunSummary]] = {}
    for run in measured:
        grouped.setdefault((run.model, run.structure, run.temperature_K, run.timestep_fs), []).append(run)
    groups = [_group(own, job.production) for own in grouped.values()]
    scans = read_scans(job)
    return StudySummary(
        models=tuple(table.models),
        structures=tuple(table.structures),
        temperatures_K=table.temperatures_K,
        timesteps_fs=table.timesteps_fs,
        seeds=table.seeds,
        ensemble=job.production.ensemble,
        planned_ps=job.production.time_ps,
        references={name: each.reference for name, each in table.structures.items() if each.reference is not None},
        verdict=verdict(groups, measured),
        runs=tuple(measured),
        groups=tuple(groups),
        comparisons=tuple(_comparisons(grouped, tuple(table.models))),
        timestep_checks=tuple(_timestep_checks(grouped, job)),
        scans=tuple(scans),
        predictors=tuple(predictors(scans, groups)),
        job=job.model_dump(mode="json", exclude_unset=True),
        provenance=provenance().model_dump(mode="json"),
    )


def refresh(folder: Path | str) -> StudySummary:
    """Summarise the runs in the folder of a study again, and write ``study.json``; nothing is run.

    Raises
    ------
    DataError
        No study there.
    """
    folder = Path(folder)
    earlier = read_study(folder)
    job = StudyJob.model_validate(earlier.job)
    job = job.model_copy(update={"study": job.study.model_copy(update={"output": folder})})
    summary = summarize(job, plan(job)).model_copy(update={"provenance": earlier.provenance})
    write_study(summary, folder)
    return summary


def lifetimes(runs: Sequence[RunSummary]) -> Lifetimes:
    """Times of failure, and times at which runs left without having failed; runs that never started are not there."""
    failed = [run.time_ps for run in runs if run.status == "failed"]
    return Lifetimes(failed, [run.time_ps for run in runs if run.status != "failed" and run.outcome is not None])


# ----- one group -----


def _group(runs: Sequence[RunSummary], production: MDConfig) -> GroupSummary:
    first = runs[0]
    observed = lifetimes(runs)
    curve = survival_curve(observed)
    count = Counter(run.status for run in runs)
    interval = stable_interval(count["stable"], count["failed"])
    drift = _pooled(runs, "drift_meV_per_atom_per_ps", "drift_stderr")
    heating = _pooled(runs, "heating_K_per_ps", "heating_stderr")
    rms = _pooled(runs, "fluctuation_meV_per_atom", "fluctuation_stderr")
    kelvin = 1.0 / (1.5 * units.kB)  # meV/atom/ps are eV/atom/ns
    return GroupSummary(
        model=first.model,
        structure=first.structure,
        temperature_K=first.temperature_K,
        timestep_fs=first.timestep_fs,
        ensemble=first.ensemble,
        planned_ps=first.planned_ps,
        n_runs=len(runs),
        n_observed=sum(len(times) for times in observed),
        n_stable=count["stable"],
        n_failed=count["failed"],
        n_errors=count["error"],
        n_waiting=count["waiting"] + count["unfinished"],
        stable_fraction=None if interval is None else interval[0],
        stable_low=None if interval is None else interval[1],
        stable_high=None if interval is None else interval[2],
        median_time_to_failure_ps=None if curve is None else median_time(curve),
        mean_survival_ps=None if curve is None else restricted_mean(curve, first.planned_ps),
        survival=curve,
        reasons=dict(Counter(str(run.outcome) for run in runs if run.status == "failed").most_common()),
        drift_meV_per_atom_per_ps=None if drift is None else drift.value,
        drift_stderr=None if drift is None else drift.stderr,
        drift_K_per_ns=None if drift is None else drift.value * kelvin,
        drift_K_per_ns_stderr=None if drift is None else drift.stderr * kelvin,
        n_drift=0 if drift is None else drift.n,
        heating_K_per_ps=None if heating is None else heating.value,
        heating_stderr=None if heating is None else heating.stderr,
        fluctuation_meV_per_atom=None if rms is None else rms.value,
        fluctuation_stderr=None if rms is None else rms.stderr,
        temperature_mean_K=_mean(run.temperature_mean_K for run in runs),
        temperature=_temperature(runs, production, first.temperature_K),
        ms_per_step=_median(run.ms_per_step for run in runs),
        ns_per_day=_median(run.ns_per_day for run in runs),
    )


def _pooled(runs: Sequence[RunSummary], value: str, stderr: str) -> PooledValue | None:
    pairs = [(getattr(run, value), getattr(run, stderr)) for run in runs]
    return pooled([Estimate(own, error) for own, error in pairs if own is not None and error is not None])


def _temperature(runs: Sequence[RunSummary], production: MDConfig, target_K: float) -> TemperatureCheck | None:
    if production.ensemble == "nve" or production.temperature_end_K is not None:
        return None
    mean = _pooled(runs, "temperature_mean_K", "temperature_stderr_K")
    if mean is None:
        return None
    variance = _pooled(runs, "kinetic_variance_ratio", "kinetic_variance_stderr")
    return TemperatureCheck(
        target_K=target_K,
        mean_K=mean.value,
        mean_stderr_K=mean.stderr,
        mean_verdict=agreement(mean.value, mean.stderr, target_K, MEAN_TOLERANCE * target_K),
        kinetic_variance_ratio=None if variance is None else variance.value,
        kinetic_variance_stderr=None if variance is None else variance.stderr,
        variance_verdict=None
        if variance is None
        else agreement(variance.value, variance.stderr, 1.0, VARIANCE_TOLERANCE),
    )


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


# ----- models against each other -----


def _comparisons(grouped: dict[Key, list[RunSummary]], models: Sequence[str]) -> list[ModelComparison]:
    """Each pair of models, first over structures and temperatures and then, where there are several, one by one.

    Time steps are not taken together: with the same seed, runs at two of them are nearly the same run until chaos sets
    them apart, and counting both would feign twice the evidence.
    """
    kinds = list(dict.fromkeys(key[1:] for key in grouped))
    found = []
    for a, b in combinations(models, 2):
        pairs = {kind: (lifetimes(grouped[a, *kind]), lifetimes(grouped[b, *kind])) for kind in kinds}
        pairs = {kind: pair for kind, pair in pairs.items() if all(sum(map(len, one)) for one in pair)}
        for timestep in dict.fromkeys(kind[2] for kind in pairs):
            own = {kind: pair for kind, pair in pairs.items() if kind[2] == timestep}
            if len(own) > 1:
                found.append(_comparison(a, b, (None, None, timestep), list(own.values())))
            found += [_comparison(a, b, kind, [pair]) for kind, pair in own.items()]
    return found


def _comparison(
    a: str, b: str, kind: tuple[str | None, float | None, float], strata: list[tuple[Lifetimes, Lifetimes]]
) -> ModelComparison:
    test = log_rank(strata)
    structure, temperature, timestep = kind
    better = None
    if test.p_value is not None and test.statistic is not None and test.p_value < SIGNIFICANT:
        better = b if test.statistic > 0 else a
    return ModelComparison(
        model_a=a,
        model_b=b,
        structure=structure,
        temperature_K=temperature,
        timestep_fs=timestep,
        n_a=sum(len(times) for one, _ in strata for times in one),
        n_b=sum(len(times) for _, one in strata for times in one),
        failed_a=test.failed_a,
        failed_b=test.failed_b,
        expected_a=test.expected_a,
        statistic=test.statistic,
        p_value=test.p_value,
        more_stable=better,
    )


# ----- time steps -----


def _timestep_checks(grouped: dict[Key, list[RunSummary]], job: StudyJob) -> list[TimestepCheck]:
    """Each time step against the next longer one; see `TimestepCheck`."""
    if job.production.driver not in TIMESTEP_DRIVERS:
        return []
    logs: dict[tuple[str, str, float], dict[float, PooledValue]] = {}
    for (model, structure, temperature, timestep), runs in grouped.items():
        log = _log_fluctuation(runs)
        if log is not None:
            logs.setdefault((model, structure, temperature), {})[timestep] = log
    found = []
    for (model, structure, temperature), of_timestep in logs.items():
        ordered = sorted(of_timestep)
        for short, long in pairwise(ordered):
            growth = of_timestep[long].value - of_timestep[short].value
            error = math.hypot(of_timestep[long].stderr, of_timestep[short].stderr)
            step = math.log(long / short)
            order, order_error = growth / step, error / step
            found.append(
                TimestepCheck(
                    model=model,
                    structure=structure,
                    temperature_K=temperature,
                    short_fs=short,
                    long_fs=long,
                    short_meV_per_atom=math.exp(of_timestep[short].value),
                    long_meV_per_atom=math.exp(of_timestep[long].value),
                    ratio=math.exp(growth),
                    ratio_stderr=math.exp(growth) * error,
                    expected_ratio=(long / short) ** 2,
                    order=order,
                    order_stderr=order_error,
                    verdict=agreement(order, order_error, 2.0, ORDER_TOLERANCE),
                )
            )
    return found


def _log_fluctuation(runs: Sequence[RunSummary]) -> PooledValue | None:
    """Logarithm of the fluctuation, whose errors are relative ones."""
    known = [
        Estimate(math.log(run.fluctuation_meV_per_atom), (run.fluctuation_stderr or 0.0) / run.fluctuation_meV_per_atom)
        for run in runs
        if run.fluctuation_meV_per_atom
    ]
    return pooled(known)
