"""The neighbour list against a search over all images, and the skin against a list made anew."""

import itertools
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_mlcalc.errors import StructureError
from ase_mlcalc.native import pairs as native
from ase_mlcalc.neighbors import NeighborList, best_skin, find_pairs

OPEN, SLAB, WIRE, BULK = (np.array(pbc) for pbc in ([False] * 3, [True, True, False], [False, True, False], [True] * 3))


def as_set(pairs, vectors) -> set:
    rows = zip(pairs.centers, pairs.neighbors, *pairs.shifts.T, np.round(vectors, 9).tolist(), strict=True)
    return {(*map(int, row[:-1]), *row[-1]) for row in rows}


def all_images(positions, cell, pbc, cutoff, reach) -> set:
    """Every pair within the cutoff, by trying all images up to `reach` cells away."""
    found = set()
    for shift in itertools.product(*(range(-reach, reach + 1) if periodic else (0,) for periodic in pbc)):
        vectors = positions[None] - positions[:, None] + np.array(shift) @ cell
        inside = np.linalg.norm(vectors, axis=2) < cutoff
        if shift == (0, 0, 0):
            inside &= ~np.eye(len(positions), dtype=bool)
        for i, j in zip(*np.nonzero(inside), strict=True):
            found.add((int(i), int(j), *shift, *np.round(vectors[i, j], 9).tolist()))
    return found


def random_structure(seed, pbc, n_atoms=6, length=4.0):
    rng = np.random.default_rng(seed)
    cell = length * (np.eye(3) + 0.25 * rng.standard_normal((3, 3)))
    return rng.uniform(-1.0, 2.0, (n_atoms, 3)) @ cell, cell  # many atoms outside of the cell


@pytest.mark.parametrize("pbc", [OPEN, SLAB, WIRE, BULK], ids=["open", "slab", "wire", "bulk"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), cutoff=st.floats(1.0, 6.0), zero_rows=st.booleans())
def test_pairs_are_those_of_all_images(pbc, seed, cutoff, zero_rows):
    positions, cell = random_structure(seed, pbc)
    if np.abs(np.linalg.det(cell)) < 20:
        return  # too flat for the images that the reference tries
    if zero_rows:
        cell = np.where(pbc[:, None], cell, 0.0)
    pairs = find_pairs(positions, cell, pbc, cutoff)
    assert as_set(pairs, pairs.vectors(positions, cell)) == all_images(positions, cell, pbc, cutoff, reach=9)
    assert (np.diff(pairs.centers) >= 0).all()


def test_both_directions_are_present():
    positions, cell = random_structure(1, BULK)
    pairs = find_pairs(positions, cell, BULK, 5.0)
    edges = {(i, j, *s) for i, j, s in zip(pairs.centers, pairs.neighbors, map(tuple, pairs.shifts), strict=True)}
    assert edges == {(j, i, -a, -b, -c) for i, j, a, b, c in edges}


def test_cell_smaller_than_the_cutoff():
    atoms = bulk("Cu", a=3.6)
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 8.0)
    distances = np.linalg.norm(pairs.vectors(atoms.positions, atoms.cell.array), axis=1)
    shells = np.unique(np.round(distances, 6), return_counts=True)[1][:5]
    assert shells.tolist() == [12, 6, 24, 12, 24]  # neighbour shells of the face-centred cubic lattice


@pytest.mark.parametrize("pbc", [OPEN, SLAB, WIRE])
def test_single_atom_without_neighbours(pbc):
    cell = np.where(pbc[:, None], 20 * np.eye(3), 0.0)
    pairs = find_pairs(np.array([[3.0, 50.0, -7.0]]), cell, pbc, 5.0)
    assert len(pairs.centers) == 0
    assert pairs.vectors(np.zeros((1, 3)), cell).shape == (0, 3)


