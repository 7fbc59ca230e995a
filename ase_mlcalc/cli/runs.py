"""What ``ase-mlcalc md`` is told on the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase_mlcalc.config import apply_overrides, read_toml, validate
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.md.result import RunResult, read_results
from ase_mlcalc.md.stages import MDJob


def job_of(
    file: Path | None,
    *,
    files: dict[str, Any],
    stage: dict[str, Any],
    arguments: Sequence[str],
    overrides: Sequence[str],
) -> MDJob:
    """A job from a file, or from options, which have the names of the file.

    Parameters
    ----------
    file : Path, optional
    files, stage : dict
        Keys of ``[job]`` and ``[md]`` that were given as options; ``None`` where one was not.
    arguments : sequence of str
        Of the calculator's factory, as ``key=value``.
    overrides : sequence of str
        As after ``--set``.

    Raises
    ------
    ConfigError
        Options beside a file that has them; nothing to run; values that do not fit.
    """
    files = {key: value for key, value in files.items() if value is not None}
    stage = {key: value for key, value in stage.items() if value is not None}
    if arguments:
        files["calculator_arguments"] = apply_overrides({}, arguments)
    if file is None:
        if "structure" not in files or not ("model" in files or "calculator" in files):
            raise ConfigError(
                "give a file (`ase-mlcalc template md` prints one), or --structure and --model or --calculator"
            )
        raw: dict[str, Any] = {"job": files, "md": stage}
        return validate(MDJob, apply_overrides(raw, overrides), "the command line")
    also = sorted((files | stage).keys() - {"output", "overwrite"})
    if also:
        raise ConfigError(f"{file} has {', '.join(also)} already; change values of a file with --set section.key=value")
    raw = read_toml(file)
    raw["job"] = {**raw.get("job", {}), **files}
    return validate(MDJob, apply_overrides(raw, overrides), str(file))


def ended_before(job: MDJob) -> list[RunResult]:
    """The stages that the folder of a job holds already; equal to its results if the job has nothing to do.

    Raises
    ------
    DataError
        The folder holds a damaged result.
    """
    return [] if job.job.overwrite else read_results(Path(job.job.output))
