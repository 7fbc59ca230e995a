"""Messages summed in blocks of edges: the numbers of one piece, for every quantity and every reason to take blocks."""

import pytest
import torch
from ase.build import molecule

from ase_mlcalc.graph import from_atoms
from ase_mlcalc.model import lookup
from ase_mlcalc.nn import messages
from ase_mlcalc.potential import Baseline, Derived, derive, edge_gradient
from ase_mlcalc.virials import virials

MODELS = ("equivariant", "schnet")


def model_of(name):
    torch.manual_seed(3)
    model_class = lookup(name)
    sizes = {"n_interactions": 3, "features": 8, **({"edge_features": 4} if name == "equivariant" else {})}
    return model_class(model_class.Config(species=(1, 8), cutoff=4.0, mean_neighbors=12.0, **sizes)).double()


@pytest.fixture(scope="module")
def graph():
    atoms = molecule("H2O", vacuum=1.2) * (3, 2, 2)
    atoms.pbc = (True, True, False)
    atoms.rattle(0.1, seed=5)
    return from_atoms(atoms, 4.0)


@pytest.fixture(params=["kept", "computed twice"])
def blocks(request, monkeypatch):
    """Call it, and edges pass in blocks of a few; it counts the messages made."""
    made = []

    def small():
        monkeypatch.setattr(messages, "_edges_per_block", lambda _: 37)
        monkeypatch.setattr(messages, "KEPT_SHARE", 0.25 if request.param == "kept" else 0.0)
        whole = messages._inputs

        def counted(*arguments, **options):
            made.append(options["differentiable"])
            return whole(*arguments, **options)

        monkeypatch.setattr(messages, "_inputs", counted)

    small.made = made
    small.twice = request.param != "kept"
    return small


@pytest.mark.parametrize("name", MODELS)
def test_results_are_those_of_one_piece(name, graph, blocks):
    potential = Derived(model_of(name))
    expected = potential(graph)
    blocks()
    found = potential(graph)
    n_blocks = -(-len(graph.centers) // 37)
    assert n_blocks > 5
    assert len(blocks.made) == 3 * n_blocks * (1 + blocks.twice)
    for quantity in ("energies", "forces", "stresses"):
        one, other = getattr(expected, quantity), getattr(found, quantity)
        size = one.abs().max()
        assert size > 0
        assert (one - other).abs().max() <= 1e-12 * size


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("definition", ["edge", "other", "site", "heat"])
def test_every_definition_of_stress(name, definition, graph, blocks):
    potential = Derived(model_of(name))
    expected = virials(potential, graph, definition)
    blocks()
    assert (virials(potential, graph, definition) - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("name", MODELS)
def test_gradient_of_the_gradient_with_fixed_parameters(name, graph, blocks):
    model = model_of(name).requires_grad_(False)
    direction = torch.randn(len(graph.vectors), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def curvature():
        r_pc = graph.vectors.clone().requires_grad_()
        energy = model(graph._replace(vectors=r_pc)).energies.sum()
        (g_pc,) = torch.autograd.grad(energy, r_pc, create_graph=True)
        return torch.autograd.grad((g_pc * direction).sum(), r_pc)[0]

    expected = curvature()
    blocks()
    assert expected.abs().max() > 0
    assert (curvature() - expected).abs().max() <= 1e-11 * expected.abs().max()
    assert blocks.made


def test_parameters_are_learned_in_one_piece(graph, blocks):
    model = model_of("schnet")
    blocks()
    forces = derive(model, graph, Baseline(), create_graph=True).forces
    forces.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.interactions.parameters())
    assert not blocks.made


def test_memory_no_longer_grows_with_the_edges_where_blocks_are_computed_twice(graph, monkeypatch):
    model = model_of("schnet").requires_grad_(False)
    kept = {}
    for share in (0.25, 0.0):
        monkeypatch.setattr(messages, "_edges_per_block", lambda _: 37)
        monkeypatch.setattr(messages, "KEPT_SHARE", share)
        seen = []
        real = messages._InBlocks.backward

        def spy(ctx, upstream, real=real, seen=seen):
            seen.append(len(ctx.kept))
            return real(ctx, upstream)

        monkeypatch.setattr(messages._InBlocks, "backward", staticmethod(spy))
        edge_gradient(model, graph, Baseline())
        monkeypatch.setattr(messages._InBlocks, "backward", staticmethod(real))
        kept[share] = seen
    assert min(kept[0.25]) > 5
    assert max(kept[0.0]) == 0
