"""Large graphs in pieces give what the whole gives."""

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk

from ase_mlcalc import slopes as module
from ase_mlcalc.chunks import pieces
from ase_mlcalc.data.sets import water16
from ase_mlcalc.graph import collate, from_atoms
from ase_mlcalc.model import lookup
from ase_mlcalc.potential import Derived, derive, isolated_energies
from ase_mlcalc.slopes import InPieces

MODELS = {
    "schnet": {"features": 8, "n_interactions": 3},
    "equivariant": {"features": 4, "edge_features": 2, "l_max": 1, "n_interactions": 2},
    "behler_parrinello": {},
    "body_order": {},
}


@pytest.fixture(scope="module")
def structures():
    box = ase.io.read(water16("gfn1"), index=0)
    ice = bulk("O", "fcc", a=4.4) * (3, 3, 3)
    ice.rattle(0.1, seed=1)
    return [box * (2, 2, 1), ice]


@pytest.mark.parametrize("name", MODELS)
def test_pieces_add_up_to_the_whole(structures, name):
    torch.manual_seed(1)
    cls = lookup(name)
    derived = Derived(cls(cls.Config(species=(1, 8), cutoff=3.0, **MODELS[name])).double())
    graph = collate([from_atoms(atoms, 3.0) for atoms in structures])
    whole = derived(graph)
    isolated = isolated_energies(derived.model)
    parts = derive(derived.model, graph, derived.baseline, slopes=InPieces(derived.model, isolated, 40))
    assert whole.forces.abs().max() > 1e-3
    for field in ("energy", "energies", "forces", "stress", "stresses"):
        mine, theirs = getattr(parts, field), getattr(whole, field)
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def test_a_smaller_depth_would_be_noticed(structures):
    torch.manual_seed(1)
    cls = lookup("schnet")
    model = cls(cls.Config(species=(1, 8), cutoff=3.0, **MODELS["schnet"])).double()
    graph = from_atoms(structures[0], 3.0)
    isolated = isolated_energies(model)
    right, _ = InPieces(model, isolated, 40)(graph)
    model.depth = 1
    wrong, _ = InPieces(model, isolated, 40)(graph)
    assert abs(right - wrong).max() > 1e-6


def test_cores_hold_every_atom_once_and_are_compact(structures):
    graph = from_atoms(structures[0] * (2, 2, 2), 3.0)
    found = list(pieces(graph, 1, 100))
    assert sorted(np.concatenate([piece.atoms.numpy() for piece in found]).tolist()) == list(range(graph.n_atoms))
    assert max(len(piece.atoms) for piece in found) <= 100
    assert np.mean([piece.graph.n_atoms for piece in found]) < 0.4 * graph.n_atoms


def test_memory_decides(structures, monkeypatch):
    torch.manual_seed(1)
    cls = lookup("schnet")
    derived = Derived(cls(cls.Config(species=(1, 8), cutoff=4.0, features=8)).double())
    graph = from_atoms(structures[0] * (1, 1, 2), 4.0)
    whole = derived(graph)
    monkeypatch.setattr(module, "LARGE_EDGES", 100)
    monkeypatch.setattr(module, "SAMPLE_ATOMS", 20)
    sizes = []
    original = InPieces.__init__
    monkeypatch.setattr(InPieces, "__init__", lambda self, *args: (sizes.append(args[2]), original(self, *args))[1])
    monkeypatch.setattr(module, "available_bytes", lambda: 10**12)
    torch.testing.assert_close(derived(graph).forces, whole.forces)
    assert not sizes
    monkeypatch.setattr(module, "available_bytes", lambda: 2 * 10**7)
    torch.testing.assert_close(derived(graph).forces, whole.forces, rtol=1e-10, atol=1e-12)
    assert len(sizes) == 1
    assert 1 <= sizes[0] < graph.n_atoms
