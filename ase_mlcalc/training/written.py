"""What a training run leaves on disk, by its first process: state, checkpoint, log, and at the end pictures."""

import copy

from ase_mlcalc import checkpoint
from ase_mlcalc.files import write_text
from ase_mlcalc.model import Model
from ase_mlcalc.plots import learning_curves
from ase_mlcalc.potential import Derived
from ase_mlcalc.training import delta, seen
from ase_mlcalc.training.figures import parity
from ase_mlcalc.training.log import log_text
from ase_mlcalc.training.metrics import measure
from ase_mlcalc.training.progress import duration
from ase_mlcalc.training.result import TrainResult
from ase_mlcalc.training.run import Run, compared
from ase_mlcalc.training.state import CHECKPOINT_FILE


def save(run: Run) -> None:
    """The state, which is what counts, and then what follows from it."""
    if not run.processes.first:
        return
    run.state.write(run.job.output, run.job, run.fingerprint)
    write_derived(run)


def write_log(run: Run) -> None:
    """One row for each validation."""
    if run.state.rows and run.processes.first:
        write_text(run.job.output / "log.csv", log_text(run.state.rows))


def write_derived(run: Run) -> None:
    """Checkpoint and log as the state has them."""
    write_log(run)
    if run.state.best_weights is not None and run.processes.first:
        whole = delta.completed(Derived(best_model(run), run.baseline), run.job.data)
        checkpoint.save(whole, run.job.output / CHECKPOINT_FILE, _provenance(run))


def best_model(run: Run) -> Model:
    """With the weights of the best validation."""
    assert run.state.best_weights is not None  # there is a validation before every end
    model = copy.deepcopy(run.state.average.model)
    model.load_state_dict(run.state.best_weights)
    return model


def _provenance(run: Run) -> dict[str, object]:
    return {
        "data": [str(path) for path in run.job.data.train],
        "data_sha256": run.fingerprint.data,
        "started_from_sha256": run.fingerprint.start,
        "n_training_structures": len(run.structures.train),
        "labels": run.labels,
        "level_of_theory": run.levels,
        seen.KEY: run.seen,
        "base": None if run.job.data.base is None else run.job.data.base.model_dump(mode="json"),
        "label_keys": run.job.data.keys.model_dump(mode="json"),
        "loss_weights": dict(run.loss.weights),
        "best_epoch": run.state.best_epoch,
        "train": run.job.train.model_dump(mode="json"),
    }


def finish(run: Run) -> TrainResult:
    """Evaluate the best weights on all validation structures and draw the pictures; metrics come last."""
    folder, state = run.job.output, run.state
    comparison = compared(run, best_model(run), run.structures.validation, run.structures.groups)
    metrics = measure(comparison)
    minutes = run.budget.elapsed_s / 60
    epochs = state.rows[-1]["epoch"]
    if run.processes.first:
        parity(folder / "parity.png", comparison)
        learning_curves(folder / "learning_curves.png", state.rows)
        metrics.write(
            folder / "metrics.json", epochs=epochs, best_epoch=state.best_epoch, minutes=minutes, stopped=state.stopped
        )
    took = duration(run.budget.elapsed_s)
    run.report.say(f"{state.stopped}; best after epoch {state.best_epoch:g}; {took}; wrote {folder / CHECKPOINT_FILE}")
    assert state.stopped is not None
    return TrainResult(folder / CHECKPOINT_FILE, metrics, epochs, minutes, state.stopped)
