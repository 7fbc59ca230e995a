"""Section of a study: structure and motion of one run of each model, over the reference of its structure."""

from collections.abc import Sequence
from pathlib import Path

from ase_mlcalc.analysis.observables import Observables, measure_observables
from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.md.frames import read_trajectory
from ase_mlcalc.report.observables import EQUILIBRATION, FEWEST_FRAMES, Measured, measure_reference, observable_blocks
from ase_mlcalc.report.page import Block, Section, Words
from ase_mlcalc.report.study_groups import Condition, condition_of, condition_words, conditions
from ase_mlcalc.report.words import number
from ase_mlcalc.study.summary import RunSummary, StudySummary

_MOST_CONDITIONS = 4
_MOST_MODELS = 6


def measure_study(study: StudySummary, folder: Path) -> list[Measured]:
    """Observables of one run of each model at each condition with a reference, at the shortest time step."""
    shortest = min(study.timesteps_fs)
    chosen = [
        condition
        for condition in conditions(study)
        if condition.timestep_fs == shortest and condition.structure in study.references
    ]
    references: dict[str, Observables] = {}
    found = []
    for condition in chosen[:_MOST_CONDITIONS]:
        title = condition_words(study, condition, always_temperature=True)
        try:
            if condition.structure not in references:
                references[condition.structure] = measure_reference(study.references[condition.structure])
            found.append(_measure(study, folder, condition, references[condition.structure], title))
        except MLCalcError as error:
            found.append(Measured({}, None, title=title, problem=str(error)))
    return found


def study_observables_section(measured: Sequence[Measured]) -> Section | None:
    """Curves of the models over the reference, and their distances from it; ``None`` without a reference."""
    blocks: list[Block] = []
    for each in measured:
        if own := observable_blocks(each):
            blocks += [
                Words(f"{each.title}: the longest run of each model, that of the lowest seed among equals."),
                *own,
            ]
    return Section("Structure and motion against the reference", blocks) if blocks else None


def _measure(study: StudySummary, folder: Path, condition: Condition, reference: Observables, title: str) -> Measured:
    of, notes = {}, []
    for model in study.models[:_MOST_MODELS]:
        runs = [run for run in study.runs if run.model == model and condition_of(run) == condition and run.time_ps]
        if not runs:
            continue
        longest = max(runs, key=lambda run: run.time_ps)
        observables = _of_run(longest, folder, reference)
        if observables is None:
            notes.append(f"too few frames of {model}")
        else:
            of[model] = observables
    notes.append(f"the first {number(100 * EQUILIBRATION)} % of each run are left out")
    return Measured(of, reference, notes, title)


def _of_run(run: RunSummary, folder: Path, reference: Observables) -> Observables | None:
    path = folder / run.folder / f"{run.stage}.traj"
    if sum(1 for _ in read_trajectory(path)) < FEWEST_FRAMES:
        return None
    return measure_observables(read_trajectory(path), discard_ps=EQUILIBRATION * run.time_ps, like=reference)
