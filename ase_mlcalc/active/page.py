"""`write_learn_report`: one self-contained page about a learning, made from the files of its folder alone."""

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from ase_mlcalc.active.files import read_written, round_files
from ase_mlcalc.active.picture import draw_errors, draw_labels, draw_spread, draw_survival
from ase_mlcalc.active.summary import Learned, RoundSummary, read_learned
from ase_mlcalc.labelling.structures import FAILURE_KEY
from ase_mlcalc.md.monitors.distances import CLOSER_THAN
from ase_mlcalc.plots import new_axes, new_figure
from ase_mlcalc.report.page import (
    PANEL,
    Block,
    Cell,
    Gallery,
    Link,
    Page,
    Picture,
    Section,
    State,
    Table,
    Verdict,
    Words,
    picture,
    write_page,
)
from ase_mlcalc.report.provenance import provenance_section
from ase_mlcalc.report.study_runs import failures_section
from ase_mlcalc.report.study_survival import outcome_words, survival_section
from ase_mlcalc.report.words import UNKNOWN, counted, number, sentence
from ase_mlcalc.study.summary import read_study

Draw = Callable[[Axes, Sequence[RoundSummary]], None]

_PANELS: tuple[tuple[str, Draw, str, str], ...] = (
    (
        "spread",
        draw_spread,
        "Expected force error in the frames of each round, against the two trust levels.",
        (
            "Of each frame of the trajectories, the largest expected force error of an atom: the spread of the "
            "committee, times the factor that was measured on validation structures."
        ),
    ),
    (
        "errors",
        draw_errors,
        "Force error on test and validation structures over the rounds.",
        (
            "Mean over force components. Validation structures are a tenth of all labels, and so get harder from round "
            "to round; test structures stay the same."
        ),
    ),
    (
        "labels",
        draw_labels,
        "Number of reference calculations up to each round.",
        "Structures that the reference was asked for, from the start.",
    ),
    (
        "survival",
        draw_survival,
        "Part of the runs that survived in each round.",
        (
            "Runs that no monitor stopped, the one on the committee included. Runs get longer whenever all survive, "
            "and start with other velocities in each round."
        ),
    ),
)


def write_learn_report(folder: Path | str) -> Path:
    """Write ``report.html`` (self-contained) and the folder ``report`` of pictures of a learning, finished or not.

    Parameters
    ----------
    folder : path
        Of a learning, with its ``learn.json``.  Nothing is run again.

    Returns
    -------
    Path
        The HTML page.

    Raises
    ------
    DataError
        The folder holds no learning, or its summary is damaged.
    """
    folder = Path(folder)
    learned = read_learned(folder)
    sections = [
        _rounds_section(learned, folder),
        _choice_section(learned, folder),
        _failures_section(learned, folder),
        _last_study(learned, folder),
        _unlabelled_section(learned, folder),
        provenance_section(learned.provenance, [("Configuration", learned.job)]),
    ]
    page = Page(
        title=folder.resolve().name,
        subtitle=f"Active learning: {counted(len(learned.rounds), 'round')}, "
        f"{counted(learned.n_labels, 'reference calculation')} with {learned.level_of_theory}",
        verdicts=_verdicts(learned),
        sections=[section for section in sections if section is not None],
    )
    return write_page(page, folder)


def _verdicts(learned: Learned) -> list[Verdict]:
    states: dict[str | None, State] = {"stable": "good", None: "open"}
    found = [Verdict(states.get(learned.end, "note"), sentence(learned.verdict))]
    errors = [each.test.force_mae_meV_per_A for each in learned.rounds if each.test is not None]
    known = [error for error in errors if error is not None]
    if known:
        text = f"Force error on test structures: {number(known[-1])} meV/Å"
        text += f", {number(known[0])} meV/Å after the first round." if len(known) > 1 else "."
        found.append(Verdict("note", text))
    failed = sum(each.n_failed for each in learned.rounds)
    if failed:
        found.append(Verdict("note", f"{counted(failed, 'structure')} could not be labelled and are set aside."))
    return found