def test_planar_and_linear_molecules():
    line = np.array([[0.0, 0, 0], [0, 0, 1.2], [0, 0, 2.4]])
    pairs = find_pairs(line, np.zeros((3, 3)), OPEN, 2.0)
    assert list(zip(pairs.centers, pairs.neighbors, strict=True)) == [(0, 1), (1, 0), (1, 2), (2, 1)]


@pytest.mark.parametrize("pbc", [OPEN, SLAB])
def test_fragments_far_apart_cost_nothing(pbc):
    cell = np.where(pbc[:, None], 10 * np.eye(3), 0.0)
    cluster = np.random.default_rng(0).uniform(0, 6, (20, 3))
    direction = np.where(pbc, 0.0, 1.0)
    positions = np.concatenate([cluster, cluster + 1e6 * direction, cluster - 3e5 * direction])
    begin = time.perf_counter()
    pairs = find_pairs(positions, cell, pbc, 5.0)
    assert time.perf_counter() - begin < 1.0
    one = find_pairs(cluster, cell, pbc, 5.0)
    assert len(pairs.centers) == 3 * len(one.centers)
    np.testing.assert_array_equal(pairs.neighbors[: len(one.centers)], one.neighbors)


def test_gaps_near_the_cutoff_are_kept():
    for distance, expected in ((4.999, 2), (5.001, 0), (5.4, 0), (5.6, 0)):
        positions = np.array([[0.0, 0, 0], [distance, 0, 0], [distance + 30, 0, 0], [distance + 60, 1, 1]])
        assert len(find_pairs(positions, np.zeros((3, 3)), OPEN, 5.0).centers) == expected


# ----- the skin -------------------------------------------------------------------------------------------------------


def assert_skin_is_exact(kept: NeighborList, positions, cell, pbc) -> None:
    pairs, vectors, shortest = kept(positions, cell, pbc)
    lengths = np.linalg.norm(vectors, axis=1)
    assert (shortest == -1) if len(lengths) == 0 else (lengths[shortest] == lengths.min())
    without = kept(positions, cell, pbc, shifts=False)
    assert without.pairs.shifts.shape == (0, 3)
    np.testing.assert_array_equal(without.vectors, vectors)
    fresh = find_pairs(positions, cell, pbc, kept.cutoff)
    assert as_set(pairs, vectors) == as_set(fresh, fresh.vectors(positions, cell))
    assert (np.diff(pairs.centers) >= 0).all()


@pytest.mark.parametrize("pbc", [OPEN, SLAB, WIRE, BULK], ids=["open", "slab", "wire", "bulk"])
@pytest.mark.parametrize("moving_cell", [False, True])
def test_skin_equals_fresh_lists_through_a_random_walk(pbc, moving_cell):
    rng = np.random.default_rng(3)
    atoms = bulk("NaCl", "rocksalt", a=5.0, cubic=True) * (2, 1, 1)
    atoms.set_pbc(pbc)
    atoms.positions += 0.2 * rng.standard_normal(atoms.positions.shape)
    kept, steps = NeighborList(5.0, skin=0.6), 150
    velocities = 0.02 * rng.standard_normal(atoms.positions.shape)
    for step in range(steps):
        atoms.positions += velocities + 0.005 * rng.standard_normal(velocities.shape)
        if moving_cell:
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.001 * rng.standard_normal((3, 3))), scale_atoms=step % 2)
        if step % 7 == 0 and any(pbc):
            atoms.wrap()
        if step % 31 == 0:
            atoms.positions += (rng.integers(-3, 4, (len(atoms), 3)) * pbc) @ atoms.cell.array
        assert_skin_is_exact(kept, atoms.positions, atoms.cell.array, atoms.pbc)
    assert kept.builds < steps / 2, f"searched anew in {kept.builds} of {steps} steps"


def test_small_vibrations_need_one_search():
    rng = np.random.default_rng(4)
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    start, kept = atoms.positions.copy(), NeighborList(5.0, skin=0.6)
    for _ in range(50):
        moves = rng.uniform(-1, 1, start.shape)
        atoms.positions = start + 0.14 * moves / np.linalg.norm(moves, axis=1, keepdims=True)
        atoms.positions += (rng.integers(-2, 3, start.shape)) @ atoms.cell.array  # wrapping does not count as moving
        assert_skin_is_exact(kept, atoms.positions, atoms.cell.array, atoms.pbc)
    assert kept.builds == 1


