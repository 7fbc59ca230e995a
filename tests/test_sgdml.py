"""sGDML: its matrix against derivatives, its solvers against each other, and the package `sgdml` as an oracle."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from pydantic import ValidationError

from ase_mlcalc import MLCalculator, check_calculator, check_model
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ModelError,
    NotFittedError,
    NumericalError,
    StructureError,
)
from ase_mlcalc.graph import collate, from_atoms
from ase_mlcalc.kernels import fit, inverse_distances, matern, order, solvers, symmetry
from ase_mlcalc.model import lookup
from ase_mlcalc.models.sgdml import SGDML, SGDMLConfig, read_npz, write_npz
from ase_mlcalc.potential import Baseline, Derived
from ase_mlcalc.properties import Properties
from ase_mlcalc.testing import CheckFailure
from ase_mlcalc.training.metrics import compare_frames

ORACLE = Path(__file__).parent / "oracles" / "sgdml"


def _oracle_script():
    spec = importlib.util.spec_from_file_location("sgdml_oracle", ORACLE.with_name("sgdml_oracle.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = _oracle_script()
NUMBERS = tuple(oracle.NUMBERS.tolist())
SCALE = 1.5
"""eV, what labels are divided by before solving."""


def ethanol(positions):
    return Atoms(NUMBERS, positions)


def samples(positions, *, energies=True, forces=True, cutoff=30.0):
    e, f = oracle.morse(positions)
    return [
        (
            from_atoms(ethanol(one), cutoff),
            Properties(
                energy=torch.tensor([e[k] / SCALE]) if energies else None,
                forces=torch.from_numpy(f[k] / SCALE) if forces else None,
            ),
        )
        for k, one in enumerate(positions)
    ]


def solved(count=30, validation=(), report=lambda _: None, **keys):
    model = SGDML(SGDMLConfig(numbers=NUMBERS, **{"sigma": 20.0, **keys}))
    model.solve(samples(oracle.geometries(count)), validation, report)
    return Derived(model, Baseline(energy_scale=SCALE))


@pytest.fixture(scope="module")
def potential():
    return solved()


def evaluate(potential, positions):
    return potential(collate([from_atoms(ethanol(one), potential.cutoff) for one in positions]))


def force_error(potential, positions):
    """Relative, root mean square."""
    expected = oracle.morse(positions)[1].reshape(-1, 3)
    return np.linalg.norm(evaluate(potential, positions).forces.numpy() - expected) / np.linalg.norm(expected)


# ----- the matrix -----------------------------------------------------------------------------------------------------


def small_system(count=4, sigma=3.0):
    """Geometries of ethanol in the kernel's terms, with the displacements and permutations that were used."""
    vectors = torch.from_numpy(oracle.geometries(count))
    a_d, b_d = inverse_distances.pairs_of(9)
    vectors_mdc = vectors[:, b_d] - vectors[:, a_d]
    jacobians = inverse_distances.jacobians(vectors_mdc, 9)
    displacements = matern.internal(jacobians)
    group = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 5, 4, 6, 8, 7]])
    points = matern.Geometries(
        fit.descriptors(vectors_mdc), jacobians @ displacements, inverse_distances.permutations_of_pairs(group)
    )
    return points, displacements, group, vectors, sigma


def energy_covariance(r, s, group, sigma):
    """k of two geometries, summed over permutations of the second one; written anew from its definition."""
    total = 0.0
    a, b = np.tril_indices(len(r), -1)
    for permutation in group:
        t = s[permutation]
        of_r, of_t = (1 / torch.linalg.vector_norm(x[a] - x[b], dim=1) for x in (r, t))
        d = torch.linalg.vector_norm(of_r - of_t)
        n = 5**0.5 * d / sigma
        total = total + (1 + n + n**2 / 3) * torch.exp(-n)
    return total


