"""`RunResult`: how a stage ended and what it measured, and the file `result.json`."""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_serializer, field_validator

from ase_mlcalc.config import Section
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.files import write_text
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.drift import Slope
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.thermo import THERMO_FILE

RESULT_FILE = "result.json"


class RunResult(Section):
    """One stage of molecular dynamics: how it ended and what it measured.

    ``None`` where the calculator gives no such quantity or there are too few rows.
    """

    name: str
    folder: Path = Field(exclude=True)
    outcome: Outcome
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
    """Total energy in nve, meV/atom/ps (intercept and rms in meV/atom)."""
    heating: Slope | None = None
    """Temperature in nve, K/ps: what is left to judge by when a potential gives no energy."""

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

    @field_serializer("outcome")
    def _outcome_name(self, outcome: Outcome) -> str:
        return outcome.name

    @field_validator("outcome", mode="before")
    @classmethod
    def _outcome_from_name(cls, value: Any) -> Any:
        return Outcome.__members__.get(value, value) if isinstance(value, str) else value


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


def claim_stage(folder: Path, name: str) -> None:
    """Make sure that a stage may be written.

    Raises
    ------
    ConfigError
        The name cannot be a file name, or the folder already holds a stage of that name.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ConfigError(f"a stage name is letters, digits, '_', '-' and '.', got {name!r}")
    if (folder / f"{name}.traj").exists() or any(stage.name == name for stage in read_results(folder)):
        raise ConfigError(
            f"{folder} already holds a stage {name!r}, which is not overwritten: choose another folder or name, "
            "or remove the earlier run"
        )
    folder.mkdir(parents=True, exist_ok=True)


def clear_run(folder: Path) -> None:
    """Remove the files of an earlier run from a folder, and nothing else."""
    for stage in read_results(folder):
        stage.trajectory.unlink(missing_ok=True)
        for suffix in ("-failed.traj", "-stress.csv", "-heat-flux.csv"):
            (folder / f"{stage.name}{suffix}").unlink(missing_ok=True)
    for name in (THERMO_FILE, RESULT_FILE):
        (folder / name).unlink(missing_ok=True)
