"""What a study found: the types of `StudySummary`, and the file `study.json` that holds it.

Everything here is numbers and words; nothing runs, and no trajectory is opened.  ``None`` stands for what is not known
or could not be measured: too few rows, no energy, fewer than two models.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ase_mlcalc.config import Section
from ase_mlcalc.errors import DataError
from ase_mlcalc.files import write_text

STUDY_FILE = "study.json"
FORMAT = 1

Status = Literal["stable", "failed", "unfinished", "error", "waiting"]
"""How far a run came.

``stable``: production ran to its end.  ``failed``: a monitor or the driver stopped it, which is the event that survival
is about.  ``unfinished``: interrupted or still at work.  ``error``: it could not be made, or its process died.
``waiting``: not started.
"""

Verdict = Literal["agrees", "differs", "undecided"]
"""``undecided``: the error bar is too wide to tell."""


class RunSummary(Section):
    """One run of a study; numbers are those of its production stage, the last one."""

    model: str
    structure: str
    temperature_K: float
    timestep_fs: float
    seed: int
    folder: str
    """Of the run, relative to the folder of the study."""
    status: Status
    outcome: str | None = None
    """Name of the `ase_mlcalc.md.Outcome`; ``None`` before there is one."""
    stage: str | None = None
    """Where it stands or ended; another than the last stage if the run failed before production."""
    time_ps: float = 0.0
    """Time survived in production."""
    planned_ps: float
    """Length of production."""
    monitor: str | None = None
    """Name of the monitor that stopped it."""
    detail: str = ""
    """What exactly went wrong, where something did."""
    error: str | None = None
    """Why the run could not be made, for ``status = "error"``."""
    notes: tuple[str, ...] = ()
    """Doubts of the driver about what was asked for, such as a long time step."""
    n_atoms: int | None = None
    formula: str | None = None
    ensemble: str
    drift_meV_per_atom_per_ps: float | None = None
    """Of the total energy at constant energy, and of the conserved quantity with a thermostat or barostat that has one;
    completed runs only."""
    drift_stderr: float | None = None
    heating_K_per_ps: float | None = None
    """Slope of the temperature at constant energy: the judge of a potential that gives no energy."""
    heating_stderr: float | None = None
    fluctuation_meV_per_atom: float | None = None
    """Root mean square of the same energy about its fitted line."""
    fluctuation_stderr: float | None = None
    temperature_mean_K: float | None = None
    temperature_stderr_K: float | None = None
    """Of the mean, by block averaging."""
    kinetic_variance_ratio: float | None = None
    """Variance of the kinetic energy over the canonical (f/2)(k_B T)², with a thermostat only."""
    kinetic_variance_stderr: float | None = None
    ms_per_step: float | None = None
    ns_per_day: float | None = None


class SurvivalCurve(Section):
    """Kaplan-Meier estimate of the probability to survive beyond a time, with pointwise 95 % bands.

    A step function: the value at position k holds from ``times_ps[k]`` to the next time.  It starts at time 0, and
    ends at the largest time that any run reached.  Bands are ``None`` where the estimate is 1 or 0, for the formula of
    Greenwood gives no width there; see `GroupSummary.stable_low` for what no failure in n runs says.
    """

    times_ps: tuple[float, ...]
    survival: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    at_risk: tuple[int, ...]
    """Runs that were still observed just before each time."""
    censored_ps: tuple[float, ...]
    """Times at which runs left without having failed, for the marks on the curve."""


class PooledValue(Section):
    """A quantity over several runs, weighted by their errors, with the scatter between runs in its error."""

    value: float
    stderr: float
    n: int
    """Runs that have it."""


class TemperatureCheck(Section):
    """Temperature with a thermostat against what the canonical ensemble says."""

    target_K: float
    mean_K: float
    mean_stderr_K: float
    mean_verdict: Verdict
    kinetic_variance_ratio: float | None = None
    """Variance of the kinetic energy over (f/2)(k_B T)²; 1 in the canonical ensemble."""
    kinetic_variance_stderr: float | None = None
    variance_verdict: Verdict | None = None


class GroupSummary(Section):
    """The runs that differ only by their seed."""

    model: str
    structure: str
    temperature_K: float
    timestep_fs: float
    ensemble: str
    planned_ps: float
    n_runs: int
    """Runs that were planned."""
    n_observed: int
    """Runs that the survival curve is made of: all but those that never started."""
    n_stable: int
    n_failed: int
    n_errors: int
    """Runs that could not be made or whose process died; counted as left, not as failed."""
    n_waiting: int
    """Runs not started or not yet at their end."""
    stable_fraction: float | None = None
    """Of the runs that ended one way or the other, stable or failed."""
    stable_low: float | None = None
    stable_high: float | None = None
    """95 % interval of that fraction, exact (Clopper and Pearson)."""
    median_time_to_failure_ps: float | None = None
    """First time at which the survival curve is at one half or below; ``None`` if it stays above."""
    mean_survival_ps: float | None = None
    """Area under the survival curve up to the planned time (restricted mean survival time)."""
    survival: SurvivalCurve | None = None
    reasons: dict[str, int] = Field(default_factory=dict)
    """Outcome of failed runs to how often it was, most frequent first."""
    drift_meV_per_atom_per_ps: float | None = None
    drift_stderr: float | None = None
    drift_K_per_ns: float | None = None
    """The same drift as kinetic energy alone: slope / (1.5 k_B).  Harmonic atoms heat half as fast."""
    drift_K_per_ns_stderr: float | None = None
    n_drift: int = 0
    """Runs that the drift is pooled from."""
    heating_K_per_ps: float | None = None
    heating_stderr: float | None = None
    fluctuation_meV_per_atom: float | None = None
    fluctuation_stderr: float | None = None
    temperature_mean_K: float | None = None
    """Mean over the production of all runs; at constant energy it need not be `temperature_K`."""
    temperature: TemperatureCheck | None = None
    ms_per_step: float | None = None
    """Median over the runs; processes beside each other included."""
    ns_per_day: float | None = None
    """Median over the runs, of one run in one process."""


class ModelComparison(Section):
    """Log-rank test that two models fail at the same rate, runs of the same kind against each other."""

    model_a: str
    model_b: str
    structure: str | None = None
    """``None``, as the temperature: over all structures and temperatures at one time step, each a stratum."""
    temperature_K: float | None = None
    timestep_fs: float | None = None
    n_a: int
    n_b: int
    failed_a: int
    failed_b: int
    expected_a: float
    """Failures of model a if both failed at the same rate."""
    statistic: float | None = None
    """About standard normal if they do; positive if model a fails more.  ``None`` where nothing failed."""
    p_value: float | None = None
    """Two-sided, from permutations of the runs."""
    more_stable: str | None = None
    """The model with fewer failures than expected where the p-value is below 0.05."""


class TimestepCheck(Section):
    """How the fluctuation of the conserved energy grows from one time step to the next longer one.

    Velocity Verlet conserves a shadow energy that differs from the true one by a term in dt², so the fluctuation grows
    by (dt ratio)² if the forces are the smooth derivative of the energy and the time step is not too long.
    """

    model: str
    structure: str
    temperature_K: float
    short_fs: float
    long_fs: float
    short_meV_per_atom: float
    long_meV_per_atom: float
    ratio: float
    """Fluctuation at the long over that at the short time step."""
    ratio_stderr: float
    expected_ratio: float
    order: float
    """log(ratio) / log(dt ratio), 2 if all is well."""
    order_stderr: float
    verdict: Verdict


class Scan(Section):
    """Scores of the quick scans of bonds and dimers for a model on a structure; larger is worse."""

    model: str
    structure: str
    scores: dict[str, float | None] = Field(default_factory=dict)
    error: str | None = None
    """Why there are none."""


class Predictor(Section):
    """How well a score of the scans, which cost seconds, ranked the models by the survival that was then measured."""

    score: str
    structure: str
    n_models: int
    rank_correlation: float
    """Spearman's, between score and survival: -1 if a larger score always meant an earlier failure."""
    p_value: float
    """Two-sided, from all permutations where they can be listed."""


