"""A plain training loop that finds out whether a model can learn at all."""

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ase_mlcalc.graph import Graph, collate, from_atoms
from ase_mlcalc.potential import Baseline, derive
from ase_mlcalc.properties import Properties
from ase_mlcalc.testing.morse import morse_labels
from ase_mlcalc.testing.subject import SEED, ModelSubject

STEPS = 30
LABEL_CUTOFF = 4.0
"""Å, at least."""
LEARNING_RATES = (3e-3, 1e-3, 1e-2, 3e-2)


def fits(subject: ModelSubject) -> float:
    """By which factor 30 steps of Adam reduce the loss on four structures, with the best of a few learning rates."""
    structures = _four_structures(subject)
    graph = subject.graph(*structures)
    sees_enough = max(subject.config.cutoff, LABEL_CUTOFF)  # also where a model has no use for neighbours
    labels = morse_labels(collate([from_atoms(atoms, sees_enough) for atoms in structures]), sees_enough)
    best = 0.0
    for learning_rate in LEARNING_RATES:
        losses = _train(subject, graph, labels, learning_rate)
        best = max(best, losses[0] / losses[-1])
        if best >= 5.0:
            break
    return best


def _four_structures(subject: ModelSubject) -> list[Atoms]:
    rng = np.random.default_rng(11)
    # direct stress regressors learn from crystals, everything else from molecules
    start = subject.crystal if subject.outputs == {"stresses"} else subject.ethanol
    several = []
    for _ in range(4):
        atoms = start.copy()
        atoms.positions += 0.08 * rng.standard_normal(atoms.positions.shape)
        several.append(atoms)
    return several


def _train(subject: ModelSubject, graph: Graph, labels: Properties, learning_rate: float) -> list[float]:
    model = subject.fresh()
    target = "stresses" if subject.outputs == {"stresses"} else "forces"
    label: Tensor = getattr(labels, target)
    scale = float(label.square().mean().sqrt())
    volume = float(torch.linalg.det(graph.cell).abs().mean())  # of crystals that are all of one size
    baseline = Baseline(energy_scale=scale, force_scale=scale, stress_scale=scale * volume)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    losses = []
    with torch.random.fork_rng(devices=[]):  # for dropout
        torch.manual_seed(SEED)
        for _ in range(STEPS + 1):
            prediction: Tensor = getattr(derive(model, graph, baseline, create_graph=True), target)
            loss = ((prediction - label) / scale).square().mean()
            losses.append(float(loss.detach()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return losses