def test_search_is_due_when_a_pair_could_have_come_in():
    """Two atoms approach each other from just outside the skin, each by a little more than half of it."""
    positions = np.array([[0.0, 0, 0], [5.61, 0, 0]])
    kept = NeighborList(5.0, skin=0.6)
    assert len(kept(positions, np.zeros((3, 3)), OPEN).vectors) == 0
    positions += np.array([[0.31, 0, 0], [-0.31, 0, 0]])
    assert len(kept(positions, np.zeros((3, 3)), OPEN).vectors) == 2
    assert kept.builds == 2


def test_squeezed_cell_brings_pairs_in():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    kept = NeighborList(5.0, skin=0.6)
    for scale in np.linspace(1.0, 0.7, 13):
        squeezed = atoms.copy()
        squeezed.set_cell(atoms.cell.array * scale, scale_atoms=True)
        assert_skin_is_exact(kept, squeezed.positions, squeezed.cell.array, squeezed.pbc)
    assert kept.builds < 13


def test_other_structures_in_between():
    kept, rng = NeighborList(4.0, skin=0.5), np.random.default_rng(5)
    for n_atoms, pbc in ((5, BULK), (5, SLAB), (7, BULK), (1, BULK), (5, OPEN), (5, BULK)):
        atoms = Atoms(f"Ar{n_atoms}", rng.uniform(0, 5, (n_atoms, 3)), cell=[5, 6, 7], pbc=pbc)
        assert_skin_is_exact(kept, atoms.positions, atoms.cell.array, atoms.pbc)


def test_boundaries_may_change_alone():
    positions, cell = random_structure(8, BULK)
    kept = NeighborList(4.0, skin=0.5)
    for pbc in (BULK, SLAB, WIRE, OPEN, BULK):
        assert_skin_is_exact(kept, positions, cell, pbc)


def test_arrays_changed_in_place_are_noticed():
    positions, cell = random_structure(6, BULK)
    kept = NeighborList(4.0, skin=0.5)
    kept(positions, cell, BULK)
    positions[0] += 1.7
    assert_skin_is_exact(kept, positions, cell, BULK)
    cell[0] *= 1.3
    assert_skin_is_exact(kept, positions, cell, BULK)


# ----- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positions", "cell", "pbc", "message"),
    [
        (np.zeros((0, 3)), np.zeros((3, 3)), OPEN, "no atoms"),
        (np.array([[0, 0, 0], [0, np.nan, 0]]), np.zeros((3, 3)), OPEN, "first: atom 1"),
        (np.zeros((1, 3)), np.full((3, 3), np.inf), BULK, "NaN or Inf"),
        (np.zeros((1, 3)), np.zeros((3, 3)), BULK, "three independent"),
        (np.zeros((1, 3)), np.ones((3, 3)), BULK, "three independent"),
        (np.zeros((1, 3)), np.zeros((3, 3)), SLAB, "pbc is"),
        (np.zeros((1, 3)), np.ones((3, 3)), SLAB, "pbc is"),
    ],
)
@pytest.mark.parametrize("skin", [0.0, 0.5])
def test_impossible_structures_are_refused(positions, cell, pbc, message, skin):
    with pytest.raises(StructureError, match=message):
        NeighborList(5.0, skin)(positions, cell, pbc)


