"""The kinetic part of stress and volumes of atoms: sums, ASE's conventions, and shapes whose volume is known."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.lj import LennardJones as AseLennardJones

from ase_mlcalc import MLCalculator
from ase_mlcalc.errors import StructureError
from ase_mlcalc.models.lennard_jones import LennardJones, LennardJonesConfig
from ase_mlcalc.stress import kinetic_stresses, local_stresses_GPa, total_stress, total_stresses, voronoi_volumes

LJ = {"epsilon": 0.4, "sigma": 3.3}


def argon(pbc=True):
    atoms = bulk("Ar", a=5.3, cubic=True) * (2, 1, 1)
    rng = np.random.default_rng(0)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.1 * rng.standard_normal((3, 3))), scale_atoms=True)
    atoms.positions += 0.2 * rng.standard_normal((8, 3))
    atoms.set_velocities(0.05 * rng.standard_normal((8, 3)))
    atoms.pbc = pbc
    atoms.calc = MLCalculator(LennardJones(LennardJonesConfig(species=(18,), cutoff=7.0, **LJ)))
    return atoms


@pytest.mark.parametrize("pbc", [True, (True, True, False)])
def test_total_is_that_of_ase(pbc):
    atoms = argon(pbc)
    potential, kinetic = atoms.get_stresses(), kinetic_stresses(atoms)
    scale = np.abs(potential).max()
    assert np.abs(kinetic).max() > 1e-3 * scale
    assert (kinetic[:, :3] <= 0).all()
    np.testing.assert_allclose(total_stresses(atoms), potential + kinetic, atol=1e-14 * scale)
    expected = atoms.get_stress(include_ideal_gas=True)
    np.testing.assert_allclose(total_stress(atoms), expected, atol=1e-13 * scale)
    np.testing.assert_allclose(total_stresses(atoms).sum(axis=0), expected, atol=1e-13 * scale)
    np.testing.assert_allclose(atoms.get_stresses(include_ideal_gas=True), total_stresses(atoms), atol=1e-13 * scale)


def test_total_is_right_for_calculators_that_divide_ases_kinetic_part_otherwise():
    atoms = argon()
    atoms.calc = AseLennardJones(rc=7.0, **LJ)
    expected = atoms.get_stress(include_ideal_gas=True)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(total_stresses(atoms).sum(axis=0), expected, atol=1e-12 * scale)
    theirs = atoms.get_stresses(include_ideal_gas=True).sum(axis=0)
    assert (
        np.abs(theirs - expected).max() > 1e-3 * scale
    )  # ASE divides by V/N where a calculator does not say its volume


def test_kinetic_part_of_an_ideal_gas_is_its_pressure():
    rng = np.random.default_rng(1)
    gas = Atoms("He500", rng.uniform(0, 100, (500, 3)), cell=[100.0] * 3, pbc=True)
    gas.set_velocities(np.sqrt(units.kB * 300 / 4.0026) * rng.standard_normal((500, 3)))
    pressure = -kinetic_stresses(gas)[:, :3].sum() / 3
    assert pressure == pytest.approx(500 * units.kB * gas.get_temperature() / 1e6, rel=1e-12)


# ----- volumes -----


def test_crystals_share_their_cell():
    for atoms in (bulk("Cu"), bulk("Fe", cubic=True), bulk("Si"), bulk("NaCl", "rocksalt", a=5.6, cubic=True)):
        np.testing.assert_allclose(voronoi_volumes(atoms), atoms.get_volume() / len(atoms), rtol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_volumes_fill_the_cell(seed):
    rng = np.random.default_rng(seed)
    cell = np.diag([4.0, 9.0, 14.0]) @ (np.eye(3) + 0.5 * rng.standard_normal((3, 3)))  # long and very skewed
    atoms = Atoms("X5", rng.uniform(-1, 2, (5, 3)) @ cell, cell=cell, pbc=True)
    volumes = voronoi_volumes(atoms)
    assert volumes.sum() == pytest.approx(atoms.get_volume(), rel=1e-10)
    # counted: the share of points that are closest to an atom
    points = rng.uniform(0, 1, (4000, 3)) @ atoms.cell.array
    images = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), -1).reshape(-1, 3) @ atoms.cell.array
    atoms.wrap()
    nearest = np.array(
        [np.linalg.norm(atoms.positions[:, None] + images - point, axis=2).min(axis=1).argmin() for point in points]
    )
    counted = np.bincount(nearest, minlength=5) / len(points)
    np.testing.assert_allclose(voronoi_volumes(atoms) / atoms.get_volume(), counted, atol=0.035)


def test_local_stress_has_the_total_as_its_mean():
    atoms = argon()
    volumes = voronoi_volumes(atoms)
    mean = volumes @ local_stresses_GPa(atoms) / volumes.sum()
    np.testing.assert_allclose(mean, total_stress(atoms) / units.GPa, rtol=1e-9)
    parts = local_stresses_GPa(atoms, part="potential") + local_stresses_GPa(atoms, part="kinetic")
    np.testing.assert_allclose(parts, local_stresses_GPa(atoms), rtol=1e-12)


def test_refusals():
    atoms = argon()
    del atoms.arrays["momenta"]
    with pytest.raises(StructureError, match="needs velocities"):
        total_stresses(atoms)
    assert local_stresses_GPa(atoms, part="potential").shape == (8, 6)
    atoms.pbc = (True, True, False)
    with pytest.raises(StructureError, match="periodic in three directions"):
        voronoi_volumes(atoms)
    atoms.cell[2] = 0.0
    with pytest.raises(StructureError, match="three independent vectors"):
        kinetic_stresses(atoms)
    two_on_one_spot = Atoms("Ar2", [[1, 1, 1], [1, 1, 1]], cell=[5.0] * 3, pbc=True)
    with pytest.raises(StructureError, match="one spot"):
        voronoi_volumes(two_on_one_spot)
