"""A round: label, train, run, choose.  Each product is written whole, so that a kill loses no finished step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from ase import Atoms

from ase_mlcalc.active.assess import CUTOFF_A, Assessed, assess_task, read_assessed, run_files
from ase_mlcalc.active.choose import Decision, choose
from ase_mlcalc.active.config import LearnJob
from ase_mlcalc.active.data import divide, require_calibration
from ase_mlcalc.active.decisions import chosen_structures, write_decisions
from ase_mlcalc.active.ends import labels_left, next_length_ps
from ase_mlcalc.active.files import read_written, round_files, write_structures
from ase_mlcalc.active.measure import errors_in, force_rms, of_frames, of_study
from ase_mlcalc.active.prepare import Prepared
from ase_mlcalc.active.summary import RoundSummary, write_round
from ase_mlcalc.active.trust import Trust, trust
from ase_mlcalc.config import Section
from ase_mlcalc.data.geometry import is_isolated_atom
from ase_mlcalc.errors import DataError, MLCalcError
from ase_mlcalc.files import make_folder, write_text
from ase_mlcalc.labelling import label
from ase_mlcalc.labelling.structures import FAILURE_KEY
from ase_mlcalc.sampling.descriptor import StructureDescriptor
from ase_mlcalc.study import StudySummary, run_study
from ase_mlcalc.study.plan import PlannedRun, plan
from ase_mlcalc.training.held_out import TEST_FILE
from ase_mlcalc.training.train import train
from ase_mlcalc.workers import TaskProgress, work_on

Say = Callable[[str], None]


class RoundPlan(Section):
    """What is settled when a round begins."""

    planned_ps: float


class Round:
    """A round at work.

    Parameters
    ----------
    job : LearnJob
    prepared : Prepared
    before : sequence of RoundSummary
        The rounds that are over.
    level : str
        Level of theory of the reference.
    lock : file, optional
        What `workers_lock` gave.
    say : callable
        Tells what goes on.
    progress : bool
        Show bars.
    """

    def __init__(
        self,
        job: LearnJob,
        prepared: Prepared,
        before: Sequence[RoundSummary],
        level: str,
        lock: IO[str] | None,
        say: Say,
        *,
        progress: bool,
    ) -> None:
        self._job, self._prepared, self._before, self._level = job, prepared, before, level
        self._lock, self._say, self._progress = lock, say, progress
        self._number = len(before)
        self._files = round_files(job.learn.output, self._number)

    def run(self) -> RoundSummary:
        """To its end, from wherever it was stopped."""
        make_folder(self._files.folder)
        planned_ps = self._begin()
        n_failed = self._label()
        training, validation = self._data()
        checkpoint, minutes = self._train()
        trained_in = round_files(self._job.learn.output, self._trained_in())
        levels = trust(self._job, trained_in, force_rms([*training, *validation]), self._before)
        runs, study = self._explore(checkpoint, planned_ps, levels)
        assessed = self._assess(runs)
        decisions = self._choose(runs, assessed, [*training, *validation], levels)
        found = RoundSummary(
            number=self._number,
            n_asked=len(read_written(self._files.asked)),
            n_failed=n_failed,
            n_training=len(training),
            n_validation=len(validation),
            model=str(checkpoint.relative_to(self._job.learn.output)),
            trained=self._trained_in() == self._number,
            minutes=minutes,
            validation=errors_in(checkpoint.parent / "metrics.json"),
            test=errors_in(checkpoint.parent / TEST_FILE) if self._job.learn.test else None,
            **levels._asdict(),
            planned_ps=planned_ps,
            **of_study(study),
            **of_frames(assessed, levels),
            n_chosen=sum(each.rank is not None for each in decisions),
        )
        write_round(found, self._files.summary)
        return found

    def _begin(self) -> float:
        """Settle what the reference is asked for and how long runs are; the length."""
        files = self._files
        if not files.plan.exists():
            asked = self._prepared.start
            if self._before:
                asked = tuple(read_written(round_files(self._job.learn.output, self._number - 1).chosen))
            write_structures(files.asked, asked[: labels_left(self._job, self._before)])
            settled = RoundPlan(planned_ps=next_length_ps(self._job, self._before))
            write_text(files.plan, settled.model_dump_json() + "\n")
        return RoundPlan.model_validate_json(files.plan.read_text(encoding="utf-8")).planned_ps

    def _label(self) -> int:
        """Ask the reference; how many structures have no label that can be learned."""
        files, reference = self._files, self._job.learn.reference
        asked = read_written(files.asked)
        if not asked:
            return 0
        self._say(f"round {self._number}: {len(asked)} structures to be labelled")
        label(
            asked,
            reference.calculator,
            files.labelled,
            arguments=reference.calculator_arguments,
            level=self._level,
            workers=self._job.learn.n_workers,
            threads=self._job.learn.threads,
            timeout_s=reference.timeout_s,
            executor=self._job.executor,
            progress=self._progress,
        )
        good = self._good(self._number)
        if len(good) < len(asked):
            self._say(f"round {self._number}: {len(asked) - len(good)} structures are left without a label")
        return len(asked) - len(good)

    def _good(self, number: int) -> list[Atoms]:
        """Labelled structures of a round that can be learned from; forces beyond belief would spoil all others."""
        most = self._job.md[-1].monitors.force.max_eV_per_A
        found = read_written(round_files(self._job.learn.output, number).labelled)
        return [atoms for atoms in found if np.linalg.norm(atoms.get_forces(), axis=1).max() <= most]

    def _data(self) -> tuple[list[Atoms], list[Atoms]]:
        """Training and validation structures of all rounds so far."""
        files = self._files
        if not files.training.exists():
            labelled = [*self._prepared.labelled]
            for number in range(self._number + 1):
                labelled += self._good(number)
            parts = divide(labelled)
            if not all(parts):
                raise DataError(self._too_few(len(labelled)))
            require_calibration(self._job, parts[1], "labelled structures")
            for path, part in zip((files.training, files.validation)[::-1], parts[::-1], strict=True):
                write_structures(path, part)
        return read_written(files.training), read_written(files.validation)

    def _too_few(self, n_labelled: int) -> str:
        failed = read_written(self._files.labelled.with_suffix(".failed.extxyz"))
        why = f"; the first that failed: {failed[0].info[FAILURE_KEY]}" if failed else ""
        return f"{n_labelled} labelled structures are too few to learn from, at least 2 are needed{why}"

    def _trained_in(self) -> int:
        """The round whose committee is in use: this one, or the last one that had new labels."""
        if not self._before or self._good(self._number):
            return self._number
        return int(Path(self._before[-1].model).parts[0].removeprefix("round-"))

    def _train(self) -> tuple[Path, float | None]:
        """The committee, and how long it took; there is nothing to do without a new label."""
        files = round_files(self._job.learn.output, self._trained_in())
        if files != self._files:
            self._say(f"round {self._number}: no new label, the committee stays as it is")
            return files.checkpoint, None
        predecessor = self._job.learn.output / self._before[-1].model if self._before else None
        self._say(f"round {self._number}: {self._job.train.members} potentials to be trained")
        job = self._job.training(files.model, [files.training], [files.validation], predecessor)
        result = train(job, progress=self._progress)
        return result.checkpoint, result.minutes

    def _explore(self, checkpoint: Path, planned_ps: float, levels: Trust) -> tuple[list[PlannedRun], StudySummary]:
        """The study of the round."""
        job = self._job.exploration(
            self._files.study, checkpoint, self._prepared.structures, self._number, planned_ps, levels.stop_eV_per_A
        )
        self._say(
            f"round {self._number}: {len(plan(job))} runs of {planned_ps:.4g} ps; a label is due above "
            f"{levels.threshold_eV_per_A:.3g} eV/Å, a run ends above {levels.stop_eV_per_A:.3g} eV/Å"
        )
        found = run_study(job, progress=self._progress)
        errors = [run for run in found.runs if run.status == "error"]
        if errors:
            raise MLCalcError(
                f"{len(errors)} of {len(found.runs)} runs could not be made, and the same command tries them again; "
                f"the first, {self._files.study / errors[0].folder}: {errors[0].error}"
            )
        return plan(job), found

    def _assess(self, runs: Sequence[PlannedRun]) -> list[Assessed]:
        """What the committee thinks of all frames."""
        files = [run_files(run, self._files.study) for run in runs]
        todo = [(run, each) for run, each in zip(runs, files, strict=True) if each and read_assessed(each) is None]
        tasks = (assess_task(run, each, self._prepared.species) for run, each in todo)
        logs = self._files.study / "logs"
        table = self._job.learn
        with (
            TaskProgress("assess runs", len(runs), len(runs) - len(todo), shown=self._progress) as shown,
            work_on(
                tasks, table.n_workers, table.threads, logs, self._lock, shown.tick, executor=self._job.executor
            ) as work,
        ):
            for done in work:
                if done.error is not None:
                    raise MLCalcError(f"frames of {todo[done.number][0].folder} cannot be assessed: {done.error}")
                shown.over()
        found = [None if each is None else read_assessed(each) for each in files]
        assert all(each is not None for each in found), "every run has been made and assessed"
        return [each for each in found if each is not None]

    def _choose(
        self, runs: Sequence[PlannedRun], assessed: Sequence[Assessed], known: Sequence[Atoms], levels: Trust
    ) -> list[Decision]:
        """Choose frames, and put down why."""
        describe = StructureDescriptor(self._prepared.species, CUTOFF_A)
        several = [atoms for atoms in known if not is_isolated_atom(atoms)]
        features = np.array([describe(atoms) for atoms in several])
        decisions = choose(assessed, features, levels, self._job.learn.labels_per_round)
        write_decisions(self._files.decisions, self._number, runs, assessed, decisions, levels)
        chosen = chosen_structures(self._number, self._files.study, runs, assessed, decisions)
        write_structures(self._files.chosen, chosen)
        self._say(f"round {self._number}: {len(chosen)} of {len(decisions)} frames are worth a label")
        return decisions
