"""Sections of a study: the structures on which runs failed, and the list of runs with links to their folders."""

from pathlib import Path

import numpy as np

from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.md.result import read_results
from ase_mlcalc.report.page import REPORT_FILE, Cell, Gallery, Link, Picture, Section, Table, Words
from ase_mlcalc.report.stage import events_of, evidence_of
from ase_mlcalc.report.structures import draw, marked_atoms
from ase_mlcalc.report.study_groups import condition_of, condition_words, file_words
from ase_mlcalc.report.study_survival import outcome_words
from ase_mlcalc.report.words import UNKNOWN, counted, number, plus_minus
from ase_mlcalc.study.summary import RunSummary, StudySummary

_MOST_PICTURES = 12
_MOST_ROWS = 1000


def failures_section(study: StudySummary, folder: Path) -> Section | None:
    """Thumbnails of failing structures, of as many kinds of failure as there is room for; ``None`` without any."""
    failed = [run for run in study.runs if run.status == "failed"]
    pictures: list[Picture] = []
    for run in _different_first(failed):
        if len(pictures) == _MOST_PICTURES:
            break
        if (found := _thumbnail(study, run, folder)) is not None:
            pictures.append(found)
    if not pictures:
        return None
    text = (
        f"{counted(len(pictures), 'structure')} of {counted(len(failed), 'failed run')}, one of each kind first. Atoms "
        "that the monitor names are ringed. The frames around each failure are in the folder of the run, as "
        "STAGE-failure.extxyz, ready to be labelled by the reference method and to be trained on."
    )
    return Section("Structures at failure", [Words(text), Gallery(pictures, size="quarter")])


def _different_first(runs: list[RunSummary]) -> list[RunSummary]:
    """Runs such that the first ones differ most: by model and outcome, then by condition."""
    seen: dict[tuple[object, ...], int] = {}
    keyed = []
    for position, run in enumerate(runs):
        kind = (run.model, run.outcome)
        count = seen.get(kind, 0)
        seen[kind] = count + 1
        keyed.append((count, position, run))
    return [run for _, _, run in sorted(keyed, key=lambda each: each[:2])]


def _thumbnail(study: StudySummary, run: RunSummary, folder: Path) -> Picture | None:
    try:
        results = [result for result in read_results(folder / run.folder) if result.name == run.stage]
    except MLCalcError:
        return None
    if not results:
        return None
    frames = evidence_of(results[0])
    if not frames or not np.isfinite(frames[-1].positions).all():
        return None
    before = frames[-2] if len(frames) > 1 else frames[-1]
    marked = marked_atoms(events_of(results[0]))
    caption = f"{_name(study, run)}: {run.detail or outcome_words(run.outcome or '')}, {number(run.time_ps, 4)} ps."
    return draw(frames[-1], file_words("failure", *Path(run.folder).parts[-4:]), caption, marked, before, small=True)


def _name(study: StudySummary, run: RunSummary) -> str:
    words = condition_words(study, condition_of(run))
    parts = [run.model] if len(study.models) > 1 or not words else []
    return ", ".join([*parts, *([words] if words else []), f"seed {run.seed}"])


def runs_section(study: StudySummary, folder: Path) -> Section:
    """Every run: how it ended, when, and where its files are."""
    rows: list[list[Cell]] = []
    for run in study.runs[:_MOST_ROWS]:
        page = folder / run.folder / REPORT_FILE
        target = f"{run.folder}/{REPORT_FILE}" if page.exists() else f"{run.folder}/"
        link = Link(_name(study, run), target) if (folder / run.folder).is_dir() else _name(study, run)
        rows.append([link, run.status, f"{number(run.time_ps, 4)} of {number(run.planned_ps, 4)}", *_numbers(run)])
    columns = ["run", "status", "time / ps", "drift / meV/atom/ps", "temperature / K", "what happened"]
    left_out = f" The first {_MOST_ROWS} of {len(study.runs)} are listed." if len(study.runs) > _MOST_ROWS else ""
    caption = (
        f"Times and numbers are those of production.{left_out} `ase-mlcalc report FOLDER` writes the page of a run."
    )
    return Section("Runs", [Table(columns, rows, caption, words=("status", "what happened"))])


def _numbers(run: RunSummary) -> list[str]:
    drift, temperature = run.drift_meV_per_atom_per_ps, run.temperature_mean_K
    what = run.error or run.detail or (outcome_words(run.outcome) if run.status == "failed" and run.outcome else "")
    if run.monitor and run.status == "failed":
        what = f"{run.monitor}: {what}"
    return [
        UNKNOWN if drift is None else plus_minus(drift, run.drift_stderr),
        UNKNOWN if temperature is None else plus_minus(temperature, run.temperature_stderr_K, sign=False),
        what or UNKNOWN,
    ]