def test_the_matrix_is_the_covariance_of_forces():
    points, displacements, group, positions, sigma = small_system()
    whole = matern.matrix(points, sigma)
    r = displacements.shape[2]
    for i, j in ((0, 1), (1, 3), (0, 2)):
        u, v = positions[i].clone().requires_grad_(), positions[j].clone().requires_grad_()
        k = energy_covariance(u, v, group, sigma)
        (first,) = torch.autograd.grad(k, v, create_graph=True)
        both = torch.stack([torch.autograd.grad(g, u, retain_graph=True)[0].flatten() for g in first.flatten()])
        expected = displacements[i].T @ both.T @ displacements[j]
        block = whole[i * r : (i + 1) * r, j * r : (j + 1) * r]
        assert block.abs().max() > 1e-4
        torch.testing.assert_close(block, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


def test_displacements_without_force_are_left_out_exactly():
    _, displacements, *_ = small_system()
    assert displacements.shape == (4, 27, 21)
    positions = torch.from_numpy(oracle.geometries(4))
    rigid = torch.zeros(4, 9, 3, 6, dtype=torch.float64)
    for axis in range(3):
        rigid[:, :, axis, axis] = 1.0
        turn = torch.zeros(3, dtype=torch.float64)
        turn[axis] = 1.0
        rigid[..., 3 + axis] = torch.linalg.cross(turn.expand_as(positions), positions)
    overlap = torch.einsum("mkr,mkq->mrq", displacements, rigid.flatten(1, 2))
    assert overlap.abs().max() < 1e-10


@pytest.mark.parametrize("rows_at_once", [64, 3])
def test_products_without_the_matrix(monkeypatch, rows_at_once):
    monkeypatch.setattr(matern, "ROWS_AT_ONCE", rows_at_once)
    points, *_, sigma = small_system(10)
    upper = torch.triu(matern.matrix(points, sigma))
    whole = upper + torch.triu(upper, 1).T
    vector = torch.randn(points.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for keep in (0, 10**9):
        product = matern.Product(points, sigma, keep)
        for _ in range(2):
            torch.testing.assert_close(product(vector), whole @ vector, rtol=0, atol=1e-12 * float(vector.norm()))
        assert bool(product._kept) == (keep > 0)
    assert matern.trace(points, sigma) == pytest.approx(float(whole.diagonal().sum()), rel=1e-12)


# ----- symmetries -----------------------------------------------------------------------------------------------------


def test_the_group_of_ethanol_is_found():
    positions = torch.from_numpy(oracle.geometries(60))
    group = symmetry.find_symmetries(torch.cdist(positions, positions).numpy(), np.array(NUMBERS))
    turns = [(6, 7, 8), (7, 8, 6), (8, 6, 7)]
    mirrors = [(6, 8, 7), (7, 6, 8), (8, 7, 6)]  # of the methyl group, together with the other two hydrogens
    expected = {(0, 1, 2, 3, 4, 5, *three) for three in turns} | {(0, 1, 2, 3, 5, 4, *three) for three in mirrors}
    assert {tuple(one) for one in group.tolist()} == expected


def test_atoms_of_different_elements_are_never_exchanged():
    positions = torch.from_numpy(oracle.geometries(40))
    numbers = np.array(NUMBERS)
    numbers[6] = 9  # a fluorine in the methyl group: it turns no more
    group = symmetry.find_symmetries(torch.cdist(positions, positions).numpy(), numbers)
    assert (numbers[group] == numbers).all()
    assert (group[:, 6] == 6).all()


def test_a_group_is_completed_or_given_up():
    cycle = (1, 2, 3, 4, 0)
    assert len(symmetry.completed({tuple(range(5)), cycle})) == 5
    assert len(symmetry.completed({tuple(range(5)), cycle, (1, 0, 2, 3, 4)}, most=200)) == 120
    assert symmetry.completed({tuple(range(5)), cycle, (1, 0, 2, 3, 4)}, most=100) is None


def test_equal_geometries_are_no_symmetry():
    positions = torch.from_numpy(np.repeat(oracle.geometries(1), 5, axis=0))
    group = symmetry.find_symmetries(torch.cdist(positions, positions).numpy(), np.array(NUMBERS))
    assert group.tolist() == [list(range(9))]


@pytest.mark.parametrize(
    ("name", "size"),
    [("ethanol", 6), ("azobenzene", 8), ("toluene", 12), ("naphthalene", 4), ("malonaldehyde", 4), ("uracil", 1)],
)
def test_published_groups(name, size):
    """Table 2 of Chmiela et al., Comput. Phys. Commun. 240, 38 (2019), and what the package finds."""
    if "ASE_MLCALC_DATA" not in os.environ:
        pytest.skip("set ASE_MLCALC_DATA to a folder with rmd17/NAME_train.npz")
    with np.load(Path(os.environ["ASE_MLCALC_DATA"]) / "rmd17" / f"{name}_train.npz") as archive:
        positions = torch.from_numpy(archive["coords"][:100].astype(float))
        numbers = archive["nuclear_charges"].astype(int)
    assert len(symmetry.find_symmetries(torch.cdist(positions, positions).numpy(), numbers)) == size


def test_exchanging_equivalent_atoms_changes_nothing(potential):
    start = oracle.geometries(31)[30:]
    other = start[:, [0, 1, 2, 3, 5, 4, 7, 6, 8]]
    before, after = evaluate(potential, start), evaluate(potential, other)
    assert len(potential.model.permutations_sn) == 6
    assert abs(float(before.energy - after.energy)) < 1e-10
    torch.testing.assert_close(after.forces, before.forces[[0, 1, 2, 3, 5, 4, 7, 6, 8]], rtol=0, atol=1e-9)
    alone = solved(symmetries=False)
    assert abs(float(evaluate(alone, start).energy - evaluate(alone, other).energy)) > 1e-6


# ----- solving --------------------------------------------------------------------------------------------------------


def test_it_learns_what_it_should(potential):
    tested = oracle.geometries(50)[30:]
    assert force_error(potential, tested) < 0.01
    assert force_error(solved(10), tested) > 2 * force_error(potential, tested)
    assert force_error(solved(symmetries=False), tested) > 1.5 * force_error(potential, tested)


def test_energies_are_those_of_the_training_data_on_average(potential):
    positions = oracle.geometries(30)
    errors = evaluate(potential, positions).energy.numpy() - oracle.morse(positions)[0]
    assert abs(errors.mean()) < 1e-10
    assert np.abs(errors).max() < 0.01 * np.std(oracle.morse(positions)[0])


def test_forces_by_autograd_are_those_of_the_formula(potential):
    model, positions = potential.model, oracle.geometries(35)[30:]
    graph = collate([from_atoms(ethanol(one), 30.0) for one in positions])
    a_d, b_d = inverse_distances.pairs_of(9)
    vectors = torch.from_numpy(positions)
    molecules = fit.Molecules(vectors[:, b_d] - vectors[:, a_d], torch.zeros(5, 27))
    found = fit.Fit(model.origin_d, model.points_md, model.weights_md, float(model.sigma))
    formula = SCALE * fit.predict(found, molecules, model.permutations_sn).reshape(-1, 3)
    torch.testing.assert_close(potential(graph).forces, formula, rtol=0, atol=1e-10 * float(formula.abs().max()))


def test_both_solvers_agree(potential):
    lines = []
    iterative = solved(solver="iterative", tolerance=1e-9, report=lines.append)
    tested = oracle.geometries(50)[30:]
    expected = evaluate(potential, tested).forces
    assert any("iterative" in line for line in lines)
    torch.testing.assert_close(
        evaluate(iterative, tested).forces, expected, rtol=0, atol=1e-5 * float(expected.abs().max())
    )
    assert force_error(solved(solver="iterative"), tested) == pytest.approx(force_error(potential, tested), rel=0.02)


def test_solutions_solve_the_system():
    points, *_ = small_system(12)
    labels = torch.randn(points.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    system = solvers.System(points, labels, sigma=3.0, ridge=1e-6)
    upper = torch.triu(matern.matrix(points, 3.0))
    whole = upper + torch.triu(upper, 1).T + 1e-6 * torch.eye(points.size)
    direct = solvers.solve_directly(system)
    iterative = solvers.solve_iteratively(system, 2, tolerance=1e-8, max_iterations=2000)
    for solution in (direct, iterative):
        left = float((labels - whole @ solution.weights).norm() / labels.norm())
        assert left < 2e-8
        assert solution.residual == pytest.approx(left, abs=1e-9)


def test_the_preconditioner_saves_iterations():
    points, *_ = small_system(24)
    labels = torch.randn(points.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    system = solvers.System(points, labels, sigma=10.0, ridge=1e-8)
    few, many = (
        solvers.solve_iteratively(system, columns, tolerance=1e-6, max_iterations=20000).iterations
        for columns in (1, 10)
    )
    assert many < few / 2


def test_no_convergence_is_an_error_or_asks_for_the_direct_solver(monkeypatch, potential):
    with pytest.raises(NumericalError, match=r"residual of .* after 2 iterations .* model\.max_iterations"):
        solved(solver="iterative", max_iterations=2)
    monkeypatch.setattr(solvers, "DIRECT_UP_TO", 1)
    lines = []
    other = solved(max_iterations=2, report=lines.append)
    assert "using the direct solver" in lines[-1]
    torch.testing.assert_close(other.model.weights_md, potential.model.weights_md)


@pytest.mark.parametrize("solver", ["direct", "iterative"])
def test_a_structure_that_occurs_twice_does_no_harm(potential, solver):
    model = SGDML(SGDMLConfig(numbers=NUMBERS, sigma=20.0, solver=solver))
    twice = samples(oracle.geometries(30))
    model.solve(twice + twice[:10], [], lambda _: None)
    tested = oracle.geometries(50)[30:]
    again = Derived(model, Baseline(energy_scale=SCALE))
    assert force_error(again, tested) == pytest.approx(force_error(potential, tested), rel=0.1)


def test_the_length_of_the_kernel_is_chosen_by_validation_forces(monkeypatch):
    monkeypatch.setattr(fit, "SCREENED_UNKNOWNS", 210)  # ten structures
    held_back = samples(oracle.geometries(40)[30:])
    lengths = (0.3, 3.0, 10.0, 30.0, 1000.0)
    lines = []
    chosen = solved(30, held_back, lines.append, sigma=lengths)
    tested = oracle.geometries(40)[30:]
    errors = {sigma: force_error(solved(sigma=sigma), tested) for sigma in lengths}
    assert float(chosen.model.sigma) == min(errors, key=errors.get)
    assert any("10 structures" in line for line in lines)
    assert sum("30 structures" in line for line in lines) <= 4
    assert not any("that was tried" in line for line in lines)
    with pytest.raises(DataError, match="several lengths"):
        solved(5, [], sigma=lengths)


@pytest.mark.parametrize(("lengths", "told"), [((30.0, 1000.0), "smallest"), ((0.1, 3.0), "largest")])
def test_a_length_at_the_end_of_those_given_is_pointed_out(lengths, told):
    lines = []
    solved(10, samples(oracle.geometries(15)[10:]), lines.append, sigma=lengths)
    assert f"is the {told} that was tried" in lines[-1]


def test_the_check_of_calculators_skips_another_order_of_atoms(potential):
    """The model refuses it and says why: nothing is wrong with the calculator."""
    results = check_calculator(MLCalculator(potential), ethanol(oracle.geometries(1)[0]))
    skipped = {result.name: result.reason for result in results if result.outcome == "skipped"}
    assert "in this order" in skipped["permutation"]
    assert {"forces", "rotation"} <= {result.name for result in results if result.outcome == "passed"}


def test_energies_are_not_needed():
    lines = []
    model = SGDML(SGDMLConfig(numbers=NUMBERS, sigma=20.0))
    model.solve(samples(oracle.geometries(30), energies=False), [], lines.append)
    assert "up to a constant" in lines[-1]
    with_energies = solved()
    tested = oracle.geometries(50)[30:]
    alone = Derived(model, Baseline(energy_scale=SCALE))
    difference = evaluate(with_energies, tested).energy - evaluate(alone, tested).energy
    assert float(difference.std()) < 1e-9
    assert abs(float(difference.mean())) > 1.0


# ----- memory ---------------------------------------------------------------------------------------------------------


def sized(n_geometries, n_atoms, n_permutations):
    """Geometries of that size, without contents."""
    n_pairs, r = n_atoms * (n_atoms - 1) // 2, 3 * n_atoms - 6
    return matern.Geometries(
        torch.empty(n_geometries, n_pairs, dtype=torch.float64, device="meta"),
        torch.empty(n_geometries, n_pairs, r, dtype=torch.float64, device="meta"),
        torch.empty(n_permutations, n_pairs, dtype=torch.int64, device="meta"),
    )


def test_plans_fit_into_memory():
    azobenzene = sized(1000, 24, 8)
    assert azobenzene.size == 66000
    plan = solvers.make_plan(azobenzene, 20 * 10**9)
    assert plan.method == "iterative"
    assert plan.n_bytes < 20e9
    assert plan.columns == 7
    assert solvers.make_plan(azobenzene, 60 * 10**9, "direct").method == "direct"
    assert solvers.make_plan(sized(300, 9, 6), 10**9).method == "direct"
    tight = solvers.make_plan(azobenzene, 2 * 10**9)
    assert 1 <= tight.columns < 7
    assert tight.n_bytes <= 2e9
    with pytest.raises(ConfigError, match=r"'direct' needs 35\.\d GB .* may use 20 GB; use .*'iterative'"):
        solvers.make_plan(azobenzene, 20 * 10**9, "direct")
    with pytest.raises(ConfigError, match=r"at least .* GB .* may use 0\.1 GB; use fewer structures .*max_memory_GB"):
        solvers.make_plan(azobenzene, 10**8)


def test_too_little_memory_is_refused_before_it_is_used():
    with pytest.raises(ConfigError, match=r"30 training structures need at least .* may use 1e-06 GB"):
        solved(max_memory_GB=1e-6)


# ----- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        {"numbers": (8, 1, 1), "solver": "iterative", "tolerance": 1e-8},
        {"numbers": (8, 1, 1), "symmetries": False, "sigma": (5.0,)},
        {"numbers": (6, 1, 1, 1, 8), "sigma": (10.0,)},
    ],
)
def test_conformance_of_configurations(keys):
    check_model(SGDML, SGDMLConfig(**keys))


def wrong_weights(monkeypatch):
    sound = SGDML.put
    monkeypatch.setattr(
        SGDML,
        "put",
        lambda model, found, *rest: sound(model, found._replace(weights_md=1.01 * found.weights_md), *rest),
    )


def wrong_constant(monkeypatch):
    monkeypatch.setattr(SGDML, "_energy_constant", lambda *_: 0.0)


def numbers_before_it_is_solved(monkeypatch):
    sound = SGDML.forward

    def forward(model, graph):
        if len(model.points_md) == 0:
            return Properties(energy=torch.zeros(graph.n_structures, dtype=torch.float64))
        return sound(model, graph)

    monkeypatch.setattr(SGDML, "forward", forward)


@pytest.mark.parametrize("broken", [wrong_weights, wrong_constant, numbers_before_it_is_solved])
def test_what_is_broken_on_purpose_is_caught(monkeypatch, broken):
    broken(monkeypatch)
    with pytest.raises(CheckFailure) as failure:
        check_model(SGDML)
    assert failure.value.name == "solves"


def test_two_atoms():
    numbers = (1, 17)
    model = SGDML(SGDMLConfig(numbers=numbers, sigma=1.0))

    def at(distance):
        return from_atoms(Atoms(numbers, [[0, 0, 0], [0, 0, distance]]), 30.0)

    known = [
        (at(d), Properties(forces=torch.tensor([[0, 0, 2 * (d - 1.3)], [0, 0, -2 * (d - 1.3)]], dtype=torch.float64)))
        for d in np.linspace(1.0, 1.6, 9)
    ]
    model.solve(known, [], lambda _: None)
    force = Derived(model)(at(1.44)).forces[0]
    assert float(force[2]) == pytest.approx(0.28, abs=1e-3)


def test_it_computes_in_float64_whatever_is_asked_for(potential):
    atoms = ethanol(oracle.geometries(1)[0])
    forces = MLCalculator(potential).get_forces(atoms)
    single = MLCalculator(potential, dtype="float32")
    assert single.potential.dtype == torch.float64
    np.testing.assert_array_equal(single.get_forces(atoms), forces)


def test_refusals(potential):
    start = ethanol(oracle.geometries(1)[0])
    calculator = MLCalculator(potential)
    with pytest.raises(DataError, match=r"was made for C2 O H6 in this order, got C2 H O H5"):
        calculator.get_forces(start[[0, 1, 3, 2, 4, 5, 6, 7, 8]])
    with pytest.raises(DataError, match=r"was made for C2 O H6 in this order, got C2 O H5"):
        calculator.get_forces(start[:8])
    periodic = start.copy()
    periodic.set_cell([12, 12, 12])
    periodic.pbc = True
    with pytest.raises(StructureError, match=r"periodic images.* set atoms\.pbc = False"):
        calculator.get_forces(periodic)
    apart = start.copy()
    apart.positions[8] += 40
    with pytest.raises(StructureError, match=r"farther apart than the cutoff of 30 Å; has the molecule dissociated"):
        calculator.get_forces(apart)
    with pytest.raises(NotFittedError, match="was not solved yet; train it"):
        MLCalculator(SGDML(SGDMLConfig(numbers=NUMBERS))).get_forces(start)
    with pytest.raises(DataError, match=r"solved on forces, and training structure 0 of 3 has none"):
        SGDML(SGDMLConfig(numbers=NUMBERS, sigma=20.0)).solve(
            samples(oracle.geometries(3), forces=False), [], lambda _: None
        )
    with pytest.raises(DataError, match="got no training structures"):
        SGDML(SGDMLConfig(numbers=NUMBERS, sigma=20.0)).solve([], [], lambda _: None)
    with pytest.raises(StructureError, match=r"larger model\.cutoff"):
        SGDML(SGDMLConfig(numbers=NUMBERS, sigma=20.0, cutoff=3.0)).solve(
            samples(oracle.geometries(3), cutoff=3.0), [], lambda _: None
        )
    with pytest.raises(ConfigError, match=r"got numbers = \[1\]; give at least two atoms"):
        SGDML(SGDMLConfig(numbers=(1,)))
    for wrong in ({"sigma": (0.0,)}, {"sigma": ()}, {"ridge": 0.0}, {"solver": "magic"}, {"numbers": ()}):
        with pytest.raises(ValidationError):
            SGDMLConfig(**wrong)


# ----- the order of atoms ---------------------------------------------------------------------------------------------

HYDROXYL, METHYL = 3, 7


def with_atoms_exchanged(*pairs):
    """A geometry of ethanol in which these atoms have each other's place in the list."""
    places = list(range(9))
    for a, b in pairs:
        places[a], places[b] = places[b], places[a]
    return oracle.geometries(31)[30][places]


@pytest.mark.parametrize(
    ("pairs", "named"),
    [([(HYDROXYL, METHYL)], "look at H 3, H 7"), ([(0, 1)], "look at C 0, C 1"), ([(4, 6)], "look at H 4, H 6")],
)
def test_like_atoms_in_another_order_are_refused(potential, pairs, named):
    positions = with_atoms_exchanged(*pairs)
    with pytest.raises(DataError, match=rf"another order: in its training geometries .*{named}; sort the atoms"):
        MLCalculator(potential).get_forces(ethanol(positions))
    with pytest.raises(DataError, match="another order"):  # wherever it is in a batch
        evaluate(potential, [oracle.geometries(1)[0], positions])


def test_a_structure_in_another_order_is_named(potential):
    frames = [
        Frame(ethanol(positions), Properties(energy=torch.zeros(1)), "", f"ethanol.xyz[{k}]")
        for k, positions in enumerate([*oracle.geometries(2), with_atoms_exchanged((HYDROXYL, METHYL))])
    ]
    with pytest.raises(DataError, match=r"^ethanol\.xyz\[2\]: model 'sgdml' knows these atoms in another order"):
        compare_frames(potential, frames)


def test_a_broken_bond_is_no_other_order(potential):
    calculator = MLCalculator(potential)
    for length in (1.7, 2.5, 6.0):
        atoms = ethanol(oracle.geometries(31)[30])
        atoms.set_distance(2, HYDROXYL, length, fix=0)
        assert np.isfinite(calculator.get_potential_energy(atoms))


def test_what_the_permutations_of_a_model_undo_is_no_other_order(potential):
    known = potential.model
    model = SGDML(known.config)
    swap = [0, 1, 2, METHYL, 4, 5, 6, HYDROXYL, 8]  # as if a hydrogen went to and fro, as in malonaldehyde
    group = torch.tensor([list(range(9)), swap])
    origin = known.origin_d[inverse_distances.permutations_of_pairs(group)].mean(dim=0)
    points = known.points_md + known.origin_d - origin
    model.put(fit.Fit(origin, points, known.weights_md, float(known.sigma)), group)
    exchanged = MLCalculator(Derived(model)).get_potential_energy(ethanol(with_atoms_exchanged((HYDROXYL, METHYL))))
    same = MLCalculator(Derived(model)).get_potential_energy(ethanol(with_atoms_exchanged()))
    assert exchanged == pytest.approx(same, abs=1e-9)
    with pytest.raises(DataError, match="another order"):
        MLCalculator(Derived(model)).get_potential_energy(ethanol(with_atoms_exchanged((HYDROXYL, 6))))


def test_the_same_number_of_bonds_does_not_make_the_same_molecule():
    """A ring of six that falls into two of three: every atom has two neighbours before and after."""
    angles = np.arange(6) * np.pi / 3
    ring = 1.4 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    triangle = 1.4 / 3**0.5 * np.stack([np.cos(2 * angles[:3]), np.sin(2 * angles[:3]), 0 * angles[:3]], axis=1)
    numbers, pairs = np.full(6, 6), np.tril_indices(6, -1)

    def distances(positions):
        return np.linalg.norm(positions[pairs[0]] - positions[pairs[1]], axis=1)

    known = order.known_bonds(distances(ring)[None], numbers)
    assert len(known.pairs) == 6
    assert order.exchanged(distances(np.concatenate([triangle, triangle + np.array([0, 0, 5])])), numbers, known) == ""
    assert "look at" in order.exchanged(distances(ring[[0, 2, 1, 3, 4, 5]]), numbers, known)


# ----- the package `sgdml` --------------------------------------------------------------------------------------------


def arrays(name):
    with np.load(ORACLE / name, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files if key not in ("md5_test", "f_err", "e_err")}


def test_a_model_of_the_package_predicts_what_it_predicts_there():
    potential, expected = read_npz(ORACLE / "model.npz"), arrays("predictions.npz")
    result = evaluate(potential, expected["R"])
    forces = expected["F"].reshape(-1, 3) * oracle.KCAL_MOL
    np.testing.assert_allclose(result.forces, forces, rtol=0, atol=1e-8 * np.abs(forces).max())
    np.testing.assert_allclose(result.energy, expected["E"] * oracle.KCAL_MOL, rtol=0, atol=1e-8)
    assert lookup("sgdml") is type(potential.model)


def test_solving_gives_the_forces_of_the_package():
    data, expected = arrays("data.npz"), arrays("predictions.npz")
    np.testing.assert_allclose(data["R"][:30], oracle.geometries(30), rtol=0, atol=1e-12)  # the same everywhere
    scale = float(data["F"][:30].std())
    known = [
        (from_atoms(ethanol(r), 30.0), Properties(energy=torch.tensor([e / scale]), forces=torch.from_numpy(f / scale)))
        for r, e, f in zip(data["R"][:30], data["E"][:30], data["F"][:30], strict=True)
    ]
    for keys, close in (({}, 1e-6), ({"solver": "iterative", "tolerance": 1e-9}, 1e-5)):
        model = SGDML(SGDMLConfig(numbers=NUMBERS, sigma=oracle.SIGMA, ridge=1e-10, **keys))
        model.solve(known, [], lambda _: None)
        result = evaluate(Derived(model, Baseline(energy_scale=scale)), expected["R"])
        forces = expected["F"].reshape(-1, 3)
        np.testing.assert_allclose(result.forces, forces, rtol=0, atol=close * np.abs(forces).max())
        np.testing.assert_allclose(result.energy, expected["E"], rtol=0, atol=close * np.ptp(expected["E"]))


def test_what_is_written_is_what_the_package_writes(tmp_path):
    write_npz(read_npz(ORACLE / "model.npz"), tmp_path / "model.npz")
    theirs = arrays("model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as ours:
        for name in ("z", "R_desc", "R_d_desc_alpha", "perms", "tril_perms_lin", "sig", "lam", "std", "c"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-14, err_msg=name)
        for name in ("type", "e_unit", "r_unit"):
            assert str(ours[name]) == str(theirs[name])


def test_units_of_a_model_file(tmp_path):
    """The same molecule in bohr and hartree is the same potential in Å and eV."""
    theirs, bohr, hartree = arrays("model.npz"), 0.529177210903, 27.211386245988
    in_atomic = {
        **theirs,
        "R_desc": theirs["R_desc"] * bohr,
        "R_d_desc_alpha": theirs["R_d_desc_alpha"] * bohr,
        "sig": theirs["sig"] * bohr,
        "std": theirs["std"] * oracle.KCAL_MOL / hartree,
        "c": theirs["c"] * oracle.KCAL_MOL / hartree,
        "e_unit": np.array("Ha"),
        "r_unit": np.array("bohr"),
    }
    np.savez(tmp_path / "model.npz", **in_atomic)
    positions = oracle.geometries(3)
    expected = evaluate(read_npz(ORACLE / "model.npz"), positions)
    result = evaluate(read_npz(tmp_path / "model.npz"), positions)
    torch.testing.assert_close(result.forces, expected.forces, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(result.energy, expected.energy, rtol=1e-6, atol=1e-6)
    electronvolt = read_npz(ORACLE / "model.npz", energy_unit="eV")
    torch.testing.assert_close(evaluate(electronvolt, positions).forces * oracle.KCAL_MOL, expected.forces)


def test_refused_model_files(tmp_path, potential):
    good = arrays("model.npz")

    def refused(match, **changed):
        kept = {name: value for name, value in {**good, **changed}.items() if value is not None}
        np.savez(tmp_path / "bad.npz", **kept)
        with pytest.raises(CheckpointError, match=match):
            read_npz(tmp_path / "bad.npz")

    refused("it has no R_desc", R_desc=None)
    refused("it has no type m", type=np.array("d"))
    refused("trained with energy constraints", alphas_E=np.zeros(3))
    refused("is periodic", lattice=np.eye(3))
    refused("do not fit together", z=good["z"][:8])
    refused("NaN or Inf", R_desc=np.full_like(good["R_desc"], np.nan))
    refused("e_unit is 'cal'; known are kcal/mol", e_unit=np.array("cal"))
    refused("damaged", sig=np.array(-1.0))
    refused("sig has shape", sig=np.array([1.0, 2.0]))
    refused("no numbers, in sig", sig=np.array("long"))
    refused("std, the scale of the energy, is 0", std=np.array(0.0))
    refused("NaN or Inf, or no numbers, in c", c=np.array(np.nan))
    refused("do not fit together", R_desc=good["R_desc"][0], R_d_desc_alpha=good["R_d_desc_alpha"][0])
    refused("counted from 0", perms=good["perms"] + 1)
    refused("counted from 0", perms=np.zeros_like(good["perms"]))
    refused("different elements", perms=np.roll(good["perms"], 1, axis=1))
    refused("plain arrays", perms=np.array([{"pickled": 1}], dtype=object))
    (tmp_path / "cut.npz").write_bytes((ORACLE / "model.npz").read_bytes()[:9000])
    with pytest.raises(CheckpointError, match="corrupt, truncated"):
        read_npz(tmp_path / "cut.npz")
    with pytest.raises(CheckpointError, match="no model file at"):
        read_npz(tmp_path / "none.npz")
    with pytest.raises(NotFittedError, match="nothing to write"):
        write_npz(Derived(SGDML(SGDMLConfig())), tmp_path / "x.npz")
    schnet = lookup("schnet")
    with pytest.raises(ModelError, match="holds models 'sgdml', got 'schnet'"):
        write_npz(Derived(schnet(schnet.Config())), tmp_path / "x.npz")
    with pytest.raises(ModelError, match="energy_unit is one of"):
        write_npz(potential, tmp_path / "x.npz", energy_unit="cal")
