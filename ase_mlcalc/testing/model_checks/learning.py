"""Learning: a loss on forces and stress reaches every weight, with the right gradient, and goes down."""

import torch
from torch import Tensor

from ase_mlcalc.errors import NotFittedError
from ase_mlcalc.potential import Baseline, derive
from ase_mlcalc.testing import finite_difference, outcome
from ase_mlcalc.testing.comparison import mean_squares
from ase_mlcalc.testing.fitting import fits
from ase_mlcalc.testing.outcome import Judge
from ase_mlcalc.testing.subject import ModelSubject

SOLVED = 1e-3
"""Relative; by how much labels that a model in closed form was solved on may differ."""


def check_double_backward(subject: ModelSubject, judge: Judge) -> None:
    """A loss on forces and stress reaches every weight, with the right gradient."""
    model, graph = subject.model(), subject.graph(*subject.everything().values())
    mean_squares(derive(model, graph, Baseline(), create_graph=True)).backward()
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in weights.items():
        if parameter.grad is not None:
            judge.require(torch.isfinite(parameter.grad).all(), f"gradient of {name} is not finite")
    dead = [n for n, p in weights.items() if p.ndim > 1 and (p.grad is None or not p.grad.abs().max() > 0)]
    judge.require(not dead, f"a loss on forces and stress does not reach {', '.join(dead)}")
    # the slope along the gradient itself, by central differences over the parameters
    reached = {name: p for name, p in weights.items() if p.grad is not None}
    gradient = {name: p.grad.clone() for name, p in reached.items() if p.grad is not None}
    start = {name: p.detach().clone() for name, p in reached.items()}
    norm, size = _norm(gradient), _norm(start)
    judge.require(norm > 0, "a loss on forces and stress does not depend on the parameters")
    step, slope = 1e-5 * size, 0.0
    for k, weight in finite_difference.STENCIL.items():
        with torch.no_grad():
            for name, parameter in reached.items():
                parameter.copy_(start[name] + k * step / norm * gradient[name])
        slope += weight / step * float(mean_squares(derive(model, graph, Baseline())))
    judge.close("d loss / d parameters against differences", slope, norm, outcome.PARAMETER_GRADIENT)


def check_learns(subject: ModelSubject, judge: Judge) -> None:
    """Thirty steps on four structures bring the loss down five-fold."""
    best = fits(subject)
    judge.require(best >= 5.0, "30 steps of Adam reduce the loss on 4 structures", f"{best:.2f}-fold", "5-fold")


def check_solves(subject: ModelSubject, judge: Judge) -> None:
    """Before it is solved there are no numbers; afterwards the labels that it was solved on come back."""
    samples = subject.solvable_samples
    try:
        subject.fresh()(samples[0][0])
    except NotFittedError:
        pass
    else:
        judge.fail("a model that was not solved gives numbers instead of raising NotFittedError")
    model = subject.model()
    known = samples[:-6]
    energies = []
    for graph, labels in known:
        result = derive(model, graph, Baseline())
        judge.above("forces that it was solved on", labels.forces, outcome.FORCE_FLOOR)
        judge.close("forces that it was solved on", result.forces, labels.forces, SOLVED)
        energies.append(outcome.array(result.energy) - outcome.array(labels.energy))
    judge.close("mean energy that it was solved on", sum(energies) / len(energies), [0.0], outcome.SUMS, scale=1.0)


def _norm(tensors: dict[str, Tensor]) -> float:
    """Euclidean norm of several tensors as one vector."""
    return float(sum(float(value.square().sum()) for value in tensors.values()) ** 0.5)
