"""`run_job`: a job file's structure, calculator and stages, run in sequence."""

import importlib
from pathlib import Path

from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.io import read

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.md.config import JobFiles, MDJob
from ase_mlcalc.md.outcome import RunResult, clear_run
from ase_mlcalc.md.run import run_md


def run_job(job: MDJob, *, progress: bool = True) -> list[RunResult]:
    """Run the stages of a job; a stage that does not complete is the last.

    Raises
    ------
    ConfigError, DataError
        A calculator that cannot be made; a structure that cannot be read.
    MLCalcError
        Whatever `run_md` refuses.
    """
    atoms = read_structure(job.job)
    atoms.calc = make_calculator(job.job)
    folder = Path(job.job.output)
    if job.job.overwrite:
        clear_run(folder)
    results: list[RunResult] = []
    for name, config in job.stages():
        results.append(run_md(atoms, config, folder, name=name, progress=progress))
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


def make_calculator(files: JobFiles) -> GetPropertiesMixin:
    """The calculator of a job: a checkpoint, or a factory by its import path."""
    if files.model is not None:
        return MLCalculator(files.model, dtype=files.dtype, device=files.device)
    path = files.calculator or ""
    module_name, separator, factory_name = path.partition(":")
    if not separator:
        raise ConfigError(f"job.calculator reads package.module:Factory, got {path!r}")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"job.calculator = {path!r} cannot be imported: {error}") from error
    try:
        return factory(**files.calculator_arguments)
    except TypeError as error:
        raise ConfigError(f"job.calculator = {path!r} does not take job.calculator_arguments: {error}") from error
