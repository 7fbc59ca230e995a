"""Models that predict per-atom stress: tensors, attention, nearest neighbours, kinetic part, calculator, training."""

import functools
import tomllib

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from e3nn import o3
from torch.nn.functional import leaky_relu
from training_cases import make_job, write

from ase_mlcalc import MLCalculator, check_model, checkpoint
from ase_mlcalc.data.read import LabelKeys, read_frames
from ase_mlcalc.errors import DataError, ModelError, StructureError
from ase_mlcalc.graph import collate, from_atoms
from ase_mlcalc.md import MDConfig, run_md
from ase_mlcalc.model import lookup
from ase_mlcalc.nn.atoms import positions_in_box
from ase_mlcalc.nn.attention import GraphAttention
from ase_mlcalc.nn.cartesian import SymmetricTensor
from ase_mlcalc.nn.nearest import nearest
from ase_mlcalc.potential import Baseline, Derived
from ase_mlcalc.properties import Properties, from_voigt
from ase_mlcalc.testing.structures import SPECIES, crystal, rotation
from ase_mlcalc.training.evaluate import evaluate_files
from ase_mlcalc.training.metrics import Comparison, measure
from ase_mlcalc.training.train import train

NAMES = ["stress_equivariant", "stress_gat", "stress_mlp", "stress_pointcloud"]


@functools.cache
def oracle():
    """Argon and krypton alike but for their masses, with exact per-atom stress."""
    model_class = lookup("lennard_jones")
    return MLCalculator(model_class(model_class.Config(species=(18, 36), epsilon=0.0104, sigma=3.4, cutoff=7.0)))


def warm(atoms, rng, temperature_K=80.0):
    size = np.sqrt(8.617333262e-5 * temperature_K / atoms.get_masses())[:, None]
    atoms.set_velocities(size * rng.standard_normal((len(atoms), 3)))
    return atoms


