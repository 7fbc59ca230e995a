"""Monitors one by one: what each must catch, at which look, and what it must leave alone."""

import io
import math
from itertools import product

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, graphene, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLengths
from ase.geometry.rdf import get_rdf
from scipy.integrate import quad

from ase_mlcalc.config import template, validate
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.md.drift import fit_slope
from ase_mlcalc.md.monitors import MONITORS, MonitorsConfig, Setting, Snapshot, Watch, inspect, make_monitors
from ase_mlcalc.md.monitors.bond_graph import bond_graph, periodicity
from ase_mlcalc.md.monitors.lattice import _intensities
from ase_mlcalc.md.monitors.pairs import nearest_images, pairs_within
from ase_mlcalc.md.monitors.series import Averages
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.neighbors import find_pairs


def only(name, **keys):
    """A configuration with one monitor."""
    off = {kind.name: {"use": False} for kind in MONITORS if kind.name != name}
    return MonitorsConfig.model_validate({**off, name: keys})


def watch(name, start, *, keys=None, **setting):
    return Watch(make_monitors(only(name, **(keys or {})), Setting(start, **setting)))


def looks(watching, frames, every_ps=0.005, **known):
    """Alarms by look; what is known may be a list over looks."""
    found = {}
    for number, atoms in enumerate(frames):
        now = {key: value[number] if isinstance(value, list | np.ndarray) else value for key, value in known.items()}
        time_ps = None if every_ps is None else number * every_ps
        for alarm in watching.look(Snapshot(atoms, number=number, step=number, time_ps=time_ps, **now)):
            found.setdefault(number, []).append(alarm)
    return found


def rattled(atoms, n, amplitude=0.02, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        frame = atoms.copy()
        frame.positions += amplitude * rng.standard_normal(frame.positions.shape)
        yield frame


def waters(n=3, side=9.4, seed=0):
    """Molecules on a grid in a periodic box, wrapped, so that some are cut by its faces."""
    rng = np.random.default_rng(seed)
    box = Atoms(cell=[side] * 3, pbc=True)
    for place in np.ndindex(n, n, n):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.standard_normal(3), center="COM")
        one.translate(side / n * np.array(place) - one.get_center_of_mass())
        box += one
    box.wrap()
    return box


# ----- configuration -----


def test_defaults_are_valid_toml_and_keys_are_named():
    import tomllib

    raw = tomllib.loads(template(MonitorsConfig))
    assert validate(MonitorsConfig, raw, "template") == MonitorsConfig()
    assert list(MonitorsConfig.model_fields) == [kind.name for kind in MONITORS]
    for section in MonitorsConfig.model_fields.values():
        for key, field in section.annotation.model_fields.items():
            assert field.description, f"{section.annotation.__name__}.{key} is not described"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"bonds": {"max_deviation": 0.4}}, "max_deviation_A"),
        ({"bonds": {"max_deviation_A": 0}}, "greater than 0"),
        ({"distances": {"pairs": {"Se Se": 1.9}}}, "no pair of elements"),
        ({"distances": {"pairs": {"Se-Xx": 1.9}}}, "no pair of elements"),
        ({"distances": {"pairs": {"Se-Se": 190.0}}}, "between 0 and 10"),
        ({"force": {"action": "explode"}}, "action"),
    ],
)
def test_bad_configuration_is_refused(raw, words):
    with pytest.raises(ConfigError, match=words):
        validate(MonitorsConfig, raw, "job")


def test_auto_looks_at_the_structure():
    def chosen(atoms, **setting):
        return {monitor.name for monitor in make_monitors(MonitorsConfig(), Setting(atoms, **setting))}

    depends = {"fragments", "bonds", "lost", "lattice", "rdf"}
    ethanol = molecule("CH3CH2OH")
    assert chosen(ethanol) & depends == {"fragments", "bonds", "lost"}
    assert chosen(waters()) & depends == {"fragments", "bonds"}
    assert chosen(waters(), reference=list(rattled(waters(), 3))) & depends == {"fragments", "bonds", "rdf"}
    assert chosen(bulk("Cu", cubic=True) * 3) & depends == {"lattice"}
    assert chosen(bulk("Si", cubic=True) * 2) & depends == {"lattice"}
    slab = fcc111("Cu", (3, 3, 3), vacuum=8.0)
    assert chosen(slab) & depends == {"lost"}
    slab.pbc = True
    assert "lost" in chosen(slab)
    rng = np.random.default_rng(0)
    gas = Atoms("Ar40", rng.uniform(0, 60, (40, 3)), cell=[60] * 3, pbc=True)
    assert chosen(gas) & depends == set()
    fused_silica_like = bulk("Si", cubic=True) * 2
    fused_silica_like.positions += 0.4 * rng.standard_normal(fused_silica_like.positions.shape)
    assert chosen(fused_silica_like) & {"fragments", "bonds", "lattice"} == set()


def test_what_cannot_work_is_refused():
    with pytest.raises(ConfigError, match="Bragg"):
        watch("lattice", waters(), keys={"use": True})
    with pytest.raises(ConfigError, match="periodic in all directions"):
        watch("rdf", molecule("H2O"), keys={"use": True})


# ----- pairs and bonds -----


@pytest.mark.parametrize("pbc", [False, True, (True, False, True)])
def test_pairs_of_few_atoms_are_those_of_the_cell_list(pbc):
    rng = np.random.default_rng(0)
    atoms = Atoms("N20", rng.uniform(-3, 12, (20, 3)), cell=[9.0, 10.0, 11.0], pbc=pbc)
    pairs, distances = pairs_within(atoms, 4.0)
    expected = find_pairs(atoms.positions, np.array(atoms.cell), atoms.pbc, 4.0)
    lengths = np.linalg.norm(expected.vectors(atoms.positions, np.array(atoms.cell)), axis=1)
    got = sorted(zip(*(c.tolist() for c in pairs[:2]), *pairs.shifts.T.tolist(), np.round(distances, 9), strict=True))
    wanted = sorted(
        zip(*(c.tolist() for c in expected[:2]), *expected.shifts.T.tolist(), np.round(lengths, 9), strict=True)
    )
    assert len(wanted) >= 20
    assert got == wanted


