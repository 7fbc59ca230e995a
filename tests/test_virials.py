"""Definitions of per-atom stress: what each has to be, by an independent way to compute it."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.stress import full_3x3_to_voigt_6_stress

from ase_mlcalc import Baseline, Derived, Ensemble, MLCalculator
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.model import Model, lookup, registered
from ase_mlcalc.testing import ModelSubject
from ase_mlcalc.virials import DEFINITIONS, available, virials

SMALL = {
    "lennard_jones": {},
    "stillinger_weber": {},
    "schnet": {"n_interactions": 3, "features": 8, "cutoff": 2.7, "mean_neighbors": 6.0},
    "equivariant": {"n_interactions": 2, "features": 4, "edge_features": 4, "cutoff": 2.7, "mean_neighbors": 6.0},
}
"""Configurations with a receptive field that can be unfolded."""


def potential_of(name):
    """A randomised potential in float64."""
    model_class = lookup(name)
    species = model_class.Config().species if not model_class.trainable else (11, 17)
    subject = ModelSubject(model_class, model_class.Config(species=species, **SMALL[name]))
    return Derived(subject.model(), Baseline(energy_scale=0.7)), subject


def silicon_like(subject):
    """Eight atoms, triclinic, rattled; cell shorter than the cutoff of most."""
    return subject.fitted(subject.crystal)


def largest(tensor):
    return float(tensor.abs().max())


def unfolded_heat(potential, atoms):
    """The column sum by an open system: the home cell and all images that it can feel, and three barycentres."""
    model, reach = potential.model, potential.cutoff * potential.model.depth
    cell, home = atoms.cell.array, atoms.positions
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    around = [range(-n, n + 1) for n in (np.ceil(reach / heights).astype(int) + 1)]
    cells = np.array([(i, j, k) for i in around[0] for j in around[1] for k in around[2]])
    cells = cells[np.argsort(np.abs(cells).sum(axis=1), kind="stable")]  # the home cell first
    points = (home[None] + (cells @ cell)[:, None]).reshape(-1, 3)
    origin = np.tile(np.arange(len(atoms)), len(cells))
    near = np.array([np.linalg.norm(home - point, axis=1).min() <= reach + 1e-9 for point in points])
    points, origin = points[near], origin[near]
    cluster = atoms[origin]
    cluster.positions, cluster.pbc, cluster.cell = points, False, np.zeros((3, 3))
    graph = from_atoms(cluster, potential.cutoff)
    r_nc = graph.positions.clone().requires_grad_()
    energies = model(graph._replace(vectors=r_nc[graph.neighbors] - r_nc[graph.centers])).energies
    u_n = energies[: len(atoms)] * potential.baseline.energy_scale
    (slope,) = torch.autograd.grad(u_n.sum(), r_nc, retain_graph=True)
    at = r_nc.detach()
    moments = [
        torch.autograd.grad((u_n * at[: len(atoms), a]).sum(), r_nc, retain_graph=True)[0] for a in range(3)
    ]  # d / dR_j of sum_i R_i U_i with R_i held
    w_nab = at[:, :, None] * slope[:, None, :] - torch.stack(moments, dim=1)
    return torch.zeros(len(atoms), 3, 3, dtype=torch.float64).index_add(0, torch.from_numpy(origin), w_nab)


@pytest.mark.parametrize("name", SMALL)
def test_heat_is_the_unfolded_column_sum(name):
    potential, subject = potential_of(name)
    atoms = silicon_like(subject)
    expected = unfolded_heat(potential, atoms)
    heat = virials(potential, subject.graph(atoms), "heat")
    assert largest(heat - expected) < 1e-12 * max(1.0, largest(expected))
    if potential.model.depth > 1:  # the shortcut that is right without message passing is wrong with it
        assert largest(virials(potential, subject.graph(atoms), "other") - expected) > 1e-3 * largest(expected)


@pytest.mark.parametrize("name", SMALL)
def test_heat_moves_the_energy_barycenter(name):
    """In an open system J = d/dt sum_i R_i U_i - sum_i v_i U_i is minus the sum of heat virials times velocities."""
    potential, subject = potential_of(name)
    atoms = subject.fitted(subject.crystal)
    atoms.pbc = False
    rng = np.random.default_rng(1)
    v = rng.standard_normal((len(atoms), 3))
    step = 1e-4

    def energies(displacement):
        moved = atoms.copy()
        moved.positions += displacement * v
        return potential(subject.graph(moved)).energies.numpy()

    slopes = (8 * (energies(step) - energies(-step)) - (energies(2 * step) - energies(-2 * step))) / (12 * step)
    barycenter = (atoms.positions * slopes[:, None]).sum(axis=0)
    work = -(potential(subject.graph(atoms)).forces.numpy() * v).sum(axis=1)
    moved_by_forces = (atoms.positions * work[:, None]).sum(axis=0)
    heat = virials(potential, subject.graph(atoms), "heat").numpy()
    flux = -np.einsum("nab,nb->a", heat, v)
    assert np.abs(flux).max() > 1e-3
    np.testing.assert_allclose(barycenter - moved_by_forces, flux, atol=1e-6 * np.abs(flux).max(), rtol=0)


@pytest.mark.parametrize("name", SMALL)
def test_site_is_the_slope_of_the_own_energy(name):
    potential, subject = potential_of(name)
    atoms = silicon_like(subject)
    site = virials(potential, subject.graph(atoms), "site").numpy()
    step = 1e-4
    for a, b in ((0, 0), (1, 2)):
        values = []
        for multiple in (-2, -1, 1, 2):
            strain = np.eye(3)
            strain[a, b] += multiple * step
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ strain.T, scale_atoms=True)
            values.append(potential(subject.graph(moved)).energies.numpy())
        slopes = (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * step)
        np.testing.assert_allclose(slopes, site[:, a, b], atol=1e-6 * np.abs(site).max(), rtol=0)
    assert largest(torch.from_numpy(site - site.transpose(0, 2, 1))) == 0


CASES = [(name, definition) for name in SMALL for definition in DEFINITIONS]


@pytest.mark.parametrize(("name", "definition"), CASES)
def test_every_definition_sums_to_the_stress(name, definition):
    potential, subject = potential_of(name)
    if definition not in available(potential.model):
        with pytest.raises(ConfigError, match=f"{definition}.*it has edge"):
            virials(potential, subject.graph(subject.crystal), definition)
        return
    for atoms in (silicon_like(subject), subject.slab, subject.lattice):
        total = potential(subject.graph(atoms)).stress[0] * atoms.get_volume()
        atomic = virials(potential, subject.graph(atoms), definition)
        scale = max(largest(total), largest(atomic))
        assert largest(atomic.sum(dim=0) - total) < 1e-12 * scale


@pytest.mark.parametrize("definition", ["site", "heat"])
def test_definitions_of_energies_do_not_depend_on_the_cell(definition):
    potential, subject = potential_of("equivariant")
    one = virials(potential, subject.graph(subject.crystal), definition)
    four = virials(potential, subject.graph(subject.crystal * (2, 2, 1)), definition)
    assert largest(four - one.repeat(4, 1, 1)) < 1e-12 * largest(one)


def test_without_message_passing_center_is_site_and_other_is_heat():
    potential, subject = potential_of("stillinger_weber")
    graph = subject.graph(silicon_like(subject))
    site, center = virials(potential, graph, "site"), virials(potential, graph, "center")
    assert largest(site - center) < 1e-12 * largest(site)
    assert torch.equal(virials(potential, graph, "heat"), virials(potential, graph, "other"))


def test_pairs_have_one_stress():
    potential, subject = potential_of("lennard_jones")
    graph = subject.graph(silicon_like(subject))
    edge = virials(potential, graph, "edge")
    for definition in DEFINITIONS:
        assert largest(virials(potential, graph, definition) - edge) < 1e-12 * largest(edge)


def test_matscipy_splits_at_the_center():
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms import StillingerWeber
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si

    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=2)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * np.random.default_rng(1).standard_normal((3, 3))))
    model_class = lookup("stillinger_weber")
    potential = Derived(model_class(model_class.Config()))
    atoms.calc = Manybody(**StillingerWeber(Stillinger_Weber_PRB_31_5262_Si))
    expected = atoms.get_stresses(voigt=False) * atoms.get_volume()
    got = virials(potential, from_atoms(atoms, potential.cutoff), "center").numpy()
    np.testing.assert_allclose(got, expected, atol=1e-9 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("name", registered())
def test_every_model_has_what_it_declares(name):
    model_class = registered()[name]
    model: Model = model_class(model_class.Config())
    have = available(model)
    assert ("edge" in have) == bool(model.outputs & {"energies", "energy", "edge_forces"})
    assert ("heat" in have) == ("energies" in model.outputs)


def test_calculator_takes_the_definition():
    potential, subject = potential_of("schnet")
    atoms = silicon_like(subject)
    for definition in ("edge", "site", "heat"):
        atoms.calc = MLCalculator(potential, stress_definition=definition)
        stresses = atoms.get_stresses(voigt=False)
        raw = virials(potential, subject.graph(atoms), definition).numpy()
        expected = 0.5 * (raw + raw.transpose(0, 2, 1)) / atoms.get_volume()
        np.testing.assert_allclose(stresses, expected, atol=1e-14)
        np.testing.assert_allclose(stresses.sum(axis=0), atoms.get_stress(voigt=False), atol=1e-14)


@pytest.mark.parametrize(("dtype", "relative"), [("float64", 1e-13), ("float32", 1e-5)])
def test_ensemble_gives_the_mean_by_the_definition(dtype, relative):
    """Made when asked for, once, and without a spread, which would be that of another definition."""
    potential, subject = potential_of("equivariant")
    config = potential.model.config
    torch.manual_seed(7)
    other = Derived(lookup("equivariant")(config).double(), Baseline(energy_scale=0.4))
    atoms = silicon_like(subject)
    expected = sum(virials(each, subject.graph(atoms), "heat") for each in (potential, other)) / 2
    expected = 0.5 * (expected + expected.mT) / atoms.get_volume()
    calc = atoms.calc = MLCalculator(Ensemble([potential, other]), dtype=dtype, stress_definition="heat")
    atoms.get_forces()
    assert "stresses" not in calc.results
    for _ in range(2):
        stresses = atoms.get_stresses()
        np.testing.assert_allclose(
            stresses, full_3x3_to_voigt_6_stress(expected.numpy()), atol=relative * largest(expected)
        )
        np.testing.assert_allclose(stresses.sum(axis=0), atoms.get_stress(), atol=10 * relative * largest(expected))
        assert {"forces_std", "stress_std"} <= calc.extras.keys()
        assert "stresses_std" not in calc.extras
        calc.reset()
    assert calc.evaluations == 2


def test_definition_that_is_not_there_is_refused_at_once():
    potential, _ = potential_of("schnet")
    with pytest.raises(ConfigError, match="edge, center, other, site, heat"):
        MLCalculator(potential, stress_definition="cluster")
    with pytest.raises(ConfigError, match="one of edge"):
        MLCalculator(potential, stress_definition="virial")


def test_molecules_have_virials_but_no_stress():
    potential, subject = potential_of("schnet")
    atoms = subject.fitted(molecule("H2O"))
    assert virials(potential, subject.graph(atoms), "heat").isfinite().all()
