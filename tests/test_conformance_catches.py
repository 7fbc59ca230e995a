"""Models, derivatives and calculators broken on purpose: the suites see each, by the check that it should be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones as AseLennardJones
from torch import nn

from ase_mlcalc import model as model_module
from ase_mlcalc import potential as potential_module
from ase_mlcalc.model import Model, ModelConfig, SpeciesIndex, lookup, registered
from ase_mlcalc.nn.radial import GaussianBasis, envelope
from ase_mlcalc.properties import Properties
from ase_mlcalc.testing import CheckFailure, check_calculator, check_model, structures, temporary_models
from ase_mlcalc.testing.model_checks import atomic_stress
from ase_mlcalc.testing.models import applicable_checks
from ase_mlcalc.testing.outcome import Judge
from ase_mlcalc.testing.subject import ModelSubject


class ToyConfig(ModelConfig):
    """A few numbers."""

    features: int = 8


# ----- a sound model, and pieces to break it with ---------------------------------------------------------------------


def edges(model, graph):
    """(E, F) what each edge contributes to its centre."""
    d_p = torch.linalg.vector_norm(graph.vectors, dim=1)
    filters_pf = model.basis(d_p) @ model.weights * envelope(d_p, model.config.cutoff)[:, None]
    return filters_pf * model.embedding(model.index(graph.numbers))[graph.neighbors]


def density(model, graph):
    """(N, F) sums over neighbours."""
    m_pf = edges(model, graph)
    return m_pf.new_zeros(graph.n_atoms, m_pf.shape[1]).index_add(0, graph.centers, m_pf)


def sound(model, graph):
    return model.readout(density(model, graph)).squeeze(-1)


def toy(energies=sound, *, start=None, outputs="energies", **flags):
    """A model class with this function as its energies."""

    class Toy(Model, name="toy", outputs={outputs}):
        Config = ToyConfig

        def __init__(self, config):
            super().__init__(config)
            self.index = SpeciesIndex(config.species)
            self.embedding = nn.Embedding(len(config.species), config.features)
            self.basis = GaussianBasis(12, config.cutoff)
            self.weights = nn.Parameter(torch.randn(12, config.features))
            self.readout = nn.Sequential(nn.Linear(config.features, 16), nn.SiLU(), nn.Linear(16, 1))
            if start is not None:
                start(self)

        def forward(self, graph):
            return Properties(energies=energies(self, graph))

    for flag, value in flags.items():
        setattr(Toy, flag, value)
    return Toy


@pytest.fixture(autouse=True)
def _no_trace_in_the_registry():
    with temporary_models():
        yield


def test_temporary_models_are_forgotten():
    before = registered()
    with temporary_models():
        toy()
        assert "toy" in model_module._REGISTRY
    assert registered() == before


def test_sound_model_passes():
    results = check_model(toy())
    assert {result.name for result in results if result.outcome == "skipped"} == {
        "declared_not_equivariant",
        "declared_not_local",
        "declared_positions",
        "solves",
        "compile",
        "export",
        "energy_conservation",
    }
    assert all(result.reason for result in results if result.outcome == "skipped")


DEPTHS = {
    "stress_equivariant": ("n_interactions", 0, 1),
    "stress_gat": ("n_blocks", 1, 2),
    "stress_pointcloud": ("n_layers", 1, 2),
    "tensor_field": ("layers", (8,), (8, 8)),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_depth_is_checked_whatever_is_given_to_atoms(name):
    model_class = lookup(name)
    key, *values = DEPTHS[name]
    for value in values:
        config = model_class.Config.model_validate({"species": structures.SPECIES, key: value})
        assert any(check.name == "depth" for check in applicable_checks(model_class, config))
        subject = ModelSubject(model_class, config)
        atomic_stress.check_depth(subject, Judge("depth"))
        model = subject.model()
        subject.model = lambda model=model: model
        right = model.depth
        for wrong in (right - 1, right + 1):
            model.depth = wrong
            with pytest.raises(CheckFailure, match="that its first atom feels"):
                atomic_stress.check_depth(subject, Judge("depth"))


# ----- models ---------------------------------------------------------------------------------------------------------


def hard_cutoff(model, graph):
    d_p = torch.linalg.vector_norm(graph.vectors, dim=1)
    return sound(model, graph) + d_p.new_zeros(graph.n_atoms).index_add(0, graph.centers, torch.exp(-d_p))


def mutated_graph(model, graph):
    energies = sound(model, graph)
    graph.positions.sub_(0.5)
    return energies


def noise(model, graph):
    return sound(model, graph) * (1 + 1e-6 * torch.rand(()).double())


def no_forces(model, graph):
    return 0 * sound(model, graph)


def no_forces_but_an_energy(model, graph):
    return sound(model, graph).detach() + 0 * sound(model, graph)


def prefers_x(model, graph):
    m_pf = edges(model, graph) * (1 + 0.1 * graph.vectors[:, :1])
    return model.readout(m_pf.new_zeros(graph.n_atoms, m_pf.shape[1]).index_add(0, graph.centers, m_pf)).squeeze(-1)


def knows_left_from_right(model, graph):
    """A triple product: rotations leave it alone, mirrors change its sign."""
    m_pf = edges(model, graph)
    arms = [(m_pf[:, k : k + 1] * graph.vectors) for k in range(3)]
    a, b, c = (arm.new_zeros(graph.n_atoms, 3).index_add(0, graph.centers, arm) for arm in arms)
    return sound(model, graph) + (a * torch.linalg.cross(b, c)).sum(dim=1)


def absolute_positions(model, graph):
    return sound(model, graph) + 1e-3 * graph.positions.to(model.dtype).square().sum(dim=1)


def counts_crossed_cells(model, graph):
    return sound(model, graph) + 1e-3 * graph.shifts.abs().sum().to(model.dtype)


def mean_over_no_neighbors(model, graph):
    count = torch.bincount(graph.centers, minlength=graph.n_atoms)[:, None]
    return model.readout(density(model, graph) / count).squeeze(-1)


def mean_over_the_batch(model, graph):
    energies = sound(model, graph)
    return energies - 0.1 * energies.mean()


def divides_by_number_of_atoms(model, graph):
    energies = sound(model, graph)
    silent = model.readout(torch.zeros(1, model.config.features, dtype=energies.dtype)).squeeze()
    return silent + (energies - silent) / torch.bincount(graph.system)[graph.system]


def order_of_atoms(model, graph):
    m_pf = edges(model, graph) * (1 + 0.1 * (graph.neighbors > graph.centers)[:, None])
    return model.readout(m_pf.new_zeros(graph.n_atoms, m_pf.shape[1]).index_add(0, graph.centers, m_pf)).squeeze(-1)


def half_detached(model, graph):
    return sound(model, graph) + sound(model, graph._replace(vectors=graph.vectors.detach()))


def rounded(model, graph):
    # torch.round has no gradient: forces are those without rounding
    energies = sound(model, graph)
    return energies + (torch.round(energies.detach(), decimals=5) - energies.detach())


def frozen_filters(model, graph):
    d_p = torch.linalg.vector_norm(graph.vectors, dim=1)
    m_pf = model.basis(d_p) @ model.weights.detach() * envelope(d_p, model.config.cutoff)[:, None]
    m_pf = m_pf * model.embedding(model.index(graph.numbers))[graph.neighbors]
    return model.readout(m_pf.new_zeros(graph.n_atoms, m_pf.shape[1]).index_add(0, graph.centers, m_pf)).squeeze(-1)


def wrong_shape(model, graph):
    return sound(model, graph)[:, None]


def wrong_dtype(model, graph):
    return sound(model, graph).double()


def reads_a_file(model):
    Path(__file__).read_text(encoding="utf-8")


def forgets_a_weight(model):
    model.register_buffer("shake", torch.rand(12, model.config.features), persistent=False)


def with_forgotten_weight(model, graph):
    d_p = torch.linalg.vector_norm(graph.vectors, dim=1)
    m_p = (model.basis(d_p) @ model.shake).sum(dim=1) * envelope(d_p, model.config.cutoff)
    return sound(model, graph) + m_p.new_zeros(graph.n_atoms).index_add(0, graph.centers, m_p)


def cannot_learn(model, graph):
    """A large potential that nothing adjusts, and a small one that is trained."""
    d_p = torch.linalg.vector_norm(graph.vectors, dim=1)
    wall_p = 5 * torch.exp(-d_p) * envelope(d_p, model.config.cutoff)
    return 1e-3 * sound(model, graph) + d_p.new_zeros(graph.n_atoms).index_add(0, graph.centers, wall_p)


BROKEN = {
    "hard cutoff": (toy, {"energies": hard_cutoff}, "smooth_at_cutoff"),
    "mutated graph": (toy, {"energies": mutated_graph}, "inputs_untouched"),
    "noise": (toy, {"energies": noise}, "inputs_untouched"),
    "zero energy": (toy, {"energies": no_forces}, "forces"),
    "zero forces": (toy, {"energies": no_forces_but_an_energy}, "forces"),
    "half of the forces": (toy, {"energies": half_detached}, "forces"),
    "rounded energy": (toy, {"energies": rounded}, "forces"),
    "prefers a direction": (toy, {"energies": prefers_x}, "rotation"),
    "changed by mirrors only": (toy, {"energies": knows_left_from_right}, "rotation"),
    "says not equivariant but is": (toy, {"equivariant": False}, "declared_not_equivariant"),
    "absolute positions": (toy, {"energies": absolute_positions}, "sees_only_vectors"),
    "shifts": (toy, {"energies": counts_crossed_cells}, "sees_only_vectors"),
    "NaN without neighbours": (toy, {"energies": mean_over_no_neighbors}, "outputs"),
    "wrong shape": (toy, {"energies": wrong_shape}, "outputs"),
    "wrong dtype": (toy, {"energies": wrong_dtype}, "outputs"),
    "other outputs than declared": (toy, {"outputs": "forces"}, "outputs"),
    "mean over the batch": (toy, {"energies": mean_over_the_batch}, "batch_equals_single"),
    "not size consistent": (toy, {"energies": divides_by_number_of_atoms}, "far_apart"),
    "order of atoms": (toy, {"energies": order_of_atoms}, "permutation"),
    "filters without gradient": (toy, {"energies": frozen_filters}, "double_backward"),
    "hardly trainable": (toy, {"energies": cannot_learn}, "learns"),
    "reads a file": (toy, {"start": reads_a_file}, "constructs"),
    "forgets a weight": (toy, {"start": forgets_a_weight, "energies": with_forgotten_weight}, "save_load"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_model_is_caught(case):
    make, arguments, expected = BROKEN[case]
    with pytest.raises(CheckFailure) as failure:
        check_model(make(**arguments))
    assert failure.value.name == expected, str(failure.value)
    assert str(failure.value).startswith(f"{expected}: ")


def test_model_that_says_it_is_not_equivariant_and_is_not_passes():
    check_model(toy(prefers_x, equivariant=False))


# ----- the physics of derivatives -------------------------------------------------------------------------------------


def wrong_force_sign(graph, g_pc):
    forces, stresses = sound_mechanics(graph, g_pc)
    return -forces, stresses


def zero_forces(graph, g_pc):
    forces, stresses = sound_mechanics(graph, g_pc)
    return torch.zeros_like(forces), stresses


def force_on_centers_only(graph, g_pc):
    _, stresses = sound_mechanics(graph, g_pc)
    return g_pc.new_zeros(graph.n_atoms, 3).index_add(0, graph.centers, g_pc), stresses


def half_of_the_virial(graph, g_pc):
    """Each edge gives its half to its centre, and nobody gets the other half."""
    forces, _ = sound_mechanics(graph, g_pc)
    w_pab = 0.5 * graph.vectors.detach()[:, :, None] * g_pc[:, None, :]
    virials = 0.5 * (w_pab + w_pab.mT).new_zeros(graph.n_atoms, 3, 3).index_add(0, graph.centers, w_pab + w_pab.mT)
    return forces, potential_module.per_volume(graph, virials)


def virial_instead_of_stress(graph, g_pc):
    forces, stresses = sound_mechanics(graph, g_pc)
    return forces, -stresses


def without_volume(graph, g_pc):
    forces, stresses = sound_mechanics(graph, g_pc)
    return forces, stresses * torch.linalg.det(graph.cell).abs()[graph.system][:, None, None]


def zeros_for_unknown(graph, g_pc):
    forces, stresses = sound_mechanics(graph, g_pc)
    return forces, stresses.nan_to_num()


sound_mechanics = potential_module.edge_mechanics
MECHANICS = {
    wrong_force_sign: "forces",
    zero_forces: "forces",
    force_on_centers_only: "forces",
    half_of_the_virial: "stress",
    virial_instead_of_stress: "stress",
    without_volume: "stress",
    zeros_for_unknown: "nonperiodic_in_batch",
}


@pytest.mark.parametrize("broken", MECHANICS, ids=lambda broken: broken.__name__)
def test_broken_mechanics_are_caught(monkeypatch, broken):
    monkeypatch.setattr(potential_module, "edge_mechanics", broken)
    failing = failing_checks(toy())
    assert MECHANICS[broken] in failing, failing
    assert failing.isdisjoint({"constructs", "outputs", "isolated_atom", "batch_equals_single", "rotation"}), failing


def test_missing_reference_of_the_isolated_atom_is_caught(monkeypatch):
    def zeros(model, device):
        return torch.zeros(len(model.config.species), dtype=model.dtype, device=device)

    monkeypatch.setattr(potential_module, "isolated_energies", zeros)
    assert {"isolated_atom", "no_edges"} <= failing_checks(toy())


def failing_checks(model_class):
    from ase_mlcalc.testing import ModelSubject, applicable_checks

    subject, failing = ModelSubject(model_class), set()
    for check in applicable_checks(model_class):
        if check.name == "learns":
            continue
        try:
            check.run(subject)
        except CheckFailure as failure:
            failing.add(failure.name)
    return failing


# ----- calculators ----------------------------------------------------------------------------------------------------

ARGON = bulk("Ar", "fcc", a=5.0, cubic=True)
CLUSTER = Atoms("Ar5", [*ARGON.positions.tolist(), [2.0, 2.5, 5.0]])
CHAIN = Atoms(CLUSTER, cell=[12, 0, 0], pbc=(True, False, False))


class Changed(AseLennardJones):
    """A sound calculator whose results are changed by a function."""

    def __init__(self, change):
        super().__init__(epsilon=0.1, sigma=3.0, rc=9.0, ro=5.0, smooth=True)
        self.change = change

    def calculate(self, atoms=None, properties=None, system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.change(self.results, atoms, properties)


def test_sound_calculator_passes():
    for atoms in (ARGON, CLUSTER, CHAIN):
        results = check_calculator(Changed(lambda *_: None), atoms)
        skipped = {result.name for result in results if result.outcome == "skipped"}
        assert skipped == (set() if atoms is ARGON else {"stress"})


def flip_forces(results, *_):
    results["forces"] = -results["forces"]


def no_forces_at_all(results, *_):
    results["forces"] = 0 * results["forces"]


def lammps_order(results, *_):
    if "stress" in results:
        results["stress"] = results["stress"][[0, 1, 2, 5, 4, 3]]


def stresses_per_atomic_volume(results, *_):
    if "stresses" in results:
        results["stresses"] = results["stresses"] * len(results["stresses"])


def foreign_key(results, *_):
    results["node_energy"] = results["energies"]


def nine_components(results, *_):
    if "stresses" in results:
        results["stresses"] = np.ones((len(results["stresses"]), 9))


def moves_atoms(results, atoms, *_):
    atoms.positions -= 0.01


def stress_depends_on_the_first_question(results, atoms, properties):
    if "stress" in results and properties[0] == "energy":
        results["stress"] = 1.01 * results["stress"]


def zeros_for_molecules(results, *_):
    results.setdefault("stress", np.zeros(6))
    results.setdefault("stresses", np.zeros((len(results["forces"]), 6)))


def uniform_field(results, atoms, *_):
    add_energy(results, 0.01 * atoms.positions[:, 0].sum())
    results["forces"] = results["forces"] - np.array([0.01, 0, 0])


def order_matters(results, atoms, *_):
    arm = atoms.positions[0] - atoms.positions[1]
    add_energy(results, 0.01 * arm @ arm)
    results["forces"] = results["forces"].copy()
    results["forces"][0] -= 0.02 * arm
    results["forces"][1] += 0.02 * arm


def squeezes_along_y(results, atoms, *_):
    y = atoms.positions[:, 1] - atoms.positions[:, 1].mean()
    add_energy(results, 0.01 * (y**2).sum())
    results["forces"] = results["forces"].copy()
    results["forces"][:, 1] -= 0.02 * y


def add_energy(results, extra):
    results["energy"] = float(results["energy"] + extra)
    results["free_energy"] = results["energy"]
    results["energies"] = results["energies"] + extra / len(results["energies"])


CHANGES = [
    (flip_forces, ARGON, "forces"),
    (no_forces_at_all, ARGON, "forces"),
    (lammps_order, ARGON, "stress"),
    (stresses_per_atomic_volume, ARGON, "sum_rules"),
    (foreign_key, ARGON, "results"),
    (nine_components, ARGON, "results"),
    (moves_atoms, ARGON, "atoms_untouched"),
    (stress_depends_on_the_first_question, ARGON, "order_of_asking"),
    (zeros_for_molecules, ARGON, "no_volume"),
    (uniform_field, CLUSTER, "sum_rules"),
    (squeezes_along_y, CLUSTER, "sum_rules"),
    (order_matters, CLUSTER, "permutation"),
    (squeezes_along_y, CHAIN, "rotation"),
]


@pytest.mark.parametrize(("change", "atoms", "expected"), CHANGES)
def test_broken_calculator_is_caught(change, atoms, expected):
    with pytest.raises(CheckFailure) as failure:
        check_calculator(Changed(change), atoms)
    assert failure.value.name == expected, str(failure.value)


class Stale(AseLennardJones):
    """Never looks whether the atoms moved."""

    def check_state(self, atoms, tol=1e-15):
        return [] if self.results else super().check_state(atoms, tol)


class Forgetful(AseLennardJones):
    """Throws its results away."""

    def get_property(self, name, atoms=None, allow_calculation=True):
        value = super().get_property(name, atoms, allow_calculation)
        self.results = {}
        return value


class Exposed(AseLennardJones):
    """Hands out its own arrays instead of copies."""

    def get_property(self, name, atoms=None, allow_calculation=True):
        super().get_property(name, atoms, allow_calculation)
        return self.results[name]


class ForcesForEver(AseLennardJones):
    """Has forces only, and those of the first structure."""

    implemented_properties = ["forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=None, system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.kept = getattr(self, "kept", self.results["forces"])
        self.results = {"forces": self.kept.copy()}


class CellForEver(AseLennardJones):
    """Puts atoms into the first cell that it saw."""

    def calculate(self, atoms=None, properties=None, system_changes=()):
        self.cell = getattr(self, "cell", atoms.cell.copy())
        inside = atoms.copy()
        inside.cell = self.cell if atoms.pbc.any() else atoms.cell
        super().calculate(inside, properties, system_changes)
        self.atoms = atoms.copy()


class StressForEver(AseLennardJones):
    """Looks for atoms that moved, and gives the first stress after the cell has changed."""

    def calculate(self, atoms=None, properties=None, system_changes=()):
        super().calculate(atoms, properties, system_changes)
        if "cell" in system_changes and "positions" in system_changes and "stress" in self.results:
            self.kept = getattr(self, "kept", self.results["stress"])
            self.results["stress"] = self.kept.copy()


@pytest.mark.parametrize(
    ("calculator", "expected"),
    [
        (Stale, "not_stale"),
        (ForcesForEver, "not_stale"),
        (CellForEver, "not_stale"),
        (StressForEver, "not_stale"),
        (Exposed, "cached"),
        (Forgetful, "cached"),
    ],
)
def test_calculator_with_broken_cache_is_caught(calculator, expected):
    with pytest.raises(CheckFailure) as failure:
        check_calculator(calculator(epsilon=0.1, sigma=3.0, smooth=True), ARGON)
    assert failure.value.name == expected, str(failure.value)


def test_numbers_that_are_not_finite_are_never_close():
    judge = Judge("numbers")
    judge.close("NaN in the same place", [1.0, np.nan], [1.0, np.nan], 1e-9)
    for got, expected in (([1.0, np.inf], [2.0, np.inf]), ([1.0], [np.inf]), ([-np.inf], [1.0]), ([np.nan], [1.0])):
        with pytest.raises(CheckFailure, match="numbers: energies"):
            judge.close("energies", got, expected, 1e-9)
