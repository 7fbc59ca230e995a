"""`check_stresses`, `check_mechanics` and the verb ``check``: they pass what is right and catch what is wrong."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc100, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.calculators.mixing import SumCalculator
from ase.io import write
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import StillingerWeber as MatscipyForms
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si
from typer.testing import CliRunner

from ase_mlcalc import Derived, MLCalculator, virials
from ase_mlcalc.checkpoint import save
from ase_mlcalc.cli.verbs import app
from ase_mlcalc.model import lookup
from ase_mlcalc.models.lennard_jones import LennardJones, LennardJonesConfig
from ase_mlcalc.testing import ModelSubject, check_mechanics, check_stresses
from ase_mlcalc.testing.calculators import CalculatorSubject, measure_calculator
from ase_mlcalc.testing.measured import measure_all
from ase_mlcalc.testing.mechanics import check_float32


def argon(repeat=1):
    atoms = bulk("Ar", a=5.2, cubic=True) * (repeat, 1, 1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * np.random.default_rng(0).standard_normal((3, 3))), True)
    return atoms


def lennard_jones(**changes):
    config = {"species": (18,), "epsilon": 0.4, "sigma": 3.3, "cutoff": 7.0}
    return LennardJones(LennardJonesConfig(**config | changes))


def message_passing(**arguments):
    """A randomised model with two layers, in float64."""
    model_class = lookup("equivariant")
    small = {"n_interactions": 2, "features": 4, "edge_features": 4, "cutoff": 4.0, "mean_neighbors": 12.0}
    subject = ModelSubject(model_class, model_class.Config(species=(18,), **small))
    return MLCalculator(Derived(subject.model()), **arguments)


def outcomes(rows):
    return {row.name: row.outcome for row in rows}


def failed(rows):
    return {row.name for row in rows if row.outcome == "failed"}


def test_our_calculators_pass_everything():
    for rows in (check_stresses(MLCalculator(lennard_jones()), argon()), check_stresses(message_passing(), argon())):
        assert set(outcomes(rows).values()) == {"passed"}, [row for row in rows if row.outcome != "passed"]
        assert all(row.deviation <= row.tolerance for row in rows)


@pytest.mark.parametrize("definition", ["site", "heat"])
def test_every_definition_passes(definition):
    rows = check_stresses(message_passing(stress_definition=definition), argon())
    assert set(outcomes(rows).values()) == {"passed"}, [row for row in rows if row.outcome != "passed"]


def test_partly_periodic_slab_passes():
    slab = fcc100("Ar", (1, 1, 3), a=5.2, vacuum=4.0)
    slab.pbc = (True, True, False)
    rows = check_stresses(MLCalculator(lennard_jones()), slab)
    assert set(outcomes(rows).values()) == {"passed"}, [row for row in rows if row.outcome != "passed"]


def test_ase_lennard_jones_passes():
    rows = check_stresses(AseLennardJones(epsilon=0.4, sigma=3.3, rc=7.0, smooth=True), argon(), definition="site")
    assert outcomes(rows).pop("planes") == "skipped"
    assert not failed(rows)
    assert outcomes(rows)["site_energies"] == "passed"


def test_matscipy_is_site():
    calculator = Manybody(**MatscipyForms(Stillinger_Weber_PRB_31_5262_Si))
    if "stresses" not in calculator.implemented_properties:
        pytest.skip("this matscipy has no per-atom stress: matscipy >= 1.3.1")
    rows = check_stresses(calculator, bulk("Si", cubic=True), definition="site")
    assert outcomes(rows)["site_energies"] == "passed"
    assert outcomes(rows)["sum_over_atoms"] == "passed"


def test_skips_say_why():
    rows = {row.name: row for row in check_stresses(EMT(), bulk("Cu", cubic=True))}
    assert rows["finite_strain"].outcome == "passed"
    assert "stresses: not implemented" in rows["sum_over_atoms"].reason
    assert "does not say" in rows["site_energies"].reason
    assert "edge gradients" in rows["planes"].reason
    for row in check_stresses(MLCalculator(lennard_jones()), Atoms("Ar2", [[0, 0, 0], [0, 0, 3.5]])):
        assert row.outcome == "skipped"
        assert row.reason


class Spoiled(AseLennardJones):
    """A calculator with one mistake."""

    def __init__(self, mistake):
        super().__init__(epsilon=0.4, sigma=3.3, rc=7.0, smooth=True)
        self.mistake = mistake

    def calculate(self, atoms=None, properties=None, system_changes=None):
        super().calculate(atoms, properties, system_changes or ["positions"])
        self.mistake(self.results, atoms)


def per_atom_volume(results, atoms):
    results["stresses"] = results["stresses"] * len(atoms)


def other_sign(results, atoms):
    results["stress"], results["stresses"] = -results["stress"], -results["stresses"]


def other_order(results, atoms):
    for name in ("stress", "stresses"):
        results[name] = results[name][..., [0, 1, 2, 5, 3, 4]]


def wrapped_wrongly(results, atoms):
    inside = (atoms.get_scaled_positions(wrap=False) >= 0).all(axis=1) & (
        atoms.get_scaled_positions(wrap=False) < 1
    ).all(axis=1)
    results["stresses"] = results["stresses"] * np.where(inside, 1.0, 1.1)[:, None]


def site_of_the_neighbor(results, atoms):
    shift = 0.1 * results["stresses"][:, :1] * np.array([1.0, 0, 0, 0, 0, 0])
    results["stresses"] = results["stresses"] + shift - np.roll(shift, 1, axis=0)


def index_dependent(results, atoms):
    part = 1e-3 * np.linspace(-1, 1, len(atoms))[:, None] * np.eye(3).ravel()[[0, 4, 8, 5, 2, 1]]
    results["stresses"] = results["stresses"] + part


@pytest.mark.parametrize(
    ("mistake", "caught_by"),
    [
        (per_atom_volume, "sum_over_atoms"),
        (other_sign, "finite_strain"),
        (other_order, "rotated"),
        (other_order, "finite_strain"),
        (wrapped_wrongly, "translated_and_wrapped"),
        (site_of_the_neighbor, "site_energies"),
        (index_dependent, "one_atom_crystal"),
        (index_dependent, "supercell"),
    ],
)
def test_mistakes_are_caught(mistake, caught_by):
    rows = check_stresses(Spoiled(mistake), argon(), definition="site")
    assert caught_by in failed(rows)
    row = next(row for row in rows if row.name == caught_by)
    assert row.deviation > row.tolerance
    assert row.reason


def test_planes_catch_forces_that_are_not_those_of_the_edges(monkeypatch):
    calculator = MLCalculator(lennard_jones())
    original = calculator.get_property

    def spoiled(name, atoms=None, allow_calculation=True):
        value = original(name, atoms, allow_calculation)
        return value * 1.001 if name == "forces" else value

    monkeypatch.setattr(calculator, "get_property", spoiled)
    assert failed(check_stresses(calculator, argon())) == {"planes"}


# ----- energies and forces -----


def test_mechanics_pass():
    rows = check_mechanics(MLCalculator(lennard_jones()), argon())
    assert set(outcomes(rows).values()) == {"passed"}, [row for row in rows if row.outcome != "passed"]
    rows = check_mechanics(message_passing(), argon())
    assert not failed(rows), [row for row in rows if row.outcome == "failed"]
    assert outcomes(check_mechanics(EMT(), molecule("H2O")))["curl"] == "passed"
    rows = check_mechanics(SumCalculator([EMT(), EMT()]), molecule("H2O"))  # which has no reset
    assert not failed(rows), [row for row in rows if row.outcome == "failed"]


def test_float32_is_checked_by_the_definition_of_the_calculator(monkeypatch):
    exact = virials.DEFINITIONS["other"].virials

    def noisy(potential, graph):
        return exact(potential, graph) * (1.0 if potential.dtype == torch.float64 else 1.01)

    monkeypatch.setitem(virials.DEFINITIONS, "other", virials.DEFINITIONS["other"]._replace(virials=noisy))
    for definition, caught in (("edge", set()), ("other", {"float32"})):
        calculator = MLCalculator(lennard_jones(), stress_definition=definition)
        subject = CalculatorSubject(calculator, argon(), only=("stress", "stresses"))
        assert failed(measure_all((check_float32,), subject)) == caught


def test_float32_is_checked_of_a_potential_that_has_a_kernel(tmp_path):
    """A checkpoint of `equivariant` is loaded with its kernel, which has one precision."""
    model = lookup("equivariant")
    save(Derived(model(model.Config(species=(18,), features=4)).double()), tmp_path / "model.safetensors")
    calculator = MLCalculator(tmp_path / "model.safetensors")
    assert calculator.potential.compiled is not None
    subject = CalculatorSubject(calculator, argon(), only=("energy", "forces"))
    assert outcomes(measure_all((check_float32,), subject)) == {"float32": "passed"}


def test_a_cutoff_that_jumps_is_caught(monkeypatch):
    def truncated(self, squared_p, u_p):
        return torch.where(squared_p < self.config.cutoff**2, u_p, 0.0)

    monkeypatch.setattr(LennardJones, "_cut_off", truncated)
    rows = check_mechanics(MLCalculator(lennard_jones()), argon())
    assert failed(rows) == {"smooth_at_cutoff"}


def test_a_model_without_energy_or_forces_is_skipped_where_these_are_needed():
    model_class = lookup("stress_equivariant")
    small = {"features": 4, "edge_features": 4, "cutoff": 4.0, "mean_neighbors": 12.0}
    calculator = MLCalculator(ModelSubject(model_class, model_class.Config(species=(18,), **small)).model())
    assert {"forces", "curl", "extensive", "smooth_at_cutoff"} <= {
        row.name for row in check_mechanics(calculator, argon()) if row.outcome == "skipped"
    }
    rows = outcomes(check_stresses(calculator, argon()))
    assert rows["rotated"] == rows["sum_over_atoms"] == rows["supercell"] == "passed"
    assert rows["finite_strain"] == rows["planes"] == "skipped"
    flat = argon()
    flat.cell[2], flat.pbc = flat.cell[0], False
    with_nothing_to_compare = {"translation", "rotation", "cached", "not_stale", "order_of_asking", "sum_rules"}
    skipped = {row.name for row in measure_calculator(calculator, flat) if row.outcome == "skipped"}
    assert skipped >= with_nothing_to_compare


def test_a_declared_jump_is_skipped():
    rows = {row.name: row for row in check_mechanics(MLCalculator(lennard_jones(smooth=False)), argon())}
    assert "declares that it is not smooth" in rows["smooth_at_cutoff"].reason


def swirl(results, atoms):
    """Forces with a curl: turned about an axis through the cell."""
    away = atoms.positions - atoms.positions[0]
    results["forces"] = results["forces"] + 0.05 * np.cross([0.0, 0.0, 1.0], away)


def offset(results, atoms):
    results["energy"] += 1.0
    results["free_energy"] += 1.0


@pytest.mark.parametrize(("mistake", "caught_by"), [(swirl, "curl"), (swirl, "forces"), (offset, "extensive")])
def test_mechanical_mistakes_are_caught(mistake, caught_by):
    assert caught_by in failed(check_mechanics(Spoiled(mistake), argon()))


def test_two_evaluations_are_caught():
    calculator = Spoiled(lambda *_: None)
    original = calculator.calculate

    def only_what_is_asked(atoms=None, properties=None, system_changes=None):
        original(atoms, properties, system_changes)
        calculator.results = {name: calculator.results[name] for name in properties}

    calculator.calculate = only_what_is_asked
    assert "one_evaluation" in failed(check_mechanics(calculator, argon()))


# ----- the verb -----


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "argon.extxyz", argon())
    save(Derived(lennard_jones()), tmp_path / "model.safetensors")
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["check", *map(str, words)])


def test_verb_on_a_checkpoint(files):
    result = run(files / "model.safetensors", files / "argon.extxyz", "--json", files / "checks.json")
    assert result.exit_code == 0, result.output
    assert "one atom crystal" in result.output
    report = json.loads((files / "checks.json").read_text())
    assert report["passed"]
    assert report["stress_definition"] == "edge"
    assert report["precision"] == "float64"
    assert report["model"] == str(files / "model.safetensors")
    assert {check["group"] for check in report["checks"]} == {
        "calculator",
        "energy and forces",
        "stress",
        "bonds and dimers",
    }
    assert all(check["outcome"] == "passed" for check in report["checks"])


def test_verb_on_an_import_path_that_fails(files, monkeypatch):
    monkeypatch.syspath_prepend(str(files))
    (files / "wrong.py").write_text(
        "from ase.calculators.lj import LennardJones\n"
        "class Wrong(LennardJones):\n"
        "    def calculate(self, atoms=None, properties=None, system_changes=['positions']):\n"
        "        super().calculate(atoms, properties, system_changes)\n"
        "        self.results['stress'] = -self.results['stress']\n"
    )
    arguments = [
        "--argument",
        "epsilon=0.4",
        "--argument",
        "sigma=3.3",
        "--argument",
        "rc=7.0",
        "--argument",
        "smooth=true",
    ]
    result = run("ase.calculators.lj:LennardJones", files / "argon.extxyz", *arguments, "--no-scans")
    assert result.exit_code == 0, result.output
    result = run("wrong:Wrong", files / "argon.extxyz", *arguments, "--no-scans", "--json", files / "checks.json")
    assert result.exit_code == 1
    report = json.loads((files / "checks.json").read_text())
    assert not report["passed"]
    wrong = {check["name"] for check in report["checks"] if check["outcome"] == "failed"}
    assert {"finite_strain", "sum_over_atoms"} <= wrong
