"""Structure of known arrangements: shells, gases, molecules, angles, and the same by brute force."""

from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from observables_cases import gas
from scipy.spatial.transform import Rotation

from ase_mlcalc.analysis import compare_observables, distances, measure_observables
from ase_mlcalc.analysis.bonds import first_minimum
from ase_mlcalc.analysis.distances import count_distances
from ase_mlcalc.analysis.observables import R_MAX_A, curves_of
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.neighbors import find_pairs

SKEWED = np.array([[5.0, 0.0, 0.0], [2.0, 6.0, 0.0], [1.0, -2.5, 7.0]])


def by_brute_force(positions, cell, pbc, kinds, r_max, n_bins):
    """Counts of directed pairs over many more images than are needed."""
    size = kinds.max() + 1
    found = np.zeros((size, size, n_bins))
    ranges = [range(-6, 7) if periodic else (0,) for periodic in pbc]
    for image in product(*ranges):
        for i in range(len(positions)):
            for j in range(len(positions)):
                d = np.linalg.norm(positions[j] + np.array(image) @ cell - positions[i])
                if d < r_max and not (i == j and not any(image)):
                    found[kinds[i], kinds[j], int(d / r_max * n_bins)] += 1
    return found


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0), (0, 1, 0), (0, 0, 0)])
@pytest.mark.parametrize("searched", [False, True])
def test_pairs_are_those_of_brute_force(pbc, searched, monkeypatch):
    """Cells smaller than the cutoff, skewed, atoms outside of the cell, both ways to count."""
    if searched:
        monkeypatch.setattr(distances, "MOST_DISTANCES", 0)
    rng = np.random.default_rng(0)
    pbc = np.array(pbc, dtype=bool)
    positions, kinds = rng.random((5, 3)) @ SKEWED * 1.8 - 4.0, np.array([0, 1, 1, 2, 0])
    found, own = count_distances(positions, SKEWED, pbc, kinds, r_max=8.0, n_bins=40)
    expected = by_brute_force(positions, SKEWED, pbc, kinds, 8.0, 40)
    assert expected.sum() > (30 if pbc.any() else 5)
    np.testing.assert_array_equal(found, expected)
    alone = [by_brute_force(positions[[k]], SKEWED, pbc, np.zeros(1, dtype=int), 8.0, 40)[0, 0] for k in range(5)]
    np.testing.assert_array_equal(own, [sum(alone[k] for k in range(5) if kinds[k] == kind) for kind in range(3)])


def test_ideal_gas():
    """g is 1 - 1/N between atoms of one element and 1 between two, within its errors, beyond half of the cell too."""
    found = measure_observables(gas(300, "Ar30Ne10"))
    assert found.rdf is not None
    assert found.distances is None
    own_images = 8.9  # Å; from here on atoms see their own images, at fixed distances
    for name, expected in (("Ne-Ar", 1.0), ("Ar-Ar", 29 / 30), ("Ne-Ne", 9 / 10)):
        curve = found.rdf[name]
        chosen = (curve.x > 2.0) & (curve.x < own_images)
        z = (curve.y - expected)[chosen] / curve.stderr[chosen]
        assert abs(z.mean()) < 0.25
        assert 0.9 < z.std() < 1.6  # Student's t with 7 degrees of freedom: 1.18
    assert not any(found.rdf[name].stderr[250] == 0.0 for name in found.rdf)
    assert found.bond_cutoffs_A == {}  # noise has no shells
    assert found.angles == {}


def test_shells_of_fcc_in_the_smallest_cell():
    a = 4.0
    primitive = measure_observables([bulk("Al", "fcc", a)])
    running = primitive.running_coordination["Al around Al"]
    for n, count in ((1, 12), (2, 12 + 6), (3, 42), (4, 54), (5, 78), (6, 86)):
        beyond = np.searchsorted(running.x, a * np.sqrt(n / 2) + 0.03)
        assert running.y[beyond] == pytest.approx(count)
    cubic = measure_observables([bulk("Al", "fcc", a, cubic=True) * (2, 1, 1)])
    np.testing.assert_allclose(primitive.rdf["Al-Al"].y, cubic.rdf["Al-Al"].y, atol=1e-9)
    # the integral of g with the density gives the same number
    g = primitive.rdf["Al-Al"]
    shells = 4 / 3 * np.pi * np.diff(np.linspace(0, R_MAX_A, len(g.x) + 1) ** 3)
    assert (g.y * shells).sum() * 4 / a**3 == pytest.approx(running.y[-1])


