"""Steps of the optimiser, and an epoch of them."""

import math

import numpy as np
import torch
from torch import nn

from ase_mlcalc.data.frames import Sample, collate
from ase_mlcalc.errors import NumericalError
from ase_mlcalc.potential import derive
from ase_mlcalc.training.reproducible import seeded
from ase_mlcalc.training.run import Run, out_of_time, progress_of
from ase_mlcalc.training.schedule import learning_rate_factor
from ase_mlcalc.training.state import CHECKPOINT_FILE

CHECK_EVERY_STEPS = 20
"""Steps between two looks at whether the loss is still a number; looking makes a GPU wait."""


def run_epoch(run: Run) -> tuple[float, float]:
    """One pass over the training structures; returns the mean loss and how much was done before time ran out."""
    config, state, samples = run.job.train, run.state, run.structures.train
    order = np.random.default_rng([config.seed, state.epoch]).permutation(len(samples))
    batches = np.array_split(order, math.ceil(len(samples) / run.structures.batch_size))  # no tiny batch at the end
    watch = torch.zeros(2, dtype=torch.float64, device=state.model.device)  # sums of loss and gradient norm
    state.model.train()
    with seeded([config.seed, state.epoch, 1], state.model.device):
        for done, batch in enumerate(batches):
            progress = progress_of(run, state.epoch + done / len(batches))
            _set_learning_rate(run, progress)
            watch += step(run, [samples[k] for k in batch.tolist()])
            state.average.update(state.step)
            state.step += 1
            run.report.update(progress)
            fraction = (done + 1) / len(batches)
            late = out_of_time(run)
            if (done + 1) % CHECK_EVERY_STEPS == 0 or fraction == 1.0 or late:
                _require_finite(run, watch)
            if late:
                break
    return float(watch[0]) / (done + 1), fraction


def _set_learning_rate(run: Run, progress: float) -> None:
    config = run.job.train
    factor = learning_rate_factor(
        progress,
        run.state.step,
        schedule=config.schedule,
        warmup_steps=config.warmup_steps,
        decay_from=config.decay_from,
    )
    for group, peak in zip(run.state.optimizer.param_groups, run.peak_rates, strict=True):
        group["lr"] = peak * factor


def step(run: Run, batch: list[Sample]) -> torch.Tensor:
    """One step of the optimiser; returns loss and gradient norm (2,)."""
    model, optimizer = run.state.model, run.state.optimizer
    # by name, so that nothing is computed for edge vectors and fixed parameters
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer.zero_grad(set_to_none=True)
    loss = _loss(run, batch)
    if loss.requires_grad:
        loss.backward(inputs=learned)
    loss = loss.detach()
    if not _added_up(run, learned, loss):  # isolated atoms only: nothing in the batch depends on the weights
        return torch.stack([loss, torch.zeros_like(loss)])
    clip = run.job.train.gradient_clip or math.inf
    norm = torch.nn.utils.clip_grad_norm_(learned, clip)
    optimizer.step()
    return torch.stack([loss, norm.double()])


def _loss(run: Run, batch: list[Sample]) -> torch.Tensor:
    """The loss of a batch, or this process's part of it, that is its share of the structures."""
    items = None
    if run.processes.size > 1:
        counts = [run.loss.items(sample.labels) for sample in batch]
        items = {name: sum(count[name] for count in counts) for name in run.loss.weights}
    share = run.processes.share(batch)
    if not share:
        return torch.zeros((), dtype=torch.float64, device=run.state.model.device)
    graph, labels = collate(share)
    prediction = derive(run.state.model, graph, run.baseline, create_graph=True, slopes=run.slopes)
    return run.loss(prediction, labels, graph.system, items)


def _added_up(run: Run, learned: list[nn.Parameter], loss: torch.Tensor) -> bool:
    """Sum gradients and loss over the processes; says whether any of them has a gradient."""
    has_gradient = any(parameter.grad is not None for parameter in learned)
    if run.processes.size == 1:
        return has_gradient
    for parameter in learned:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    with_gradient = loss.new_full((), float(has_gradient))
    run.processes.add([*(parameter.grad for parameter in learned if parameter.grad is not None), loss, with_gradient])
    return bool(with_gradient > 0)


def _require_finite(run: Run, watch: torch.Tensor) -> None:
    if bool(watch.isfinite().all()):
        return
    what = "gradient of the loss" if bool(watch[0].isfinite()) else "loss"
    saved = (run.job.output / CHECKPOINT_FILE).exists()
    kept = f"what was saved before is kept in {run.job.output}" if saved else "nothing was saved"
    raise NumericalError(
        f"the {what} became NaN or Inf in epoch {run.state.epoch + 1} (step {run.state.step}); {kept}: lower "
        f"train.learning_rate (now {run.job.train.learning_rate:g}) or train.gradient_clip in a new folder, and look "
        "for outliers with `ase-mlcalc check-data`"
    )
