"""Local stress: planes, Irving-Kirkwood, Hardy and bins against brute force, against each other, and against forces."""

import csv
import importlib.util
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc100, molecule
from ase.calculators.lj import LennardJones as LennardJonesOfASE
from matplotlib.collections import EllipseCollection, LineCollection
from scipy.integrate import quad

from ase_mlcalc import MLCalculator
from ase_mlcalc.checkpoint import save
from ase_mlcalc.cli import main
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ConfigError, DataError, ModelError, StructureError
from ase_mlcalc.model import lookup
from ase_mlcalc.potential import Derived
from ase_mlcalc.stress import (
    Binned,
    Grid,
    Hardy,
    IrvingKirkwood,
    Planes,
    find_edges,
    local_stress,
    pictures,
    write_field,
)
from ase_mlcalc.stress.average import BlockMeans
from ase_mlcalc.stress.folder import localisation_named, write_stress_folder

ROOT = Path(__file__).parents[1]


def calculator(name, **config):
    model_class = lookup(name)
    return MLCalculator(model_class(model_class.Config(**config)))


@pytest.fixture(scope="module")
def eam():
    return calculator("eam")


@pytest.fixture(scope="module")
def messages():
    """Message passing: edge gradients are not central, and reach beyond the cutoff."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model_class = lookup("equivariant")
        model = model_class(model_class.Config(cutoff=3.4, species=(29,), features=8, n_interactions=2)).double()
        for weights in model.parameters():
            weights.data += 0.3 * torch.randn_like(weights)
    return MLCalculator(model)


@pytest.fixture
def copper():
    """Triclinic, rattled, cells shorter than the cutoff, atoms in other images, moving."""
    rng = np.random.default_rng(0)
    atoms = bulk("Cu", a=3.615) * (2, 1, 3)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    atoms.positions[::2] += 2 * atoms.cell.array[2] - atoms.cell.array[0]
    atoms.set_velocities(0.02 * rng.normal(size=atoms.positions.shape))
    return atoms


@pytest.fixture
def slab():
    """A rattled slab with open faces."""
    atoms = fcc100("Cu", (2, 2, 4), a=3.615, vacuum=4.0)
    atoms.rattle(0.1, seed=1)
    atoms.set_velocities(0.02 * np.random.default_rng(2).normal(size=atoms.positions.shape))
    return atoms


def stress_of(calc, atoms):
    """(3, 3) potential and kinetic part."""
    atoms = atoms.copy()
    atoms.calc = calc
    potential = atoms.get_stress(voigt=False)
    return potential, atoms.get_stress(voigt=False, include_ideal_gas=True) - potential


def normal(atoms, axis):
    reciprocal = np.linalg.inv(atoms.cell.array)[:, axis]
    return reciprocal / np.linalg.norm(reciprocal)


# ----- edges -----


def test_edges_give_the_forces(eam, messages, copper):
    for calc in (eam, messages):
        edges = find_edges(calc, copper)
        forces = calc.get_forces(copper)
        assert np.abs(forces).max() > 1e-2
        np.testing.assert_allclose(edges.forces(len(copper)), forces, atol=1e-12)
        total = edges.virials.sum(axis=0) / copper.get_volume()
        np.testing.assert_allclose(total, stress_of(calc, copper)[0], atol=1e-14)


def test_merged_edges_are_the_same_mechanics(messages, copper):
    edges = find_edges(messages, copper)
    merged = edges.merged()
    assert 2 * len(merged.centers) == len(edges.centers)
    np.testing.assert_allclose(merged.forces(len(copper)), edges.forces(len(copper)), atol=1e-12)
    np.testing.assert_allclose(merged.virials.sum(axis=0), edges.virials.sum(axis=0), atol=1e-11)
    vectors = copper.positions[merged.neighbors] - copper.positions[merged.centers] + merged.shifts @ copper.cell.array
    np.testing.assert_allclose(merged.vectors, vectors, atol=1e-12)


def test_edges_of_an_ensemble_are_the_mean(eam, copper):
    other = calculator("lennard_jones", species=(29,), cutoff=6.2, sigma=2.3, epsilon=0.4)
    both = MLCalculator(Ensemble([eam.potential, other.potential]))
    np.testing.assert_allclose(find_edges(both, copper).forces(len(copper)), both.get_forces(copper), atol=1e-12)


# ----- planes -----


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_are_what_crosses_them(messages, copper, axis):
    """Counting every crossing of every image of the plane, one edge after the other."""
    planes = Planes(axis, 7)
    edges = find_edges(messages, copper)
    heights = np.linalg.solve(copper.cell.array.T, copper.positions.T).T[:, axis]
    begin, end = heights[edges.centers], heights[edges.neighbors] + edges.shifts[:, axis]
    area = copper.get_volume() * np.linalg.norm(np.linalg.inv(copper.cell.array)[:, axis])
    expected = np.zeros((7, 3))
    for k, plane in enumerate((np.arange(7) + 0.5) / 7):
        for image in range(-6, 7):
            up = (begin < plane + image) & (plane + image <= end)
            down = (end < plane + image) & (plane + image <= begin)
            expected[k] += (edges.gradient[up].sum(axis=0) - edges.gradient[down].sum(axis=0)) / area
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(planes.potential_part(messages, copper), expected, atol=1e-13)


@pytest.mark.parametrize("which", ["eam", "messages"])
@pytest.mark.parametrize("periodic", [True, False])
def test_momentum_balance(which, periodic, slab, request):
    """What is between two planes feels the difference of the forces through them, to 1e-12 eV/Å."""
    calc = request.getfixturevalue(which)
    slab.pbc[2] = periodic
    planes = Planes(2, 50)
    traction = planes.potential_part(calc, slab)
    forces = calc.get_forces(slab)
    area = np.linalg.norm(np.cross(*slab.cell[:2]))
    layer = np.floor(slab.get_scaled_positions()[:, 2] * 50 - 0.5).astype(int)  # between planes k and k + 1
    between = np.array([forces[layer == k].sum(axis=0) for k in range(49)])
    assert (np.abs(between).max(axis=1) > 1e-2).sum() > 3
    np.testing.assert_allclose(area * np.diff(traction, axis=0), between, atol=1e-12)
    np.testing.assert_allclose(area * traction[[0, -1]], 0.0, atol=1e-12)  # in vacuum


def test_planes_average_to_the_stress(messages, copper):
    potential, kinetic = stress_of(messages, copper)
    for axis in range(3):
        planes, n = Planes(axis, 20000), normal(copper, axis)
        np.testing.assert_allclose(
            planes.potential_part(messages, copper).mean(axis=0), n @ potential, atol=1e-3 * np.abs(potential).max()
        )
        np.testing.assert_allclose(planes.kinetic_part(copper).mean(axis=0), n @ kinetic, atol=1e-14)


@pytest.fixture(scope="module")
def cu100():
    """The example of the documentation: a slab at rest, and its fields."""
    spec = importlib.util.spec_from_file_location("cu_slab", ROOT / "examples" / "cu_slab" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    slab = module.relaxed_slab(calculator("eam"))
    return module, slab, module.local_stresses(slab)


def test_relaxed_surface(cu100):
    """The normal stress vanishes on all planes; per-atom bins do not show that, whatever the definition."""
    largest = {label: np.abs(field.normal.total).max() / units.GPa for label, field in cu100[2].items()}
    assert largest.pop("planes") < 1e-4
    assert largest.pop("Irving-Kirkwood") < 1e-4
    assert largest.pop("Hardy, R = 3 Å") < 1e-4
    assert len(largest) == 3
    assert min(largest.values()) > 0.3
    # the stress along the surface does not vanish: there is something to see
    ik = cu100[2]["Irving-Kirkwood"]
    assert np.abs(ik.stress.total[..., 0]).max() > units.GPa


def test_example_draws(cu100, tmp_path):
    cu100[0].draw(tmp_path / "picture.png", cu100[1], cu100[2])
    assert (tmp_path / "picture.png").stat().st_size > 20_000
    assert (ROOT / "docs" / "images" / "cu100_planes.png").stat().st_size > 20_000


# ----- grids -----


SHAPES = [(3, 4, 5), (1, 4, 5), (6, 1, 1), (1, 1, 40)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", [IrvingKirkwood, Binned])
def test_bins_add_up(messages, copper, method, shape):
    potential, kinetic = stress_of(messages, copper)
    field = method(Grid(shape))
    values = field.potential_part(messages, copper)
    assert values.shape == (np.prod(shape), 9)
    assert np.ptp(values, axis=0).max() > 0.1 * np.abs(potential).max()
    np.testing.assert_allclose(values.mean(axis=0), potential.ravel(), atol=1e-12 * np.abs(values).max())
    np.testing.assert_allclose(field.kinetic_part(copper).mean(axis=0), kinetic.ravel(), atol=1e-15)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_hardy_adds_up(eam, copper, shape):
    """Points of the grid stand for the space around them: a sum, exact as far as the field is smooth between them."""
    copper = copper * (2, 2, 1)
    fine = tuple(1 if n == 1 else 24 for n in shape)
    potential, kinetic = stress_of(eam, copper)
    field = Hardy(Grid(fine), radius=4.0)
    values = field.potential_part(eam, copper).mean(axis=0)
    np.testing.assert_allclose(values, potential.ravel(), atol=2e-3 * np.abs(potential).max())
    values = field.kinetic_part(copper).mean(axis=0)
    np.testing.assert_allclose(values, kinetic.ravel(), atol=2e-3 * np.abs(kinetic).max())


def test_layers_of_irving_kirkwood_are_mean_tractions(messages, copper):
    for axis in range(3):
        layers = IrvingKirkwood(Grid.along(axis, 5)).potential_part(messages, copper).reshape(5, 3, 3)
        planes = Planes(axis, 20000).potential_part(messages, copper)
        mean = planes.reshape(5, -1, 3).mean(axis=1)
        np.testing.assert_allclose(normal(copper, axis) @ layers, mean, atol=1e-3 * np.abs(planes).max())
        assert np.ptp(mean, axis=0).max() > 0.05 * np.abs(planes).max()


def test_moving_by_a_bin_moves_the_field(eam, copper):
    grid = Grid((3, 4, 5))
    moved = copper.copy()
    moved.positions += copper.cell.array[1] / 4
    for method in (IrvingKirkwood(grid), Hardy(grid, 3.0), Binned(grid)):
        before = method.potential_part(eam, copper).reshape(3, 4, 5, 9)
        after = method.potential_part(eam, moved).reshape(3, 4, 5, 9)
        np.testing.assert_allclose(after, np.roll(before, 1, axis=1), atol=1e-11 * np.abs(before).max())


@pytest.fixture
def dimer():
    """Two argon atoms in a wide box; one pair, whose line is known."""
    atoms = Atoms("Ar2", [[1.0, 2.0, 3.0], [5.0, 3.0, 3.9]], cell=[20, 20, 20], pbc=True)
    return atoms, calculator("lennard_jones", sigma=3.4, epsilon=0.01, cutoff=8.0)


def test_irving_kirkwood_shares_a_line_by_length(dimer):
    atoms, calc = dimer
    field = IrvingKirkwood(Grid((20, 20, 20)))
    values = field.potential_part(calc, atoms).reshape(20, 20, 20, 3, 3)
    total = stress_of(calc, atoms)[0] * atoms.get_volume()
    expected = np.zeros((20, 20, 20))
    for at in (np.arange(20_000) + 0.5) / 20_000:
        x, y, z = np.floor(atoms.positions[0] + at * (atoms.positions[1] - atoms.positions[0])).astype(int)
        expected[x, y, z] += 1 / 20_000
    assert (expected > 0).sum() == 4
    np.testing.assert_allclose(values, expected[..., None, None] * total, atol=1e-4 * np.abs(total).max())


@pytest.mark.parametrize(("shape", "measured"), [((10, 10, 10), "xyz"), ((1, 10, 10), "yz"), ((10, 1, 1), "x")])
def test_hardy_is_its_definition(dimer, shape, measured):
    """The bond function at each point, by numerical integration in the dimensions that are resolved."""
    atoms, calc = dimer
    radius, dimensions = 2.5, len(measured)
    field = Hardy(Grid(shape), radius)
    values = field.potential_part(calc, atoms).reshape(*shape, 3, 3)
    total = stress_of(calc, atoms)[0] * atoms.get_volume()
    seen = ["xyz".index(axis) for axis in measured]
    norm = 1 / quad(lambda d: (1 - d**2) ** 3 * {1: 2, 2: 2 * np.pi * d, 3: 4 * np.pi * d**2}[dimensions], 0, 1)[0]
    norm /= radius**dimensions * 20.0 ** (3 - dimensions)
    start, along = atoms.positions[0][seen], (atoms.positions[1] - atoms.positions[0])[seen]
    t = (np.arange(2_000) + 0.5) / 2_000
    checked = 0
    for index in np.ndindex(*shape):
        point = (np.array(index)[seen] + 0.5) * 2.0
        apart = start + t[:, None] * along - point
        squared = ((apart - 20 * np.round(apart / 20)) ** 2).sum(axis=1) / radius**2
        expected = norm * np.mean(np.maximum(1 - squared, 0) ** 3)
        np.testing.assert_allclose(values[index], expected * total, atol=1e-5 * norm * np.abs(total).max())
        checked += expected > 0
    assert checked > 2


def test_binned_takes_any_calculator(dimer):
    atoms, _ = dimer
    calc = LennardJonesOfASE(sigma=3.4, epsilon=0.01, rc=8.0)
    field = local_stress(Binned(Grid.along(0, 4)), calc, atoms)
    atoms.calc = calc
    np.testing.assert_allclose(
        field.stress.total.mean(axis=(0, 1, 2)).reshape(3, 3), atoms.get_stress(voigt=False), atol=1e-15
    )
    assert field.definition == "that of LennardJones"


# ----- averages -----


def test_block_means():
    """The mean is that of all; errors of white noise are those of independent values; blocks are joined."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1003, 500))
    blocks = BlockMeans()
    for row in values:
        blocks.add(row.copy())
    np.testing.assert_allclose(blocks.mean, values.mean(axis=0), atol=1e-13)
    assert (blocks.n, blocks.block_length, blocks.n_blocks) == (1003, 64, 15)
    assert np.sqrt((blocks.stderr() ** 2).mean()) == pytest.approx(1003**-0.5, rel=0.05)


