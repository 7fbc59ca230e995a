"""`RunResult`: how a stage ended and what it measured, and the file `result.json`."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError

from ase_mlcalc.config import Section, changed_keys
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.files import exclusive, write_text
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.drift import Slope
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.provenance import Provenance
from ase_mlcalc.md.thermo import THERMO_FILE

RESULT_FILE = "result.json"


UNFINISHED = (Outcome.RUNNING, Outcome.INTERRUPTED, Outcome.DISK_FULL)
"""Outcomes after which the same call goes on."""


def outcome_named(value: Any) -> Any:
    """An outcome from its name, which is what files hold; anything else as it is."""
    return Outcome.__members__.get(value, value) if isinstance(value, str) else value


NamedOutcome = Annotated[
    Outcome, BeforeValidator(outcome_named), PlainSerializer(lambda outcome: outcome.name, return_type=str)
]
"""An outcome that files hold by its name, not by its message."""


class Event(Section):
    """What a monitor found, and when."""

    monitor: str
    outcome: NamedOutcome
    step: int
    time_ps: float
    detail: str
    value: float | None = None
    threshold: float | None = None
    atoms: tuple[int, ...] = ()
    """Indices of the atoms that it is about."""
    stops: bool
    """Whether it ended the run."""


class RunResult(Section):
    """One stage of molecular dynamics: how it ended and what it measured.

    ``None`` where the calculator gives no such quantity or there are too few rows.
    """

    name: str
    folder: Path = Field(exclude=True)
    outcome: NamedOutcome
    detail: str = ""
    """What exactly went wrong, where something did."""
    config: MDConfig
    formula: str
    n_atoms: int
    degrees_of_freedom: int
    calculator: str
    dtype: str | None = None
    """Precision of the model; ``None`` for foreign calculators, which do not say."""
    stress_definition: str | None = None
    """How the stress was split over atoms; ``None`` for foreign calculators, which do not say."""
    steps_done: int = 0
    time_ps: float = 0.0
    wall_seconds: float | None = None
    ms_per_step: float | None = None
    ns_per_day: float | None = None
    temperature_mean_K: float | None = None
    temperature_std_K: float | None = None
    drift: Slope | None = None
    """Of what the equations of motion conserve, meV/atom/ps (intercept and rms in meV/atom)."""
    heating: Slope | None = None
    """Temperature in nve, K/ps: what is left to judge by when a potential gives no energy."""
    events: tuple[Event, ...] = ()
    """What the monitors found, in order."""
    notes: tuple[str, ...] = ()
    """Doubts about what was asked for, such as a long time step."""
    identity: dict[str, Any] = Field(default_factory=dict)
    """What tells this run from another beside its configuration: starting structure, calculator, reference."""
    provenance: Provenance | None = None
    restarts: int = 0
    """How often the run went on from a checkpoint."""

    @property
    def completed(self) -> bool:
        """The stage ran to its end."""
        return self.outcome is Outcome.COMPLETED

    @property
    def message(self) -> str:
        """The outcome in one line."""
        what = f"{self.name}: {self.outcome.value}"
        where = "" if self.completed else f" (after {self.steps_done} of {self.config.steps} steps)"
        return what + where + (f"; {self.detail}" if self.detail else "")

    @property
    def trajectory(self) -> Path:
        """File with the frames."""
        return self.folder / f"{self.name}.traj"

    def numbers(self) -> dict[str, Any]:
        """Everything as JSON values, as in ``result.json``."""
        slopes = {"drift": self.drift, "heating": self.heating}
        named = {key: None if slope is None else slope._asdict() for key, slope in slopes.items()}
        return self.model_dump(mode="json") | named | {"message": self.message}


def save_result(result: RunResult) -> None:
    """Put a stage into ``result.json`` of its folder, in place of an earlier entry of the same name."""
    stages = [stage for stage in read_results(result.folder) if stage.name != result.name]
    entries = [stage.numbers() for stage in (*stages, result)]
    text = json.dumps({"format": 1, "stages": entries}, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(result.folder / RESULT_FILE, text + "\n")


def read_results(folder: Path) -> list[RunResult]:
    """Stages of a run folder in the order in which they ran; empty if it holds no run.

    Raises
    ------
    DataError
        ``result.json`` is damaged.
    """
    path = folder / RESULT_FILE
    if not path.exists():
        return []
    try:
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
        results = []
        for stage in stages:
            values = {key: value for key, value in stage.items() if key != "message"}
            for key in ("drift", "heating"):
                values[key] = None if values[key] is None else Slope(**values[key])
            results.append(RunResult(folder=folder, **values))
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise DataError(
            f"{path} is not the result of a run ({type(error).__name__}); run again into a new folder"
        ) from error
    return results


def earlier_stage(folder: Path, name: str) -> RunResult | None:
    """What a folder holds of a stage.

    Raises
    ------
    ConfigError
        The name cannot be a file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ConfigError(f"a stage name is letters, digits, '_', '-' and '.', got {name!r}")
    return next((stage for stage in read_results(folder) if stage.name == name), None)


