"""`write_report`: one self-contained page about a run, made from the files of its folder alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase_mlcalc.files import write_text
from ase_mlcalc.report.energy import drift_section
from ase_mlcalc.report.observables import (
    Measured,
    measure_reference,
    measure_stage,
    observable_numbers,
    observables_section,
)
from ase_mlcalc.report.outcome import events_section, stages_section, verdict_sentence, verdicts
from ase_mlcalc.report.page import NUMBERS_FILE, Page, Section, write_page
from ase_mlcalc.report.provenance import provenance_section
from ase_mlcalc.report.stage import Stage, stages_of_run
from ase_mlcalc.report.stresses import StageStresses, last_stresses, stress_numbers, stresses_section
from ase_mlcalc.report.structures import structures_section
from ase_mlcalc.report.temperature import temperature_section
from ase_mlcalc.report.thermo import thermo_section


def write_report(run_folder: Path | str, *, reference: Path | str | None = None) -> Path:
    """Write ``report.html`` (self-contained), ``report.json`` and the folder ``report`` of pictures of a run.

    Parameters
    ----------
    run_folder : path
        Written by `run_md` or `run_job`; a run that is at work or was killed can be reported on too.
    reference : path, optional
        A trajectory that is taken for right: structure and motion are compared with it.

    Returns
    -------
    Path
        The HTML page.

    Raises
    ------
    DataError
        The folder holds no run, or its files are damaged; the reference cannot be read.
    """
    folder = Path(run_folder)
    stages = stages_of_run(folder)
    stresses = last_stresses(stages)
    observables = measure_stage(stages, None if reference is None else measure_reference(reference))
    last = stages[-1]
    precision = f", {last.result.dtype}" if last.result is not None and last.result.dtype else ""
    page = Page(
        title=folder.resolve().name,
        subtitle=f"Molecular dynamics of {last.formula}, {last.n_atoms} atoms, with {last.calculator}{precision}",
        verdicts=verdicts(stages),
        sections=[*sections(stages, stresses, observables), _provenance(stages)],
    )
    write_text(folder / NUMBERS_FILE, numbers(stages, stresses, observables))
    return write_page(page, folder)


def sections(stages: Sequence[Stage], stresses: StageStresses | None, observables: Measured | None) -> list[Section]:
    """All parts of a page about stages that there is something to say in, in the order of interest."""
    structures = structures_section(stages)
    events = events_section(stages)
    failed = stages[-1].failed
    found = [
        events,
        structures if failed else None,
        stages_section(stages) if stages[-1].n_frames is None else None,
        thermo_section(stages),
        drift_section(stages),
        temperature_section(stages),
        observables_section(observables),
        stresses_section(stresses),
        None if failed else structures,
    ]
    return [section for section in found if section is not None]


def numbers(stages: Sequence[Stage], stresses: StageStresses | None, observables: Measured | None) -> str:
    """The text of ``report.json``: the figures of the page."""
    content = {
        "format": 1,
        "verdict": verdict_sentence(stages[-1]),
        "stages": [stage_numbers(stage) for stage in stages],
        "stresses": None if stresses is None else stress_numbers(stresses),
        "observables": observable_numbers(observables),
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def stage_numbers(stage: Stage) -> dict[str, Any]:
    """A stage in plain names, and with it everything that its result holds."""
    plain: dict[str, Any] = {
        "name": stage.name,
        "outcome": stage.outcome.name,
        "time_ps": stage.time_ps,
        "drift_meV_per_atom_per_ps": None if stage.drift is None else stage.drift.slope,
        "drift_stderr": None if stage.drift is None else stage.drift.stderr,
        "heating_K_per_ps": None if stage.heating is None else stage.heating.slope,
        "heating_stderr": None if stage.heating is None else stage.heating.stderr,
    }
    return plain | (stage.result.numbers() | plain if stage.result is not None else _found(stage))


def _found(stage: Stage) -> dict[str, Any]:
    events = [event._asdict() | {"outcome": event.outcome.name} for event in stage.events]
    return {"detail": stage.detail, "formula": stage.formula, "n_atoms": stage.n_atoms, "events": events}


def _provenance(stages: Sequence[Stage]) -> Section:
    results = [stage.result for stage in stages if stage.result is not None]
    last = results[-1]
    facts: dict[str, Any] = {} if last.provenance is None else last.provenance.model_dump(mode="json")
    facts |= {"calculator": last.calculator, "precision": last.dtype, "identity": last.identity}
    facts["seeds"] = ", ".join(f"{result.name}: {result.config.seed}" for result in results)
    facts["restarts"] = ", ".join(f"{result.name}: {result.restarts}" for result in results if result.restarts)
    configurations = [
        (f"Configuration of stage {result.name}", result.config.model_dump(mode="json")) for result in results
    ]
    return provenance_section(facts, configurations)