def test_block_means_see_correlation():
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=(100, 500)), 10, axis=0)  # ten times the same
    blocks = BlockMeans()
    for row in values:
        blocks.add(row.copy())
    assert np.sqrt((blocks.stderr() ** 2).mean()) == pytest.approx(0.1, rel=0.1)


def trajectory(atoms, n):
    rng = np.random.default_rng(4)
    for _ in range(n):
        frame = atoms.copy()
        frame.positions += 0.05 * rng.normal(size=frame.positions.shape)
        frame.set_velocities(0.02 * rng.normal(size=frame.positions.shape))
        yield frame


def test_field_of_a_trajectory(eam, copper):
    method = IrvingKirkwood(Grid.along(2, 6))
    field = local_stress(method, eam, trajectory(copper, 6))
    each = np.array([method.potential_part(eam, frame) for frame in trajectory(copper, 6)])
    moving = np.array([method.kinetic_part(frame) for frame in trajectory(copper, 6)])
    shape = (1, 1, 6, 9)
    np.testing.assert_allclose(field.stress.potential, each.mean(axis=0).reshape(shape), atol=1e-14)
    np.testing.assert_allclose(field.stress.kinetic, moving.mean(axis=0).reshape(shape), atol=1e-14)
    np.testing.assert_allclose(field.stress.total, field.stress.potential + field.stress.kinetic, atol=1e-15)
    for part, values in ((field.stress.potential_stderr, each), (field.stress.total_stderr, each + moving)):
        expected = values.std(axis=0, ddof=1) / 6**0.5
        np.testing.assert_allclose(part, expected.reshape(shape), rtol=1e-10)
    n = normal(copper, 2)
    along = np.einsum("a,kab,b->k", n, field.stress.total.reshape(6, 3, 3), n)
    np.testing.assert_allclose(field.normal.total, along, atol=1e-14)
    assert (field.n_frames, field.axis) == (6, 2)


