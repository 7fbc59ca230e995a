"""From which expected error on a structure is worth a label, and from which on a run is no longer believed.

Two trust levels as in DP-GEN (Zhang et al., Comput. Phys. Commun. 253, 107206 (2020)): below the lower one the
potential is accurate enough; between them it is unsure, and still so near to what it knows that the structures are
physical; above the upper one they need not be.  There both are guessed for the spread of the committee.  Here the
spread is calibrated first (`ase_mlcalc.training.calibration`), so that it is an expected error, and the levels follow
from the error on validation structures.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from ase_mlcalc.active.config import LearnJob
from ase_mlcalc.active.files import RoundFiles
from ase_mlcalc.active.summary import RoundSummary
from ase_mlcalc.errors import DataError
from ase_mlcalc.training.calibration import FEWEST_ITEMS

THRESHOLD_OVER_ERROR = 3.0
"""The largest of the errors of all atoms of a structure is two to three times their root mean square even where the
structure is like those that were learned."""
STOP_OVER_THRESHOLD = 3.0
STOP_OVER_FORCE = 0.5
"""Of the root mean square length of the forces that were learned.  Where one atom of a structure is wrong by less than
half of what forces are, the run goes on as a run.  Without this a run would end the sooner the better the committee is,
and no committee that gets better would ever be done."""
LEAST_STOP_EV_PER_A = 0.5
"""What is less is not worth the end of a run; the upper trust levels of DP-GEN are 0.2 to 0.5 eV/Å."""
MOST_STOP_EV_PER_A = 2.0
"""What is more is no potential: forces at room temperature are about 1 eV/Å.  Without this, runs of a committee that
has learned nothing would survive, for it expects nothing better."""


class Trust(NamedTuple):
    """Trust levels of a round, and the calibration that they come from."""

    threshold_eV_per_A: float
    stop_eV_per_A: float
    error_rms_eV_per_A: float | None
    """Root mean square length of the force error of an atom of the validation structures."""
    scale: float | None
    """What the spread of the committee is multiplied by to be the expected error; ``None``: it is taken as it is."""
    rank_correlation: float | None
    """Of spread and error, on the validation structures."""


def trust(job: LearnJob, files: RoundFiles, force_rms_eV_per_A: float, before: Sequence[RoundSummary] = ()) -> Trust:
    """The trust levels of a committee that is trained.

    A threshold that follows from the validation error does not rise again: what is chosen is hard, a part of it is held
    back, and the error on it grows while the committee gets better everywhere.

    Parameters
    ----------
    job : LearnJob
    files : RoundFiles
        Of the round in which the committee was trained.
    force_rms_eV_per_A : float
        Root mean square length of the force of an atom, of all labels.
    before : sequence of RoundSummary
        Earlier rounds.

    Raises
    ------
    DataError
        There is no calibration and the job gives no threshold.
    """
    found = _calibration(files)
    table = job.learn
    threshold = table.threshold_eV_per_A
    if threshold is None:
        if found is None:
            raise DataError(
                f"a calibration takes forces on at least {FEWEST_ITEMS} atoms of validation structures, and "
                f"{files.validation} has fewer; give more structures to start from, or learn.threshold_eV_per_A"
            )
        demanded = [MOST_STOP_EV_PER_A / STOP_OVER_THRESHOLD, *(each.threshold_eV_per_A for each in before)]
        threshold = min(THRESHOLD_OVER_ERROR * found["error_rms"], *demanded)
    size = min(STOP_OVER_FORCE * force_rms_eV_per_A, MOST_STOP_EV_PER_A)
    stop = table.stop_eV_per_A or max(STOP_OVER_THRESHOLD * threshold, size, LEAST_STOP_EV_PER_A)
    return Trust(
        threshold,
        max(stop, threshold),
        None if found is None else found["error_rms"],
        None if found is None else found["scale"],
        None if found is None else found["rank_correlation"],
    )


def _calibration(files: RoundFiles) -> dict[str, float] | None:
    """What the training found about the spread of forces."""
    path = files.model / "calibration.json"
    if not path.exists():
        return None
    found: dict[str, float] | None = json.loads(path.read_text(encoding="utf-8"))["properties"].get("forces")
    return found