def nearest_of_all(vectors, lattice):
    """Lengths to the nearest image, of all lattice vectors that could make one."""
    to_fractional = np.linalg.pinv(lattice)
    heights = 1.0 / np.linalg.norm(to_fractional, axis=0)
    rounded = vectors - np.rint(vectors @ to_fractional) @ lattice
    reach = np.ceil(np.linalg.norm(rounded, axis=1).max() / heights + 0.5).astype(int)
    shifts = np.array(list(product(*(range(-n, n + 1) for n in reach)))) @ lattice
    return np.linalg.norm(rounded[:, None] + shifts, axis=2).min(axis=1)


@pytest.mark.parametrize("pbc", [pbc for pbc in product((True, False), repeat=3) if any(pbc)])
def test_nearest_images_are_nearest(pbc):
    """In boxes, and in skewed cells with open vectors that lean over the periodic ones."""
    rng = np.random.default_rng(sum(pbc))
    for skew in (0.0, 0.4, 1.0, 1.0, 2.0, 2.0):
        cell = np.diag(rng.uniform(4, 7, 3)) + skew * np.tril(rng.uniform(-5, 5, (3, 3)), -1)
        atoms = Atoms("N30", rng.uniform(-12, 12, (30, 3)), cell=cell, pbc=pbc)
        i, j = np.triu_indices(30, 1)
        expected = nearest_of_all(atoms.positions[j] - atoms.positions[i], cell[list(pbc)])
        assert np.allclose(np.linalg.norm(nearest_images(atoms, i, j), axis=1), expected, rtol=0, atol=1e-9)
        near = expected < 2.0  # another way
        got = np.linalg.norm(nearest_images(atoms, i[near], j[near]), axis=1)
        assert np.allclose(got, expected[near], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        ([[7.0, 0.0, 0.0], [7.9, 3.3, 0.0], [4.6, -8.5, 5.0]], (True, True, True)),
        ([[4.3, 0.0, 0.0], [1.9, 7.4, 0.0], [11.7, 0.3, 4.8]], (True, True, False)),
        ([[4.0, 0.0, 0.0], [9.0, 2.0, 5.0], [0.0, 0.0, 9.0]], (True, False, False)),
    ],
)
def test_nearest_images_where_rounding_misses_them(cell, pbc):
    """A pair far apart in a list is as near as it was put, one by one and all at once."""
    rng, cell = np.random.default_rng(0), np.array(cell)
    near = rng.standard_normal((200, 3))
    near *= rng.uniform(0.5, 2.4, (200, 1)) / np.linalg.norm(near, axis=1, keepdims=True)
    expected = nearest_of_all(near, cell[list(pbc)])
    far = near + (rng.integers(-3, 4, (200, 3)) * pbc) @ cell
    atoms = Atoms("N201", [np.zeros(3), *far], cell=cell, pbc=pbc)
    first, second = np.zeros(200, dtype=int), np.arange(1, 201)
    together = np.linalg.norm(nearest_images(atoms, first, second), axis=1)
    alone = [np.linalg.norm(nearest_images(atoms, first[[k]], second[[k]])) for k in range(200)]
    assert np.allclose(together, expected, rtol=0, atol=1e-9)
    assert np.allclose(alone, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("atoms", "cutoff", "dimensions"),
    [
        (molecule("C6H6"), 1.7, 0),
        (waters(), 1.3, 0),
        (Atoms("C2", [[0, 0, 0], [1.3, 0, 0]], cell=[2.6, 9, 9], pbc=True), 1.7, 1),
        (graphene(size=(2, 2, 1), vacuum=8.0), 1.7, 2),
        (bulk("C", cubic=True), 1.7, 3),
        (bulk("Cu"), 2.7, 3),
        (bulk("Cu", cubic=True) * 3, 2.7, 3),
    ],
)
def test_in_how_many_directions_a_graph_has_no_end(atoms, cutoff, dimensions):
    found = find_pairs(atoms.positions, np.array(atoms.cell), atoms.pbc, cutoff)
    assert periodicity(len(atoms), found) == dimensions


def test_bonds_are_those_of_chemistry():
    assert len(bond_graph(molecule("CH3CH2OH")).first) == 8
    assert len(bond_graph(molecule("C6H6")).first) == 12
    assert len(bond_graph(molecule("H2")).first) == 1
    assert bond_graph(waters()).is_molecular
    assert len(bond_graph(waters()).first) == 54
    assert not bond_graph(bulk("C", cubic=True)).is_molecular
    assert not bond_graph(bulk("NaCl", "rocksalt", a=5.64, cubic=True)).is_molecular  # ions, no bonds
    assert not bond_graph(bulk("Cu", cubic=True)).is_molecular
    assert not bond_graph(bulk("Ar", cubic=True, a=5.3)).is_molecular


# ----- bonds -----


def stretched(atoms, i, j, lengths):
    """Frames in which atom j is at a distance from i."""
    for length in lengths:
        frame = atoms.copy()
        along = frame.get_distance(i, j, mic=True, vector=True)
        frame.positions[j] = frame.positions[i] + along / np.linalg.norm(along) * length
        yield frame


def test_bond_is_caught_when_it_passes_half_an_angstrom_and_dated_back():
    ethane = molecule("C2H6")
    usual = ethane.get_distance(0, 2)
    lengths = usual + np.array([0.0] * 5 + [0.45, 0.55, 0.6, 0.6] + [0.6] * 20)
    watching = watch("bonds", ethane)
    ((at, (alarm,)),) = looks(watching, stretched(ethane, 0, 2, lengths)).items()
    assert at == 6 + 10  # after 50 fs
    assert alarm.moment == (6, 6, pytest.approx(0.030))
    assert alarm.outcome is Outcome.STRETCHED
    assert set(alarm.atoms) == {0, 2}
    assert alarm.value == pytest.approx(0.6, abs=1e-9)
    assert watching.stopped
    assert list(looks(watch("bonds", ethane), stretched(ethane, 0, 2, lengths), every_ps=None)) == [6]
    assert not looks(watch("bonds", ethane), stretched(ethane, 0, 2, usual + 0.49 * np.sin(np.arange(40.0))))