def test_one_structure_has_no_error(eam, copper):
    field = local_stress(Planes(0, 10), eam, copper, kinetic=False)
    assert field.stress.kinetic is None
    assert field.stress.total_stderr is None
    still = copper.copy()
    del still.arrays["momenta"]
    assert local_stress(Planes(0, 10), eam, still).stress.kinetic is None


# ----- refusals -----


def test_structures_without_stress_are_refused(eam, copper):
    molecule_ = molecule("H2O")
    rank_2 = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]], cell=[3, 3, 0], pbc=(True, True, False))
    flat = Atoms("Cu", cell=[[3, 0, 0], [0, 3, 0], [3, 3, 1e-12]])
    for method in (Planes(2, 10), IrvingKirkwood(Grid.along(2, 10)), Hardy(Grid.along(2, 10)), Binned(Grid((1, 1, 9)))):
        for atoms, rank in ((molecule_, 0), (rank_2, 2), (flat, "")):
            with pytest.raises(StructureError, match=f"frame 1: .*three independent vectors.*rank {rank}"):
                local_stress(method, eam, [copper, atoms])
        with pytest.raises(DataError, match="no structures"):
            local_stress(method, eam, [])
        still = copper.copy()
        del still.arrays["momenta"]
        with pytest.raises(StructureError, match=r"frame 0: .*needs velocities"):
            local_stress(method, eam, still, kinetic=True)
        with pytest.raises(StructureError, match=r"frame 1: .*needs velocities"):
            local_stress(method, eam, [copper, still])


