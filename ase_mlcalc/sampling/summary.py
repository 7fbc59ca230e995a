"""What came of a sampling, and the file that says so."""

import json
from pathlib import Path

from ase_mlcalc.config import Section
from ase_mlcalc.files import write_text

SUMMARY_FILE = "sample.json"


class SampledRun(Section):
    """One run, and what was taken from it."""

    structure: str
    temperature_K: float
    density: float
    """Relative to that of the structure."""
    seed: int
    name: str
    n_candidates: int
    n_chosen: int
    error: str | None = None
    """Why nothing could be taken from it."""


class Sampled(Section):
    """A sampling."""

    out: Path
    """The chosen structures, the most different first."""
    figure: Path
    n_candidates: int
    n_chosen: int
    radius: tuple[float, ...]
    """After each choice, the largest distance of a candidate from the nearest chosen structure, dimensionless."""
    random_radius: tuple[float, ...]
    """The same where candidates are taken at random; the mean of several times."""
    runs: tuple[SampledRun, ...]


def write_summary(found: Sampled, folder: Path) -> None:
    """Write ``sample.json``."""
    text = json.dumps(found.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / SUMMARY_FILE, text + "\n")
