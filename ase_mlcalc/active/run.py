"""`learn`: rounds of labelling, training and molecular dynamics, until the committee survives a study."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ase_mlcalc.active.config import LearnJob
from ase_mlcalc.active.decisions import join_decisions
from ase_mlcalc.active.ends import end_of, verdict
from ase_mlcalc.active.files import round_files
from ase_mlcalc.active.identity import claim
from ase_mlcalc.active.page import write_learn_report
from ase_mlcalc.active.picture import draw_learning
from ase_mlcalc.active.prepare import prepare, write_prepared
from ase_mlcalc.active.rounds import Round
from ase_mlcalc.active.summary import Learned, RoundSummary, read_round, write_learned
from ase_mlcalc.files import atomic_path, exclusive, make_folder, remove_leftovers
from ase_mlcalc.labelling.job import label_job
from ase_mlcalc.md.provenance import provenance
from ase_mlcalc.training.state import CHECKPOINT_FILE
from ase_mlcalc.workers import workers_lock

DECISIONS_FILE, FIGURE_FILE, LOG_FILE = "decisions.csv", "learn.png", "learn.log"


def learn(job: LearnJob, *, progress: bool = True) -> Learned:
    """Learn actively, or go on where that was stopped.

    In each round the reference labels what the round before chose (the first one: ``learn.start``); the committee is
    trained, from the second round on from what it knows; it drives the runs of a study, which are stopped where its
    expected force error passes ``learn.stop_eV_per_A`` or any other monitor fires; and of their frames those are chosen
    that it is unsure about and that differ from what has a label.  Learning ends with the first study of full length
    that survives, or with the budget.

    Writes into ``learn.output``: ``model.safetensors``, the last committee; ``learn.json``, ``learn.png`` and
    ``report.html``, how it went from round to round; ``decisions.csv``, what was decided about every frame; and
    ``round-00/``, ``round-01/``, ... with all that they were made of.

    Parameters
    ----------
    job : LearnJob
    progress : bool
        Show bars on a terminal, else a line now and then.

    Raises
    ------
    ConfigError
        The folder holds another learning, or another process is at work in it; a wrong key of the model.
    DataError
        Files that cannot be used together; too few labels.
    MLCalcError
        The reference calculator cannot be made; runs that cannot be made; whatever training raises.
    """
    folder = job.learn.output
    reference = job.learn.reference
    level = label_job(
        reference.calculator,
        folder / "reference.extxyz",
        reference.calculator_arguments,
        None,
        reference.level_of_theory,
    ).level
    make_folder(folder)

    def say(text: str) -> None:
        with open(folder / LOG_FILE, "a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
        if progress:
            print(text, flush=True)

    with exclusive(folder), workers_lock(folder) as lock:
        remove_leftovers(folder)
        prepared = prepare(job, level)
        claim(job, level)
        write_prepared(prepared)
        rounds: list[RoundSummary] = []
        while True:
            earlier = read_round(round_files(folder, len(rounds)).summary)
            found = earlier or Round(job, prepared, rounds, level, lock, say, progress=progress).run()
            rounds.append(found)
            learned = _learned(job, level, rounds)
            if earlier is None or learned.end is not None:
                _write(job, learned)
                say(f"round {found.number}: {learned.verdict}")
            if learned.end is not None:
                return learned


def _learned(job: LearnJob, level: str, rounds: Sequence[RoundSummary]) -> Learned:
    end = end_of(job, rounds)
    return Learned(
        level_of_theory=level,
        rounds=tuple(rounds),
        end=end,
        verdict=verdict(job, rounds, end),
        job=job.model_dump(mode="json", exclude_unset=True),
        provenance=provenance().model_dump(mode="json"),
    )


def _write(job: LearnJob, learned: Learned) -> None:
    """Everything that the rounds so far came to."""
    folder = job.learn.output
    _copy(folder / learned.rounds[-1].model, folder / CHECKPOINT_FILE)
    files = [round_files(folder, each.number) for each in learned.rounds]
    join_decisions(folder / DECISIONS_FILE, [each.decisions for each in files])
    write_learned(learned, folder)
    draw_learning(folder / FIGURE_FILE, learned)
    write_learn_report(folder)


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as part:
        shutil.copyfile(source, part)
