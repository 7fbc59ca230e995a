"""Structures to tensors: conventions of i, j, S, batches, refusals."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ase_mlcalc.errors import StructureError
from ase_mlcalc.graph import collate, from_atoms, isolated_atoms
from ase_mlcalc.neighbors import NeighborList


def crystal() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=4.6, cubic=True)
    atoms.positions += 0.1 * np.random.default_rng(0).standard_normal(atoms.positions.shape)
    return atoms


def test_vectors_point_from_center_to_neighbor_through_the_shift():
    atoms = crystal()
    graph = from_atoms(atoms, 5.0)
    expected = (
        atoms.positions[graph.neighbors] + graph.shifts.numpy() @ atoms.cell.array - atoms.positions[graph.centers]
    )
    np.testing.assert_allclose(graph.vectors, expected, atol=1e-14)
    assert graph.vectors.dtype == torch.float64
    assert (graph.vectors.norm(dim=1) < 5.0).all()
    assert (graph.centers.diff() >= 0).all()


def test_bond_of_a_molecule():
    graph = from_atoms(Atoms("CO", [[0, 0, 0], [1.1, 0, 0]]), 2.0)
    assert graph.numbers.tolist() == [6, 8]
    assert graph.centers.tolist() == [0, 1]
    assert graph.vectors.tolist() == [[1.1, 0, 0], [-1.1, 0, 0]]
    assert not graph.cell.any()


def test_collate_offsets_atoms_and_structures():
    single = [from_atoms(atoms, 4.0) for atoms in (molecule("H2O"), crystal(), Atoms("He"))]
    batch = collate(single)
    assert batch.n_structures == 3
    assert batch.n_atoms == 12
    assert batch.system.tolist() == [0] * 3 + [1] * 8 + [2]
    assert (batch.centers.diff() >= 0).all()
    recomputed = (
        batch.positions[batch.neighbors]
        - batch.positions[batch.centers]
        + torch.einsum("pc,pcd->pd", batch.shifts, batch.cell[batch.system[batch.centers]])
    )
    torch.testing.assert_close(recomputed, batch.vectors, rtol=0, atol=1e-13)
    assert (batch.system[batch.centers] == batch.system[batch.neighbors]).all()


def test_collate_of_batches_is_a_batch_of_all():
    a, b, c = (from_atoms(molecule(name), 4.0) for name in ("H2O", "CH4", "NH3"))
    for field, other in zip(collate([collate([a, b]), c]), collate([a, b, c]), strict=True):
        assert (field is None and other is None) or torch.equal(field, other)


def test_graph_does_not_share_memory_with_the_structure():
    atoms = crystal()
    graph, before = from_atoms(atoms, 5.0), atoms.copy()
    for field in (graph.numbers, graph.positions, graph.cell, graph.vectors):
        field.add_(1)
    assert atoms == before


def test_to_returns_a_graph():
    graph = from_atoms(crystal(), 4.0).to("cpu")
    assert graph.n_atoms == 8


def test_isolated_atoms_have_no_edges():
    graph = isolated_atoms((1, 8))
    assert graph.n_structures == graph.n_atoms == 2
    assert len(graph.centers) == 0
    assert graph.vectors.shape == (0, 3)


def test_overlapping_atoms_are_named():
    atoms = Atoms("H3", [[0, 0, 0], [3, 0, 0], [3, 0, 1e-5]])
    with pytest.raises(StructureError, match=r"atoms 1 and 2 are 1\.0e-05 Å apart; remove"):
        from_atoms(atoms, 5.0)


def test_overlap_with_a_periodic_image_is_refused():
    doubled = Atoms("Na2", [[0, 0, 0], [4, 0, 0]], cell=[4, 4, 4], pbc=True)
    with pytest.raises(StructureError, match="periodic image"):
        from_atoms(doubled, 5.0)


def test_empty_structures_and_batches_are_refused():
    with pytest.raises(StructureError, match="no atoms"):
        from_atoms(Atoms(), 5.0)
    with pytest.raises(StructureError, match="empty list"):
        collate([])


def test_list_of_another_cutoff_is_refused():
    with pytest.raises(ValueError, match=r"cutoff of 4\.0 Å, not 5\.0 Å"):
        from_atoms(crystal(), 5.0, NeighborList(4.0, 0.5))
