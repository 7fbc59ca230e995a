"""Campaigns without worker processes and, where only the bookkeeping is tested, without training."""

import json
from pathlib import Path

from work_cases import as_context

from ase_mlcalc.campaigns import learning_curve, scan, trainings
from ase_mlcalc.training import written
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.workers import Done


def without_pictures(monkeypatch):
    """Pictures of each training take longer than the training."""
    monkeypatch.setattr(written, "parity", lambda *_: None)
    monkeypatch.setattr(written, "learning_curves", lambda *_: None)


def in_this_process(monkeypatch, do=None):
    """Do tasks one after another, by `do` with the job of a training in place of the training; returns those done."""
    jobs = []

    @as_context
    def work_on(tasks, n_workers, threads, logs, held_file, tick, **_):
        for number, task in enumerate(tasks):
            job = TrainJob.model_validate(task.arguments["job"])
            jobs.append(job)
            tick({number})
            error = None
            try:
                task.do() if do is None else do(job)
            except Exception as caught:  # noqa: BLE001  (as a worker)
                error = str(caught)
            yield Done(number, None, error, set())

    monkeypatch.setattr(trainings, "work_on", work_on)
    if do is not None:
        monkeypatch.setattr(learning_curve, "draw_learning_curve", lambda *_: None)
        monkeypatch.setattr(scan, "draw_scan", lambda *_: None)
        monkeypatch.setattr(scan, "measure_costs", lambda *_: None)
    return jobs


def write_metrics(job: TrainJob, force_mae, *, energy_mae=1.0, minutes=0.5, test=None):
    """What a training leaves behind, as far as campaigns read it."""
    errors = {"n_structures": 4, "n_atoms": 16, "energy_mae_meV_per_atom": energy_mae}
    ending = {"epochs": 2.0, "minutes": minutes, "stopped": "done"}
    Path(job.output).mkdir(parents=True, exist_ok=True)
    if test is not None:
        (job.output / "test.json").write_text(json.dumps({**errors, "force_mae_meV_per_A": test}))
    (job.output / "metrics.json").write_text(json.dumps({**errors, **ending, "force_mae_meV_per_A": force_mae}))