def test_bond_that_comes_back_is_still_reported():
    ethane = molecule("C2H6")
    lengths = ethane.get_distance(0, 2) + np.array([0.0, 0.7, *[0.0] * 20])
    ((at, (alarm,)),) = looks(watch("bonds", ethane), stretched(ethane, 0, 2, lengths)).items()
    assert (at, alarm.moment.number) == (11, 1)
    watching = watch("bonds", ethane)
    assert not looks(watching, stretched(ethane, 0, 2, lengths[:5]))
    assert [alarm.moment.number for alarm in watching.finish()] == [1]


def test_bond_lengths_are_compared_with_the_mean_of_the_reference():
    ethane = molecule("C2H6")
    usual = ethane.get_distance(0, 2)
    reference = list(stretched(ethane, 0, 2, usual + np.array([0.1, 0.2, 0.3])))
    lengths = usual + np.array([0.0, 0.6, 0.75])
    keys = {"wait_fs": 0.0}
    with_reference = looks(watch("bonds", ethane, keys=keys, reference=reference), stretched(ethane, 0, 2, lengths))
    assert list(with_reference) == [2]
    assert "reference" in with_reference[2][0].detail
    assert list(looks(watch("bonds", ethane, keys=keys), stretched(ethane, 0, 2, lengths))) == [1]


def test_bonds_through_faces_of_the_cell_are_bonds():
    box = waters()
    crossing = np.linalg.norm(box.positions[1::3] - box.positions[::3], axis=1)
    assert crossing.max() > 5  # some molecule is cut
    frames = list(rattled(box, 20))
    for number, frame in enumerate(frames):
        frame.positions += 0.4 * number
        frame.wrap()
    assert not looks(watch("bonds", box), frames)
    assert not looks(watch("fragments", box), frames)


# ----- fragments -----


def hop(box, hydrogen, goal, looks_away, n=40):
    """A hydrogen atom sits at another oxygen for a few looks."""
    for number in range(n):
        frame = box.copy()
        if 5 <= number < 5 + looks_away:
            frame.positions[hydrogen] = frame.positions[goal] + [0.0, 0.0, -0.98]
        yield frame


def test_proton_that_hops_for_a_moment_does_not_count():
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += [0.0, 0.0, 3.0]
    assert not looks(watch("fragments", pair), hop(pair, 1, 3, looks_away=2))
    found = looks(watch("fragments", pair), hop(pair, 1, 3, looks_away=20))
    ((at, (alarm,)),) = found.items()
    assert (at, alarm.moment.number) == (7, 5)
    assert "H1" in alarm.detail
    assert "O0" in alarm.detail
    assert "O3" in alarm.detail
    assert list(looks(watch("fragments", pair, keys={"persist_fs": 0}), hop(pair, 1, 3, looks_away=1))) == [5]


def test_lost_hydrogen_is_named():
    methane = molecule("CH4")
    lengths = [1.09] * 5 + [1.5, 1.8, 1.86, 1.88, 2.2, 2.6]
    ((at, (alarm,)),) = looks(watch("fragments", methane), stretched(methane, 0, 3, lengths)).items()
    assert (at, alarm.moment.number) == (10, 8)  # beyond 1.87 Å, for 10 fs
    assert alarm.detail.startswith("H3 left C0")
    assert alarm.value == pytest.approx(2.6)
    assert alarm.threshold == pytest.approx(0.76 + 0.31 + 0.8)


def test_broken_bonds_have_hysteresis():
    methane = molecule("CH4")
    lengths = [1.09, 1.9, 1.9, 1.6, 1.5, 1.4]  # at 1.5 Å it is not back yet
    ((at, _),) = looks(watch("fragments", methane), stretched(methane, 0, 3, lengths)).items()
    assert at == 3
    assert not looks(watch("fragments", methane), stretched(methane, 0, 3, [1.09, 1.6, 1.6, 1.6, 1.6, 1.09]))
    assert not looks(watch("fragments", methane), stretched(methane, 0, 3, [1.09, 1.9, 1.2, 1.9, 1.2, 1.9, 1.2]))


def test_new_bonds_have_hysteresis():
    pair = molecule("CH3") + molecule("CH3")
    pair.positions[4:, 2] += 3.0

    def approach(distances):
        for distance in distances:
            frame = pair.copy()
            frame.positions[4:, 2] += distance - 3.0
            yield frame

    ((at, (alarm,)),) = looks(watch("fragments", pair), approach([3.0, 1.6, 1.9, 2.1, 3.0])).items()
    assert (at, alarm.moment.number) == (3, 1)  # at 1.9 and 2.1 Å it still is a bond
    assert alarm.detail.startswith("C0 and C4 of two molecules")
    assert not looks(watch("fragments", pair), approach([3.0, 1.9, 1.9, 1.9, 1.9]))


def test_ring_that_opens_is_still_one_molecule_and_pieces_are_named():
    ring = molecule("C3H6_D3h")
    opened = ring.copy()
    opened.set_distance(0, 1, 2.6, fix=0, indices=[1])
    others = [k for k in range(3) if k not in {0, 1}]
    assert opened.get_distance(1, others[0]) < 2.3
    watching = watch("fragments", ring, keys={"persist_fs": 0})
    assert not watching.look(Snapshot(ring, number=0))
    broken = np.flatnonzero(watching.monitors[0]._broken)
    watching.look(Snapshot(opened, number=1))
    assert len(broken) == 0
    assert watching.monitors[0]._broken.any()  # bonds did break
    ethane = molecule("C2H6")
    halves = ethane.copy()
    halves.positions[[0, 2, 3, 4]] += [0, 0, 3.0]
    (alarm,) = watch("fragments", ethane, keys={"persist_fs": 0}).look(Snapshot(halves, number=0))
    assert "CH3" in alarm.detail
    assert {0, 2, 3, 4} <= set(alarm.atoms) or {1, 5, 6, 7} <= set(alarm.atoms)


# ----- distances -----


def test_distance_limits_follow_elements():
    pair = Atoms("SeSe", [[0, 0, 0], [3, 0, 0]], cell=[20, 20, 20], pbc=True)
    frames = list(stretched(pair, 0, 1, [3.0, 2.0, 1.6, 1.43]))
    found = looks(watch("distances", pair), frames)
    assert list(found) == [3]
    assert found[3][0].threshold == pytest.approx(0.6 * 2.40)
    assert found[3][0].atoms == (0, 1)
    assert list(looks(watch("distances", pair, keys={"pairs": {"Se-Se": 1.9}}), frames)) == [2]
    assert not looks(watch("distances", pair, keys={"pairs": {"Ge-Se": 1.9, "Se-Se": 0.0}}), frames)
    reference = list(stretched(pair, 0, 1, [3.2, 3.0, 2.8]))  # 0.75 of 2.8 is 2.1
    assert list(looks(watch("distances", pair, reference=reference), frames)) == [1]
    hydrogen = molecule("H2")
    assert list(looks(watch("distances", hydrogen), stretched(hydrogen, 0, 1, [0.74, 0.6, 0.51, 0.49]))) == [3]