def _rounds_section(learned: Learned, folder: Path) -> Section:
    pictures = [_picture(name, draw, alt, caption, learned) for name, draw, alt, caption in _PANELS]
    columns = (
        "round", "labels in all", "force MAE of test / meV/Å", "force MAE of validation / meV/Å",
        "label above / eV/Å", "stop above / eV/Å", "runs that survived", "length / ps", "frames above / %", "chosen",
        "training / min",
    )  # fmt: skip
    rows: list[list[Cell]] = []
    labels = 0
    for each in learned.rounds:
        labels += each.n_asked
        study = round_files(folder, each.number).study
        rows.append(
            [
                Link(f"{each.number}", f"{study.relative_to(folder)}/"),
                f"{labels}",
                number(None if each.test is None else each.test.force_mae_meV_per_A),
                number(None if each.validation is None else each.validation.force_mae_meV_per_A),
                number(each.threshold_eV_per_A),
                number(each.stop_eV_per_A),
                f"{each.n_stable} of {each.n_runs}",
                number(each.planned_ps),
                number(each.uncertain_percent),
                f"{each.n_chosen}",
                number(each.minutes, 2),
            ]
        )
    caption = (
        "Every frame that was met, what was thought of it and why it was chosen or not is in decisions.csv. "
        "`ase-mlcalc report ROUND/study` writes the page of the runs of a round."
    )
    return Section("From round to round", [Gallery(pictures), Table(columns, rows, caption)])


def _picture(name: str, draw: Draw, alt: str, caption: str, learned: Learned) -> Picture:
    figure = new_figure(*PANEL)
    draw(new_axes(figure, 1, 1, 0), learned.rounds)
    return picture(figure, name, alt=alt, caption=caption)


def _choice_section(learned: Learned, folder: Path) -> Section:
    """Why frames were chosen or not, counted."""
    counts = [_reasons(round_files(folder, each.number).decisions) for each in learned.rounds]
    reasons = [why for why, _ in sum(counts, Counter[str]()).most_common()]
    columns = ("why", *(f"round {each.number}" for each in learned.rounds))
    rows = [[why, *(f"{found[why]}" if found[why] else UNKNOWN for found in counts)] for why in reasons]
    outcomes = sorted({name for each in learned.rounds for name in each.outcomes})
    failures = [
        [outcome_words(name), *(f"{each.outcomes.get(name) or UNKNOWN}" for each in learned.rounds)]
        for name in outcomes
    ]
    blocks: list[Block] = [Table(columns, rows, "Frames of each round.")]
    if failures:
        blocks.append(Table(("why runs failed", *columns[1:]), failures, "Runs of each round."))
    return Section("Decisions", blocks)


def _reasons(path: Path) -> Counter[str]:
    """Reasons with what they have in common, not with the numbers of each frame."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Counter(_kind(row["why"], chosen=bool(row["chosen"])) for row in rows)


def _kind(why: str, *, chosen: bool) -> str:
    if chosen:
        return f"chosen: {why}"
    for words, kind in ((CLOSER_THAN, "atoms too close"), ("the committee cannot", "cannot be evaluated"),
                        ("too far from", "too far from what is known")):  # fmt: skip
        if words in why:
            return kind
    return why


def _failures_section(learned: Learned, folder: Path) -> Section | None:
    """Structures at the failures of the last round that had some."""
    failed = [each for each in learned.rounds if not each.survived]
    if not failed:
        return None
    study = round_files(folder, failed[-1].number).study
    section = failures_section(read_study(study), study)
    return None if section is None else section._replace(title=f"Structures at failure in round {failed[-1].number}")


def _last_study(learned: Learned, folder: Path) -> Section:
    last = learned.rounds[-1]
    section = survival_section(read_study(round_files(folder, last.number).study))
    return section._replace(title=f"Survival in round {last.number}")


def _unlabelled_section(learned: Learned, folder: Path) -> Section | None:
    """Structures that the reference could not calculate, and why."""
    rows: list[list[Cell]] = []
    for each in learned.rounds:
        path = round_files(folder, each.number).labelled.with_suffix(".failed.extxyz")
        rows += [[f"{each.number}", f"{atoms.symbols}", str(atoms.info[FAILURE_KEY])] for atoms in read_written(path)]
    if not rows:
        return None
    text = "Structures that the reference could not calculate are not asked for again; learning goes on without them."
    return Section("Without a label", [Words(text), Table(("round", "structure", "why"), rows, words=("why",))])
