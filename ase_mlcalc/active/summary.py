"""What came of a learning: `RoundSummary` of each round, `Learned` of all, and the file ``learn.json``."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ase_mlcalc.config import Section
from ase_mlcalc.errors import DataError
from ase_mlcalc.files import write_text
from ase_mlcalc.training.metrics import Errors

LEARN_FILE = "learn.json"
FORMAT = 1

End = Literal["stable", "nothing new", "rounds", "labels"]
"""``stable``: a study of full length survived.  ``nothing new``: no frame was worth a label, and yet runs failed.
``rounds``, ``labels``: the budget is used up."""


class RoundSummary(Section):
    """A round: what was labelled, how well it was learned, how the runs went, and what was chosen of them."""

    number: int
    n_asked: int
    """Structures that the reference was asked for in this round."""
    n_failed: int
    """Of them, those that it could not calculate or whose forces are beyond belief."""
    n_training: int
    n_validation: int
    """Of all labels so far."""
    model: str
    """Checkpoint of the committee, relative to the folder of the learning."""
    trained: bool
    """``False`` where there was no new label, and the committee is that of the round before."""
    minutes: float | None = None
    """Of training."""
    validation: Errors | None = None
    test: Errors | None = None
    threshold_eV_per_A: float
    stop_eV_per_A: float
    error_rms_eV_per_A: float | None = None
    """Root mean square length of the force error of an atom of the validation structures."""
    scale: float | None = None
    """Calibration factor of the committee's spread."""
    rank_correlation: float | None = None
    planned_ps: float
    """Length of the runs."""
    n_runs: int
    n_stable: int
    mean_survival_ps: float
    """Mean over runs of the time survived."""
    outcomes: dict[str, int] = Field(default_factory=dict)
    """Of the runs that failed."""
    n_frames: int
    """Of the trajectories, without their first ones."""
    n_uncertain: int
    """Of them, above the threshold."""
    uncertainty_eV_per_A: tuple[float, ...] | None = None
    """5, 25, 50, 75 and 95 % of the frames have at most this as the largest expected force error of an atom."""
    n_chosen: int
    """For the next round to ask for."""

    @property
    def survived(self) -> bool:
        """No run failed."""
        return self.n_stable == self.n_runs

    @property
    def uncertain_percent(self) -> float:
        """Of the frames."""
        return 100.0 * self.n_uncertain / max(1, self.n_frames)


class Learned(Section):
    """A learning, finished or not.  `read_learned` reads it from ``learn.json``."""

    format: int = FORMAT
    level_of_theory: str
    rounds: tuple[RoundSummary, ...]
    end: End | None
    """Why it ended; ``None``: it goes on."""
    verdict: str
    """In a sentence."""
    job: dict[str, Any] = Field(default_factory=dict)
    """As it was given."""
    provenance: dict[str, Any] = Field(default_factory=dict)

    @property
    def n_labels(self) -> int:
        """Reference calculations, failed ones included."""
        return sum(each.n_asked for each in self.rounds)


def write_round(found: RoundSummary, path: Path) -> None:
    """Write the summary of a round."""
    write_text(path, json.dumps(found.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_round(path: Path) -> RoundSummary | None:
    """What came of a round; ``None`` if it is not over."""
    try:
        return RoundSummary.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(f"{path} is damaged; remove it, and the round is summed up again") from error


def write_learned(found: Learned, folder: Path) -> None:
    """Write ``learn.json``."""
    text = json.dumps(found.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / LEARN_FILE, text + "\n")


def read_learned(folder: Path | str) -> Learned:
    """What the learning in a folder came to.

    Raises
    ------
    DataError
        No learning there, or its file is damaged or of another version.
    """
    path = Path(folder) / LEARN_FILE
    try:
        return Learned.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no {LEARN_FILE} in {folder}; give the folder that a learning was written to") from error
    except ValidationError as error:
        raise DataError(
            f"{path} is not the summary of a learning of this version; give the command of the learning again, which "
            "repeats nothing and writes it anew"
        ) from error