def test_distances_see_images_and_the_atom_itself():
    pair = Atoms("SeSe", [[0.2, 5, 5], [9.5, 5, 5]], cell=[10, 10, 10], pbc=True)
    assert looks(watch("distances", pair), [pair])
    pair.pbc = False
    assert not looks(watch("distances", pair), [pair])
    thin = bulk("Cu")
    thin.set_cell(0.5 * thin.cell, scale_atoms=True)
    (alarm,) = looks(watch("distances", bulk("Cu")), [thin])[0]
    assert alarm.atoms == (0,)


@pytest.mark.parametrize("name", ["CO", "N2", "H2", "C2H2", "O2", "F2", "SO2", "CH3CH2OH", "C6H6", "LiF", "NaCl"])
def test_molecules_have_no_distance_that_is_too_short(name):
    atoms = molecule(name)
    squeezed = atoms.copy()
    squeezed.positions *= 0.9  # what a hot vibration does
    assert not looks(watch("distances", atoms), [atoms, squeezed])


# ----- lost -----


def test_group_that_leaves_a_slab_through_the_open_side():
    slab = fcc111("Cu", (3, 3, 3), vacuum=8.0)
    slab.append("Cu")
    slab.positions[-1] = slab.positions[18] + [1.3, 0.7, 2.0]
    slab.append("Cu")
    slab.positions[-1] = slab.positions[-2] + [0.0, 0.0, 2.4]
    heights = np.array([0.0, 2.0, 3.9, 4.2, 6.0])

    def frames():
        for height in heights:
            frame = slab.copy()
            frame.positions[-2:, 2] += height
            yield frame

    nearest = [frame.get_distances(27, range(27), mic=True).min() for frame in frames()]
    ((at, (alarm,)),) = looks(watch("lost", slab), frames()).items()
    assert at == int(np.argmax(np.array(nearest) > 6.0)) > 0
    assert alarm.atoms == (27, 28)
    assert alarm.value == pytest.approx(nearest[at])
    assert "Cu2" in alarm.detail


def test_atoms_that_cross_a_face_are_not_lost():
    slab = fcc111("Cu", (3, 3, 3), vacuum=8.0)
    frames = []
    for number in range(10):
        frame = slab.copy()
        frame.positions += [0.5 * number, 0.3 * number, 0.0]
        frame.wrap()
        frames.append(frame)
    assert not looks(watch("lost", slab), frames)


def test_cheap_test_of_the_tree_and_full_search_agree():
    """A random walk of a loose cluster: what the monitor says is whether the cluster falls into parts, each time."""
    rng = np.random.default_rng(3)
    atoms = Atoms("Ar8", rng.uniform(0, 8, (8, 3)))
    monitor = watch("lost", atoms, keys={"use": True}).monitors[0]
    seen = set()
    for number in range(300):
        atoms.positions += 0.5 * rng.standard_normal((8, 3)) - 0.02 * (atoms.positions - atoms.positions.mean(axis=0))
        linked = np.linalg.matrix_power((atoms.get_all_distances() < 6.0).astype(int), 8) > 0
        apart = not linked.all()
        assert (monitor.look(Snapshot(atoms, number=number)) is not None) == apart
        seen.add(apart)
    assert seen == {True, False}


# ----- volume, lattice, rdf -----


def scaled(atoms, factors):
    for factor in factors:
        frame = atoms.copy()
        frame.set_cell(atoms.cell * np.asarray(factor)[..., None], scale_atoms=True)
        yield frame


def test_volume_and_density():
    copper = bulk("Cu", cubic=True, a=3.615)
    assert list(looks(watch("volume", copper), scaled(copper, [1.0, 1.1, 1.14, 1.15]))) == [3]  # 1.14³ = 1.48
    assert list(looks(watch("volume", copper), scaled(copper, [1.0, 0.9, 0.88, 0.87]))) == [3]
    (alarm,) = looks(watch("volume", copper, keys={"min_density_g_per_cm3": 8.97}), [copper])[0]
    assert alarm.value == pytest.approx(8.93, abs=0.03)
    assert not looks(watch("volume", copper, keys={"max_density_g_per_cm3": 8.97}), [copper])
    flat = list(scaled(copper, [[1, 1, 1], [1.3, 1.3, 0.6], [1.5, 1.5, 0.45]]))
    found = looks(watch("volume", copper), flat)
    assert list(found) == [2]
    assert "flat" in found[2][0].detail
    slab = fcc111("Cu", (2, 2, 2), vacuum=5.0)
    assert not looks(watch("volume", slab), scaled(slab, [1.0, 2.0]))


@pytest.mark.parametrize(
    "crystal",
    [
        bulk("Cu", cubic=True) * 3,
        bulk("Fe", cubic=True) * 4,
        bulk("Si", cubic=True) * 2,
        bulk("NaCl", "rocksalt", a=5.64, cubic=True) * 2,
        bulk("Mg") * (4, 4, 4),
        bulk("Cu") * (4, 4, 5),
    ],
    ids=lambda atoms: atoms.get_chemical_formula(),
)
def test_crystals_have_bragg_peaks_at_the_melting_point_and_melts_do_not(crystal):
    distances = find_pairs(crystal.positions, np.array(crystal.cell), crystal.pbc, 3.6)
    nearest = np.linalg.norm(distances.vectors(crystal.positions, np.array(crystal.cell)), axis=1).min()
    lindemann = 0.13 * nearest / math.sqrt(3)  # per direction
    hot = next(rattled(crystal, 1, lindemann, seed=1))
    for start in (crystal, hot):
        watching = watch("lattice", start, keys={"use": True})
        drifting = []
        for number, frame in enumerate(rattled(crystal, 20, lindemann, seed=2)):
            frame.positions += 0.3 * number
            frame.set_cell(frame.cell * (1 + 0.003 * number), scale_atoms=True)
            frame.wrap()
            drifting.append(frame)
        assert not looks(watching, drifting)
        found = looks(watching, rattled(crystal, 1, 0.4 * nearest, seed=3))
        assert list(found) == [0]
        assert found[0][0].value < 0.25


