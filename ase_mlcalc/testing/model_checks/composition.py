"""Structures alone and together: batches, fragments, isolated atoms and structures without edges."""

import numpy as np
import torch
from torch import Tensor

from ase_mlcalc.graph import Graph
from ase_mlcalc.potential import Baseline, derive
from ase_mlcalc.properties import SPECS, Properties
from ase_mlcalc.testing import outcome, structures
from ase_mlcalc.testing.comparison import close, mean_squares
from ase_mlcalc.testing.outcome import Judge, fails
from ase_mlcalc.testing.subject import ModelSubject


def check_batch_equals_single(subject: ModelSubject, judge: Judge) -> None:
    """A structure does not notice which others are evaluated with it, nor their order."""
    named = subject.everything()
    alone = {name: subject.evaluate(atoms) for name, atoms in named.items()}
    for order in (list(named), list(named)[::-1]):
        expected = _joined([alone[name] for name in order])
        close(judge, "in a batch", subject.evaluate(*(named[name] for name in order)), expected, outcome.SUMS)


def check_no_gradient_across_structures(subject: ModelSubject, judge: Judge) -> None:
    """Outputs of one structure do not depend on the edges of another."""
    graph = subject.graph(subject.crystal, subject.ethanol, subject.water)
    vectors = graph.vectors.clone().requires_grad_()
    raw = subject.model()(graph._replace(vectors=vectors))
    for name in raw.given():
        value: Tensor = getattr(raw, name)
        own = _structure_of_rows(name, graph) == 1
        (gradient,) = torch.autograd.grad(value[own].sum(), vectors, retain_graph=True, materialize_grads=True)
        foreign = graph.system[graph.centers] != 1
        judge.identical(f"d {name} / d r of other structures", gradient[foreign], torch.zeros_like(gradient[foreign]))


def check_nonperiodic_in_batch(subject: ModelSubject, judge: Judge) -> None:
    """A molecule among crystals has NaN stress, they have not, and gradients stay finite."""
    model = subject.model()
    graph = subject.graph(subject.crystal, subject.water, subject.slab)
    prediction = derive(model, graph, Baseline(), create_graph=True)
    for name, is_molecule in (("stress", torch.arange(3) == 1), ("stresses", graph.system == 1)):
        value = getattr(prediction, name)
        if value is None:
            continue
        judge.require(torch.isnan(value[is_molecule]).all(), f"{name} of a molecule is a number, but it has no volume")
        judge.require(torch.isfinite(value[~is_molecule]).all(), f"{name} of a crystal beside a molecule is not finite")
    if prediction.forces is not None:
        judge.require(torch.isfinite(prediction.forces).all(), "forces beside a molecule are not finite")
    if subject.model_class.trainable:
        mean_squares(prediction).backward()
        for name, parameter in model.named_parameters():
            finite = parameter.grad is None or torch.isfinite(parameter.grad).all()
            judge.require(finite, f"gradient of {name} is NaN when a molecule is in the batch")


def check_isolated_atom(subject: ModelSubject, judge: Judge) -> None:
    """An isolated atom has its reference energy and exactly no force."""
    potential = subject.with_baseline(-3.0)
    for number in subject.config.species:
        result = potential(subject.graph(structures.isolated_atom(number)))
        for name in ("energy", "energies"):
            value = getattr(result, name)
            if value is not None:
                reference = [potential.baseline.species_energy[number]]
                judge.close(f"{name} of an isolated atom", value, reference, outcome.SUMS, scale=1.0)
        if result.forces is not None:
            judge.identical("force on an isolated atom", result.forces, np.zeros((1, 3)))


def check_no_edges(subject: ModelSubject, judge: Judge) -> None:
    """A batch without any edge is evaluated and trained on without NaN."""
    pair = subject.water[:2]
    pair.positions[1] += 10 * subject.config.cutoff
    model, graph = subject.model(), subject.graph(pair, subject.lonely)
    judge.require(len(graph.centers) == 0, "the check structure has edges; this is a mistake in the suite")
    prediction = derive(model, graph, Baseline(), create_graph=True)
    for name in ("energy", "energies"):
        value = getattr(prediction, name)
        if value is not None:
            judge.close(f"{name} without edges", value, torch.zeros_like(value), outcome.SUMS, scale=1.0)
    if prediction.forces is not None:
        judge.identical("forces without edges", prediction.forces, torch.zeros_like(prediction.forces))
    if prediction.energy is not None and prediction.energy.requires_grad:
        prediction.energy.sum().backward()
        for name, parameter in model.named_parameters():
            finite = parameter.grad is None or torch.isfinite(parameter.grad).all()
            judge.require(finite, f"gradient of {name} is NaN for a batch without edges")


def check_far_apart(subject: ModelSubject, judge: Judge) -> None:
    """Fragments farther apart than the cutoff do not see each other (size consistency)."""
    near, far = subject.water.copy(), subject.ethanol.copy()
    far.positions += 10 * subject.config.cutoff
    for fragment in (near, far):  # one box for all, so that there is a volume
        fragment.set_cell(np.full(3, 12 * subject.config.cutoff + 10))
    both = subject.evaluate(near + far)
    alone = [subject.evaluate(near), subject.evaluate(far)]
    if not subject.gives_energy:
        judge.above("stress or force of fragments", _direct(both), 1e-12)
    for name in both.given() & {"energies", "forces", "stresses"}:
        judge.close(name, getattr(both, name), torch.cat([getattr(part, name) for part in alone]), outcome.RELABELLED)
    energies = [part.energy for part in alone if part.energy is not None]
    if both.energy is not None:
        total = torch.stack(energies).sum(dim=0)
        judge.close("energy", both.energy, total, outcome.RELABELLED, float(torch.stack(energies).abs().max()))


def check_declared_not_local(subject: ModelSubject, judge: Judge) -> None:
    """A model that says it is not local notices fragments far away: flags must not rot."""
    what = "declares local=False but passes the check of fragments far apart: declare local=True"
    judge.require(fails(check_far_apart, subject), what)


def _direct(result: Properties) -> Tensor:
    value = result.forces if result.forces is not None else result.stresses
    assert value is not None
    return value


def _structure_of_rows(name: str, graph: Graph) -> Tensor:
    """Which structure each row of an output belongs to."""
    if name == "edge_forces":
        return graph.system[graph.centers]
    return graph.system if SPECS[name].per == "atom" else torch.arange(graph.n_structures)


def _joined(parts: list[Properties]) -> Properties:
    given = parts[0].given()
    return Properties(**{name: torch.cat([getattr(part, name) for part in parts]) for name in given})
