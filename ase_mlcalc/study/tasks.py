"""What worker processes of a study do: runs and scans, with calculators that each of them loads once."""

from typing import Any

from ase_mlcalc.md.config import JobFiles
from ase_mlcalc.md.job import run_job
from ase_mlcalc.md.kept import kept_calculator
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.study.scans import scan
from ase_mlcalc.workers import Task


def run_task(job: MDJob) -> Task:
    """To make a run, or go on with it."""
    # what was set and what is a default has to survive: stages after the first have other defaults
    return Task.of(make_run, job=job.model_dump(mode="json", exclude_unset=True))


def scan_task(files: JobFiles) -> Task:
    """To scan a structure; the scores are written to the output of the job."""
    return Task.of(make_scan, files=files.model_dump(mode="json", exclude_unset=True))


def make_run(job: dict[str, Any]) -> None:
    """Make a run, in a worker."""
    checked = MDJob.model_validate(job)
    with kept_calculator(checked.job) as calculator:
        run_job(checked, progress=False, calculator=calculator)


def make_scan(files: dict[str, Any]) -> None:
    """Make a scan, in a worker."""
    checked = JobFiles.model_validate(files)
    with kept_calculator(checked) as calculator:
        scan(calculator, checked)