def boxes(count, seed):
    """Rattled, moving crystals in which each element has sites of its own, labelled by the oracle."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 1, 1)
        atoms.numbers[::2] = 36
        atoms.positions += rng.normal(scale=0.2, size=atoms.positions.shape)
        warm(atoms, rng)
        atoms.calc = oracle()
        results = {"stresses": atoms.get_stresses(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["stress_definition"] = "edge, of Lennard-Jones"
        found.append(atoms)
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stress")
    return write(folder / "train.xyz", boxes(80, 1)), write(folder / "test.xyz", boxes(10, 2))


def model_of(name, **keys):
    model_class = lookup(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model_class(model_class.Config(**keys)).double()


# ----- layers ---------------------------------------------------------------------------------------------------------


def test_voigt_components_land_where_ase_puts_them():
    six = np.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(from_voigt(torch.from_numpy(six)), voigt_6_to_full_3x3_stress(six))


@pytest.mark.parametrize("improper", [False, True])
def test_scalar_and_degree_two_are_a_symmetric_tensor_that_turns_with_them(improper):
    tensor = SymmetricTensor()
    rng = np.random.default_rng(0)
    t0, t2 = torch.from_numpy(rng.standard_normal(3)), torch.from_numpy(rng.standard_normal((3, 5)))
    cartesian = tensor(t0, t2)
    turn = torch.from_numpy(rotation(3, improper=improper))
    turned = tensor(t0, t2 @ o3.Irreps("2e").D_from_matrix(turn).T)
    torch.testing.assert_close(turned, turn @ cartesian @ turn.T, atol=1e-5, rtol=0)  # e3nn's D is that exact
    torch.testing.assert_close(cartesian, cartesian.mT)
    torch.testing.assert_close(cartesian.square().sum(dim=(1, 2)), t0.square() + t2.square().sum(dim=1))
    assert cartesian.diagonal(dim1=1, dim2=2).sum(dim=1).numpy() == pytest.approx(3**0.5 * t0.numpy())


def test_degree_two_is_in_the_order_of_spherical_harmonics():
    u = torch.tensor([[0.36, 0.48, 0.8]], dtype=torch.float64)
    y2 = o3.spherical_harmonics(2, u, normalize=False, normalization="component")
    traceless = SymmetricTensor()(torch.zeros(1, dtype=torch.float64), y2)[0]
    expected = torch.outer(u[0], u[0]) - torch.eye(3, dtype=torch.float64) / 3
    torch.testing.assert_close(traceless / traceless.norm(), expected / expected.norm())


def test_attention_is_the_published_softmax_over_neighbours_and_self():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layer = GraphAttention(3, 4, heads=2, edges=False).double()
        x = torch.randn(4, 3, dtype=torch.float64)
    atoms = Atoms("ArKrAr2", [[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 50]])
    graph = from_atoms(atoms, 5.0)
    got = layer(graph, x, torch.ones(len(graph.centers), dtype=torch.float64), None)
    h = (x @ layer.weight.weight.T).view(4, 2, 2)
    for i in range(4):
        members = [i, *graph.neighbors[graph.centers == i].tolist()]
        assert len(members) == (1 if i == 3 else 3)
        for head in range(2):
            a = torch.cat([layer.of_center[head], layer.of_neighbor[head]])
            logits = torch.stack([leaky_relu(a @ torch.cat([h[i, head], h[j, head]]), 0.2) for j in members])
            expected = torch.softmax(logits, dim=0) @ h[members, head]
            torch.testing.assert_close(got[i, 2 * head : 2 * head + 2], expected)
    without = layer(from_atoms(atoms, 1.0), x, torch.zeros(0, dtype=torch.float64), None)
    torch.testing.assert_close(layer(graph, x, torch.zeros(len(graph.centers)).double(), None), without)


def test_nearest_neighbours_are_the_nearest_across_boundaries_and_in_one_structure():
    rng = np.random.default_rng(3)
    several = [bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 1, 1), Atoms("ArKr", [[0, 0, 0], [0, 0, 3.0]]), Atoms("Kr")]
    for atoms in several:
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
    graph = collate([from_atoms(atoms, 6.0) for atoms in several])
    d_p = torch.linalg.vector_norm(graph.vectors, dim=1)
    chosen = nearest(graph, d_p, 5)
    for i in range(graph.n_atoms):
        own = torch.sort(d_p[graph.centers == i]).values[:5]
        edges = chosen.edges_nk[i][chosen.given_nk[i]]
        torch.testing.assert_close(d_p[edges], own)
        assert (graph.centers[edges] == i).all()
        assert (graph.system[graph.neighbors[edges]] == graph.system[i]).all()
    assert chosen.given_nk.sum(dim=1).tolist() == [5] * 8 + [1, 1, 0]


def test_positions_in_the_box_are_fractions_of_it():
    atoms = crystal()
    graph = from_atoms(atoms, 3.0)
    expected = (atoms.get_scaled_positions(wrap=True) - 0.5) * 12**0.5
    np.testing.assert_allclose(positions_in_box(graph), expected, atol=1e-12)
    stretched = atoms.copy()
    stretched.set_cell(1.3 * atoms.cell.array, scale_atoms=True)
    np.testing.assert_allclose(positions_in_box(from_atoms(stretched, 3.0)), expected, atol=1e-12)


# ----- shapes and conformance -----------------------------------------------------------------------------------------


def test_perceptron_has_the_published_layers():
    n = 96
    model = model_of("stress_mlp", numbers=[8, 1, 1] * (n // 3))
    shapes = [(layer.in_features, layer.out_features) for layer in model.layers if isinstance(layer, torch.nn.Linear)]
    assert shapes == [(8 * n, n), (n, n), (n, n), (n, 6 * n)]
    assert [layer.p for layer in model.layers if isinstance(layer, torch.nn.Dropout)] == [0.2]
    assert isinstance(model.layers[2], torch.nn.Dropout)  # after the first activation


def test_attention_model_has_the_published_shape_by_configuration():
    model = model_of("stress_gat", species=(1, 8), **PUBLISHED)
    assert [block.attention.weight.in_features for block in model.blocks] == [8, 64, 64]
    assert model.reads == {"vectors", "positions", "cell", "velocities"}
    assert len(model_of("stress_gat", cutoff=15.0, n_blocks=1, **PUBLISHED).blocks) == 1


PUBLISHED = {"positions": True, "velocities": True, "edge_vectors": False, "heads": 1, "part": "total"}
SMALL = {"species": SPECIES, "features": 12}
VARIANTS = {
    "gat-published": ("stress_gat", {"species": SPECIES, **PUBLISHED}),
    "gat-one-block": ("stress_gat", {**SMALL, "features": 32, "n_blocks": 1, "velocities": True}),
    "pointcloud-positions": ("stress_pointcloud", {**SMALL, "features": 32, "positions": True, "part": "total"}),
    "equivariant-total": ("stress_equivariant", {**SMALL, "part": "total"}),
    "equivariant-local": ("stress_equivariant", {**SMALL, "n_interactions": 0, "velocities": True, "l_max": 3}),
    "mlp-positions-only": ("stress_mlp", {"numbers": [17, 11] * 4, "velocities": False}),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_conform(variant):
    name, keys = VARIANTS[variant]
    model_class = lookup(name)
    results = check_model(model_class, model_class.Config(**keys))
    passed = {result.name for result in results if result.outcome == "passed"}
    assert {"outputs", "sum_rules", "learns", "double_backward"} <= passed
    reads_positions = name == "stress_mlp" or keys.get("positions", False)
    assert ("declared_positions" if reads_positions else "supercell") in passed
    assert ("rotation" if name == "stress_equivariant" else "declared_not_equivariant") in passed


# ----- the calculator -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_calculator_gives_stress_and_says_why_nothing_else(name, tmp_path):
    atoms = warm(crystal(), np.random.default_rng(4))
    keys = {"numbers": atoms.numbers.tolist()} if name == "stress_mlp" else {"species": (11, 17)}
    atoms.calc = MLCalculator(model_of(name, **keys))
    stresses = atoms.get_stresses()
    assert stresses.shape == (8, 6)
    assert np.abs(stresses).max() > 0
    assert atoms.calc.stress_definition == "that of its labels"
    np.testing.assert_allclose(stresses.sum(axis=0), atoms.get_stress(), atol=1e-14)
    reason = "predicts stress, stresses only, directly and not as derivatives of an energy; .* use a model of energies"
    with pytest.raises(PropertyNotImplementedError, match=f"no energy: this potential {reason}"):
        atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError, match=f"no forces: this potential {reason}"):
        atoms.get_forces()
    for ensemble in ("nve", "nvt"):
        with pytest.raises(ModelError, match=f"gives no forces, so it cannot drive molecular dynamics .*{reason}"):
            run_md(atoms, MDConfig(ensemble=ensemble), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_missing_velocities_are_asked_for_and_new_ones_are_noticed():
    atoms = crystal()
    atoms.calc = MLCalculator(model_of("stress_equivariant", species=(11, 17), part="total"))
    with pytest.raises(StructureError, match=r"'stress_equivariant' uses velocities and the structure has none; set"):
        atoms.get_stresses()
    first = warm(atoms, np.random.default_rng(0)).get_stresses()
    second = warm(atoms, np.random.default_rng(1)).get_stresses()
    assert np.abs(second - first).max() > 1e-6
    heavier = atoms.copy()
    heavier.calc = atoms.calc
    heavier.set_masses(2 * atoms.get_masses())
    assert np.abs(heavier.get_stresses() - second).max() > 1e-6


def test_perceptron_refuses_other_atoms():
    atoms = warm(crystal(), np.random.default_rng(4))
    calc = MLCalculator(model_of("stress_mlp", numbers=atoms.numbers.tolist()))
    atoms.calc = calc
    atoms.get_stresses()
    with pytest.raises(DataError, match=r"made for .*Na.* in this order, got .*; sort the atoms as in its"):
        calc.get_property("stresses", atoms * (2, 1, 1))
    with pytest.raises(DataError, match="in this order, got"):
        calc.get_property("stresses", atoms[::-1])


def test_total_stress_is_what_was_predicted_and_results_are_the_potential_part():
    atoms = warm(crystal(), np.random.default_rng(4), temperature_K=3000.0)
    model = model_of("stress_equivariant", species=(11, 17), part="total")
    graph = from_atoms(atoms, model.config.cutoff)
    with torch.no_grad():
        raw = 0.7 * model(graph).stresses.numpy() / atoms.get_volume()
    atoms.calc = MLCalculator(Derived(model, Baseline(stress_scale=0.7)))
    total = atoms.get_stresses(include_ideal_gas=True)
    np.testing.assert_allclose(total, full_3x3_to_voigt_6_stress(raw), atol=1e-12)
    kinetic = total - atoms.get_stresses()
    v, m = atoms.get_velocities(), atoms.get_masses()
    np.testing.assert_allclose(kinetic[:, 0], -m * v[:, 0] ** 2 / atoms.get_volume(), atol=1e-12)
    assert np.abs(kinetic).max() > 1e-3


def test_velocities_of_the_equivariant_regressor_enter_to_the_second_power():
    """A fast atom is given what the kinetic part would be, and not the eighth power of its velocity."""
    atoms = crystal()
    model = model_of("stress_equivariant", species=SPECIES, part="total").double()
    velocities = 0.05 * np.random.default_rng(0).standard_normal((len(atoms), 3))

    def total(factor):
        atoms.set_velocities(factor * velocities)
        return model(from_atoms(atoms, model.config.cutoff)).stresses.detach()

    values = torch.stack([total(factor) for factor in range(4)])
    second = values.diff(n=2, dim=0)
    assert second.abs().max() > 1e-3 * values.abs().max()
    torch.testing.assert_close(second[0], second[1], atol=1e-9 * float(values.abs().max()), rtol=0)


def test_stress_does_not_depend_on_how_much_vacuum_is_called_the_cell():
    atoms = crystal()
    atoms.pbc = False
    wide = atoms.copy()
    wide.set_cell(2 * atoms.cell.array)
    for each in (atoms, wide):
        each.calc = MLCalculator(model_of("stress_equivariant", species=(11, 17)))
    virials = [each.get_stresses() * each.get_volume() for each in (atoms, wide)]
    np.testing.assert_allclose(*virials, atol=1e-12)


# ----- data and metrics -----------------------------------------------------------------------------------------------


def test_kinetic_part_of_labels_is_taken_out(tmp_path):
    potential_part = boxes(2, seed=5)
    total = []
    for atoms in potential_part:
        own = atoms.copy()
        atoms.calc.get_atomic_volumes = lambda atoms=atoms: np.full(len(atoms), atoms.get_volume())
        with_kinetic = {
            "stresses": atoms.get_stresses(include_ideal_gas=True),
            "stress": atoms.get_stress(include_ideal_gas=True),
        }
        assert np.abs(with_kinetic["stress"] - atoms.get_stress()).max() > 1e-4
        own.calc = SinglePointCalculator(own, **with_kinetic)
        total.append(own)
    keys = LabelKeys(stress_includes_kinetic=True)
    read = read_frames([write(tmp_path / "total.xyz", total)], keys=keys)
    for frame, atoms in zip(read, potential_part, strict=True):
        np.testing.assert_allclose(frame.labels.stresses, atoms.get_stresses(voigt=False), atol=1e-8)
        np.testing.assert_allclose(frame.labels.stress[0], atoms.get_stress(voigt=False), atol=1e-7)
    for atoms in total:
        del atoms.arrays["momenta"]
    with pytest.raises(DataError, match=r"total.xyz\[0\].*said to hold the kinetic part, but .* no momenta"):
        read_frames([write(tmp_path / "total.xyz", total)], keys=keys)


def comparison(prediction, label):
    n = len(label)
    return Comparison(
        numbers=torch.full((n,), 18),
        system=torch.zeros(n, dtype=torch.int64),
        groups=("",),
        prediction=Properties(stresses=prediction),
        labels=Properties(stresses=label),
    )


def test_coefficient_of_determination_by_its_definition():
    rng = np.random.default_rng(6)
    label = voigt_6_to_full_3x3_stress(rng.standard_normal((50, 6)) * [1, 2, 3, 0.1, 0.2, 0.3] + 5)
    prediction = label + voigt_6_to_full_3x3_stress(rng.standard_normal((50, 6)) * 0.1)
    label[7] = np.nan
    metrics = measure(comparison(torch.from_numpy(prediction), torch.from_numpy(label)))
    kept = np.arange(50) != 7
    y, p = (full_3x3_to_voigt_6_stress(x[kept]) for x in (label, prediction))
    r2 = 1 - ((y - p) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    assert metrics.stresses_r2 == pytest.approx(r2.mean())
    assert metrics.stresses_normal_r2 == pytest.approx(r2[:3].mean())
    assert metrics.stresses_shear_r2 == pytest.approx(r2[3:].mean())
    assert metrics.stresses_mse_standardised == pytest.approx(1 - r2.mean())
    assert metrics.stresses_mae_standardised == pytest.approx((np.abs(y - p) / y.std(axis=0)).mean())
    assert r2[3:].mean() < 0.8 < r2[:3].mean()


def test_there_is_no_coefficient_without_spread():
    label = torch.ones(4, 3, 3, dtype=torch.float64)
    assert measure(comparison(0.9 * label, label)).stresses_r2 is None
    assert measure(Comparison(*comparison(0.9 * label, label)[:3], Properties(), Properties())).stresses_r2 is None


# ----- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_each_trains_end_to_end(name, files, tmp_path):
    train_file, test_file = files
    job = make_job(
        tmp_path / "run", train_file, model={"name": name}, data={"n_train": 12, "n_validation": 4}, max_epochs=2
    )
    result = train(job, progress=False)
    assert result.metrics.stresses_r2 is not None
    assert result.metrics.force_mae_meV_per_A is None
    table = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["model"]
    # 80 K of argon and krypton
    assert table["velocity_scale"] == pytest.approx(np.sqrt(8.617e-5 * 80 * (1 / 39.948 + 1 / 83.798) / 2), rel=0.15)
    if name == "stress_mlp":
        assert table["numbers"] == [36, 18] * 4
    header = checkpoint.read_header(result.checkpoint)
    assert header.config["part"] == "potential"
    assert header.provenance["labels"]["stresses"] == {
        "read_from": ["calculator stresses"],
        "definition": ["edge, of Lennard-Jones"],
    }
    assert header.provenance["label_keys"]["stress_includes_kinetic"] is False
    metrics = evaluate_files(result.checkpoint, [test_file], tmp_path / "test", predictions=True)
    assert (tmp_path / "test" / "parity.png").exists()
    atoms = ase.io.read(test_file, index=0)
    labels = atoms.get_stresses()
    atoms.calc = MLCalculator(result.checkpoint)
    assert atoms.calc.stress_definition == "that of its labels: edge, of Lennard-Jones"
    predicted = ase.io.read(tmp_path / "test" / "predictions.extxyz", index=0)
    assert predicted.info["stress_definition"] == atoms.calc.stress_definition
    error = atoms.get_stresses() - labels
    assert np.isfinite(error).all()
    assert metrics.stresses_mse_standardised == pytest.approx(1 - metrics.stresses_r2)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "reach"), [("potential", 0.93), ("total", 0.85)])
def test_equivariant_regressor_predicts_held_out_stress(part, reach, files, tmp_path):
    train_file, test_file = files
    model = {"name": "stress_equivariant", "cutoff": 7.0, "features": 16, "edge_features": 8, "part": part}
    result = train(make_job(tmp_path / "run", train_file, model=model, max_epochs=30, warmup_steps=10), progress=False)
    metrics = evaluate_files(result.checkpoint, [test_file], tmp_path / "test")
    assert metrics.stresses_r2 > reach
    assert metrics.stresses_normal_r2 > reach
    assert metrics.stresses_shear_r2 > reach - 0.03


def test_perceptron_refuses_training_data_of_several_compositions(files, tmp_path):
    structures = ase.io.read(files[0], index=":4")
    structures[2].numbers[:] = structures[2].numbers[::-1]
    mixed = write(tmp_path / "mixed.xyz", structures)
    with pytest.raises(
        DataError, match=r"one composition in one order of atoms, .* and a structure has .*; sort the atoms alike"
    ):
        train(make_job(tmp_path / "run", mixed, model={"name": "stress_mlp"}), progress=False)