@pytest.mark.parametrize("compiled", [True, False])
def test_atoms_that_left_for_good_are_refused(monkeypatch, compiled):
    """Their shifts would not fit into 32 bits."""
    if not compiled:
        monkeypatch.setattr(native, "available", lambda: False)
    cell = 4.0 * np.eye(3)
    away = np.array([[0.0, 0.0, 0.0], [1.0 + 4.0 * 2**28, 0.0, 0.0]])
    pairs = find_pairs(away, cell, BULK, 1.5)
    assert pairs.shifts[:, 0].tolist() == [-(2**28), 2**28]
    away[1, 0] = 4.0 * 3e9
    with pytest.raises(StructureError, match=r"an atom lies 3\.0e\+09 cells away"):
        find_pairs(away, cell, BULK, 1.5)


@pytest.mark.parametrize("broken", ["positions", "cell"])
def test_nan_after_a_good_step_is_refused(broken):
    values = dict(zip(("positions", "cell"), random_structure(7, BULK), strict=True))
    kept = NeighborList(5.0, 0.5)
    kept(**values, pbc=BULK)
    values[broken] = values[broken] * np.nan
    with pytest.raises(StructureError, match="NaN"):
        kept(**values, pbc=BULK)


def test_negative_skin_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        NeighborList(5.0, -0.1)


# ----- the search of our own against matscipy -------------------------------------------------------------------------


@pytest.mark.skipif(not native.available(), reason="needs a C++ compiler")
@pytest.mark.parametrize("pbc", [OPEN, SLAB, WIRE, BULK], ids=["open", "slab", "wire", "bulk"])
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 1, 1), (4, 3, 3), (12, 9, 9)])  # the last one by several threads
def test_both_searches_find_the_same_pairs_in_the_same_order(monkeypatch, pbc, size):
    rng = np.random.default_rng(5)
    atoms = bulk("Cu", "fcc", a=3.6) * size  # a skewed primitive cell
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.1 * rng.standard_normal((3, 3))), scale_atoms=True)
    atoms.positions += rng.standard_normal(atoms.positions.shape)
    atoms.positions += (rng.integers(-2, 3, (len(atoms), 3)) * pbc) @ atoms.cell.array  # outside of the cell
    ours = find_pairs(atoms.positions, atoms.cell.array, np.array(pbc), 4.7)
    monkeypatch.setattr(native, "available", lambda: False)
    theirs = find_pairs(atoms.positions, atoms.cell.array, np.array(pbc), 4.7)
    assert len(ours.centers) > 0 or size == (1, 1, 1)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_skin_does_not_change_the_order_of_pairs():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * 2
    lists = [NeighborList(5.0, skin) for skin in (0.0, 0.3, 2.0)]
    for step in range(3):
        atoms.rattle(0.02, seed=step)
        first, *others = (kept(atoms.positions, atoms.cell.array, atoms.pbc)[0] for kept in lists)
        for other in others:
            for a, b in zip(first, other, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_tuned_skin_is_exact_and_moves_where_it_should():
    rng = np.random.default_rng(7)
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * 2
    tuned, plain = NeighborList(5.0, "auto"), NeighborList(5.0)
    for _ in range(60):
        atoms.positions += 0.02 * rng.standard_normal(atoms.positions.shape)
        found, vectors, _ = tuned(atoms.positions, atoms.cell.array, atoms.pbc)
        fresh, expected, _ = plain(atoms.positions, atoms.cell.array, atoms.pbc)
        for mine, other in zip((*found, vectors), (*fresh, expected), strict=True):
            np.testing.assert_array_equal(mine, other)
    assert tuned.builds > 2
    slow_search = best_skin(5.0, 0.5, calls=10, search_s=1.0, select_s=0.001)
    fast_search = best_skin(5.0, 0.5, calls=10, search_s=0.001, select_s=1.0)
    assert slow_search == pytest.approx(1.0)  # no further than twice at once
    assert fast_search == pytest.approx(0.25)
    # the cost of the best one by brute force
    skins = np.linspace(0.25, 1.0, 2001)
    cost = (5 + skins) ** 3 * (0.01 + 0.1 / np.maximum(10 * skins / 0.5, 1))
    assert best_skin(5.0, 0.5, 10, 0.1, 0.01) == pytest.approx(skins[cost.argmin()], rel=0.04)
