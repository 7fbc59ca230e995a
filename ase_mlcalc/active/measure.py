"""What is measured of a round: errors, survival, and how unsure the committee was."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ase_mlcalc.active.assess import Assessed
from ase_mlcalc.active.trust import Trust
from ase_mlcalc.study import StudySummary
from ase_mlcalc.training.metrics import Errors, Metrics

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def errors_in(path: Path) -> Errors | None:
    """Errors in a file that training wrote; ``None`` if there is no such file."""
    if not path.exists():
        return None
    metrics = Metrics.model_validate(json.loads(path.read_text(encoding="utf-8")))
    return Errors(**metrics.model_dump(include=set(Errors.model_fields)))


def force_rms(structures: Sequence[Atoms]) -> float:
    """Root mean square length of the force of an atom, of all labels, eV/Å; 0 where there are none of forces."""
    labels = [atoms.calc.results["forces"] for atoms in structures if "forces" in atoms.calc.results]
    squares = np.square(np.concatenate(labels)).sum(axis=1) if labels else np.zeros(0)
    known = squares[np.isfinite(squares)]
    return float(np.sqrt(known.mean())) if len(known) else 0.0


def of_study(study: StudySummary) -> dict[str, Any]:
    """How the runs went."""
    outcomes = Counter(str(run.outcome) for run in study.runs if run.status == "failed")
    return {
        "n_runs": len(study.runs),
        "n_stable": sum(run.status == "stable" for run in study.runs),
        "mean_survival_ps": float(np.mean([run.time_ps for run in study.runs])),
        "outcomes": dict(outcomes),
    }


def of_frames(assessed: Sequence[Assessed], levels: Trust) -> dict[str, Any]:
    """How unsure the committee was about the frames of the trajectories."""
    values = np.concatenate([each.uncertainty_eV_per_A[~each.at_stop & (each.step > 0)] for each in assessed])
    known = values[np.isfinite(values)]
    return {
        "n_frames": len(values),
        "n_uncertain": int((known > levels.threshold_eV_per_A).sum()),
        "uncertainty_eV_per_A": tuple(np.quantile(known, QUANTILES).tolist()) if len(known) else None,
    }
