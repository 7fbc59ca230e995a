"""Which runs of a study are made together by an engine that makes many at once."""

import math
from collections.abc import Sequence

from ase_mlcalc.errors import DataError
from ase_mlcalc.md.config import JobFiles
from ase_mlcalc.md.job import read_structure
from ase_mlcalc.study.plan import PlannedRun

MOST_ATOMS = 20_000
"""In a batch: more of them are no faster, and take memory."""
MOST_RUNS = 128
"""Each keeps a few files open, of which a process may have a thousand or so."""


def batches(runs: Sequence[PlannedRun], positions: Sequence[int], n_workers: int) -> list[list[int]]:
    """Runs of one model each, shared out evenly over the workers; `positions` are those of the runs to be made."""
    atoms: dict[str, int] = {}
    for position in positions:
        run = runs[position]
        if run.structure not in atoms:
            atoms[run.structure] = _n_atoms(run.job.job)
    of_model: dict[str, list[int]] = {}
    for position in positions:
        of_model.setdefault(runs[position].model, []).append(position)
    shared = []
    for members in of_model.values():
        total = sum(atoms[runs[position].structure] for position in members)
        at_least = max(math.ceil(total / MOST_ATOMS), math.ceil(len(members) / MOST_RUNS))
        parts = min(len(members), n_workers * math.ceil(at_least / n_workers))
        shared += [members[part::parts] for part in range(parts)]
    return shared


def _n_atoms(files: JobFiles) -> int:
    try:
        return len(read_structure(files))
    except DataError:  # which each of the runs will say
        return 1
