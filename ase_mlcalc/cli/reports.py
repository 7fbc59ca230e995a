"""What ``ase-mlcalc report`` writes a page about: a run, a study, a learning or any trajectory."""

from pathlib import Path
from typing import Any

from ase_mlcalc.active.summary import LEARN_FILE
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.study.summary import STUDY_FILE


def write_page_of(source: Path, *, out: Path | None, reference: Path | None, **of_trajectory: Any) -> Path:
    """Write the page of a folder, or of a trajectory with what its file does not say.

    Raises
    ------
    ConfigError
        Nothing there; options that a folder has an answer to itself.
    """
    from ase_mlcalc import report

    if not source.exists():
        raise ConfigError(f"no such file or folder: {source}")
    if source.is_file():
        folder = Path(f"{source.stem}-report") if out is None else out
        return report.write_trajectory_report(source, folder, reference=reference, **of_trajectory)
    is_learning = (source / LEARN_FILE).exists()
    is_study = (source / STUDY_FILE).exists()
    given = {name: value for name, value in {**of_trajectory, "out": out}.items() if value is not None}
    if (is_study or is_learning) and reference is not None:
        given["reference"] = reference
    if given:
        kind = "learning" if is_learning else "study" if is_study else "run"
        raise ConfigError(
            f"{', '.join(name.replace('_', '-') for name in given)}: only for the trajectory of another program; the "
            f"folder of a {kind} knows these: leave them out"
        )
    if is_learning:
        from ase_mlcalc.active.page import write_learn_report

        return write_learn_report(source)
    if is_study:
        from ase_mlcalc.study import refresh

        refresh(source)
        return report.write_study_report(source)
    return report.write_report(source, reference=reference)
