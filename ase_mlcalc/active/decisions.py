"""The log of decisions: every frame that the committee met, what it thought of it, and why it was chosen or not."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from ase_mlcalc.active.assess import Assessed, frames_of, run_files
from ase_mlcalc.active.choose import Decision
from ase_mlcalc.active.trust import Trust
from ase_mlcalc.files import atomic_path
from ase_mlcalc.labelling.structures import bare
from ase_mlcalc.md.job import read_structure
from ase_mlcalc.study.plan import PlannedRun

COLUMNS = (
    "round", "structure", "temperature_K", "timestep_fs", "seed", "step", "time_ps", "around_failure",
    "expected_error_eV_per_A", "atom", "threshold_eV_per_A", "stop_eV_per_A", "chosen", "why",
)  # fmt: skip
"""``chosen`` is the place among the chosen frames of the round, from 1; empty for the others."""


def write_decisions(
    path: Path,
    number: int,
    runs: Sequence[PlannedRun],
    assessed: Sequence[Assessed],
    decisions: Sequence[Decision],
    levels: Trust,
) -> None:
    """Write the decisions of a round."""
    with atomic_path(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in decisions:
            run, found, k = runs[one.run], assessed[one.run], one.frame
            expected = float(found.uncertainty_eV_per_A[k])
            known = math.isfinite(expected)
            writer.writerow(
                [
                    number,
                    run.structure,
                    f"{run.temperature_K:g}",
                    f"{run.timestep_fs:g}",
                    run.seed,
                    int(found.step[k]),
                    f"{found.time_ps[k]:.6g}",
                    "yes" if found.at_stop[k] else "no",
                    f"{expected:.5g}" if known else "",
                    int(found.atom[k]) if known else "",
                    f"{levels.threshold_eV_per_A:.5g}",
                    f"{levels.stop_eV_per_A:.5g}",
                    "" if one.rank is None else one.rank + 1,
                    one.why,
                ]
            )


def join_decisions(path: Path, rounds: Sequence[Path]) -> None:
    """Write the decisions of all rounds into one file."""
    with atomic_path(path) as part, open(part, "w", encoding="utf-8") as file:
        for number, own in enumerate(rounds):
            lines = own.read_text(encoding="utf-8").splitlines(keepends=True)
            file.writelines(lines[1 if number else 0 :])


def chosen_structures(
    number: int,
    study: Path,
    runs: Sequence[PlannedRun],
    assessed: Sequence[Assessed],
    decisions: Sequence[Decision],
) -> list[Atoms]:
    """The chosen frames in their order, with where they come from."""
    wanted = {(one.run, one.frame): one.rank for one in decisions if one.rank is not None}
    found: dict[int, Atoms] = {}
    for position in sorted({run for run, _ in wanted}):
        run = runs[position]
        files = run_files(run, study)
        assert files is not None  # it has been assessed
        start = bare(read_structure(run.job.job))
        for k, (atoms, _, _) in enumerate(frames_of(files)):
            rank = wanted.get((position, k))
            if rank is not None:
                expected = float(assessed[position].uncertainty_eV_per_A[k])
                found[rank] = _with_origin(atoms, start, number, run, expected)
    return [found[rank] for rank in sorted(found)]


def _with_origin(frame: Atoms, start: Atoms, number: int, run: PlannedRun, expected: float) -> Atoms:
    """Geometry alone; ``info`` of the structure that the run started from, charge and spin included, and its origin."""
    atoms = bare(frame)
    atoms.set_momenta(None)
    origin: dict[str, Any] = {
        "round": number,
        "run": run.folder,
        "temperature_K": run.temperature_K,
        "time_ps": float(frame.info["time_ps"]),
        "expected_error_eV_per_A": expected,
    }
    atoms.info = {**start.info, **origin}
    return atoms
