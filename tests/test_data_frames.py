"""Samples, batches with missing labels, splits and the shipped sets."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ase_mlcalc.data.audit import audit
from ase_mlcalc.data.frames import Frame, collate, to_sample
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.data.sets import water16
from ase_mlcalc.data.split import split
from ase_mlcalc.errors import DataError, StructureError
from ase_mlcalc.properties import Properties


def crystal():
    atoms = bulk("Cu", cubic=True)
    labels = Properties(
        energy=torch.tensor([-1.0], dtype=torch.float64),
        forces=torch.ones(4, 3, dtype=torch.float64),
        stress=torch.full((1, 3, 3), 0.5, dtype=torch.float64),
    )
    return Frame(atoms, labels, "", "crystal")


def water():
    labels = Properties(
        energy=torch.tensor([-2.0], dtype=torch.float64), forces=torch.full((3, 3), 2.0, dtype=torch.float64)
    )
    return Frame(molecule("H2O"), labels, "", "water")


def test_sample_has_the_graph_within_the_cutoff():
    sample = to_sample(crystal(), 3.0)
    assert len(sample.graph.centers) == 4 * 12  # nearest neighbours of fcc
    assert sample.labels.energy.shape == (1,)


def test_sample_of_overlapping_atoms_names_the_structure():
    frame = Frame(Atoms("H2"), Properties(), "", "a.xyz[7]")
    with pytest.raises(StructureError, match=r"a\.xyz\[7\]: atoms"):
        to_sample(frame, 3.0)


def test_labels_that_only_some_have_are_nan_in_the_others():
    batch = collate([to_sample(frame, 3.0) for frame in (water(), crystal(), water())])
    assert batch.graph.n_structures == 3
    assert batch.labels.energy.tolist() == [-2.0, -1.0, -2.0]
    assert batch.labels.forces.shape == (10, 3)
    assert batch.labels.forces[:, 0].tolist() == [2.0] * 3 + [1.0] * 4 + [2.0] * 3
    assert batch.labels.stress.isnan().all(dim=(1, 2)).tolist() == [True, False, True]
    assert (batch.labels.stress[1] == 0.5).all()
    assert batch.labels.stresses is None
    assert batch.labels.energies is None


def test_batches_can_be_batched_again():
    pair = collate([to_sample(crystal(), 3.0), to_sample(crystal(), 3.0)])
    batch = collate([pair, to_sample(water(), 3.0)])
    assert batch.labels.stress.shape == (3, 3, 3)
    assert batch.labels.stress[2].isnan().all()
    assert batch.labels.forces.shape == (11, 3)


def test_one_sample_and_none():
    sample = to_sample(water(), 3.0)
    assert collate([sample]) is sample
    with pytest.raises(StructureError, match="empty"):
        collate([])


def test_split_is_a_partition_that_depends_on_the_seed_only():
    train, validation, rest = split(100, 60, 25, seed=3)
    assert [len(part) for part in (train, validation, rest)] == [60, 25, 15]
    assert sorted(np.concatenate([train, validation, rest])) == list(range(100))
    for again, part in zip(split(100, 60, 25, seed=3), (train, validation, rest), strict=True):
        assert (again == part).all()
    assert (split(100, 60, 25, seed=4)[0] != train).any()
    assert (train != np.sort(train)).any()


def test_smaller_training_sets_are_nested_and_share_the_validation_set():
    large, small = split(100, 60, 25, seed=0), split(100, 20, 25, seed=0)
    assert set(small[0]) < set(large[0])
    assert (small[1] == large[1]).all()


def test_other_draws_leave_validation_and_test_structures_alone():
    one, other = split(100, 60, 25, seed=0, n_test=10), split(100, 60, 25, seed=0, n_test=10, draw_seed=1)
    small = split(100, 20, 25, seed=0, n_test=10, draw_seed=1)
    assert (split(100, 60, 25, seed=0)[0] == one[0]).all()
    assert set(other[0]) != set(one[0])
    assert set(small[0]) < set(other[0])
    for parts in (one, other, small):
        assert (parts[1] == one[1]).all()
        assert (parts[2][-10:] == one[2][-10:]).all()
        assert sorted(np.concatenate(parts)) == list(range(100))
        assert not set(parts[0]) & set(parts[2][-10:])
    with pytest.raises(DataError, match=r"60 training \+ 25 validation \+ 16 test structures asked for, .* only 100"):
        split(100, 60, 25, seed=0, n_test=16)


@pytest.mark.parametrize(("n_train", "n_val"), [(90, 11), (-1, 5), (5, -1)])
def test_impossible_splits_are_refused(n_train, n_val):
    with pytest.raises(DataError):
        split(100, n_train, n_val, seed=0)


def test_edges_of_split():
    assert [len(part) for part in split(5, 5, 0, seed=0)] == [5, 0, 0]
    assert [len(part) for part in split(5, 0, 5, seed=0)] == [0, 5, 0]
    assert [len(part) for part in split(0, 0, 0, seed=0)] == [0, 0, 0]


def test_water16_refuses_other_levels():
    with pytest.raises(DataError, match="no level 'dft'"):
        water16("dft")


@pytest.mark.parametrize("level", ["gfn1", "gfn2"])
def test_water16_is_complete_and_passes_the_audit(level):
    try:
        path = water16(level)
    except DataError as error:
        pytest.skip(str(error))
    frames = read_frames([path])
    assert len(frames) == 531
    assert all(frame.labels.given() == {"energy", "forces", "stress"} for frame in frames)
    assert audit(frames).errors == []
