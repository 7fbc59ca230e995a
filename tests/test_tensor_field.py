"""`tensor_field`: the convolution against its definition, three ways with momentum, published shapes, training, MD."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from e3nn import o3
from training_cases import clusters, make_job, write

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.config import validate
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.graph import collate, from_atoms
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.run import run_md
from ase_mlcalc.md.thermo import read_thermo
from ase_mlcalc.model import lookup
from ase_mlcalc.nn.convolution import Convolution, NormNonlinearity
from ase_mlcalc.nn.irreps import SphericalHarmonics
from ase_mlcalc.potential import Derived
from ase_mlcalc.testing import check_model
from ase_mlcalc.testing.structures import SPECIES
from ase_mlcalc.training.train import train

MODEL = lookup("tensor_field")
PUBLISHED = {
    "nonlinearity": "norm",
    "coupling": "full",
    "edge_channels": 0,
    "l_max": 1,
    "n_radial": 15,
    "radial_max": 2.5,
    "radial_hidden": 15,
}
SHAPES = {
    "1,000 structures": {"layers": (30, 30, 30, 30), **PUBLISHED},
    "50,000 structures": {"layers": (250, 200, 150, 150, 100, 100, 50), **PUBLISHED},
}
SMALL = {"layers": (12, 12), "edge_channels": 8}
VARIANTS = {
    "zero net force": {**SMALL, "variant": "zero_net_force"},
    "pairwise": {**SMALL, "variant": "pairwise"},
    "one block": {"layers": (12,)},
    "norms, vectors": {**PUBLISHED, "layers": (10, 8, 6)},
    "norms, l = 2": {**PUBLISHED, "layers": (10, 6), "l_max": 2},
    "norms, pairwise": {**PUBLISHED, "layers": (10, 6), "variant": "pairwise"},
    "products, couplings with scalars": {**SMALL, "coupling": "scalar"},
}


def make(seed=0, **keys):
    torch.manual_seed(seed)
    config = MODEL.Config(**{"species": SPECIES, **SMALL, **keys})
    return MODEL(config).double()


def crystal():
    atoms = bulk("NaCl", "rocksalt", a=5.6) * (2, 1, 1)
    atoms.rattle(0.1, seed=2)
    return atoms


@pytest.mark.parametrize("keys", VARIANTS.values(), ids=VARIANTS)
def test_conformance(keys):
    check_model(MODEL, MODEL.Config(species=SPECIES, **keys))


# ----- the layers -----------------------------------------------------------------------------------------------------


def test_convolution_is_the_sum_over_neighbours_of_all_couplings():
    l_max, channels, n_radial = 2, 3, 4
    torch.manual_seed(1)
    graph = from_atoms(crystal(), 3.2)
    n_edges = len(graph.centers)
    layer = Convolution(
        channels=channels, l_max=l_max, n_radial=n_radial, full=True, degrees=range(l_max + 1), mean_neighbors=6.0
    ).double()
    x = torch.randn(9, graph.n_atoms, channels, dtype=torch.float64)
    b_pr = torch.rand(n_edges, n_radial, dtype=torch.float64)
    y_pk = SphericalHarmonics(l_max)(torch.nn.functional.normalize(graph.vectors, dim=1))
    result = layer(graph, x, b_pr, y_pk)

    at = [slice(l * l, (l + 1) ** 2) for l in range(l_max + 1)]
    simple = layer.weights(b_pr).view(n_edges, 2 * l_max + 1, channels)
    turned = layer.turned.weights(b_pr).view(n_edges, -1, channels)
    expected, k = torch.zeros_like(x), 0
    for out in range(l_max + 1):
        for filter_ in range(l_max + 1):
            for feature in range(l_max + 1):
                if not abs(filter_ - feature) <= out <= filter_ + feature or (out + filter_ + feature) % 2:
                    continue
                if feature == 0:
                    weight = simple[:, filter_]
                elif filter_ == 0:
                    weight = simple[:, l_max + feature]
                else:
                    weight, k = turned[:, k], k + 1
                coupling = o3.wigner_3j(filter_, feature, out, dtype=torch.float64) * (2 * out + 1) ** 0.5
                messages = torch.einsum(
                    "pc,pf,ipc,fio->poc", weight, y_pk[:, at[filter_]], x[at[feature]][:, graph.neighbors], coupling
                )
                for p, i in enumerate(graph.centers.tolist()):
                    expected[at[out], i] += messages[p] / 6.0**0.5
    assert k == 6
    assert torch.allclose(result, expected, atol=1e-12)


def test_norm_nonlinearity_scales_tensors_by_their_norm():
    layer = NormNonlinearity(channels=2, l_max=1).double()
    torch.nn.init.normal_(layer.bias.weight)
    x = torch.randn(4, 5, 2, dtype=torch.float64)
    y = layer(x)
    factors = y[1:] / x[1:]
    assert torch.allclose(factors, factors[:1].expand_as(factors))
    expected = torch.sigmoid(torch.linalg.vector_norm(x[1:], dim=0) + layer.bias.weight[1])
    assert torch.allclose(factors[0], expected, atol=1e-5)
    assert torch.allclose(y[0], torch.nn.functional.silu(x[0] + layer.bias.weight[0]))


# ----- published shapes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", SHAPES.values(), ids=SHAPES)
def test_published_shape(keys):
    model = make(**keys)
    centers = model.gaussians.centers(torch.zeros(1))
    assert torch.allclose(centers, torch.linspace(0, 2.5, 15, dtype=centers.dtype))
    channels = [model.density.mix.weight.shape[-1], *(block.up.weight.shape[-1] for block in model.blocks)]
    assert tuple(channels) == keys["layers"]
    convolved = [block.convolution.channels for block in model.blocks]
    assert tuple(convolved) == keys["layers"][:-1]
    ends = [model.first, *(block.nonlinearity for block in model.blocks)]
    assert [isinstance(end, NormNonlinearity) for end in ends] == [True] * (len(ends) - 1) + [False]

    # every weight matters, and the forces turn with the molecule
    atoms = molecule("CH3CH2OH")
    graph = from_atoms(atoms, model.config.cutoff)
    forces = model(graph).forces
    forces.square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in model.parameters())
    mirror = -o3.rand_matrix(dtype=torch.float64)
    forces, mirrored = forces.detach(), model(graph._replace(vectors=graph.vectors @ mirror.T)).forces.detach()
    assert forces.abs().max() > 1e-6
    assert torch.allclose(mirrored, forces @ mirror.T, atol=1e-9 * float(forces.abs().max()))


def test_layers_have_channels():
    with pytest.raises(ConfigError, match=r"layers.1: .* greater than 0 .*got 0"):
        validate(MODEL.Config, {"layers": [8, 0]}, "[model]")


# ----- momentum and virial --------------------------------------------------------------------------------------------


def net_forces(variant):
    """Net force of two structures in one batch over the largest force."""
    potential = Derived(make(variant=variant))
    cutoff = potential.cutoff
    graph = collate([from_atoms(molecule("CH3CH2OH"), cutoff), from_atoms(crystal(), cutoff)])
    forces = potential(graph).forces
    return torch.stack([forces[:9].sum(dim=0), forces[9:].sum(dim=0)]).abs().amax(dim=1) / forces.abs().max()


@pytest.mark.parametrize("variant", ["zero_net_force", "pairwise"])
def test_momentum_is_conserved(variant):
    assert (net_forces(variant) < 1e-12).all()


def test_momentum_is_not_conserved_by_free_forces():
    assert (net_forces("free") > 1e-3).all()


def test_forces_of_pairs_give_a_virial():
    potential = Derived(make(variant="pairwise"))
    assert potential.properties == {"forces", "stress", "stresses"}
    atoms = molecule("CH3CH2OH", cell=[10, 11, 12])
    result = potential(from_atoms(atoms, potential.cutoff))
    # finite and not periodic: the virial is also the sum over atoms of position times force
    outer = -torch.tensor(atoms.positions).T @ result.forces / atoms.get_volume()
    assert result.stress.abs().max() > 1e-8
    assert torch.allclose(result.stress[0], (outer + outer.T) / 2, atol=1e-14)
    assert torch.allclose(result.stresses.sum(dim=0), result.stress[0], atol=1e-15)


def test_stress_of_a_crystal_from_the_calculator():
    atoms = crystal()
    atoms.calc = MLCalculator(make(variant="pairwise"))
    stress = atoms.get_stress()
    assert np.abs(stress).max() > 1e-6
    assert np.allclose(atoms.get_stresses().sum(axis=0), stress, atol=1e-14)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_potential_energy()


@pytest.mark.parametrize("variant", ["free", "zero_net_force"])
def test_calculator_gives_forces_only(variant):
    calculator = MLCalculator(make(variant=variant))
    assert calculator.implemented_properties == ["forces"]
    atoms = crystal()
    atoms.calc = calculator
    assert atoms.get_forces().shape == (4, 3)
    for ask in (atoms.get_potential_energy, atoms.get_stress, atoms.get_stresses):
        with pytest.raises(PropertyNotImplementedError):
            ask()


# ----- training and dynamics ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trained for a few seconds on forces of argon and krypton, without an energy in the data."""
    folder = tmp_path_factory.mktemp("trained")
    data = write(folder / "data.xyz", clusters(60, names=("forces",)))
    model = {"name": "tensor_field", **SMALL}
    return train(make_job(folder / "run", data, model=model, max_epochs=12, learning_rate=1e-2), progress=False)


