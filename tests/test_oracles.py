"""The analytic models through `MLCalculator` against independent programs, all properties, to rounding."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones as AseLennardJones
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import StillingerWeber as MatscipyForms
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.models.lennard_jones import LennardJones, LennardJonesConfig
from ase_mlcalc.models.stillinger_weber import StillingerWeber, StillingerWeberConfig

RELATIVE = 1e-10


def distorted(atoms: Atoms, seed: int, strain: float = 0.06, rattle: float = 0.15) -> Atoms:
    """Triclinic and rattled, so that no component of the stress and no force vanishes by symmetry."""
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    if atoms.cell.rank == 3:
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * rng.standard_normal((3, 3))), scale_atoms=True)
    atoms.positions += rattle * rng.standard_normal(atoms.positions.shape)
    return atoms


def assert_same(atoms: Atoms, ours, reference, properties) -> None:
    for name in properties:
        expected, got = reference.get_property(name, atoms), ours.get_property(name, atoms)
        scale = np.abs(expected).max()
        assert scale > 1e-3, f"{name} is too small to test anything"
        np.testing.assert_allclose(got, expected, rtol=0, atol=RELATIVE * scale, err_msg=name)


ARGON = {
    "triclinic": distorted(bulk("Ar", "fcc", a=5.2, cubic=True), 0),
    "supercell": distorted(bulk("Ar", "fcc", a=5.2, cubic=True) * (2, 2, 1), 1),
    "smaller than the cutoff": distorted(bulk("Ar", "fcc", a=5.2), 2, rattle=0.0),
    "slab": Atoms(distorted(bulk("Ar", "fcc", a=5.2, cubic=True), 3), pbc=(True, True, False)),
}


@pytest.mark.parametrize("name", ARGON)
@pytest.mark.parametrize("smooth", [True, False])
def test_lennard_jones_equals_ase(name, smooth):
    atoms = ARGON[name]
    config = LennardJonesConfig(epsilon=0.4, sigma=3.3, cutoff=8.1, smooth=smooth, onset_fraction=0.7)
    reference = AseLennardJones(epsilon=0.4, sigma=3.3, rc=8.1, ro=0.7 * 8.1, smooth=smooth)
    properties = ["energy", "free_energy", "energies", "stress", "stresses"]
    if len(atoms) > 1:
        properties.append("forces")
    assert_same(atoms, MLCalculator(LennardJones(config)), reference, properties)


def test_lennard_jones_molecule_equals_ase():
    atoms = distorted(molecule("C6H6"), 4, rattle=0.05)
    config = LennardJonesConfig(species=(1, 6), smooth=False)
    assert_same(atoms, MLCalculator(LennardJones(config)), AseLennardJones(), ["energy", "energies", "forces"])


def test_lennard_jones_defaults_are_those_of_ase_with_smooth_cutoff():
    atoms = distorted(bulk("Ar", "fcc", a=2.0, cubic=True), 5, rattle=0.05)
    reference = AseLennardJones(smooth=True)
    assert_same(atoms, MLCalculator(LennardJones(LennardJonesConfig())), reference, ["energy", "forces", "stress"])


@pytest.mark.parametrize("cubic", [True, False])
def test_stillinger_weber_equals_matscipy(cubic):
    atoms = distorted(bulk("Si", cubic=cubic) * ((2, 2, 1) if cubic else (2, 2, 2)), 6)
    # matscipy rounds the tetrahedral cosine to twelve digits
    parameters = Stillinger_Weber_PRB_31_5262_Si | {"costheta0": 1 / 3}
    reference = Manybody(**MatscipyForms(parameters))
    assert_same(
        atoms, MLCalculator(StillingerWeber(StillingerWeberConfig())), reference, ["energy", "forces", "stress"]
    )


def test_stillinger_weber_silicon_has_its_cohesive_energy():
    # Stillinger and Weber: the diamond lattice has an energy of -2 ε per atom at the minimum of the pair energy
    atoms = bulk("Si", a=4 / np.sqrt(3) * 2 ** (1 / 6) * 2.0951)
    atoms.calc = MLCalculator(StillingerWeber(StillingerWeberConfig()))
    assert atoms.get_potential_energy() / 2 == pytest.approx(-2 * 2.1683, rel=1e-4)
