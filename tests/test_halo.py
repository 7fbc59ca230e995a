"""Atoms that others own: every model that passes features between atoms takes them from their owners."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from ase_mlcalc.accelerate.native import Evaluation, evaluation_library
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.model import lookup
from ase_mlcalc.native.build import NoCompilerError
from ase_mlcalc.neighbors import OpenPairs, find_pairs
from ase_mlcalc.nn import messages
from ase_mlcalc.slopes import gradient

MODELS = {
    "equivariant": {"features": 8, "edge_features": 4, "n_interactions": 2},
    "schnet": {"features": 8, "n_interactions": 3},
    "body_order": {"features": 6, "hidden": 6, "n_steps": 2},
    "behler_parrinello": {},
    "lennard_jones": {},
    "sum": {},
}


class Copies:
    """Each edge leads to an atom of its own, a copy of one that is owned."""

    def __init__(self, graph):
        self.n_owned = graph.n_atoms
        self.owner = torch.cat([torch.arange(graph.n_atoms), graph.neighbors])
        self.exchanges = 0

    def exchange(self, x, dim):
        self.exchanges += 1
        return x.index_select(dim, self.owner)

    def fill(self, rows):
        self.exchanges += 1
        rows[:] = rows[self.owner.numpy()]

    def graph_of_copies(self, graph):
        n_edges = len(graph.centers)
        return graph._replace(
            numbers=graph.numbers[self.owner],
            positions=graph.positions[self.owner],
            system=graph.system[self.owner],
            neighbors=graph.n_atoms + torch.arange(n_edges),
            halo=self,
        )


@pytest.fixture(scope="module")
def graph():
    atoms = molecule("H2O", vacuum=1.2) * (2, 2, 1)
    atoms.pbc = (True, True, False)
    atoms.rattle(0.1, seed=5)
    return from_atoms(atoms, 4.0)


def model_of(name):
    torch.manual_seed(3)
    model_class = lookup(name)
    keys = {} if name == "sum" else {"cutoff": 4.0}
    config = model_class.Config(species=(1, 8), **keys, **MODELS[name])
    return model_class(config).double().requires_grad_(False)


def slopes(model, graph, n_owned):
    r_pc = graph.vectors.clone().requires_grad_()
    energies = model(graph._replace(vectors=r_pc)).energies[:n_owned]
    return energies.detach(), gradient(energies.sum(), r_pc, create_graph=False)


@pytest.mark.parametrize("in_blocks", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_copies_are_as_good_as_their_atoms(name, in_blocks, graph, monkeypatch):
    if in_blocks:
        monkeypatch.setattr(messages, "_edges_per_block", lambda _: 37)
    model = model_of(name)
    if name == "sum":
        graph = from_atoms(molecule("H2O"), model.config.cutoff)
    halo = Copies(graph)
    energies, g_pc = slopes(model, graph, graph.n_atoms)
    mine, slopes_of_mine = slopes(model, halo.graph_of_copies(graph), graph.n_atoms)
    assert g_pc.abs().max() > 1e-3
    assert (halo.exchanges > 0) == (model.depth > 1 or name == "sum")
    torch.testing.assert_close(mine, energies, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slopes_of_mine, g_pc, rtol=0, atol=1e-12 * float(g_pc.abs().max()))


def test_the_kernel_takes_copies_too(graph):
    model = model_of("equivariant")
    try:
        evaluate = Evaluation(evaluation_library(model), model)
    except NoCompilerError:
        pytest.skip("needs a C++ compiler")
    halo = Copies(graph)
    species = (graph.numbers == 8).long().numpy()
    vectors = graph.vectors.numpy()
    energies, forces, virials, _ = evaluate(species, (graph.centers.numpy(), graph.neighbors.numpy(), vectors))
    copies = halo.graph_of_copies(graph)
    edges = (copies.centers.numpy(), copies.neighbors.numpy(), vectors)
    mine, pulled, stressed, _ = evaluate(species[halo.owner.numpy()], edges, halo=halo)
    assert halo.exchanges == 2 * model.config.n_interactions
    np.testing.assert_allclose(mine, energies, rtol=1e-12)
    for with_copies, expected in ((pulled, forces), (stressed, virials)):
        given_back = np.zeros_like(expected)
        np.add.at(given_back, halo.owner.numpy(), with_copies)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(given_back, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_what_fails_between_the_layers_of_the_kernel_is_said(graph):
    model = model_of("equivariant")
    try:
        evaluate = Evaluation(evaluation_library(model), model)
    except NoCompilerError:
        pytest.skip("needs a C++ compiler")
    halo = Copies(graph)
    halo.fill = lambda _: 1 / 0
    species = (graph.numbers == 8).long().numpy()
    with pytest.raises(ZeroDivisionError):
        evaluate(species, (graph.centers.numpy(), graph.neighbors.numpy(), graph.vectors.numpy()), halo=halo)


def test_pairs_of_the_first_atoms(monkeypatch):
    positions = np.random.default_rng(0).uniform(0, 9, (80, 3))
    positions[70:] += 200.0  # far away
    everyone = find_pairs(positions, np.zeros((3, 3)), np.zeros(3, dtype=bool), 3.0)
    wanted = everyone.centers < 30
    for native in (True, False):
        if not native:
            monkeypatch.setattr("ase_mlcalc.native.pairs.available", lambda: False)
        pairs = OpenPairs(positions, 30, 3.0, 0.5)
        found = pairs(positions).pairs
        assert wanted.sum() > 100
        assert np.array_equal(found.centers, everyone.centers[wanted])
        assert np.array_equal(found.neighbors, everyone.neighbors[wanted])
        near = positions.copy()
        near[3] += (0.24, 0, 0)
        moved = find_pairs(near, np.zeros((3, 3)), np.zeros(3, dtype=bool), 3.0)
        assert np.array_equal(pairs(near).pairs.neighbors, moved.neighbors[moved.centers < 30])
        near[3] += (0.02, 0, 0)
        assert pairs(near) is None  # more than half of the skin
        near[3] = np.nan
        assert pairs(near) is None
    assert len(OpenPairs(positions, 0, 3.0, 0.5)(positions).vectors) == 0