def test_training_on_forces_alone(trained):
    held_back = trained.metrics
    labels = np.concatenate([atoms.get_forces() for atoms in clusters(60)])
    assert held_back.force_mae_meV_per_A < 0.15 * 1000 * np.abs(labels).mean()
    assert held_back.energy_mae_meV_per_atom is None


def test_energy_cannot_be_trained_on(tmp_path):
    data = write(tmp_path / "data.xyz", clusters(10))
    job = make_job(tmp_path / "run", data, model={"name": "tensor_field", **SMALL}, loss={"energy": 1.0})
    with pytest.raises(DataError, match=r"energy, which a model with outputs \['forces'\] does not predict"):
        train(job, progress=False)


def test_dynamics_without_an_energy(trained, tmp_path):
    atoms: Atoms = clusters(1)[0]
    atoms.calc = MLCalculator(trained.checkpoint)
    config = MDConfig(ensemble="nve", timestep_fs=2.0, time_ps=0.2, temperature_K=5.0, thermo_every_fs=2.0)
    result = run_md(atoms, config, tmp_path, progress=False)
    assert result.outcome is Outcome.COMPLETED
    assert result.drift is None
    assert result.heating is not None
    rows = read_thermo(tmp_path / "thermo.csv")["md"]
    assert np.isnan(rows["total_eV"]).all()
    assert np.isfinite(rows["temperature_K"]).all()