def test_intensity_of_a_perfect_crystal_is_one_wherever_it_is():
    copper = bulk("Cu", cubic=True) * 3
    monitor = watch("lattice", copper).monitors[0]
    assert len(monitor._peaks) >= 4
    moved = copper.copy()
    moved.set_cell(1.1 * copper.cell, scale_atoms=True)
    moved.positions += [1.234, -7.1, 100.3]
    moved.wrap()
    for atoms in (copper, moved):
        assert np.allclose(_intensities(atoms, monitor._peaks), 1.0, rtol=0, atol=1e-9)
    assert np.allclose(_intensities(moved, np.add(monitor._peaks, [1, 0, 0])), 0.0, atol=1e-9)  # between the peaks


def test_one_sublattice_may_melt():
    """A superionic conductor is healthy: its light ions have no lattice, the rest has."""
    crystal = bulk("LiI", "rocksalt", a=6.0, cubic=True) * 2
    frames = []
    rng = np.random.default_rng(0)
    for frame in rattled(crystal, 10, 0.1):
        lithium = frame.numbers == 3
        frame.positions[lithium] += rng.uniform(-2, 2, (lithium.sum(), 3))
        frames.append(frame)
    assert not looks(watch("lattice", crystal), frames)


def test_liquids_of_any_size_start_without_a_lattice():
    rng = np.random.default_rng(0)
    for n in (2, 3, 4):
        for _ in range(10):
            atoms = bulk("Ar", cubic=True, a=5.5) * n
            atoms.positions += rng.normal(scale=0.45 * 3.9, size=atoms.positions.shape)
            assert "lattice" not in {m.name for m in make_monitors(MonitorsConfig(), Setting(atoms))}


def test_g_of_r_is_ases_and_one_in_an_ideal_gas():
    rng = np.random.default_rng(0)
    gas = Atoms("Ar200Ne100", rng.uniform(0, 20, (300, 3)), cell=[20] * 3, pbc=True)
    monitor = watch("rdf", gas, keys={"use": True, "bin_A": 0.1}).monitors[0]
    got = monitor._histograms.measure(gas, *pairs_within(gas, 6.0))
    assert monitor._histograms.names == ["Ne-Ne", "Ne-Ar", "Ar-Ar"]
    for place, elements in enumerate([(10, 10), (10, 18), (18, 18)]):
        expected = get_rdf(gas, 6.0, 60, elements=elements)[0]
        n = (gas.numbers == elements[1]).sum()
        same = elements[0] == elements[1]
        factor = n / (n - 1) if same else 1.0  # ASE counts an atom as its own partner
        assert np.allclose(got[place], expected * factor, rtol=1e-9)
        assert got[place][10:].mean() == pytest.approx(1.0, abs=0.05)


def test_rdf_integral_by_hand():
    """Two kinds of dimers: the peak of g(r) moves from 2 to 3 Å; the integral of its change is the sum of both."""
    rng = np.random.default_rng(0)

    def dimers(length):
        one = rng.uniform(0, 30, (50, 3))
        along = rng.standard_normal((50, 3))
        other = one + length * along / np.linalg.norm(along, axis=1)[:, None]
        return Atoms("N100", np.concatenate([one, other]), cell=[30] * 3, pbc=True)

    reference = [dimers(2.02) for _ in range(40)]
    watching = watch("rdf", reference[0], keys={"samples": 40, "window_ps": 4.0, "bin_A": 0.5}, reference=reference)
    frames = [dimers(2.02 if number < 45 else 3.02) for number in range(85)]
    ((at, (alarm,)),) = looks(watching, frames, every_ps=0.1).items()
    full = sum(100 * 30**3 / (100 * 99 * 4 * math.pi * r**2) for r in (2.02, 3.02))
    assert full > alarm.value > alarm.threshold >= 3.0
    assert watching.state()["rdf.window"].shape == (40, 1, 12)
    assert alarm.value == pytest.approx(full * (at + 1 - 45) / 40, rel=0.2)


# ----- temperature -----


def test_canonical_fluctuations_of_few_atoms_are_healthy():
    water = molecule("H2O")
    rng = np.random.default_rng(0)
    temperatures = 300 * rng.chisquare(9, 20000) / 9
    assert temperatures.max() > 900
    watching = watch("temperature", water, degrees_of_freedom=9)
    assert not looks(watching, [water] * 20000, temperature_K=temperatures, target_K=300.0)
    room = watching.monitors[0]._room
    beyond = quad(lambda x: x**3.5 * math.exp(-x / 2), 9 * (room - 4), np.inf, epsabs=0)[0] / (2**4.5 * math.gamma(4.5))
    assert beyond == pytest.approx(1e-9, rel=1e-3)  # once in a billion looks
    limit = 300 * room
    ((at, (alarm,)),) = looks(
        watch("temperature", water, degrees_of_freedom=9),
        [water] * 3,
        temperature_K=[300.0, 0.98 * limit, 1.02 * limit],
        target_K=300.0,
    ).items()
    assert at == 2
    assert alarm.outcome is Outcome.EXPLODED
    assert alarm.threshold == pytest.approx(limit, rel=0.01)


def test_temperature_limit_follows_ramps_and_forgives_quenches():
    copper = bulk("Cu", cubic=True) * 3
    up = np.linspace(300, 3000, 50)
    assert not looks(watch("temperature", copper), [copper] * 50, temperature_K=up, target_K=list(up))
    quench = [3000.0] * 10 + [300.0] * 40
    assert not looks(watch("temperature", copper), [copper] * 50, temperature_K=3000.0, target_K=quench)
    assert looks(watch("temperature", copper), [copper] * 2, temperature_K=[300.0, 3000.0], target_K=300.0)
    assert looks(watch("temperature", copper), [copper] * 2, temperature_K=[300.0, 3000.0])  # by the start
    assert not looks(watch("temperature", copper), [copper] * 2, temperature_K=[0.0, 900.0])  # from rest


