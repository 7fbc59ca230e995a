"""Tables in place of functions of the distance: how good they are, and that energy stays conserved with them."""

import copy
import math

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.verlet import VelocityVerlet

from ase_mlcalc import Baseline, Derived, MLCalculator
from ase_mlcalc.accelerate.tables import MOST_POINTS, Tabulated, table_of, tabulate
from ase_mlcalc.errors import ModelError
from ase_mlcalc.graph import OVERLAP_ANGSTROM, from_atoms
from ase_mlcalc.model import Tabulable, lookup, registered

CUTOFF = 4.0
SMALL = {
    "schnet": {"features": 16, "n_interactions": 2, "n_gaussians": 12},
    "body_order": {"features": 8, "hidden": 8, "n_steps": 2},
}
TABULABLE = sorted(name for name, cls in registered().items() if issubclass(cls, Tabulable))


def small_model(name, dtype=torch.float64):
    torch.manual_seed(1)
    cls = lookup(name)
    return cls(cls.Config(species=(1, 6, 8), cutoff=CUTOFF, **SMALL.get(name, {}))).to(dtype)


def structures():
    ethanol = molecule("CH3CH2OH")
    diamond = bulk("C", cubic=True).repeat((1, 1, 2))
    diamond.rattle(0.05, seed=2)
    return [ethanol, diamond, Atoms("O", positions=[[0, 0, 0]])]


def bump(d_p):
    """Two functions, one of them a hundred times the other."""
    inside = (1 - d_p / CUTOFF).clamp(min=0.0) ** 4
    return torch.stack([torch.sin(3 * d_p) * inside, 0.01 * torch.exp(-d_p) * inside], dim=1)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_slopes_are_as_good_as_asked_and_grids_no_finer_than_that_takes(tolerance):
    table = table_of(bump, CUTOFF, tolerance)
    d_p = torch.from_numpy(np.random.default_rng(0).uniform(0.5, CUTOFF, 5000))
    slopes = torch.func.jvp(bump, (d_p,), (torch.ones_like(d_p),))[1]
    leaf = d_p.clone().requires_grad_()
    found = torch.stack([torch.autograd.grad(column.sum(), leaf, retain_graph=True)[0] for column in table(leaf).T], 1)
    error = ((found - slopes).abs().amax(dim=0) / slopes.square().mean(dim=0).sqrt()).max()
    assert 0.02 * tolerance < error < tolerance
    assert table.error == pytest.approx(float(error), rel=0.3)  # what it says of itself


def test_a_table_goes_through_its_points_and_is_zero_beyond_the_cutoff():
    table = table_of(bump, CUTOFF, 1e-3)
    d_k = OVERLAP_ANGSTROM + table.spacing * torch.arange(len(table.coefficients), dtype=torch.float64)
    torch.testing.assert_close(table(d_k), bump(d_k), rtol=1e-12, atol=1e-14)
    assert bump(d_k).abs().max() > 0.3
    assert not table(torch.tensor([CUTOFF, CUTOFF + 1e-9, 2 * CUTOFF], dtype=torch.float64)).any()
    assert torch.isfinite(table(torch.tensor([0.0], dtype=torch.float64))).all()


def test_values_and_slopes_are_continuous_between_pieces():
    table = table_of(bump, CUTOFF, 1e-3)
    knot = OVERLAP_ANGSTROM + 20 * table.spacing
    for step in (1e-7, 1e-9):
        d_2 = torch.tensor([knot - step, knot + step], dtype=torch.float64, requires_grad=True)
        value = table(d_2)
        (slope,) = torch.autograd.grad(value[:, 0].sum(), d_2)
        value = value.detach()
        assert float((value[1] - value[0]).abs().max()) < 10 * step
        assert float((slope[1] - slope[0]).abs()) < 100 * step


def test_the_gradient_is_that_of_the_table_and_so_is_the_second_derivative():
    table = table_of(bump, CUTOFF, 1e-2)
    d_p = torch.linspace(0.6, 3.8, 7, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(table, (d_p,))
    torch.autograd.gradgradcheck(table, (d_p,))


def test_a_function_with_a_kink_is_refused():
    def kink(d_p):
        return (d_p - math.pi / 2).abs()[:, None]

    with pytest.raises(ModelError, match=f"table of {MOST_POINTS} points .* not smooth"):
        table_of(kink, CUTOFF)


def test_models_without_such_functions_are_refused():
    with pytest.raises(ModelError, match="'lennard_jones' has no tables"):
        tabulate(lookup("lennard_jones")(lookup("lennard_jones").Config()))


def test_there_are_models_with_tables():
    assert {"schnet", "body_order"} <= set(TABULABLE)


@pytest.mark.parametrize("name", TABULABLE)
def test_forces_and_stresses_hardly_change(name):
    model = small_model(name)
    before = copy.deepcopy(model.state_dict())
    exact, fast = Derived(model), Derived(tabulate(model))
    for atoms in structures():
        graph = from_atoms(atoms, CUTOFF)
        expected, found = exact(graph), fast(graph)
        for field in sorted(expected.given()):
            one, other = getattr(expected, field).nan_to_num(), getattr(found, field).nan_to_num()
            assert float((one - other).abs().max()) <= 1e-5 * float(one.abs().max()), field
        if len(atoms) > 1:
            assert float((expected.forces - found.forces).abs().max()) > 0, "these are tables"
    assert any(isinstance(each, Tabulated) for each in fast.model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", TABULABLE)
def test_tables_are_made_in_float64_whatever_the_model_is_in(name):
    single, double = tabulate(small_model(name, torch.float32)), tabulate(small_model(name))
    assert single.dtype == torch.float32
    graph = from_atoms(structures()[0], CUTOFF)
    expected, found = Derived(double)(graph).forces, Derived(single)(graph).forces
    assert float((expected - found).abs().max()) < 2e-5 * float(expected.abs().max())


@pytest.mark.parametrize("name", TABULABLE)
def test_forces_are_differences_of_energies(name):
    fast = MLCalculator(Derived(tabulate(small_model(name), tolerance=1e-3)))
    if "energy" not in fast.potential.properties:
        pytest.skip("predicts no energy")
    atoms = structures()[0]
    atoms.rattle(0.1, seed=4)
    atoms.calc = fast
    forces = atoms.get_forces()
    step = 1e-4
    for atom, axis in ((0, 0), (2, 1), (5, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            moved.calc = fast
            energies.append(moved.get_potential_energy())
        assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(forces[atom, axis], rel=1e-5, abs=1e-7)
        assert abs(forces[atom, axis]) > 1e-3


def test_energy_is_conserved_with_tables_that_are_coarse():
    # the size of the error follows dt²; a slope that is not that of the table would not
    model = small_model("schnet")
    fast = Derived(tabulate(model, tolerance=1e-2), Baseline(energy_scale=5.0))
    spread = []
    for timestep_fs, steps in ((0.4, 50), (0.2, 100)):
        atoms = molecule("CH3CH2OH")
        atoms.calc = MLCalculator(fast)
        atoms.set_velocities(np.random.default_rng(0).normal(scale=0.02, size=(9, 3)))
        energies = []
        dynamics = VelocityVerlet(atoms, timestep_fs * units.fs)
        dynamics.attach(lambda a=atoms, e=energies: e.append(a.get_total_energy()))
        dynamics.run(steps)
        moved = np.abs(atoms.positions - molecule("CH3CH2OH").positions).max()
        assert moved > 0.05
        spread.append(np.ptp(energies))
    assert spread[0] > 1e-6, "there is a signal"
    assert spread[1] < 0.35 * spread[0]
