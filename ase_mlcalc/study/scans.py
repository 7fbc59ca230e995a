"""Quick scans beside a study: do scores that cost seconds predict the survival that costs hours?

Bonds stretched and compressed and dimers pulled apart show steps, holes and missing walls of a potential
(`ase_mlcalc.testing`).  Each model is scanned once on each structure, and the scores are ranked against survival.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator
from scipy import stats

from ase_mlcalc.files import write_text
from ase_mlcalc.md.config import JobFiles
from ase_mlcalc.md.job import read_structure
from ase_mlcalc.study.config import StudyJob
from ase_mlcalc.study.summary import GroupSummary, Predictor, Scan
from ase_mlcalc.testing.scans.checks import scan_scores

MIN_MODELS = 3
"""Fewer cannot be ranked to any purpose."""
DECIMALS = 6
"""Of scores in eV and eV/Å: what is equal to these is a tie, not a ranking of rounding errors."""
MOST_LISTED = 7
"""Up to so many models, all orders are listed for the p-value."""


def scan_jobs(job: StudyJob) -> list[JobFiles]:
    """One scan for each model on each structure; the output is the file with its scores."""
    table = job.study
    return [
        table.models[model].files(
            structure=source.file, index=source.index, output=str(_path(table.output, model, structure))
        )
        for model in table.models
        for structure, source in table.structures.items()
    ]


def scan(calculator: Calculator, files: JobFiles) -> None:
    """Scan a structure and keep the scores."""
    scores = scan_scores(calculator, read_structure(files))
    write_scan(Path(files.output), {name: value if math.isfinite(value) else None for name, value in scores.items()})


def write_scan(path: Path, scores: dict[str, float | None], error: str | None = None) -> None:
    """Keep the scores of a scan, or why there are none."""
    text = json.dumps({"scores": scores, "error": error}, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def is_scanned(files: JobFiles) -> bool:
    """The scan need not be made again."""
    path = Path(files.output)
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["error"] is None


def read_scans(job: StudyJob) -> list[Scan]:
    """The scans that were made or tried."""
    found = []
    for model in job.study.models:
        for structure in job.study.structures:
            path = _path(job.study.output, model, structure)
            if path.exists():
                stored = json.loads(path.read_text(encoding="utf-8"))
                found.append(Scan(model=model, structure=structure, **stored))
    return found


def predictors(scans: Sequence[Scan], groups: Sequence[GroupSummary]) -> list[Predictor]:
    """Rank correlation over models between each score and the survival on the same structure.

    Survival is the mean time survived over the planned time, averaged over temperatures and time steps.  Nothing where
    fewer than three models have both, or all have the same score or survival.
    """
    found = []
    for structure in dict.fromkeys(scan.structure for scan in scans):
        own = [scan for scan in scans if scan.structure == structure]
        for score in dict.fromkeys(name for scan in own for name in scan.scores):
            pairs = [(scan.scores.get(score), _survival(groups, scan)) for scan in own]
            known = np.round(np.array([pair for pair in pairs if None not in pair], dtype=float), DECIMALS)
            if len(known) < MIN_MODELS or (np.ptp(known, axis=0) == 0.0).any():
                continue
            correlation, p_value = rank_correlation(known[:, 0], known[:, 1])
            found.append(
                Predictor(
                    score=score,
                    structure=structure,
                    n_models=len(known),
                    rank_correlation=correlation,
                    p_value=p_value,
                )
            )
    return found


def _survival(groups: Sequence[GroupSummary], scan: Scan) -> float | None:
    own = [group for group in groups if (group.model, group.structure) == (scan.model, scan.structure)]
    shares = [group.mean_survival_ps / group.planned_ps for group in own if group.mean_survival_ps is not None]
    return sum(shares) / len(shares) if own and len(shares) == len(own) else None


def rank_correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Spearman's rank correlation and its two-sided p-value, from all permutations where they can be listed."""

    def statistic(permuted: np.ndarray) -> float:
        return float(stats.spearmanr(permuted, y).statistic)

    found = stats.spearmanr(x, y)
    if len(x) > MOST_LISTED:
        return float(found.statistic), float(found.pvalue)
    test = stats.permutation_test((x,), statistic, permutation_type="pairings", n_resamples=np.inf)
    return float(found.statistic), float(test.pvalue)


def _path(folder: Path, model: str, structure: str) -> Path:
    return folder / "scans" / model / f"{structure}.json"