def test_everything_stops():
    copper = bulk("Cu", cubic=True)
    cold = [300.0] * 10 + [10.0] * 150
    ((at, (alarm,)),) = looks(watch("temperature", copper), [copper] * 160, temperature_K=cold, target_K=300.0).items()
    assert at == 10 + 100  # after 0.5 ps
    assert alarm.outcome is Outcome.FROZEN
    from_rest = [1.0] * 150 + [300.0]
    assert not looks(watch("temperature", copper), [copper] * 151, temperature_K=from_rest, target_K=300.0)
    oscillates = list(300 * np.abs(np.cos(np.arange(300.0))))
    assert not looks(watch("temperature", copper), [copper] * 300, temperature_K=oscillates)
    assert not looks(watch("temperature", copper), [copper] * 160, temperature_K=cold, target_K=cold)


# ----- energies -----


def test_jump_is_told_from_fluctuations():
    copper = bulk("Cu", cubic=True)
    rng = np.random.default_rng(0)
    energy = 0.02 * np.sin(np.arange(400.0)) + 0.001 * rng.standard_normal(400)
    assert not looks(watch("energy", copper), [copper] * 400, conserved_eV=energy)
    energy[300:] += 0.3
    ((at, (alarm,)),) = looks(watch("energy", copper), [copper] * 400, conserved_eV=energy).items()
    assert at == 300
    assert alarm.value == pytest.approx(0.3, abs=0.03)
    noisy = 10 * energy
    noisy[300:] -= 3.0 - 0.3
    assert not looks(watch("energy", copper), [copper] * 400, conserved_eV=noisy)
    quiet = np.where(np.arange(400) < 300, 0.0, 0.04)
    assert not looks(watch("energy", copper), [copper] * 400, conserved_eV=quiet)  # below the floor
    early = np.where(np.arange(40) < 10, 0.0, 0.3)
    assert not looks(watch("energy", copper), [copper] * 40, conserved_eV=early)  # nothing to compare with


def test_one_jump_does_not_excuse_the_next():
    copper = bulk("Cu", cubic=True)
    rng = np.random.default_rng(0)
    energy = 0.001 * rng.standard_normal(200)
    energy[100:] += 0.3
    energy[150:] += 0.2
    found = looks(watch("energy", copper, keys={"action": "note"}), [copper] * 200, conserved_eV=energy)
    assert list(found) == [100, 150]


def test_potential_energy_stands_in_where_nothing_is_conserved():
    copper = bulk("Cu", cubic=True)
    rng = np.random.default_rng(0)
    energy = 0.1 * rng.standard_normal(200)
    energy[100:] -= 0.9
    assert not looks(watch("energy", copper), [copper] * 200, potential_eV=energy)
    energy[100:] -= 4.0
    ((at, (alarm,)),) = looks(watch("energy", copper), [copper] * 200, potential_eV=energy).items()
    assert at == 100
    assert "potential" in alarm.detail


@pytest.mark.parametrize("slope", [2.0, -2.0])
def test_drift_is_found_on_the_way_and_only_if_significant(slope):
    copper = bulk("Cu", cubic=True)
    rng = np.random.default_rng(0)
    time = 0.005 * np.arange(1000)
    noise = 0.0004 * rng.standard_normal(1000)
    watching = watch("drift", copper)
    found = looks(watching, [copper] * 1000, conserved_eV=-1e5 + noise + slope * 4e-3 * time)
    assert min(found) * 0.005 == pytest.approx(2.0, abs=0.01)
    (alarm,) = found[min(found)]
    assert alarm.value == pytest.approx(slope, rel=0.1)
    healthy = watch("drift", copper)
    assert not looks(healthy, [copper] * 1000, conserved_eV=-1e5 + noise + 0.2 * slope * 4e-3 * time)
    assert not healthy.finish()
    for seed in range(10):  # slopes of 1 meV/atom/ps and more by chance
        loud = watch("drift", copper)
        assert not looks(loud, [copper] * 1000, conserved_eV=correlated(1000, -1e5, 0.01, 10, seed))
        assert not loud.finish()


def test_drift_is_not_judged_on_ramps_or_too_short_runs():
    copper = bulk("Cu", cubic=True)
    time = 0.005 * np.arange(1000)
    energy = 8e-3 * time
    ramp = watch("drift", copper)
    assert not looks(ramp, [copper] * 1000, conserved_eV=energy, target_K=300.0 + time)
    assert not ramp.finish()
    short = watch("drift", copper)
    assert not looks(short, [copper] * 150, conserved_eV=energy)
    assert not short.finish()


def correlated(n, mean, deviation, length, seed):
    rng = np.random.default_rng(seed)
    decay = math.exp(-1 / length)
    values = np.empty(n)
    values[0] = rng.standard_normal()
    for k in range(1, n):
        values[k] = decay * values[k - 1] + math.sqrt(1 - decay**2) * rng.standard_normal()
    return mean + deviation * values


def test_thermostat_is_judged_with_correlation():
    copper = bulk("Cu", cubic=True)

    def judged(temperatures, target=300.0, ensemble="nvt"):
        watching = watch("thermostat", copper, ensemble=ensemble)
        frames = [copper] * len(temperatures)
        assert not looks(watching, frames, temperature_K=temperatures, target_K=target)
        return watching.finish()

    (alarm,) = judged(correlated(4000, 330, 40, 20, 0))
    assert alarm.outcome is Outcome.WRONG_TEMPERATURE
    assert alarm.value == pytest.approx(0.10, abs=0.02)
    assert alarm.action == "note"
    assert not judged(correlated(4000, 330, 40, 20, 0), ensemble="nve")
    assert not judged(correlated(4000, 330, 40, 20, 0), target=list(np.linspace(300, 301, 4000)))
    assert not judged(correlated(300, 330, 40, 20, 0))  # 1.5 ps
    assert not judged(correlated(4000, 305, 10, 20, 0))  # significant, and too small to matter
    false = sum(bool(judged(correlated(2000, 300, 60, 40, seed))) for seed in range(40))
    assert false == 0


# ----- the rest -----


