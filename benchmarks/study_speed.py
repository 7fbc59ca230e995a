"""How much faster a study on several cores is than the same runs one after another.

The runs are made twice: by a loop in this process, with one thread and a calculator that is made once, and by
``run_study`` with worker processes, whose start is counted.  Both have to write the same bytes.  On a machine that is
busy with other work the ratio of wall times says little, so the load before each part is printed with it, and the ratio
that processor times give if each worker had a core of its own and an equal share of the work.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

import ase.io
import torch
from ase import Atoms
from ase.build import bulk
from rich.console import Console
from rich.table import Table

from ase_mlcalc.files import write_text
from ase_mlcalc.md.job import make_calculator, run_job
from ase_mlcalc.study import StudyJob, run_study
from ase_mlcalc.study.plan import plan


class Timing(NamedTuple):
    """What all runs took."""

    seconds: float
    """Wall time."""
    cpu_seconds: float
    """Processor time of all processes."""
    load: float
    """Mean number of processes that wanted to run in the minute before."""


def study(folder: Path, atoms: Atoms, calculator: str, runs: int, time_ps: float, workers: int) -> StudyJob:
    """Copper at 300 to 900 K with as many seeds as make up the number of runs."""
    ase.io.write(folder / "start.extxyz", atoms)
    return StudyJob.model_validate(
        {
            "study": {
                "output": folder / "study",
                "models": [calculator],
                "structures": [str(folder / "start.extxyz")],
                "temperatures_K": [300, 500, 700, 900],
                "timesteps_fs": [2],
                "seeds": runs // 4,
                "scans": False,
                "workers": workers,
            },
            "md": {"ensemble": "nve", "time_ps": time_ps},
        }
    )


def one_after_another(job: StudyJob) -> Timing:
    """All runs in this process."""
    load, begin, spent = os.getloadavg()[0], time.perf_counter(), time.process_time()
    runs = plan(job)
    calculator = make_calculator(runs[0].job.job)
    for run in runs:
        calculator.reset()
        run_job(run.job, calculator=calculator, progress=False)
    return Timing(time.perf_counter() - begin, time.process_time() - spent, load)


def side_by_side(job: StudyJob) -> Timing:
    """All runs as a study."""
    load, begin = os.getloadavg()[0], time.perf_counter()
    summary = run_study(job, progress=False)
    seconds = time.perf_counter() - begin
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not all(run.status == "stable" for run in summary.runs):
        raise SystemExit(f"not all runs were made: {summary.verdict}")
    return Timing(seconds, children.ru_utime + children.ru_stime, load)


def same_bytes(job: StudyJob, other: StudyJob) -> bool:
    """Both wrote the same thermo files."""
    pairs = [[one.study.output / run.folder / "thermo.csv" for one in (job, other)] for run in plan(job)]
    return all(a.read_bytes() == b.read_bytes() for a, b in pairs)


def main() -> None:
    """Make the runs twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study-speed"))
    parser.add_argument("--calculator", default="ase.calculators.emt:EMT")
    parser.add_argument("--runs", type=int, default=32)
    parser.add_argument("--time-ps", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    jobs = []
    for name in ("loop", "study"):
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=False)
        atoms = bulk("Cu", cubic=True) * (3, 3, 3)
        jobs.append(study(folder, atoms, arguments.calculator, arguments.runs, arguments.time_ps, arguments.workers))
    alone = one_after_another(jobs[0])
    together = side_by_side(jobs[1])
    ratio = alone.seconds / together.seconds
    of_cores = alone.cpu_seconds * arguments.workers / together.cpu_seconds
    table = Table(
        "",
        "s",
        "processor s",
        "load before",
        title=f"{arguments.runs} runs, {os.cpu_count()} cores",
        title_justify="left",
    )
    table.add_row("one after another", f"{alone.seconds:.1f}", f"{alone.cpu_seconds:.1f}", f"{alone.load:.1f}")
    name = f"study, {arguments.workers} workers"
    table.add_row(name, f"{together.seconds:.1f}", f"{together.cpu_seconds:.1f}", f"{together.load:.1f}")
    equal = same_bytes(*jobs)
    table.caption = f"{ratio:.2f} times faster, {of_cores:.2f} by processor times; same bytes: {equal}"
    Console().print(table)
    found = {"ratio": ratio, "ratio_by_processor_time": of_cores, "same_bytes": equal}
    found |= {"alone": alone._asdict(), "together": together._asdict()}
    write_text(arguments.out / "study_speed.json", json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
