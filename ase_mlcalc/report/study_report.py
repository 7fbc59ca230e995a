"""`write_study_report`: one self-contained page about a study, made from the files of its folder alone."""

import json
from pathlib import Path
from typing import Any

from ase_mlcalc.files import write_text
from ase_mlcalc.report.observables import observable_numbers
from ase_mlcalc.report.page import NUMBERS_FILE, Page, write_page
from ase_mlcalc.report.provenance import provenance_section
from ase_mlcalc.report.study_observables import measure_study, study_observables_section
from ase_mlcalc.report.study_quality import drift_section, predictors_section, temperature_section, timestep_section
from ase_mlcalc.report.study_runs import failures_section, runs_section
from ase_mlcalc.report.study_survival import group_verdicts, survival_section
from ase_mlcalc.report.words import counted, number
from ase_mlcalc.study.summary import StudySummary, read_study


def write_study_report(folder: Path | str) -> Path:
    """Write ``report.html`` (self-contained), ``report.json`` and the folder ``report`` of pictures of a study.

    Parameters
    ----------
    folder : path
        Of a study, with its ``study.json``; one that is not finished can be reported on too.  Nothing is run again.

    Returns
    -------
    Path
        The HTML page.

    Raises
    ------
    DataError
        The folder holds no study, or its summary is damaged.
    """
    folder = Path(folder)
    study = read_study(folder)
    observables = measure_study(study, folder)
    sections = [
        survival_section(study),
        failures_section(study, folder),
        drift_section(study),
        timestep_section(study),
        temperature_section(study),
        predictors_section(study),
        study_observables_section(observables),
        runs_section(study, folder),
        provenance_section(_facts(study), [("Configuration", study.job)]),
    ]
    page = Page(
        title=folder.resolve().name,
        subtitle=_subtitle(study),
        verdicts=group_verdicts(study),
        sections=[section for section in sections if section is not None],
    )
    content = study.model_dump(mode="json")
    content["observables"] = {each.title: observable_numbers(each) for each in observables}
    numbers = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / NUMBERS_FILE, numbers + "\n")
    return write_page(page, folder)


def _subtitle(study: StudySummary) -> str:
    """What was varied."""
    parts = [
        counted(len(study.models), "model"),
        counted(len(study.structures), "structure"),
        f"{', '.join(number(value, 5) for value in study.temperatures_K)} K",
        f"time step {', '.join(number(value) for value in study.timesteps_fs)} fs",
        counted(len(study.seeds), "seed"),
    ]
    length = f"{study.ensemble.upper()}, {number(study.planned_ps, 4)} ps"
    return f"Stability study: {counted(len(study.runs), 'run')} of {length} – {' × '.join(parts)}"


def _facts(study: StudySummary) -> dict[str, Any]:
    references = {"references": study.references} if study.references else {}
    return study.provenance | references | {"models": study.models, "seeds": study.seeds}
