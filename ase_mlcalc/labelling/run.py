"""`label`: reference calculations of many structures in worker processes, none of them twice."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from ase import Atoms
from ase.io.jsonio import encode

from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.files import exclusive, make_folder
from ase_mlcalc.labelling.job import IDENTITY_FILE, LabelJob, claim, label_job
from ase_mlcalc.labelling.journal import Entry, Journal
from ase_mlcalc.labelling.output import write_labelled
from ase_mlcalc.labelling.structures import bare, structure_key
from ase_mlcalc.labelling.tasks import calculate, prepare
from ase_mlcalc.workers import Executor, Task, TaskProgress, available_cores, work_on, workers_lock

JOURNAL_FILE, LOG_FILE, WORKER_LOGS = "journal.jsonl", "label.log", "logs"


class Labelled(NamedTuple):
    """What came of a labelling."""

    out: Path
    """Labelled structures, in the order in which they were given."""
    failed: Path
    """Structures that were set aside, each with the reason; no such file where there are none."""
    n_labelled: int
    n_failed: int
    n_calculated: int
    """Calculations of this call, failed ones included; the others were there before."""
    level: str
    """Level of theory of the labels."""
    n_damaged: int
    """Lines of the journal that could not be read: what was calculated for them is lost."""


def label(
    structures: Sequence[Atoms],
    calculator: str,
    out: Path | str,
    *,
    arguments: Mapping[str, Any] | None = None,
    properties: Sequence[str] | None = None,
    level: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    timeout_s: float | None = None,
    executor: Executor | None = None,
    retry: bool = False,
    progress: bool = True,
) -> Labelled:
    """Calculate structures with a reference calculator, or go on where that was stopped.

    Each result is kept in a folder beside the output, ``NAME.labelling`` for ``NAME.extxyz``, as soon as it is there,
    by the contents of its structure.  The same call goes on after any kill; further structures may be added to it, and
    no structure is calculated twice.  A structure whose calculation fails, is not finite, crashes its process or takes
    too long goes into ``NAME.failed.extxyz``, and the others go on.

    Parameters
    ----------
    structures : sequence of Atoms
        Labels that they have are not used.
    calculator : str
        Import path of a factory, ``package.module:Factory``, or a checkpoint.
    out : path
        Extended XYZ: energy (eV; the free energy where the calculator has one, of which forces are the derivative),
        forces (eV/Å), stress (eV/Å³) of structures that are periodic, and ``level_of_theory``.
    arguments : mapping, optional
        Of the factory.
    properties : sequence of str, optional
        Of energy, energies, forces, stress, stresses.  Default: energy, forces and stress, as far as the calculator
        has them.
    level : str, optional
        The level of theory in words; default: `level_of_theory`.
    workers : int, optional
        Processes side by side; default: one for each core.
    threads : int, optional
        Of each process; default: its share of the cores.
    timeout_s : float, optional
        Longest that one structure may take.
    executor : Executor, optional
        Where structures are calculated, each in a job with `threads` cores, by default one; `workers` jobs are
        submitted at once.  Default: in processes of this machine.
    retry : bool
        Try structures again that failed before.
    progress : bool
        Show a bar on a terminal, else a line now and then.

    Raises
    ------
    ConfigError
        The output belongs to another calculation, or was not written here; another process is at work on it.
    DataError
        No structures.
    MLCalcError
        The calculator cannot be made, or has not what is asked of it.
    KeyboardInterrupt
        After the output has what was calculated so far.
    """
    job = label_job(calculator, out, arguments or {}, properties, level)
    if not structures:
        raise DataError("no structures to label; give at least one")
    if job.out.exists() and not (job.folder / IDENTITY_FILE).exists():
        raise ConfigError(f"{job.out} exists and was not written by this command; choose another file, or remove it")
    make_folder(job.folder)
    inputs = [bare(atoms) for atoms in structures]
    keys = [structure_key(atoms) for atoms in inputs]
    with exclusive(job.folder), workers_lock(job.folder) as lock, Journal(job.folder / JOURNAL_FILE) as journal:
        if not claim(job, has_results=journal.has_results):
            journal.clear()
        if retry:
            journal.forget_failures()
        unique = dict(zip(keys, inputs, strict=True))
        todo = {key: atoms for key, atoms in unique.items() if key not in journal}
        if journal.n_damaged:
            _say(job, f"{journal.n_damaged} lines of {JOURNAL_FILE} cannot be read")
        _say(job, f"{len(inputs)} structures, {len(todo)} to be calculated; {job.level}")
        try:
            with TaskProgress("label", len(unique), len(unique) - len(todo), shown=progress) as shown:
                n_workers = workers or available_cores()
                share = threads or (max(1, available_cores() // n_workers) if executor is None else 1)
                _calculate(job, todo, journal, shown, lock, n_workers, share, timeout_s, executor)
        finally:
            n_labelled, n_failed = write_labelled(job, inputs, keys, journal)
            _say(job, f"{n_labelled} labelled, {n_failed} failed, {len(inputs) - n_labelled - n_failed} left to do")
    return Labelled(job.out, job.failed, n_labelled, n_failed, len(todo), job.level, journal.n_damaged)


def _calculate(
    job: LabelJob,
    todo: Mapping[str, Atoms],
    journal: Journal,
    shown: TaskProgress,
    lock: IO[str] | None,
    workers: int,
    threads: int,
    timeout_s: float | None,
    executor: Executor | None,
) -> None:
    """Calculate structures, and put down each outcome before the next one is waited for."""
    if not todo:
        return
    reference = job.reference()._asdict()
    keys = list(todo)
    n_failed = 0
    with work_on(
        (Task.of(calculate, reference=reference, atoms=encode(atoms)) for atoms in todo.values()),
        workers,
        threads,
        job.folder / WORKER_LOGS,
        lock,
        shown.tick,
        setup=Task.of(prepare, reference=reference),
        timeout_s=timeout_s,
        executor=executor,
    ) as work:  # where the disk is full, no calculation goes on while labels are written
        for done in work:
            key = keys[done.number]
            journal.add(Entry(key, done.result, done.error))
            if done.error is not None:
                n_failed += 1
                _say(job, f"{todo[key].symbols} ({key}): {done.error}")
            shown.over(f"{n_failed} failed" if n_failed else "")


def _say(job: LabelJob, text: str) -> None:
    """Add a line to the log."""
    with open(job.folder / LOG_FILE, "a", encoding="utf-8") as log:
        log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