def refuse_another_run(earlier: RunResult, config: MDConfig, identity: dict[str, Any]) -> None:
    """Make sure that a stage in a folder is the one that is asked for, or the beginning of it.

    Raises
    ------
    ConfigError
        It differs; the message says in what.
    """
    before = {"md": earlier.config.model_dump(mode="json"), **earlier.identity}
    if is_longer(config, earlier.config):
        before["md"]["time_ps"] = config.time_ps
    changes = changed_keys(before, {"md": config.model_dump(mode="json"), **identity})
    if changes:
        raise ConfigError(
            f"{earlier.folder} already holds a stage {earlier.name!r} that is another run: {'; '.join(changes)}; "
            "choose another folder or name, or remove the earlier run"
        )


def refuse_another_job(folder: Path, names: Sequence[str]) -> None:
    """Make sure that the stages in a folder are those of a job by name; what each does is compared in its turn.

    Raises
    ------
    ConfigError
        It holds others.
    """
    held = [stage.name for stage in read_results(folder)]
    if any(before != now for before, now in zip(held, names, strict=False)):
        raise ConfigError(
            f"{folder} already holds another job: stages (were {', '.join(held)}, now {', '.join(names)}); "
            "choose another folder, or set job.overwrite = true to remove the earlier run"
        )


def refuse_to_overtake(folder: Path, name: str) -> None:
    """Make sure that a stage is not run while another one of its folder is half-way.

    Raises
    ------
    ConfigError
        One is; the message says which.
    """
    for stage in read_results(folder):
        if stage.name != name and stage.outcome in UNFINISHED:
            raise ConfigError(
                f"{folder} holds a stage {stage.name!r} that is {stage.outcome.name} and not at its end, so that "
                f"{name!r} cannot run there; go on with {stage.name!r} first, or choose another folder"
            )


def goes_on(earlier: RunResult, config: MDConfig) -> bool:
    """Whether there is something left to do of a stage."""
    return earlier.outcome in UNFINISHED or (earlier.completed and is_longer(config, earlier.config))


def is_longer(config: MDConfig, before: MDConfig) -> bool:
    """Whether a stage is asked for that goes on behind the end of an earlier one."""
    return config.time_ps > before.time_ps and config.steps > before.steps


def can_be_longer(config: MDConfig) -> bool:
    """Whether what a stage does until its end does not depend on where that is."""
    return config.temperature_end_K is None and config.settle_within_percent is None


def refuse_to_go_on(earlier: RunResult, config: MDConfig, *, at_its_end: bool) -> None:
    """Make sure that a stage can be made longer than it was; `at_its_end`: the state that it ended in is kept.

    Raises
    ------
    ConfigError
        It cannot, and why.
    """
    longer = f"{earlier.name!r} in {earlier.folder} cannot go on from md.time_ps = {earlier.config.time_ps:g} to "
    longer += f"{config.time_ps:g}"
    stages = [stage.name for stage in read_results(earlier.folder)]
    if stages[-1] != earlier.name:
        raise ConfigError(f"{longer}: the stage {stages[-1]!r} started from its end; choose another folder")
    if not can_be_longer(config):
        key = "temperature_end_K" if config.temperature_end_K is not None else "settle_within_percent"
        raise ConfigError(f"{longer}: with md.{key} what it does depends on its length; choose another folder")
    if not at_its_end:
        raise ConfigError(f"{longer}: its last checkpoint is not there; choose another folder")


def clear_run(folder: Path) -> None:
    """Remove the files of an earlier run from a folder, and nothing else.

    Raises
    ------
    ConfigError
        Another process is at work in it.
    """
    if not folder.is_dir():
        return
    with exclusive(folder):
        for stage in read_results(folder):
            for suffix in (".traj", "-failure.extxyz", "-stress.csv", "-heat-flux.csv", "-checkpoint.npz"):
                (folder / f"{stage.name}{suffix}").unlink(missing_ok=True)
        for name in (THERMO_FILE, RESULT_FILE):  # not the lock: who has opened it would hold that of no file
            (folder / name).unlink(missing_ok=True)
