"""The physics of derivatives: forces, stress and references of any model, on toy models with known answers."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import ModelError, SpeciesError
from ase_mlcalc.graph import collate, from_atoms
from ase_mlcalc.model import Model, ModelConfig
from ase_mlcalc.models.lennard_jones import LennardJones, LennardJonesConfig
from ase_mlcalc.models.schnet import SchNet, SchNetConfig
from ase_mlcalc.models.stillinger_weber import StillingerWeber, StillingerWeberConfig
from ase_mlcalc.potential import Baseline, Derived, derive, edge_mechanics, isolated_energies
from ase_mlcalc.properties import Properties
from ase_mlcalc.testing import temporary_models


@pytest.fixture(autouse=True)
def _no_trace_in_the_registry():
    with temporary_models():
        yield


def small_schnet(species=(1, 8, 11, 17), cutoff=4.0, **kwargs) -> SchNet:
    torch.manual_seed(0)
    config = SchNetConfig(species=species, cutoff=cutoff, features=16, n_interactions=2, n_gaussians=12, **kwargs)
    return SchNet(config).double()


def crystal(a=4.4) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=a, cubic=True)
    rng = np.random.default_rng(0)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.04 * rng.standard_normal((3, 3))), scale_atoms=True)
    atoms.positions += 0.1 * rng.standard_normal(atoms.positions.shape)
    return atoms


def spring(outputs=frozenset({"energies"})):
    """Harmonic pairs, 1/2 (d - 1)^2 per pair: everything is known in closed form."""

    class Spring(Model, name="spring", outputs=set(outputs)):
        Config = ModelConfig

        def forward(self, graph):
            d_p = graph.vectors.norm(dim=1)
            e_n = d_p.new_zeros(graph.n_atoms).index_add(0, graph.centers, 0.25 * (d_p - 1) ** 2)
            if outputs == {"energies"}:
                return Properties(energies=e_n)
            return Properties(energy=e_n.new_zeros(graph.n_structures).index_add(0, graph.system, e_n))

    return Spring(ModelConfig(species=(1,), cutoff=3.0))


@pytest.mark.parametrize("outputs", [{"energies"}, {"energy"}])
def test_dimer_has_the_force_and_stress_of_a_spring(outputs):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1.4]], cell=[10, 10, 10])
    result = Derived(spring(frozenset(outputs)))(from_atoms(atoms, 3.0))
    assert result.energy.item() == pytest.approx(0.08)
    # a stretched spring pulls the ends together and puts the material under tension, which counts positive
    np.testing.assert_allclose(result.forces, [[0, 0, 0.4], [0, 0, -0.4]], atol=1e-14)
    expected = np.zeros((3, 3))
    expected[2, 2] = 1.4 * 0.4 / 1000
    np.testing.assert_allclose(result.stress[0], expected, atol=1e-17)
    np.testing.assert_allclose(result.stresses, [expected / 2] * 2, atol=1e-17)
    assert (result.energies is None) == (outputs == {"energy"})


@pytest.mark.parametrize("make", [crystal, lambda: molecule("H2O")])
def test_forces_and_stress_agree_with_finite_differences_of_ase(make):
    atoms = make()
    atoms.calc = MLCalculator(small_schnet())
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 0.01
    np.testing.assert_allclose(calculate_numerical_forces(atoms, eps=1e-5), forces, atol=1e-6 * np.abs(forces).max())
    if atoms.cell.rank == 3:
        stress = atoms.get_stress()
        assert np.abs(stress).max() > 1e-4
        numerical = calculate_numerical_stress(atoms, eps=1e-5)
        np.testing.assert_allclose(numerical, stress, atol=1e-6 * np.abs(stress).max())


def test_many_body_stress_shares_add_up_and_are_symmetric():
    atoms = bulk("Si", cubic=True)
    atoms.positions += 0.15 * np.random.default_rng(1).standard_normal(atoms.positions.shape)
    result = Derived(StillingerWeber(StillingerWeberConfig()))(from_atoms(atoms, 1.8 * 2.0951))
    torch.testing.assert_close(result.stresses.sum(dim=0), result.stress[0], rtol=0, atol=1e-15)
    assert torch.equal(result.stresses, result.stresses.mT)
    assert result.forces.sum(dim=0).abs().max() < 1e-13


def test_edge_mechanics_of_one_edge():
    """One directed edge: opposite forces on its ends, half of its virial for each."""
    graph = from_atoms(Atoms("HO", [[0, 0, 0], [1, 0, 0]], cell=[2, 3, 4]), 1.5)
    g_pc = torch.tensor([[0.5, 0.2, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    forces, stresses = edge_mechanics(graph, g_pc)
    assert forces.tolist() == [[0.5, 0.2, 0.0], [-0.5, -0.2, 0.0]]
    share = torch.tensor([[0.5, 0.1, 0], [0.1, 0, 0], [0, 0, 0]], dtype=torch.float64) / 24 / 2
    torch.testing.assert_close(stresses, torch.stack([share, share]))


def test_structure_dissociates_to_its_reference_energies():
    baseline = Baseline({1: -13.6, 8: -430.0}, energy_scale=0.7)
    water = molecule("H2O")
    water.positions *= 50
    result = Derived(small_schnet(), baseline)(from_atoms(water, 4.0))
    assert result.energy.item() == pytest.approx(-430.0 - 2 * 13.6, abs=1e-12)
    assert result.energies.tolist() == pytest.approx([-430.0, -13.6, -13.6], abs=1e-12)
    assert not result.forces.any()


def test_scales_reach_all_properties():
    graph = from_atoms(crystal(), 4.0)
    one, three = (Derived(small_schnet(), Baseline(energy_scale=scale))(graph) for scale in (1.0, 3.0))
    for name in ("energy", "energies", "forces", "stress", "stresses"):
        torch.testing.assert_close(getattr(three, name), 3 * getattr(one, name), rtol=1e-12, atol=1e-15)


def test_isolated_energies_are_in_the_order_of_the_species():
    model = small_schnet()
    alone = [model(from_atoms(Atoms(numbers=[z]), 4.0)).energies.item() for z in (1, 8, 11, 17)]
    assert isolated_energies(model).tolist() == pytest.approx(alone, abs=1e-14)
    assert len(set(np.round(alone, 6))) == 4


def test_stress_is_nan_exactly_where_there_is_no_volume():
    graphs = [from_atoms(atoms, 4.0) for atoms in (crystal(), molecule("H2O"), Atoms("Na", cell=[0, 5, 5]))]
    result = Derived(small_schnet())(collate(graphs))
    assert torch.isnan(result.stress).all(dim=(1, 2)).tolist() == [False, True, True]
    assert torch.isnan(result.stress).any(dim=(1, 2)).tolist() == [False, True, True]
    assert torch.isfinite(result.forces).all()


def test_left_handed_cell_has_a_positive_volume():
    atoms = crystal()
    mirrored = atoms.copy()
    mirrored.set_cell(atoms.cell.array[[1, 0, 2]])
    one, other = (Derived(small_schnet())(from_atoms(each, 4.0)) for each in (atoms, mirrored))
    torch.testing.assert_close(other.stress, one.stress, rtol=0, atol=1e-14)


def test_energies_are_summed_in_float64():
    """All-electron references of 64 waters: float32 could not tell energies 0.016 eV apart."""
    water = molecule("H2O")
    many = Atoms()
    for k in range(64):
        other = water.copy()
        other.positions += (8.0 * k, 0, 0)
        many += other
    baseline = Baseline({1: -13.6, 8: -2040.0})
    model = small_schnet().float()
    one, all_of_them = (Derived(model, baseline)(from_atoms(each, 4.0)).energy for each in (water, many))
    assert one.dtype == torch.float64
    assert all_of_them.item() == pytest.approx(64 * one.item(), abs=1e-3)
    forces = Derived(model, baseline)(from_atoms(many, 4.0)).forces
    assert forces.dtype == torch.float64


def test_training_reaches_the_parameters_and_inference_does_not():
    model, graph = small_schnet(), from_atoms(crystal(), 4.0)
    derive(model, graph, Baseline(), create_graph=True).stresses.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters() if p.ndim > 1)
    assert not derive(model, graph, Baseline()).forces.requires_grad
    with torch.no_grad():
        assert derive(model, graph, Baseline()).forces.abs().max() > 0
    assert not graph.vectors.requires_grad


def direct(outputs, values):
    class Direct(Model, name="direct", outputs=outputs):
        Config = ModelConfig

        def forward(self, graph):
            return Properties(**{name: make(graph) for name, make in values.items()})

    return Direct(ModelConfig(species=(1,), cutoff=3.0))


def test_direct_forces_are_scaled_and_buy_nothing_else():
    model = direct({"forces"}, {"forces": lambda graph: torch.ones(graph.n_atoms, 3)})
    potential = Derived(model, Baseline(force_scale=2.0))
    assert potential.properties == {"forces"}
    result = potential(from_atoms(Atoms("H"), 3.0))
    assert result.given() == {"forces"}
    assert result.forces.tolist() == [[2.0, 2.0, 2.0]]


def test_direct_stresses_are_scaled_divided_by_the_volume_and_summed():
    model = direct({"stresses"}, {"stresses": lambda graph: torch.ones(graph.n_atoms, 3, 3)})
    potential = Derived(model, Baseline(stress_scale=0.5))
    assert potential.properties == {"stress", "stresses"}
    result = potential(from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, 1]], cell=[5, 5, 5]), 3.0))
    assert result.stress.numpy() == pytest.approx(np.full((1, 3, 3), 2 * 0.5 / 5**3))
    assert torch.isnan(potential(from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, 1]]), 3.0)).stress).all()


def test_unknown_elements_are_refused():
    """Also by a model that would make numbers of them."""
    potential = Derived(LennardJones(LennardJonesConfig(species=(18,))))
    with pytest.raises(SpeciesError, match=r"'lennard_jones' does not know Fe \(Z=26\); it knows Ar"):
        potential(from_atoms(Atoms("ArFe", [[0, 0, 0], [3.0, 0, 0]]), potential.cutoff))


@pytest.mark.parametrize("outputs", [{"energies"}, {"forces"}])
def test_model_that_returns_something_else_than_declared_is_refused(outputs):
    model = direct(outputs, {})
    with pytest.raises(ModelError, match=r"'direct'.*declares|'direct' returned"):
        Derived(model)(from_atoms(Atoms("H"), 3.0))