def test_frozen_atoms_that_nothing_holds():
    argon = bulk("Ar", cubic=True, a=5.3) * 2
    frames = list(rattled(argon, 40))
    for frame in frames[11:]:
        frame.positions[3] = frames[10].positions[3]
    ((at, (alarm,)),) = looks(watch("frozen", argon), frames).items()
    assert (at, alarm.moment.number, alarm.atoms) == (20, 10, (3,))
    held = argon.copy()
    held.set_constraint(FixAtoms([3]))
    assert not looks(watch("frozen", held), frames)
    for number in range(15, 40, 8):  # it moves now and then
        frames[number].positions[3] += 1e-9
        for later in frames[number : number + 2]:  # and another does not, then
            later.positions[5] = frames[number - 1].positions[5]
    assert not looks(watch("frozen", argon), frames)
    water = molecule("H2O")
    water.set_constraint(FixBondLengths([[0, 1], [0, 2], [1, 2]]))
    assert looks(watch("frozen", water), [water] * 20)  # rigid, and free to move


def test_stale_forces():
    argon = bulk("Ar", cubic=True, a=5.3)
    rng = np.random.default_rng(0)
    forces = [rng.standard_normal((4, 3)) for _ in range(20)]
    frames = list(rattled(argon, 20))
    assert not looks(watch("stale", argon), frames, forces=forces)
    forces[10] = forces[9].copy()
    ((at, (alarm,)),) = looks(watch("stale", argon), frames, forces=forces).items()
    assert at == 10
    assert alarm.outcome is Outcome.STALE
    forces[10][2, 2] = np.nextafter(forces[10][2, 2], 1)
    assert not looks(watch("stale", argon), frames, forces=forces)
    assert not looks(watch("stale", argon), [argon] * 20, forces=[forces[0]] * 20)  # nothing moved
    for nothing in (0.0, 1e-16):
        assert not looks(watch("stale", argon), frames, forces=[np.full((4, 3), nothing)] * 20)
    assert not looks(watch("stale", argon), frames)


def test_force_and_spread():
    water = molecule("H2O")
    forces = np.zeros((3, 3))
    forces[1] = [60, 80, 0.5]
    (alarm,) = looks(watch("force", water), [water], forces=[forces])[0]
    assert alarm.value == pytest.approx(math.sqrt(60**2 + 80**2 + 0.25))
    assert alarm.atoms == (1,)
    assert not looks(watch("force", water), [water], forces=[0.99 * forces])
    spread = [np.array([0.1, 0.4, 0.2]), np.array([0.1, 0.4, 0.6])]
    found = looks(watch("committee", water), [water] * 2, forces_spread=spread)
    assert list(found) == [1]
    assert found[1][0].atoms == (2,)
    assert found[1][0].action == "note"
    assert not looks(watch("committee", water), [water] * 2)


