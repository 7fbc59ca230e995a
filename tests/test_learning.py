"""Gradients of the weights by the kernel, against torch differentiating twice."""

import threading

import numpy as np
import pytest
import torch
from test_native import BASELINE, COMPILER, potential, structures

from ase_mlcalc.accelerate import learning, with_kernels
from ase_mlcalc.accelerate.learning import KernelSlopes, kernel_slopes
from ase_mlcalc.errors import ModelError
from ase_mlcalc.graph import collate, from_atoms
from ase_mlcalc.model import lookup
from ase_mlcalc.native import build
from ase_mlcalc.potential import derive

pytestmark = pytest.mark.skipif(not COMPILER, reason="needs a C++ compiler")


def trainable(**keys):
    model = potential(**keys).model
    return model.requires_grad_(True)


def graph_of(model, *names):
    chosen = structures()
    return collate([from_atoms(chosen[name], model.config.cutoff) for name in names])


def gradients(model, graph, slopes):
    """Of a loss of energies, forces and stress, each with weights of its own."""
    model.zero_grad()
    found = derive(model, graph, BASELINE, create_graph=True, slopes=slopes)
    rng = np.random.default_rng(1)
    weights = {name: torch.from_numpy(rng.normal(size=getattr(found, name).shape)) for name in ("energies", "forces")}
    loss = sum((weight * getattr(found, name).sin()).sum() for name, weight in weights.items())
    solid = ~found.stress.isnan()
    loss = loss + 1e4 * found.stress[solid].square().sum()
    loss = loss + (found.energy - found.energy.detach() + 0.3).square().sum()
    loss.backward()
    return loss.item(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_gradients_of_all_weights(layers):
    model = trainable(n_interactions=layers, radial_decay=0.5 * layers)
    graph = graph_of(model, "molecule", "one atom", "slab", "tiny")
    loss, expected = gradients(model, graph, None)
    own_loss, found = gradients(model, graph, KernelSlopes(model))
    assert own_loss == pytest.approx(loss, rel=1e-12)
    for name, reference in expected.items():
        size = float(reference.abs().max())
        if name == "readout.2.bias":  # isolated atoms take it out again
            assert size < 1e-9
        else:
            assert size > 1e-6, name
            torch.testing.assert_close(found[name], reference, rtol=0, atol=1e-10 * size, msg=name)


def test_the_same_bits_again_and_nearly_so_with_other_threads():
    model = trainable()
    graph = graph_of(model, "box", "molecule")
    kernels = KernelSlopes(model)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(gradients(model, graph, kernels)[1])
    finally:
        torch.set_num_threads(before)
    for name, reference in results[1].items():
        assert torch.equal(results[2][name], reference), name
        torch.testing.assert_close(results[0][name], reference, rtol=0, atol=1e-10 * float(reference.abs().max() + 1))


def test_weights_are_read_anew_in_each_step():
    model = trainable()
    graph = graph_of(model, "box")
    kernels = KernelSlopes(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    energies = []
    for _ in range(2):
        optimizer.zero_grad()
        found = derive(model, graph, BASELINE, create_graph=True, slopes=kernels)
        found.forces.square().sum().backward()
        energies.append((found.energy.item(), derive(model, graph, BASELINE).energy.item()))
        optimizer.step()
    assert energies[0][0] == pytest.approx(energies[0][1], abs=1e-9)
    assert energies[1][0] == pytest.approx(energies[1][1], abs=1e-9)
    assert abs(energies[1][0] - energies[0][0]) > 1e-6


def test_evaluation_without_gradients_is_that_of_the_potential():
    derived = potential()
    graph = graph_of(derived.model, "box", "slab")
    assert with_kernels(derived).compiled is not None
    mine, theirs = with_kernels(derived)(graph), derived(graph)
    torch.testing.assert_close(mine.forces, theirs.forces, rtol=0, atol=1e-11)
    assert with_kernels(derived).properties == derived.properties


def test_it_is_said_that_kernels_are_compiled(monkeypatch):
    def slow(_):
        told.wait(60)

    told, said = threading.Event(), []
    monkeypatch.setattr(learning, "KernelSlopes", slow)
    monkeypatch.setattr(build, "COMPILING_AFTER_S", 0.01)
    kernel_slopes(trainable(), lambda text: (said.append(text), told.set()))
    assert said == ["compiling kernels, once for this machine ..."]


def test_nothing_is_said_of_kernels_that_are_there():
    KernelSlopes(trainable())  # in the cache from now on
    said = []
    assert kernel_slopes(trainable(), said.append)[0] is not None
    assert not said


def test_other_models_are_left_to_torch():
    schnet = lookup("schnet")(lookup("schnet").Config())
    found, why = kernel_slopes(schnet)
    assert found is None
    assert "for the model 'equivariant'" in why
    with pytest.raises(ModelError, match="multiples of"):
        KernelSlopes(potential(edge_features=3).model)