def test_volumes_of_changing_cells():
    """Each frame counts with its own volume: g of a gas stays 1 when the cell breathes."""
    frames = gas(200, "Ar40")
    for k, frame in enumerate(frames):
        frame.set_cell(frame.cell * (1.0 + 0.3 * (k % 2)), scale_atoms=True)
    curve = measure_observables(frames).rdf["Ar-Ar"]
    chosen = (curve.x > 3.0) & (curve.x < 8.9)
    assert curve.y[chosen].mean() == pytest.approx(39 / 40, abs=0.01)


def test_diamond_has_four_bonds_at_the_tetrahedral_angle():
    rng = np.random.default_rng(0)
    frames = [bulk("C", "diamond", 3.567, cubic=True) for _ in range(24)]
    for frame in frames:
        frame.rattle(0.04, rng=rng)
    found = measure_observables(frames)
    assert 1.7 < found.bond_cutoffs_A["C-C"] < 2.4  # between 1.54 and 2.52
    np.testing.assert_allclose(found.coordination["C around C"].y[4], 1.0)
    angles = found.angles["C-C-C"]
    mean, stderr = angles.mean()
    assert angles.area == pytest.approx(1.0)
    assert mean == pytest.approx(109.47, abs=max(0.5, 4 * stderr))
    assert 0.0 < stderr < 0.3


def water_box(n_frames, angle=104.5, seed=0):
    """Rigid molecules at random on a grid wide enough that they do not touch."""
    rng = np.random.default_rng(seed)
    half = np.radians(angle) / 2
    shape = np.array([[0, 0, 0], [np.sin(half), np.cos(half), 0], [-np.sin(half), np.cos(half), 0]]) * 0.97
    places = np.array(list(product(range(2), repeat=3))) * 4.0
    frames = []
    for _ in range(n_frames):
        turned = [Rotation.random(random_state=rng).apply(shape) + place for place in places]
        frames.append(
            Atoms("OHH" * 8, positions=np.concatenate(turned) + 30.0 * rng.random(3), cell=[8.0] * 3, pbc=True)
        )
    return frames


def test_water():
    found = measure_observables(water_box(16))
    assert 1.05 < found.bond_cutoffs_A["H-O"] < 2.0
    angles = found.angles["H-O-H"]
    assert angles.x[np.argmax(angles.y)] == 105.0  # the bin from 104 to 106
    assert angles.y.max() == pytest.approx(0.5)  # all of them in 2 degrees
    assert found.coordination["H around O"].y.tolist() == pytest.approx([0, 0, 1, 0])
    assert found.coordination["O around H"].y.tolist() == pytest.approx([0, 1, 0])
    assert found.coordination_means()["H around O"] == pytest.approx((2.0, 0.0))


def test_angles_between_different_ends():
    """Named by atomic number, whatever the order in the file."""
    linear, bent = [[0.0, 0, 0], [1.5, 0, 0], [2.7, 0, 0]], [[0.0, 0, 0], [1.5, 0, 0], [1.5, 1.2, 0]]
    found = measure_observables(
        [Atoms("SCO", linear), Atoms("SCO", bent)], bond_cutoffs_A={"C-S": 1.7, "C-O": 1.4, "O-S": 0.5}
    )
    assert list(found.angles) == ["O-C-S"]
    np.testing.assert_allclose(found.angles["O-C-S"].y[[45, 89]], 0.25)  # halves of 2 degrees
    assert found.coordination_means()["C around S"][0] == 1.0


def test_angles_of_a_gas_are_uniform_on_the_sphere():
    found = measure_observables(gas(200, "Ar40"), bond_cutoffs_A={"Ar-Ar": 4.0})
    angles = found.angles["Ar-Ar-Ar"]
    expected = np.sin(np.radians(angles.x)) / 2 * np.pi / 180
    z = (angles.y - expected) / angles.stderr
    assert abs(z.mean()) < 0.4
    assert z.std() < 1.7


def test_molecules_have_distances_instead_of_g():
    rng = np.random.default_rng(0)
    frames = [molecule("CH3CH2OH") for _ in range(20)]
    for frame in frames:
        frame.rattle(0.05, rng=rng)
    found = measure_observables(frames)
    assert found.rdf is None
    assert all(curve.area == pytest.approx(1.0) for curve in found.distances.values())
    assert 1.6 < found.bond_cutoffs_A["C-C"] < 2.0
    assert 1.2 < found.bond_cutoffs_A["H-C"] < 2.0
    assert found.coordination["C around O"].y[1] == pytest.approx(1.0)
    assert found.coordination_means()["H around C"][0] == pytest.approx(2.5)


def test_slabs_have_distances_too():
    frames = gas(20, "Ar20")
    for frame in frames:
        frame.pbc = [True, True, False]
    found = measure_observables(frames)
    assert found.rdf is None
    assert found.distances["Ar-Ar"].area == pytest.approx(1.0)