@pytest.mark.parametrize("what", ["positions", "momenta", "forces", "cell", "potential_eV", "conserved_eV"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_anywhere(what, value):
    argon = bulk("Ar", cubic=True, a=5.3)
    argon.set_momenta(np.ones((4, 3)))
    known = {"forces": np.ones((4, 3)), "potential_eV": -1.0, "conserved_eV": -1.0}
    watching = Watch(make_monitors(MonitorsConfig(), Setting(argon)))
    assert not watching.look(Snapshot(argon, number=0, **known))
    if what == "cell":
        argon.cell[1, 1] = value
    elif what in known and what != "forces":
        known[what] = value
    else:
        values = {"positions": argon.positions, "momenta": argon.arrays["momenta"], "forces": known["forces"]}[what]
        values[2, 1] = value
    (alarm,) = watching.look(Snapshot(argon, number=1, **known))
    assert alarm.outcome is Outcome.NAN
    assert watching.stopped
    assert alarm.atoms == ((2,) if what in {"positions", "momenta", "forces"} else ())


def test_opposite_infinities_are_seen_and_large_numbers_are_numbers():
    argon = bulk("Ar", cubic=True, a=5.3)
    forces = np.zeros((4, 3))
    forces[0], forces[1] = math.inf, -math.inf
    assert looks(watch("finite", argon), [argon], forces=[forces])
    assert not looks(watch("finite", argon), [argon], forces=[np.full((4, 3), 1e308)])


# ----- all together -----


def test_note_is_given_once_per_occurrence():
    water = molecule("H2O")
    strong = np.full((3, 3), 200.0)
    wrong = [3, 4, 5, 9, 15, 40, 41]
    forces = [strong if number in wrong else 0 * strong for number in range(50)]
    watching = watch("force", water, keys={"action": "note"})
    assert list(looks(watching, [water] * 50, forces=forces)) == [3, 40]  # content for 20 looks between
    assert not watching.stopped


def test_cause_comes_before_consequence():
    """A bond that was too long and then NaN: the bond is why, though it waited to be told."""
    ethane = molecule("C2H6")
    frames = list(stretched(ethane, 0, 2, ethane.get_distance(0, 2) + np.array([0, 0, 0.6, 0.6, 0.6])))
    frames[4].positions[3, 0] = math.nan
    watching = Watch(make_monitors(MonitorsConfig(), Setting(ethane)))
    ((at, alarms),) = looks(watching, frames).items()
    assert at == 4
    assert [(alarm.outcome, alarm.moment.number) for alarm in alarms] == [(Outcome.STRETCHED, 2), (Outcome.NAN, 4)]
    assert not watching.finish()


def test_driver_can_ask_what_was_seen_before_it_gave_up():
    ethane = molecule("C2H6")
    watching = Watch(make_monitors(MonitorsConfig(), Setting(ethane)))
    usual = ethane.get_distance(0, 2)
    assert not looks(watching, stretched(ethane, 0, 2, [usual, usual + 0.6]))
    (alarm,) = watching.pending()
    assert alarm.outcome is Outcome.STRETCHED
    assert watching.stopped
    assert not watching.pending()


def test_atom_that_leaves_is_a_broken_molecule_and_not_a_long_bond():
    methane = molecule("CH4")
    lengths = 1.09 + 0.04 * np.arange(40)
    watching = Watch(make_monitors(MonitorsConfig(), Setting(methane)))
    frames = list(stretched(methane, 0, 3, lengths))
    rng = np.random.default_rng(0)
    for frame in frames:
        frame.positions += 1e-3 * rng.standard_normal((5, 3))
    found = looks(watching, frames)
    first = found[min(found)][0]
    assert first.outcome is Outcome.BROKEN
    assert first.detail.startswith("H3 left C0")


def test_averages_are_bounded_and_keep_slopes():
    rng = np.random.default_rng(0)
    time = 0.005 * np.arange(10000)
    values = 3.0 * time + rng.standard_normal(10000)
    series = Averages()
    for t, v in zip(time, values, strict=True):
        series.add(float(t), float(v))
    n = len(series.times)
    assert 512 <= n <= 1024
    assert np.allclose(np.diff(series.times), series.times[1] - series.times[0])
    used = 16 * n
    assert series.values.mean() == pytest.approx(values[:used].mean(), rel=1e-12)
    assert fit_slope(series.times, series.values).slope == pytest.approx(3.0, abs=0.01)
    other = Averages()
    assert series.state()["counts"].tolist() == [16, 0]
    for cut in (3, 7):  # in the middle of a row
        for t, v in zip(time[:cut], values[:cut], strict=True):
            series.add(float(t), float(v))
        other.restore(series.state())
        for t, v in zip(time[:40], values[:40], strict=True):
            series.add(float(t), float(v))
            other.add(float(t), float(v))
        assert np.array_equal(series.times, other.times)
        assert np.array_equal(series.values, other.values)


def test_state_of_a_fresh_watch_is_arrays_that_numpy_can_store():
    watching = Watch(make_monitors(MonitorsConfig(), Setting(molecule("C2H6"))))
    file = io.BytesIO()
    np.savez(file, **watching.state())
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        other = Watch(make_monitors(MonitorsConfig(), Setting(molecule("C2H6"))))
        other.restore(dict(stored))
    assert set(other.state()) == set(watching.state())


# ----- inspect -----


def test_inspect_reads_one_frame_after_the_other_and_no_more_than_needed():
    methane = molecule("CH4")
    read = []

    def frames():
        for number, frame in enumerate(stretched(methane, 0, 3, 1.09 + 0.1 * np.arange(50))):
            read.append(number)
            frame.positions += 1e-3 * np.random.default_rng(number).standard_normal((5, 3))
            yield frame

    inspection = inspect(frames(), frame_interval_fs=5.0)
    assert inspection.failure.outcome is Outcome.BROKEN
    assert inspection.failed_at == 8  # 1.89 Å
    assert inspection.failure.moment.time_ps == pytest.approx(0.04)
    assert read[-1] == 10
    assert inspection.n_frames == 11
    assert "bonds" in inspection.monitors


def test_inspect_uses_what_frames_have():
    argon = bulk("Ar", cubic=True, a=5.3)
    frames = list(rattled(argon, 60))
    assert not inspect(frames).alarms  # no momenta, energies, forces or times
    for number, frame in enumerate(frames):
        frame.set_momenta(np.random.default_rng(number).standard_normal((4, 3)))
        frame.calc = SinglePointCalculator(
            frame, energy=-frame.get_kinetic_energy() + 0.5 * (number >= 40), forces=frame.positions
        )
    assert inspect(frames, ensemble="nve").failed_at == 40
    assert not inspect(frames, ensemble="nvt").alarms  # not conserved, and too small a jump of the potential energy
    for frame in frames:
        frame.info["time_ps"] = 7.0
    assert inspect(frames, ensemble="nve", frame_interval_fs=5.0).failure.moment.time_ps == 7.0
    zero = [frame.copy() for frame in frames]
    for frame in zero:
        frame.set_momenta(np.zeros((4, 3)))
    assert not inspect(zero, target_K=300).alarms


def test_inspect_counts_degrees_of_freedom():
    """What is at rest does not count: a cluster at 300 K by 3N - 6 is at 300 K."""
    from ase_mlcalc.md.monitors.inspect import _degrees_of_freedom
    from ase_mlcalc.md.velocities import draw_momenta, remove_rigid_motion

    for atoms, at_rest in ((molecule("CH4"), 9), (molecule("CO2"), 3), (molecule("N2"), 1), (bulk("Cu") * 2, 21)):
        draw_momenta(atoms, 300, np.random.default_rng(0))
        assert _degrees_of_freedom(atoms) == 3 * len(atoms)
        remove_rigid_motion(atoms)
        assert _degrees_of_freedom(atoms) == at_rest
        atoms.set_cell([20, 20, 20])
        atoms.pbc = True  # in a periodic box rotation is no symmetry, even where there is none
        assert _degrees_of_freedom(atoms) == 3 * len(atoms) - 3


def test_inspect_refuses_what_is_no_trajectory():
    with pytest.raises(DataError, match="no frames"):
        inspect([])
    with pytest.raises(DataError, match="another order"):
        inspect([molecule("CO"), molecule("CO")[[1, 0]]])
    with pytest.raises(DataError, match="frame 1"):
        inspect([molecule("CO"), molecule("CO2")])
    assert inspect(molecule("CO")).n_frames == 1


def test_inspect_of_a_first_frame_that_is_not_finite():
    broken = molecule("CO")
    broken.positions[0, 0] = math.nan
    inspection = inspect([broken])
    assert inspection.failure.outcome is Outcome.NAN
    assert inspection.failed_at == 0


def test_kelvin_in_inspect_is_kelvin():
    atoms = bulk("Cu", cubic=True)
    speed = math.sqrt(3 * units.kB * 6000 / atoms.get_masses()[0])
    rng = np.random.default_rng(0)
    frames = []
    for temperature in (300, 300, 6000):
        frame = next(rattled(atoms, 1, seed=temperature))
        directions = rng.standard_normal((4, 3))
        directions /= np.linalg.norm(directions, axis=1)[:, None]
        frame.set_momenta(atoms.get_masses()[:, None] * speed * math.sqrt(temperature / 6000) * directions)
        frames.append(frame)
    inspection = inspect(frames, target_K=300)
    assert inspection.failure.outcome is Outcome.EXPLODED
    assert inspection.failure.value == pytest.approx(6000, rel=1e-9)


# ----- documentation -----


def test_documentation_has_every_monitor_with_its_action_and_outcome():
    from pathlib import Path

    page = (Path(__file__).parents[1] / "docs" / "monitors.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    assert [row[1].strip(" `") for row in rows] == [kind.name for kind in MONITORS]
    for row, kind in zip(rows, MONITORS, strict=True):
        assert kind.outcome.name in row[6]
        assert row[5].strip() == getattr(MonitorsConfig(), kind.name).action
