"""What worker processes of a study do: runs and scans, with calculators that each of them loads once."""

from collections.abc import Sequence
from typing import Any

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.md.config import JobFiles
from ase_mlcalc.md.job import run_job
from ase_mlcalc.md.kept import kept_calculator
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.study.scans import scan
from ase_mlcalc.workers import Task
from ase_mlcalc.workers.protocol import in_one_line


def run_task(job: MDJob) -> Task:
    """To make a run, or go on with it."""
    # what was set and what is a default has to survive: stages after the first have other defaults
    return Task.of(make_run, job=job.model_dump(mode="json", exclude_unset=True))


def batch_task(jobs: Sequence[MDJob]) -> Task:
    """To make runs of one model together; its result is why each could not be made, or ``None``."""
    return Task.of(make_batch, jobs=[job.model_dump(mode="json", exclude_unset=True) for job in jobs])


def scan_task(files: JobFiles) -> Task:
    """To scan a structure; the scores are written to the output of the job."""
    return Task.of(make_scan, files=files.model_dump(mode="json", exclude_unset=True))


def make_run(job: dict[str, Any]) -> None:
    """Make a run, in a worker."""
    checked = MDJob.model_validate(job)
    with kept_calculator(checked.job) as calculator:
        run_job(checked, progress=False, calculator=calculator)


def make_batch(jobs: list[dict[str, Any]]) -> list[str | None]:
    """Make runs together, in a worker."""
    from ase_mlcalc.torchsim import run_jobs

    checked = [MDJob.model_validate(job) for job in jobs]
    with kept_calculator(checked[0].job) as calculator:
        assert isinstance(calculator, MLCalculator)  # the study has refused others
        ended = run_jobs(checked, calculator)
    return [in_one_line(each) if isinstance(each, Exception) else None for each in ended]


def make_scan(files: dict[str, Any]) -> None:
    """Make a scan, in a worker."""
    checked = JobFiles.model_validate(files)
    with kept_calculator(checked) as calculator:
        scan(calculator, checked)