def test_h_of_r_as_mdsim_defines_it():
    """The histogram of torch.cdist with density=True, zeros included, and mean |difference| times 10 Å."""
    first, second = ([molecule("CH3CH2OH") for _ in range(10)] for _ in range(2))
    rng = np.random.default_rng(0)
    for frame in first:
        frame.rattle(0.05, rng=rng)
    for frame in second:
        frame.rattle(0.15, rng=rng)

    def histogram(frames):
        x = np.array([frame.positions for frame in frames])
        d = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1).ravel()
        return np.histogram(d, bins=500, range=(0.0, 10.0), density=True)[0]

    ours, reference = measure_observables(first), measure_observables(second)
    (curve,) = curves_of(ours, "h_of_r_mdsim").values()
    np.testing.assert_allclose(curve.y, histogram(first), rtol=1e-10)
    expected = np.abs(histogram(first) - histogram(second)).mean() * 10.0
    (row,) = [row for row in compare_observables(ours, reference) if row.observable == "h_of_r_mdsim"]
    assert expected > 0.1
    assert row.l1.value == pytest.approx(expected)


def test_h_of_r_sees_periodic_images():
    """An atom that is wrapped to the other side is where it was."""
    frames = gas(5, "Ar20", cell=(9.03, 9.51, 9.87))
    moved = [frame.copy() for frame in frames]
    for frame in moved:
        frame.positions[3] += frame.cell[0] * 2
    np.testing.assert_allclose(measure_observables(moved).h_of_r.y, measure_observables(frames).h_of_r.y)


def test_one_atom_has_no_distances():
    found = measure_observables([Atoms("Ar")] * 3)
    assert found.h_of_r is None
    assert found.distances == {}


# ----- where bonds end -----


def gaussians(r, *peaks):
    return sum(height * np.exp(-(((r - place) / width) ** 2) / 2) for place, width, height in peaks)


def test_first_minimum_of_a_liquid():
    r = np.linspace(0.01, 9.99, 500)
    density = gaussians(r, (3.0, 0.3, 2.0), (5.5, 0.8, 1.2))
    between = np.flatnonzero((r > 3.0) & (r < 5.5))
    assert first_minimum(r, density) == pytest.approx(r[between][np.argmin(density[between])], abs=0.1)


def test_first_minimum_is_in_the_middle_of_a_gap():
    r = np.linspace(0.01, 9.99, 500)
    assert first_minimum(r, gaussians(r, (1.0, 0.02, 30.0), (3.0, 0.02, 5.0))) == pytest.approx(2.0, abs=0.15)


def test_a_lonely_peak_ends_where_it_ends():
    r = np.linspace(0.01, 9.99, 500)
    assert 1.1 < first_minimum(r, gaussians(r, (1.0, 0.02, 30.0))) < 1.6
    assert first_minimum(r, np.ones(500)) is None


def test_peaks_within_noise_are_none():
    r = np.linspace(0.01, 9.99, 500)
    density = 1.0 + gaussians(r, (3.0, 0.3, 0.3), (5.5, 0.3, 0.3))
    assert first_minimum(r, density, np.full(500, 0.01)) is not None
    assert first_minimum(r, density, np.full(500, 1.0)) is None


def test_many_neighbours_are_counted():
    """In one block more than in the others, and more than anyone would call bonds."""
    frames = [bulk("Cu", a=a, cubic=True) for a in (4.2, 3.6, 3.0)]
    cutoff = 6.0
    found = measure_observables(frames, bond_cutoffs_A={"Cu-Cu": cutoff}, n_blocks=3)
    pairs = [find_pairs(frame.positions, frame.cell.array, frame.pbc, cutoff) for frame in frames]
    expected = [len(found.centers) / 4 for found in pairs]
    coordination = found.coordination["Cu around Cu"]
    assert (coordination.blocks @ coordination.x).tolist() == pytest.approx(expected)
    assert max(expected) > 100


def test_given_cutoffs():
    frames = water_box(4)
    found = measure_observables(frames, bond_cutoffs_A={"O-H": 0.9})
    assert found.bond_cutoffs_A["H-O"] == 0.9
    assert found.coordination_means()["H around O"][0] == 0.0
    assert measure_observables(frames, like=found).bond_cutoffs_A == found.bond_cutoffs_A
    for wrong in ({"O-Si": 2.0}, {"H-O": 11.0}, {"H-O": -1.0}, {"water": 1.0}):
        with pytest.raises(ConfigError, match="H-H, H-O, O-O"):
            measure_observables(frames, bond_cutoffs_A=wrong)