class StudySummary(Section):
    """Everything that a study found.  `read_study` reads it from ``study.json``."""

    format: int = FORMAT
    models: tuple[str, ...]
    structures: tuple[str, ...]
    temperatures_K: tuple[float, ...]
    timesteps_fs: tuple[float, ...]
    seeds: tuple[int, ...]
    ensemble: str
    """Of production."""
    planned_ps: float
    """Length of production."""
    references: dict[str, str] = Field(default_factory=dict)
    """Structure to the file of the trajectory that is taken for right, where one was given."""
    verdict: str
    """One sentence."""
    runs: tuple[RunSummary, ...]
    groups: tuple[GroupSummary, ...]
    comparisons: tuple[ModelComparison, ...] = ()
    timestep_checks: tuple[TimestepCheck, ...] = ()
    scans: tuple[Scan, ...] = ()
    predictors: tuple[Predictor, ...] = ()
    job: dict[str, Any] = Field(default_factory=dict)
    """The job as it was given."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Versions, machine, and digests of the files of models and structures."""

    @property
    def finished(self) -> bool:
        """No run is left to be made."""
        return all(run.status in ("stable", "failed", "error") for run in self.runs)


def write_study(summary: StudySummary, folder: Path) -> Path:
    """Write ``study.json`` into the folder of a study."""
    path = folder / STUDY_FILE
    text = json.dumps(summary.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")
    return path


def read_study(folder: Path | str) -> StudySummary:
    """What the study in a folder found.

    Raises
    ------
    DataError
        No study there, or its file is damaged or of another version.
    """
    path = Path(folder) / STUDY_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no {STUDY_FILE} in {folder}; give the folder that a study was written to") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); run the study again, which repeats no run") from error
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != FORMAT:
        raise DataError(f"{path} has format {found}, this version reads {FORMAT}; run the study again to rewrite it")
    try:
        return StudySummary.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{path} is not the summary of a study: {where}: {first['msg']}; run the study again to rewrite it"
        ) from error
