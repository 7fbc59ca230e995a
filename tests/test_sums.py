"""Sums of potentials: one potential whose every property is the sum of those of its parts."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.mixing import SumCalculator

from ase_mlcalc import checkpoint
from ase_mlcalc.accelerate import with_kernels
from ase_mlcalc.accelerate.sums import SumOfParts
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.graph import collate, from_atoms
from ase_mlcalc.model import lookup
from ase_mlcalc.models.sum import Sum, SumConfig
from ase_mlcalc.potential import Baseline, Derived
from ase_mlcalc.sums import add, parts_of
from ase_mlcalc.virials import available, virials


def potential(name="schnet", seed=0, scale=0.7, energies=(-13.0, -430.0), **config):
    model_class = lookup(name)
    config = {"cutoff": 5.0, **config}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(model_class.Config(species=(1, 8), **config)).double()
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return Derived(model, Baseline(dict(zip((1, 8), energies, strict=True)), energy_scale=scale))


@pytest.fixture
def two():
    """Of other families and cutoffs."""
    long = potential("schnet", 1, 0.7, cutoff=5.0, features=16, n_interactions=1)
    short = potential("equivariant", 2, 1.3, (0.5, -0.2), cutoff=3.5, features=16, edge_features=16, l_max=1)
    return long, short


@pytest.fixture
def water():
    """A box of molecules and a molecule."""
    atoms = molecule("H2O", cell=[4.0, 4.2, 4.4], pbc=True).repeat(2)
    atoms.rattle(0.1, seed=3)
    return atoms


def added(one, other):
    return {name: getattr(one, name) + getattr(other, name) for name in one.given()}


def close(one, other, tolerance=1e-10):
    for name, value in other.items():
        found = getattr(one, name)
        mask = ~value.isnan()
        assert torch.equal(mask, ~found.isnan()), name
        assert float(value[mask].abs().max()) > 1e-3, name
        torch.testing.assert_close(found[mask], value[mask], rtol=0, atol=tolerance)


def test_every_property_is_the_sum(two, water):
    graphs = {own.cutoff: collate([from_atoms(a, own.cutoff) for a in (water, molecule("H2O"))]) for own in two}
    separate = [own(graphs[own.cutoff]) for own in two]
    whole = add(two)
    assert (whole.cutoff, whole.species, whole.model.name) == (5.0, (1, 8), "sum")
    close(whole(graphs[5.0]), added(*separate))


def test_forces_and_stress_are_derivatives_of_the_energy(two, water):
    water.calc = MLCalculator(add(two))
    forces, stress, cell = water.get_forces(), water.get_stress(voigt=False), water.cell.array.copy()
    energies = []
    for sign in (-1, 1):
        moved = water.copy()
        moved.calc = water.calc
        moved.positions[3, 1] += sign * 1e-4
        energies.append(moved.get_potential_energy())
    assert -(energies[1] - energies[0]) / 2e-4 == pytest.approx(forces[3, 1], abs=1e-6)
    energies = []
    for sign in (-1, 1):
        strain = np.eye(3)
        strain[0, 0] += sign * 1e-5
        moved = water.copy()
        moved.calc = water.calc
        moved.set_cell(cell @ strain, scale_atoms=True)
        energies.append(moved.get_potential_energy())
    assert (energies[1] - energies[0]) / 2e-5 / water.get_volume() == pytest.approx(stress[0, 0], abs=1e-6)
    assert abs(forces[3, 1]) > 1e-2
    assert abs(stress[0, 0]) > 1e-4


def test_as_of_ases_sum_calculator(two, water):
    water.calc = SumCalculator([MLCalculator(own) for own in two])
    expected = water.get_potential_energy(), water.get_forces(), water.get_stress()
    water.calc = MLCalculator(add(two))
    found = water.get_potential_energy(), water.get_forces(), water.get_stress()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_a_file_holds_all_of_it(two, water, tmp_path):
    whole = add(two)
    checkpoint.save(whole, tmp_path / "sum.safetensors", {"data": "x"})
    loaded = checkpoint.load(tmp_path / "sum.safetensors")
    graph = from_atoms(water, 5.0)
    assert torch.equal(loaded(graph).forces, whole(graph).forces)
    assert checkpoint.fingerprint(loaded) == checkpoint.fingerprint(whole)


def test_kernels_evaluate_the_parts_that_have_one(two, water):
    whole = add(two)
    fast = with_kernels(whole)
    if fast.compiled is None:
        pytest.skip("no C++ compiler here")
    assert isinstance(fast.compiled, SumOfParts)
    graph = from_atoms(water, whole.cutoff)
    slow = whole(graph)
    close(fast(graph), {name: getattr(slow, name) for name in slow.given()}, 1e-8)
    none = with_kernels(add([two[0], potential("schnet", 5, features=16)]))
    assert none.compiled is None, "torch alone is faster with one gradient than with two"


def test_the_mean_of_an_ensemble_is_added(two, water):
    members = [potential("schnet", seed, 0.5 + seed, cutoff=5.0, features=16, n_interactions=1) for seed in (3, 4)]
    graph = from_atoms(water, 5.0)
    mean = Ensemble(members)(graph)
    other = two[0](graph)
    close(add([Ensemble(members), two[0]])(graph), added(mean, other))


def test_sums_of_sums_are_flat(two, water):
    third = potential("schnet", 9, 0.2, (1.0, 2.0), features=16)
    nested, flat = add([add(two), third]), add([*two, third])
    assert [part.model for part in nested.model.config.parts] == ["schnet", "equivariant", "schnet"]
    graph = from_atoms(water, 5.0)
    torch.testing.assert_close(nested(graph).energy, flat(graph).energy, rtol=0, atol=1e-9)
    assert len(parts_of(nested)) == 3
    pieces = sum(own(from_atoms(water, own.cutoff)).energy for own in parts_of(nested))
    torch.testing.assert_close(pieces, flat(graph).energy, rtol=0, atol=1e-9)


def test_only_elements_that_all_know_are_known():
    both = add([Derived(lookup("schnet")(lookup("schnet").Config(species=(1, 6, 8), features=16))), potential()])
    assert both.species == (1, 8)
    other = Derived(lookup("schnet")(lookup("schnet").Config(species=(18,), features=16)))
    with pytest.raises(ConfigError, match="no element in common"):
        add([both, other])


def test_per_atom_stress_of_each_definition_is_the_sum(water):
    two = [potential("schnet", seed, features=16, n_interactions=1) for seed in (1, 2)]
    whole, graph = add(two), from_atoms(water, 5.0)
    names = set(available(whole.model))
    assert {"edge", "center", "other", "site", "heat"} <= names
    for name in names:
        expected = sum(virials(own, graph, name) for own in two)
        torch.testing.assert_close(virials(whole, graph, name), expected, rtol=0, atol=1e-8)


def test_what_cannot_be_added_is_refused():
    direct = lookup("stress_mlp")
    with pytest.raises(ConfigError, match="only energies of atoms can be added"):
        add([Derived(direct(direct.Config(species=(1, 8)))), potential()])
    one = lookup("sgdml")
    with pytest.raises(ConfigError, match="only energies of atoms can be added"):
        add([Derived(one(one.Config(numbers=(8, 1, 1)))), potential()])


def test_a_configuration_that_does_not_fit_its_parts_is_refused():
    with pytest.raises(ValueError, match="largest of its parts"):
        SumConfig(cutoff=9.0)
    with pytest.raises(ValueError, match="unknown model 'sch'"):
        SumConfig(parts=({"model": "sch"},))
    with pytest.raises(ValueError, match="does not know the elements"):
        SumConfig(species=(1, 8), parts=({"model": "schnet", "config": {"species": (1,)}},))
    assert SumConfig(species=(14,)).cutoff == 6.0
    assert isinstance(Sum(SumConfig(species=(14,))), Sum)