def test_hardy_between_whose_points_structure_is_missed(eam, copper):
    spacing = 1 / np.linalg.norm(np.linalg.inv(copper.cell.array)[:, 2]) / 8
    local_stress(Hardy(Grid.along(2, 8), 1.001 * spacing), eam, copper)
    with pytest.raises(ConfigError, match="misses structure between the points"):
        local_stress(Hardy(Grid.along(2, 8), 0.999 * spacing), eam, copper)


def test_atoms_outside_an_open_cell(eam, slab):
    slab.pbc[2] = False
    slab.positions[3, 2] = -0.5
    with pytest.raises(StructureError, match="atom 3 is outside the cell along its open direction c"):
        local_stress(IrvingKirkwood(Grid.along(2, 10)), eam, slab)
    local_stress(Planes(2, 10), eam, slab)  # planes do not mind


def test_grid_that_does_not_fit(eam, copper):
    with pytest.raises(ConfigError, match=r"grid of 4000x4000x4000 = 64000000000 bins takes .* GB.*at most \d+ bins"):
        local_stress(IrvingKirkwood(Grid((4000, 4000, 4000))), eam, copper)
    with pytest.raises(ConfigError, match=r"0\.001 GB may be used; take at most"):
        local_stress(Hardy(Grid((20, 20, 20))), eam, copper, max_memory_GB=0.001)
    with pytest.raises(ConfigError, match="allow more memory"):
        local_stress(Hardy(Grid((20, 20, 20))), eam, copper, max_memory_GB=1e-6)
    with pytest.raises(ConfigError, match="positive number of GB, got -1"):
        local_stress(Hardy(Grid((20, 20, 20))), eam, copper, max_memory_GB=-1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Grid((0, 1, 1)), "each at least 1"),
        (lambda: Hardy(Grid((1, 1, 1))), "two bins or more"),
        (lambda: Hardy(Grid((9, 9, 9)), radius=0.0), "positive"),
        (lambda: Planes(3, 10), "axis 0, 1 or 2"),
        (lambda: localisation_named("plane", "10"), "planes, ik, hardy or bins; got 'plane'"),
        (lambda: localisation_named("planes", "10x10x10"), "one number"),
        (lambda: localisation_named("ik", "10x10"), "10x10"),
        (lambda: localisation_named("ik", "many"), "'many'"),
        (lambda: localisation_named("ik", "10", axis="w"), "'w'"),
    ],
)
def test_wrong_grids(make, reason):
    with pytest.raises(ConfigError, match=reason):
        make()


