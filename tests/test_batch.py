"""Many structures evaluated together: the same pairs, energies and forces as each of them alone."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from ase_mlcalc import Baseline, Derived, Ensemble, MLCalculator
from ase_mlcalc.accelerate import with_kernels
from ase_mlcalc.batch import Batch, BatchNeighbors
from ase_mlcalc.errors import ConfigError, SpeciesError, StructureError
from ase_mlcalc.model import lookup
from ase_mlcalc.native import select
from ase_mlcalc.neighbors import NeighborList
from ase_mlcalc.testing.structures import crystal, ethanol, isolated_atom, one_atom_lattice, slab, water

CUTOFF = 4.0
SPECIES = (1, 6, 8, 11, 17)
BASELINE = Baseline({1: -13.0, 6: -1000.0, 8: -2000.0, 11: -4000.0}, energy_scale=0.7)
TINY = {
    "schnet": {"features": 8, "n_interactions": 1, "n_gaussians": 6},
    "equivariant": {"features": 16, "edge_features": 16, "n_radial": 4, "l_max": 1},
}


def potential(name="equivariant", seed=3, dtype=torch.float64):
    torch.manual_seed(seed)
    cls = lookup(name)
    model = cls(cls.Config(species=SPECIES, cutoff=CUTOFF, **TINY[name])).to(dtype)
    return with_kernels(Derived(model, BASELINE))


def structures():
    return [water(), crystal(), slab(), one_atom_lattice(), ethanol(), isolated_atom(8)]


def arrays(every):
    """Positions, cells and periodic directions of several structures."""
    positions = np.concatenate([atoms.positions for atoms in every])
    return positions, np.array([a.cell.array for a in every]), np.array([a.pbc for a in every])


def sizes(every):
    return [len(atoms) for atoms in every]


def moved(every, rng, scale=0.05):
    """The next step of a random walk; now and then an atom is put back into the cell, as some programs do."""
    for atoms in every:
        atoms.positions += scale * rng.standard_normal(atoms.positions.shape)
        if atoms.pbc.any() and rng.random() < 0.5:
            atoms.wrap()


@pytest.fixture(params=["compiled", "numpy"])
def _either_way(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(select, "_library", lambda: None)


@pytest.mark.usefixtures("_either_way")
def test_pairs_are_those_of_each_structure_alone_to_the_last_bit():
    every, rng = structures(), np.random.default_rng(0)
    together = BatchNeighbors(CUTOFF, sizes(every), arrays(every)[2], skin=0.8)
    alone = [NeighborList(CUTOFF, skin=0.0) for _ in every]
    n_calls = 30
    for step in range(n_calls):
        positions, cells, _ = arrays(every)
        found, errors = together(positions, cells, shifts=True)
        assert not errors
        begin = 0
        for b, (atoms, neighbors) in enumerate(zip(every, alone, strict=True)):
            expected = neighbors(atoms.positions, atoms.cell.array, atoms.pbc)
            rows = slice(begin, begin + found.found[b])
            begin = rows.stop
            first = together.first_atom[b]
            np.testing.assert_array_equal(found.centers[rows] - first, expected.pairs.centers)
            np.testing.assert_array_equal(found.neighbors[rows] - first, expected.pairs.neighbors)
            np.testing.assert_array_equal(found.shifts[rows], expected.pairs.shifts)
            np.testing.assert_allclose(found.vectors[rows], expected.vectors, rtol=0, atol=1e-14)
            shortest = -1 if expected.shortest < 0 else expected.shortest + rows.start
            assert found.shortest[b] == shortest
        assert begin == len(found.centers)
        if step == n_calls // 2:  # another cell, of one of them
            every[1].set_cell(every[1].cell.array * 1.02, scale_atoms=True)
        moved(every, rng, scale=0.08)
    assert len(every) < together.searches < 0.7 * n_calls * len(every), "lists are kept, and made anew when they must"


def test_the_skin_finds_its_width():
    every = [ethanol() for _ in range(8)]
    together, rng = BatchNeighbors(CUTOFF, sizes(every), arrays(every)[2]), np.random.default_rng(1)
    before = together.skin
    for _ in range(200):
        moved(every, rng, scale=0.02)
        together(*arrays(every)[:2])
    assert together.skin != before
    expected = NeighborList(CUTOFF)(every[3].positions, every[3].cell.array, every[3].pbc)
    assert together(*arrays(every)[:2]).selected.found[3] == len(expected.pairs.centers)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_structure_that_is_not_finite_is_refused_alone(bad):
    every = structures()
    batch = Batch(potential(), [a.numbers for a in every], arrays(every)[2])
    positions, cells, _ = arrays(every)
    good = batch(positions, cells).properties
    broken = positions.copy()
    broken[4] = bad  # of the crystal
    found = batch(broken, cells)
    assert found.errors.keys() == {1}
    assert isinstance(found.errors[1], StructureError)
    assert "atom 1" in str(found.errors[1])
    others = [0, 2, 3, 4, 5]
    assert torch.equal(found.properties.energy[others], good.energy[others])
    assert torch.equal(batch(positions, cells).properties.forces, good.forces), "and is welcome again"


def test_two_atoms_on_one_spot_are_refused_alone():
    every = structures()
    every[4].positions[5] = every[4].positions[2] + 1e-5
    positions, cells, pbc = arrays(every)
    found = Batch(potential(), [a.numbers for a in every], pbc)(positions, cells)
    assert found.errors.keys() == {4}
    assert "atoms 2 and 5 are" in str(found.errors[4])


@pytest.mark.parametrize("name", ["equivariant", "schnet"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_results_are_those_of_the_calculator(name, dtype):
    pot, every = potential(name, dtype=dtype), structures()
    positions, cells, pbc = arrays(every)
    batch = Batch(pot, [a.numbers for a in every], pbc)
    found = batch(positions, cells)
    assert not found.errors
    tolerance = 1e-11 if dtype == torch.float64 else 1e-4
    for b, atoms in enumerate(every):
        own, together = MLCalculator(pot), MLCalculator(pot)
        together.hold(atoms, batch.of_structure(found.properties, b))
        for quantity in ("energy", "energies", "forces", "stress", "stresses"):
            if "stress" in quantity and not atoms.pbc.any():
                assert quantity not in together.results
                continue
            np.testing.assert_allclose(
                together.get_property(quantity, atoms), own.get_property(quantity, atoms), rtol=0, atol=tolerance
            )
        assert together.evaluations == 0
        assert len(atoms) == 1 or np.abs(own.get_forces(atoms)).max() > 1e-3 or atoms.pbc.all()


def test_a_structure_has_the_same_results_in_any_company_to_the_last_bit():
    """What a study goes on with after a kill does not depend on which of its runs had ended before."""
    pot, every = potential(), [ethanol(), *structures(), crystal()]

    def results(chosen):
        positions, cells, pbc = arrays([every[k] for k in chosen])
        batch = Batch(pot, [every[k].numbers for k in chosen], pbc)
        found = batch(positions, cells).properties
        return {k: batch.of_structure(found, place) for place, k in enumerate(chosen)}

    all_of_them, some, other = results(range(len(every))), results([5, 1, 7]), results([7, 2])
    for part in (some, other):
        for k, own in part.items():
            for quantity in ("energy", "forces", "stress"):
                expected = getattr(all_of_them[k], quantity)
                assert torch.equal(getattr(own, quantity).nan_to_num(), expected.nan_to_num()), (k, quantity)


def test_the_members_of_an_ensemble_are_told_apart():
    ensemble, every = Ensemble([potential(seed=1), potential(seed=2)]), [ethanol(), water()]
    positions, cells, pbc = arrays(every)
    batch = Batch(ensemble, [a.numbers for a in every], pbc)
    found = batch(positions, cells)
    together, own = MLCalculator(ensemble), MLCalculator(ensemble)
    together.hold(every[1], batch.of_structure(found.properties, 1), batch.of_structure(found.std, 1))
    own.get_property("forces", every[1])
    assert together.extras.keys() == own.extras.keys()
    np.testing.assert_allclose(together.extras["forces_spread"], own.extras["forces_spread"], atol=1e-12)
    assert own.extras["forces_spread"].min() > 1e-4


def test_what_cannot_be_evaluated_in_batches_is_refused():
    cls = lookup("tensor_field")
    with pytest.raises(ConfigError, match="needs a model of energies"):
        Batch(Derived(cls(cls.Config(species=SPECIES))), [water().numbers], np.zeros((1, 3), dtype=bool))
    with pytest.raises(SpeciesError, match="S "):
        Batch(potential(), [molecule("SH2").numbers], np.zeros((1, 3), dtype=bool))
