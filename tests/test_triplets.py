"""Triplets against a loop over all pairs of edges."""

import itertools

import pytest
import torch

from ase_mlcalc.nn.triplets import find_triplets


@pytest.mark.parametrize("centers", [[], [3], [0, 0], [0, 0, 0, 2, 5, 5], [1, 1, 1, 1, 1]])
def test_triplets_are_all_pairs_of_edges_at_a_center(centers):
    first, second = find_triplets(torch.tensor(centers, dtype=torch.int64))
    expected = [(p, q) for p, q in itertools.combinations(range(len(centers)), 2) if centers[p] == centers[q]]
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == expected
    assert first.dtype == second.dtype == torch.int64