def test_other_calculators_have_no_edges(dimer):
    atoms, _ = dimer
    with pytest.raises(ConfigError, match="edge gradients of an MLCalculator, got LennardJones"):
        local_stress(Planes(2, 10), LennardJonesOfASE(), atoms)


def test_models_without_virials_are_refused(copper, tmp_path):
    forces = calculator("tensor_field", species=(29,), cutoff=3.0)
    assert forces.potential.properties == {"forces"}
    with pytest.raises(ModelError, match=r"no forces of pairs in it"):
        local_stress(Planes(2, 10), forces, copper)
    with pytest.raises(ConfigError, match=r"no per-atom stresses"):
        local_stress(Binned(Grid.along(2, 10)), forces, copper)
    ase.io.write(tmp_path / "copper.traj", copper)
    with pytest.raises(ConfigError, match=r"gives forces but no per-atom stresses"):
        write_stress_folder(forces, tmp_path / "copper.traj", tmp_path / "out")


def test_another_definition_than_that_of_the_calculator_is_refused(copper, tmp_path):
    ase.io.write(tmp_path / "copper.traj", copper)
    with pytest.raises(ConfigError, match=r"definition 'edge', not 'site'; make it with"):
        write_stress_folder(calculator("eam"), tmp_path / "copper.traj", tmp_path / "out", definition="site")


# ----- files -----


@pytest.fixture
def some_field(eam, copper):
    return local_stress(IrvingKirkwood(Grid((2, 3, 4))), eam, trajectory(copper, 3))


