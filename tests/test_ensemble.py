"""Ensembles: mean and standard deviation as numpy has them, one file, extras that belong to the results."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.verlet import VelocityVerlet
from ase.units import fs
from safetensors import safe_open
from safetensors.torch import save_file

from ase_mlcalc import checkpoint
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.ensemble import Ensemble, mean_and_std, models_of, spread
from ase_mlcalc.ensemble_calculator import EnsembleCalculator
from ase_mlcalc.errors import CheckpointError, ConfigError, NumericalError
from ase_mlcalc.graph import collate, from_atoms
from ase_mlcalc.model import Model, ModelConfig
from ase_mlcalc.models.lennard_jones import LennardJones, LennardJonesConfig
from ase_mlcalc.models.schnet import SchNet, SchNetConfig
from ase_mlcalc.potential import Baseline, Derived
from ase_mlcalc.properties import Properties
from ase_mlcalc.testing import check_calculator, temporary_models

NAMES = ("energy", "energies", "forces", "stress", "stresses")


def member(seed=0, dtype=torch.float64, species=(11, 17), cutoff=4.0) -> Derived:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = SchNetConfig(species=species, cutoff=cutoff, features=8, n_interactions=1, n_gaussians=8)
        model = SchNet(config).to(dtype)
    return Derived(model, Baseline({11: -1.0 - seed, 17: -2.0}, energy_scale=0.8 + 0.1 * seed))


def three(**options) -> Ensemble:
    return Ensemble([member(seed) for seed in range(3)], **options)


def crystal() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=4.4, cubic=True)
    rng = np.random.default_rng(0)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.04 * rng.standard_normal((3, 3))), scale_atoms=True)
    atoms.positions += 0.1 * rng.standard_normal(atoms.positions.shape)
    return atoms


def graph(atoms=None):
    return from_atoms(crystal() if atoms is None else atoms, 4.0)


# ----- mean and standard deviation ------------------------------------------------------------------------------------


def test_mean_and_standard_deviation_are_those_of_numpy():
    ensemble = three()
    each = [one(graph()) for one in ensemble.members]
    mean, std = ensemble.predict_with_std(graph())
    for name in NAMES:
        values = np.stack([getattr(one, name).numpy() for one in each])
        assert np.abs(values.std(axis=0)).max() > 1e-5, name
        np.testing.assert_allclose(getattr(mean, name), values.mean(axis=0), rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(getattr(std, name), values.std(axis=0, ddof=1), rtol=1e-12)
        assert torch.equal(getattr(ensemble(graph()), name), getattr(mean, name))


def test_forces_of_an_ensemble_are_the_derivative_of_its_energy():
    check_calculator(MLCalculator(three()), crystal())


def test_the_spread_does_not_depend_on_the_point_of_view():
    rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    turned = crystal()
    turned.set_cell(turned.cell.array @ rotation, scale_atoms=True)
    (_, std), (_, std_turned) = three().predict_with_std(graph()), three().predict_with_std(graph(turned))
    assert (std.forces - std_turned.forces).abs().max() > 1e-4  # components do
    for name in ("forces", "stresses", "stress"):
        torch.testing.assert_close(spread(getattr(std, name)), spread(getattr(std_turned, name)), rtol=1e-9, atol=1e-12)


def test_structures_of_a_batch_do_not_see_each_other():
    alone = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]])
    together = three().predict_with_std(collate([graph(), graph(alone)]))
    for both, one in zip(together, three().predict_with_std(graph()), strict=True):
        torch.testing.assert_close(both.forces[:8], one.forces, rtol=1e-9, atol=1e-12)
        assert both.stress[1].isnan().all()
        assert not both.stress[0].isnan().any()


with temporary_models():

    class Push(Model, name="test_push", outputs={"forces"}):
        """Forces without an energy."""

        class Config(ModelConfig):
            strength: float = 1.0

        def forward(self, graph):
            at_n = graph.vectors.new_zeros(graph.n_atoms, 3)
            return Properties(forces=-self.config.strength * at_n.index_add(0, graph.centers, graph.vectors))

    class Pull(Model, name="test_pull", outputs={"stresses"}):
        """Stress only."""

        Config = type("Config", (ModelConfig,), {"__module__": __name__})

        def forward(self, graph):
            return Properties(stresses=graph.vectors.new_zeros(graph.n_atoms, 3, 3))


def test_members_of_different_families_give_what_they_have_in_common():
    push = Derived(Push(Push.Config(species=(11, 17), cutoff=4.0)))
    mixed = Ensemble([member(), push])
    assert mixed.properties == {"forces"}
    expected = 0.5 * (member()(graph()).forces + push(graph()).forces)
    torch.testing.assert_close(mixed(graph()).forces, expected)
    assert mixed(graph()).energy is None
    calculator = MLCalculator(mixed)
    assert calculator.implemented_properties == ["forces"]
    with pytest.raises(ConfigError, match=r"no property in common \(member 1: forces; member 2: stress, stresses\)"):
        Ensemble([push, Derived(Pull(Pull.Config(species=(11, 17), cutoff=4.0)))])


def test_what_is_no_ensemble_is_refused():
    with pytest.raises(ConfigError, match="at least two members, got 1"):
        Ensemble([member()])
    with pytest.raises(ConfigError, match="at least two members, got 0"):
        Ensemble([])
    with pytest.raises(ConfigError, match="twice"):
        Ensemble([one := member(), one])
    with pytest.raises(ConfigError, match=r"different species \(member 1: Na, Cl; member 2: Na; .*model\.species"):
        Ensemble([member(), member(1, species=(11,)), member(2)])
    with pytest.raises(ConfigError, match=r"different cutoffs \(member 1: 4 Å; member 2: 4.5 Å\).*EnsembleCalculator"):
        Ensemble([member(), member(1, cutoff=4.5)])
    with pytest.raises(ConfigError, match="member 2 of the ensemble is a SchNet, not a potential"):
        Ensemble([member(), member(1).model])
    for scale in ({"forces": 0.0}, {"forces": float("nan")}, {"energy": 2.0}):
        with pytest.raises(ConfigError, match="uncertainty_scale"):
            three(uncertainty_scale=scale)
    with pytest.raises(ValueError, match="at least two"):
        mean_and_std([Properties()])


# ----- one file -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_an_ensemble_gives_the_same_bits(tmp_path):
    path = tmp_path / "model.safetensors"
    saved = Ensemble([member(0), member(1, torch.float32), lennard_jones()], {"forces": 2.5})
    checkpoint.save(saved, path, {"why": "test"})
    loaded = checkpoint.load(path)
    assert isinstance(loaded, Ensemble)
    assert loaded.uncertainty_scale == {"forces": 2.5}
    assert [one.dtype for one in loaded.members] == [torch.float64, torch.float32, torch.float64]
    assert [one.baseline for one in loaded.members] == [one.baseline for one in saved.members]
    for got, expected in zip(loaded.predict_with_std(graph()), saved.predict_with_std(graph()), strict=True):
        for name in NAMES:
            assert torch.equal(getattr(got, name), getattr(expected, name))
    header = checkpoint.read_header(path)
    assert [one.model for one in header.members] == ["schnet", "schnet", "lennard_jones"]
    assert header.provenance["why"] == "test"
    assert len(models_of(loaded)) == 3


def lennard_jones() -> Derived:
    return Derived(LennardJones(LennardJonesConfig(species=(11, 17), epsilon=0.02, sigma=2.3, cutoff=4.0)))


def test_the_file_of_one_model_is_read_by_versions_that_know_no_ensembles(tmp_path):
    checkpoint.save(member(), tmp_path / "one.safetensors")
    checkpoint.save(three(), tmp_path / "three.safetensors")
    with safe_open(tmp_path / "one.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()[checkpoint.HEADER_KEY])
    assert header.keys() == {
        "format_version", "package_version", "model", "config", "baseline", "units", "provenance", "weights_sha256",
    }  # fmt: skip
    assert header["format_version"] == 1
    assert checkpoint.read_header(tmp_path / "three.safetensors").format_version == 2


def _spoil(path, edit=None, drop="", rename=("", "")):
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[checkpoint.HEADER_KEY])
        tensors = {
            name.replace(*rename): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118
            if not (drop and name.startswith(drop))
        }
    if edit is not None:
        edit(header)
    save_file(tensors, path, {checkpoint.HEADER_KEY: json.dumps(header)})


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"drop": "member-2."}, "member 2: the weights do not fit"),
        ({"rename": ("member-3.", "member-4.")}, "member 3: the weights do not fit"),
        ({"edit": lambda header: header["members"].pop()}, r"weights member-3\..* belong to no member"),
        ({"edit": lambda header: header["members"][1]["config"].update(features=4)}, "member 2: the weights"),
        (
            {"edit": lambda header: header["members"][1]["config"].update(cutoff=3.0)},
            "no ensemble: .*different cutoffs",
        ),
        ({"edit": lambda header: header["members"][0].update(baseline={})}, "member 1: the header does not fit"),
        ({"edit": lambda header: header.update(members=header["members"][:1])}, "unreadable header.*at least 2"),
        ({"edit": lambda header: header.update(weights_sha256="0")}, "is corrupt"),
        ({"edit": lambda header: header.update(uncertainty_scale={"forces": -1})}, "uncertainty_scale"),
    ],
)
def test_a_spoilt_ensemble_is_refused(tmp_path, spoilt, message):
    path = tmp_path / "model.safetensors"
    checkpoint.save(three(), path)
    _spoil(path, **spoilt)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_only_models_with_baselines_can_be_saved(tmp_path):
    with pytest.raises(ConfigError, match="member 1 of the ensemble is a Ensemble; only ensembles whose members are"):
        checkpoint.save(Ensemble([three(), member(5)]), tmp_path / "model.safetensors")


# ----- the calculator -------------------------------------------------------------------------------------------------


def test_extras_belong_to_the_results_and_follow_the_geometry():
    ensemble, atoms = three(uncertainty_scale={"forces": 2.0, "stress": 3.0}), crystal()
    atoms.calc = MLCalculator(ensemble, skin=0.0)
    assert atoms.calc.extras == {}
    seen = []
    for _ in range(2):
        _, std = ensemble.predict_with_std(graph(atoms))
        atoms.get_forces()
        extras = atoms.calc.extras
        assert not {name for name in atoms.calc.results if "std" in name}
        assert isinstance(extras["energy_std"], float)
        assert extras["energy_std"] == pytest.approx(std.energy.item(), rel=1e-9)
        np.testing.assert_allclose(extras["forces_std"], std.forces, rtol=1e-9)
        np.testing.assert_allclose(extras["energies_std"], std.energies, rtol=1e-9)
        voigt = std.stresses.numpy()[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        np.testing.assert_allclose(extras["stresses_std"], voigt, rtol=1e-9, atol=1e-14)
        assert extras["stress_std"].shape == (6,)
        np.testing.assert_allclose(extras["forces_spread"], np.linalg.norm(extras["forces_std"], axis=1))
        np.testing.assert_allclose(extras["forces_uncertainty"], 2.0 * extras["forces_spread"])
        norm = torch.linalg.matrix_norm(std.stress[0]).item()
        assert extras["stress_uncertainty"] == pytest.approx(3.0 * norm, rel=1e-9)
        assert "stresses_uncertainty" not in extras
        seen.append(extras["forces_std"])
        atoms.rattle(0.05)
    assert not np.allclose(*seen)
    atoms.calc.reset()
    assert atoms.calc.extras == {}


def test_extras_are_gone_after_a_failure():
    atoms = crystal()
    atoms.calc = MLCalculator(three())
    atoms.get_forces()
    atoms.positions[0] = np.nan
    with pytest.raises(Exception, match="NaN"):
        atoms.get_forces()
    assert atoms.calc.extras == {}


def test_a_molecule_has_no_spread_of_stress():
    atoms = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]])
    atoms.calc = MLCalculator(three())
    atoms.get_forces()
    assert "stress_std" not in atoms.calc.extras
    assert "forces_std" in atoms.calc.extras


def test_a_single_potential_has_no_extras():
    atoms = crystal()
    atoms.calc = MLCalculator(member())
    atoms.get_forces()
    assert atoms.calc.extras == {}


def test_precision_of_all_members_is_changed(tmp_path):
    checkpoint.save(three(uncertainty_scale={"forces": 2.0}), tmp_path / "model.safetensors")
    calculator = MLCalculator(tmp_path / "model.safetensors", dtype="float32", device="cpu")
    assert {one.dtype for one in calculator.potential.members} == {torch.float32}
    assert calculator.potential.uncertainty_scale == {"forces": 2.0}
    assert MLCalculator(tmp_path / "model.safetensors").potential.dtype == torch.float64
    with pytest.raises(ConfigError, match="member 1 of the ensemble is a Ensemble"):
        MLCalculator(Ensemble([three(), member(7)]), dtype="float32")


# ----- any ASE calculators --------------------------------------------------------------------------------------------


def test_any_calculators():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    members = [EMT(), AseLennardJones(sigma=2.3, epsilon=0.4, rc=6.0, smooth=True)]
    ensemble = EnsembleCalculator(members)
    assert {"energy", "free_energy", "forces", "stress"} <= set(ensemble.implemented_properties)
    check_calculator(ensemble, atoms)
    atoms.calc = ensemble
    for name in ("energy", "forces", "stress"):
        mean = ensemble.get_property(name, atoms)
        values = np.stack([one.get_property(name, atoms) for one in members])
        np.testing.assert_allclose(mean, values.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(ensemble.extras[f"{name}_std"], values.std(axis=0, ddof=1), atol=1e-12)
    np.testing.assert_allclose(ensemble.extras["forces_spread"], np.linalg.norm(ensemble.extras["forces_std"], axis=1))
    before = ensemble.extras
    atoms.rattle(0.05, seed=2)
    atoms.get_potential_energy()
    assert ensemble.extras.keys() == {"energy_std"}  # what belongs to the old geometry is gone
    assert ensemble.extras["energy_std"] != before["energy_std"]


def test_members_with_different_cutoffs_and_dynamics():
    atoms = crystal()
    atoms.calc = EnsembleCalculator([MLCalculator(member()), MLCalculator(member(1, cutoff=4.5))])
    dynamics = VelocityVerlet(atoms, 2.0 * fs)
    before = atoms.get_total_energy()
    dynamics.run(10)
    assert atoms.get_kinetic_energy() > 2e-4
    assert abs(atoms.get_total_energy() - before) < 0.1 * atoms.get_kinetic_energy()
    assert {"energy_std", "forces_std", "forces_spread"} <= atoms.calc.extras.keys()


class Thermometer(Calculator):
    """Depends on momenta."""

    implemented_properties = ["energy"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": float((self.atoms.get_momenta() ** 2).sum())}

    def check_state(self, atoms, tol=1e-15):
        same = self.atoms is not None and np.array_equal(atoms.get_momenta(), self.atoms.get_momenta())
        return super().check_state(atoms, tol) + ([] if same else ["momenta"])


def test_a_member_that_looks_at_momenta_is_asked_again():
    atoms = molecule("H2O")
    atoms.calc = EnsembleCalculator([Thermometer(), Thermometer()])
    assert atoms.get_potential_energy() == 0.0
    atoms.set_momenta(np.ones((3, 3)))
    assert atoms.get_potential_energy() == 9.0


def test_bad_ensembles_of_calculators_are_refused():
    with pytest.raises(ConfigError, match="at least two calculators, got 1"):
        EnsembleCalculator([EMT()])
    with pytest.raises(ConfigError, match="twice"):
        EnsembleCalculator([one := EMT(), one])
    with pytest.raises(ConfigError, match="member 2 is a Derived"):
        EnsembleCalculator([EMT(), member()])
    with pytest.raises(ConfigError, match="no property in common"):
        EnsembleCalculator([Thermometer(), MLCalculator(Derived(Push(Push.Config(species=(11, 17), cutoff=4.0))))])
    atoms = molecule("H2O")
    broken = SinglePointCalculator(atoms, energy=float("nan"))
    broken.implemented_properties = ["energy"]
    atoms.calc = EnsembleCalculator([Thermometer(), broken])
    with pytest.raises(NumericalError, match="member 2 of the ensemble gave NaN"):
        atoms.get_potential_energy()
    atoms.calc = EnsembleCalculator([MLCalculator(member(species=(1, 8))), MLCalculator(member(1, species=(1, 8)))])
    atoms.get_forces()
    with pytest.raises(PropertyNotImplementedError, match="cell"):
        atoms.get_stress()
    atoms = bulk("Cu")
    atoms.calc = EnsembleCalculator([EMT(), Thermometer()])
    with pytest.raises(PropertyNotImplementedError, match=r"no forces: member 2 \(Thermometer\) does not give it"):
        atoms.get_forces()
