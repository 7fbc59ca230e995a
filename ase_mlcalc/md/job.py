"""`run_job`: a job file's structure, calculator and stages, run in sequence."""

from collections.abc import Generator
from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import read

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import DataError
from ase_mlcalc.foreign import make_foreign
from ase_mlcalc.md.config import JobFiles
from ase_mlcalc.md.engines import ASE, Engine
from ase_mlcalc.md.result import RunResult, clear_run, refuse_another_job
from ase_mlcalc.md.run import Stage, alone, md_steps
from ase_mlcalc.md.stages import MDJob


def run_job(job: MDJob, *, calculator: Calculator | None = None, progress: bool = True) -> list[RunResult]:
    """Run the stages of a job; a stage that does not complete is the last.

    The same call goes on with a job that was killed, and returns the results of one that has ended.

    Parameters
    ----------
    job : MDJob
    calculator : Calculator, optional
        The one that the job names, where it was made before.
    progress : bool
        Show a progress bar if stderr is a terminal.

    Raises
    ------
    ConfigError, DataError
        A calculator that cannot be made; a structure that cannot be read.
    MLCalcError
        Whatever `run_md` refuses.
    """
    return alone(job_steps(job, calculator=calculator, progress=progress))


def job_steps(
    job: MDJob, *, calculator: Calculator | None = None, progress: bool = True, engine: Engine = ASE
) -> Generator[Stage, None, list[RunResult]]:
    """`run_job` without the time steps; see `ase_mlcalc.md.run.md_steps`."""
    atoms = read_structure(job.job)
    atoms.calc = make_calculator(job.job) if calculator is None else calculator
    reference = read_reference(job.job)
    folder = Path(job.job.output)
    if job.job.overwrite:
        clear_run(folder)
    stages = job.stages()
    refuse_another_job(folder, [name for name, _ in stages])
    results: list[RunResult] = []
    for name, config in stages:
        source = job.job.model or job.job.calculator
        steps = md_steps(
            atoms,
            config,
            folder,
            name=name,
            reference=reference,
            source=source,
            progress=progress,
            engine=engine,
        )
        results.append((yield from steps))
        if not results[-1].completed:
            break
    return results


def read_structure(files: JobFiles) -> Atoms:
    """The starting structure of a job."""
    try:
        structure = read(files.structure, index=files.index)
    except FileNotFoundError as error:
        raise DataError(f"no structure at {files.structure!r}; job.structure is a file that ASE reads") from error
    except Exception as error:  # ASE's readers raise whatever the contents of a file make them stumble on
        raise DataError(
            f"ASE cannot read structure {files.index} of {files.structure!r} ({type(error).__name__}: {error}); check "
            "job.structure and job.index"
        ) from error
    if not isinstance(structure, Atoms):
        raise DataError(f"{files.structure!r} holds several structures where job.index = {files.index} asks for one")
    return structure


def read_reference(files: JobFiles) -> list[Atoms]:
    """Frames of the trajectory that monitors compare with; none if the job names none."""
    if files.reference is None:
        return []
    try:
        frames = read(files.reference, index=":")
    except Exception as error:  # ASE's readers raise anything
        raise DataError(
            f"ASE cannot read the reference trajectory {files.reference!r} ({type(error).__name__}: {error}); check "
            "job.reference"
        ) from error
    return list(frames)


def make_calculator(files: JobFiles) -> Calculator:
    """The calculator of a job: a checkpoint, or a factory by its import path."""
    if files.model is not None:
        return MLCalculator(files.model, dtype=files.dtype, device=files.device, compile=files.compile or None)
    return make_foreign(
        files.calculator or "", files.calculator_arguments, named=("job.calculator", "job.calculator_arguments")
    )