def test_npz(some_field, tmp_path):
    write_field(some_field, tmp_path / "field.npz")
    with np.load(tmp_path / "field.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["total"], some_field.stress.total)
        np.testing.assert_array_equal(file["total_stderr"], some_field.stress.total_stderr)
        np.testing.assert_array_equal(file["positions"], some_field.positions)
        assert file["components"].tolist()[:3] == ["xx", "xy", "xz"]
        assert file["method"] == "ik"


def test_csv(eam, copper, tmp_path):
    field = local_stress(Planes(2, 8), eam, copper)
    write_field(field, tmp_path / "field.csv")
    rows = list(csv.DictReader((tmp_path / "field.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert [float(row["normal_total_GPa"]) for row in rows] == pytest.approx(field.normal.total / units.GPa, rel=1e-6)
    assert [float(row["height_A"]) for row in rows] == pytest.approx(field.heights)
    assert [float(row["y_kinetic_GPa"]) for row in rows] == pytest.approx(
        field.stress.kinetic[0, 0, :, 1] / units.GPa, rel=1e-6
    )


def test_vtk(some_field, tmp_path):
    """Read back by its header: points and tensors, the first direction fastest."""
    write_field(some_field, tmp_path / "field.vtk")
    data = (tmp_path / "field.vtk").read_bytes()
    assert b"DATASET STRUCTURED_GRID\nDIMENSIONS 2 3 4\nPOINTS 24 double\n" in data
    start = data.index(b"POINTS 24 double\n") + len(b"POINTS 24 double\n")
    points = np.frombuffer(data[start : start + 24 * 24], ">f8").reshape(4, 3, 2, 3)
    np.testing.assert_allclose(points[3, 1, 0], some_field.positions[0, 1, 3])
    start = data.index(b"TENSORS total_GPa double\n") + len(b"TENSORS total_GPa double\n")
    tensors = np.frombuffer(data[start : start + 24 * 72], ">f8").reshape(4, 3, 2, 9)
    np.testing.assert_allclose(tensors[2, 0, 1], some_field.stress.total[1, 0, 2] / units.GPa)


def test_binned_fields_carry_their_definition_into_every_file(copper, tmp_path):
    model_class = lookup("eam")
    calc = MLCalculator(model_class(model_class.Config()), stress_definition="center")
    field = local_stress(Binned(Grid.along(2, 4)), calc, copper)
    for ending in ("npz", "csv", "vtk"):
        write_field(field, tmp_path / f"field.{ending}")
    with np.load(tmp_path / "field.npz", allow_pickle=False) as file:
        assert file["definition"] == "center"
    rows = list(csv.DictReader((tmp_path / "field.csv").read_text().splitlines()))
    assert [row["stress_definition"] for row in rows] == ["center"] * 4
    assert b"by definition center" in (tmp_path / "field.vtk").read_bytes().splitlines()[1]


def test_other_endings(some_field, tmp_path):
    with pytest.raises(ValueError, match=r"\.npz, \.csv, \.vtk"):
        write_field(some_field, tmp_path / "field.xlsx")


def test_pictures_of_atoms_say_the_definition_and_show_pressure_by_the_mean_volume(copper, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(pictures, "save", lambda figure, _: figures.append(figure))
    stresses = np.tile([-1.0, -2.0, -3.0, 0.5, 0.5, 0.5], (len(copper), 1)) * units.GPa / len(copper)
    pictures.atoms_plot(tmp_path / "atoms.png", copper, stresses, "heat")
    (figure,) = figures
    assert figure.get_suptitle() == "per-atom stress, definition: heat"
    (points,) = (each for each in figure.axes[0].collections if isinstance(each, EllipseCollection))
    np.testing.assert_allclose(points.get_array(), 2.0)


def test_atoms_and_their_cell_are_drawn_whole_and_to_scale(copper, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(pictures, "save", lambda figure, _: figures.append(figure))
    copper.numbers[3] = 1
    pictures.atoms_plot(tmp_path / "atoms.png", copper, np.ones((len(copper), 6)), "edge")
    views = [(0, 1), (0, 2), (1, 2)]
    for axes, view in zip(figures[0].axes, views, strict=False):
        (outline,) = (each for each in axes.collections if isinstance(each, LineCollection))
        (circles,) = (each for each in axes.collections if isinstance(each, EllipseCollection))
        radii = 0.5 * circles.get_widths()
        assert sorted(set(radii.round(3).tolist())) == [0.8 * 0.31, 0.8 * 1.32]
        middles = np.asarray(circles.get_offsets())
        np.testing.assert_allclose(np.sort(middles, axis=0), np.sort(copper.positions[:, view], axis=0))
        ends = np.concatenate(outline.get_segments())
        drawn = np.concatenate([middles + radii[:, None], middles - radii[:, None], ends])
        for values, (low, high) in zip(drawn.T, (axes.get_xlim(), axes.get_ylim()), strict=True):
            assert low < values.min() < values.max() < high
        lengths = {round(float(np.linalg.norm(a - b)), 6) for a, b in outline.get_segments()}
        assert lengths == {round(float(np.linalg.norm(vector[list(view)])), 6) for vector in copper.cell.array}


def test_profiles_show_the_tangential_stress(eam, slab, tmp_path, monkeypatch):
    """That of a slab is what its own stress has in the plane; planes, and several fields, have one panel."""
    figures = []
    monkeypatch.setattr(pictures, "save", lambda figure, _: figures.append(figure))
    fields = [local_stress(each(Grid.along(2, 12)), eam, slab, kinetic=False) for each in (IrvingKirkwood, Binned)]
    xx, yy, *_ = eam.get_property("stress", slab)
    for field in fields:
        values = pictures.tangential(field).total
        assert values.mean() == pytest.approx((xx + yy) / 2, rel=1e-6)
        assert abs(xx + yy) > 1e-4
        pictures.profile_plot(tmp_path / "profile.png", {"total": field})
        normal, tangent = figures.pop().axes
        assert (normal.get_ylabel(), tangent.get_ylabel()) == (
            "normal stress / GPa (tension > 0)", "tangential stress / GPa (tension > 0)",
        )  # fmt: skip
        np.testing.assert_allclose(tangent.lines[0].get_ydata()[::2], values / units.GPa)
    planes = local_stress(Planes(2, 12), eam, slab)
    for drawn in ({"planes": planes}, {"ik": fields[0], "bins": fields[1]}):
        pictures.profile_plot(tmp_path / "profile.png", drawn)
        assert len(figures.pop().axes) == 1
    with pytest.raises(ValueError, match="tractions"):
        pictures.tangential(planes)


def test_tangential_stress_of_a_slanted_cell(eam, copper):
    """The normal and both tangents add up to the trace, and the standard error is no smaller than that of one frame."""
    field = local_stress(Hardy(Grid.along(0, 6), 3.0), eam, trajectory(copper, 6))
    trace = field.stress.total.reshape(-1, 9)[:, [0, 4, 8]].sum(axis=1)
    tangent = pictures.tangential(field)
    np.testing.assert_allclose(field.normal.total + 2 * tangent.total, trace, rtol=1e-6)
    assert np.ptp(tangent.total) > 1e-3 * np.abs(tangent.total).max()
    assert (tangent.total_stderr > 0).all()
    assert tangent.kinetic is not None


# ----- command line -----


@pytest.fixture
def files(eam, copper, tmp_path):
    save(Derived(eam.potential.model), tmp_path / "copper.safetensors")
    frames = list(trajectory(copper, 3))
    for frame in frames:
        frame.info["time_ps"] = 0.5
    ase.io.write(tmp_path / "run.extxyz", frames)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "picture"),
    [
        ([], None),
        (["--field", "planes", "--axis", "x", "--definition", "heat"], "profile.png"),
        (["--field", "ik", "--bins", "4x5x6"], "slices.png"),
        (["--field", "hardy", "--bins", "10", "--radius", "3", "--no-kinetic"], "profile.png"),
        (["--field", "bins", "--bins", "5", "--index", "1:"], "profile.png"),
    ],
)
def test_command(files, options, picture, capsys):
    out = files / "out"
    status = main(["stress", str(files / "copper.safetensors"), str(files / "run.extxyz"), "--out", str(out), *options])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    expected = {"stresses.extxyz", "histogram.png", "atoms.png", "summary.json"}
    expected |= {picture, "field.npz", "field.csv", "field.vtk"} if picture else set()
    assert {path.name for path in out.iterdir()} == expected
    assert all(str(out / name) in printed.out for name in expected)
    frames = ase.io.read(out / "stresses.extxyz", ":")
    summary = json.loads((out / "summary.json").read_text())
    definition = "heat" if "heat" in options else "edge"
    assert len(frames) == summary["frames"] == (2 if "1:" in options else 3)
    assert {frame.info["stress_definition"] for frame in frames} == {summary["stress_definition"]} == {definition}
    source = ase.io.read(files / "run.extxyz", -1)
    source.calc = MLCalculator(files / "copper.safetensors", stress_definition=definition)
    np.testing.assert_allclose(frames[-1].get_stresses(), source.get_stresses(), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(frames[-1].get_stress(), source.get_stress(), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(frames[-1].positions, source.positions, atol=1e-9)
    np.testing.assert_allclose(frames[-1].cell, source.cell, atol=1e-9)
    np.testing.assert_allclose(frames[-1].get_velocities(), source.get_velocities(), rtol=1e-9)
    assert frames[-1].pbc.all()
    assert frames[-1].info["time_ps"] == 0.5
    assert ("kinetic_stresses" in frames[-1].arrays) == ("--no-kinetic" not in options)
    if picture:
        mean = np.mean([frame.get_stress()[2] for frame in frames]) / units.GPa
        component = "zz" if "planes" not in options else "x"
        total = summary["field"]["mean_GPa"][component]
        if "hardy" in options:
            assert total == pytest.approx(mean, rel=0.2)
        elif component == "zz":
            kinetic = summary["stress_kinetic_GPa"][2]
            assert total == pytest.approx(mean + kinetic, rel=1e-5)


def test_command_with_another_calculator(files, capsys):
    out = files / "out"
    words = ["ase.calculators.lj:LennardJones", str(files / "run.extxyz"), "--out", str(out)]
    words += ["--argument", "sigma=2.3", "--argument", "rc=6.0"]
    assert main(["stress", *words, "--field", "bins", "--bins", "4"]) == 0
    frame = ase.io.read(out / "stresses.extxyz", 0)
    assert frame.info["stress_definition"] == "that of LennardJones"
    assert main(["stress", *words, "--field", "bins", "--bins", "4", "--definition", "half of each pair"]) == 0
    assert json.loads((out / "summary.json").read_text())["field"]["stress_definition"] == "half of each pair"
    assert (out / "field.csv").read_text().splitlines()[-1].endswith(",half of each pair")
    source = ase.io.read(files / "run.extxyz", 0)
    source.calc = LennardJonesOfASE(sigma=2.3, rc=6.0)
    np.testing.assert_allclose(frame.get_stresses(), source.get_stresses(), rtol=1e-9)
    capsys.readouterr()
    assert main(["stress", *words, "--field", "ik"]) == 1
    assert "bin its per-atom stresses instead" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (lambda atoms: atoms.set_cell([0, 0, 0]), [], "frame 1: local stress needs a cell.*rank 0"),
        (lambda atoms: atoms.arrays.pop("momenta"), ["--kinetic"], "frame 1: .*needs velocities"),
        (lambda _: None, ["--definition", "nice"], "edge, center.*'nice'"),
        (lambda _: None, ["--definition", "cluster"], "cluster.*it has edge, center"),
        (lambda _: None, ["--field", "ik", "--bins", "5000x5000x5000"], "GB may be used"),
        (lambda _: None, ["--field", "grid"], "planes, ik, hardy or bins"),
        (lambda _: None, ["--index", "7:"], "no structure at index '7:'"),
    ],
)
def test_command_refuses(files, capsys, change, options, reason):
    import re

    frames = ase.io.read(files / "run.extxyz", ":")
    for frame in frames[1:]:
        frame.pbc = False
        change(frame)
    ase.io.write(files / "bad.extxyz", frames)
    status = main(
        ["stress", str(files / "copper.safetensors"), str(files / "bad.extxyz"), "--out", str(files / "out"), *options]
    )
    line = capsys.readouterr().err
    assert status == 1
    assert re.search(reason, line), line
    assert line.count("\n") == 1
    assert not list((files / "out").glob("*")) if (files / "out").exists() else True


def test_stresses_of_another_sign_are_refused(files, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(files))
    (files / "opposite.py").write_text(
        "from ase.calculators.lj import LennardJones\n"
        "class Opposite(LennardJones):\n"
        "    def calculate(self, *words, **named):\n"
        "        super().calculate(*words, **named)\n"
        "        self.results['stresses'] = -self.results['stresses']\n"
    )
    words = ["--argument", "sigma=2.3", "--argument", "rc=6.0", "--out", str(files / "out")]
    assert main(["stress", "opposite:Opposite", str(files / "run.extxyz"), *words]) == 1
    assert "Opposite miss its stress" in capsys.readouterr().err
    assert main(["stress", "opposite:Absent", str(files / "run.extxyz"), *words]) == 1
    assert "MODEL = 'opposite:Absent' cannot be imported" in capsys.readouterr().err


def test_command_without_trajectory(files, capsys):
    assert main(["stress", str(files / "copper.safetensors"), str(files / "nowhere.traj")]) == 1
    assert "no trajectory at" in capsys.readouterr().err
