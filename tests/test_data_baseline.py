"""Reference energies and scales against data made from known ones."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ase_mlcalc.data.baseline import fit_baseline, fit_species_energy
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.properties import Properties

E0 = {1: -13.6, 6: -1029.5, 8: -2042.2}


def frame(atoms, energy=None, forces=None, stress=None):
    as_tensor = lambda value: None if value is None else torch.as_tensor(np.array(value), dtype=torch.float64)  # noqa: E731
    labels = Properties(
        energy=None if energy is None else as_tensor([energy]), forces=as_tensor(forces), stress=as_tensor(stress)
    )
    return Frame(atoms, labels, "", "made")


def molecules(*names, binding=0.0):
    result = []
    for name in names:
        atoms = molecule(name)
        result.append(frame(atoms, sum(E0[z] for z in atoms.numbers) + binding * len(atoms)))
    return result


def test_least_squares_recovers_the_reference_energies():
    fit = fit_species_energy(molecules("H2O", "CH4", "CO2", "CH3OH", "O2"))
    assert fit.species_energy == pytest.approx(E0, abs=1e-6)
    assert (fit.rank, fit.n_species) == (3, 3)
    assert fit.residual_rms_eV_per_atom < 1e-8
    assert fit.source.startswith("least squares over 5 structures")


def test_one_composition_gives_the_minimum_norm_solution_and_says_so():
    fit = fit_species_energy(molecules("H2O", "H2O"))
    total = 2 * E0[1] + E0[8]
    assert fit.rank == 1
    assert fit.n_species == 2
    assert fit.species_energy[1] == pytest.approx(2 * total / 5)  # along (2, 1)
    assert fit.species_energy[8] == pytest.approx(total / 5)
    assert "rank 1 of 2: minimum norm" in fit.source
    assert fit.residual_rms_eV_per_atom < 1e-9


def test_isolated_atoms_in_the_data_win_over_least_squares():
    atoms = [frame(Atoms("H"), -13.0), frame(Atoms("O", cell=[12] * 3, pbc=True), -2000.0)]
    fit = fit_species_energy([*molecules("H2O", "O2", binding=-3.0), *atoms])
    assert fit.species_energy == {1: -13.0, 8: -2000.0}
    assert (fit.rank, fit.n_species) == (2, 2)
    assert "isolated atoms in the data (H, O)" in fit.source
    water = (2 * E0[1] + E0[8] - 9.0 + 26.0 + 2000.0) / 3
    oxygen = E0[8] - 3.0 + 2000.0
    assert fit.residual_rms_eV_per_atom == pytest.approx(math.sqrt((water**2 + oxygen**2) / 2))


def test_isolated_atoms_leave_the_rest_to_least_squares():
    fit = fit_species_energy([*molecules("H2O"), frame(Atoms("H"), E0[1])])
    assert fit.species_energy == pytest.approx({1: E0[1], 8: E0[8]})
    assert fit.rank == 2


def test_given_energies_win_over_all():
    fit = fit_species_energy([*molecules("H2O"), frame(Atoms("H"), -13.0)], isolated={1: -10.0, 92: -1.0})
    assert fit.species_energy[1] == -10.0
    assert fit.species_energy[8] == pytest.approx(2 * E0[1] + E0[8] + 20.0)
    assert 92 not in fit.species_energy
    assert "given (H)" in fit.source


def test_an_atom_that_is_said_to_be_isolated_is_in_a_small_box_too():
    atom = Atoms("O", cell=[5, 5, 5], pbc=True, info={"config_type": "IsolatedAtom"})
    fit = fit_species_energy([*molecules("H2O"), frame(Atoms("H"), -13.0), frame(atom, -430.0)])
    assert fit.species_energy == {1: -13.0, 8: -430.0}


def test_one_atom_of_a_crystal_is_not_isolated():
    crystal = frame(bulk("Cu"), -3.5)
    fit = fit_species_energy([crystal])
    assert "least squares" in fit.source
    assert fit.species_energy[29] == pytest.approx(-3.5)


def test_no_energies_give_no_reference_energies():
    fit = fit_species_energy([frame(molecule("H2O"), forces=np.ones((3, 3)))])
    assert fit.species_energy == {}
    assert fit.rank == 0
    assert math.isnan(fit.residual_rms_eV_per_atom)
    assert fit.source == "no energy labels"


def test_scales_are_the_rms_of_force_and_stress():
    forces = np.array([[3.0, 0, 0], [-3.0, 0, 0], [0, 0, 0]])
    water = frame(molecule("H2O"), -10.0, forces)
    crystal = frame(bulk("Cu", cubic=True), -4.0, np.zeros((4, 3)), 0.02 * np.ones((1, 3, 3)))
    alone = frame(Atoms("H"), -1.0, np.zeros((1, 3)))
    baseline = fit_baseline([water, crystal, alone])
    rms = math.sqrt(18 / 21)
    assert baseline.energy_scale == pytest.approx(rms)
    assert baseline.force_scale == pytest.approx(rms)
    assert baseline.stress_scale == pytest.approx(0.02 / 4 * 3.61**3)  # stress times volume, for each atom
    assert baseline.species_energy[1] == -1.0


def test_scale_without_forces_is_the_spread_of_the_energies():
    low, high = (frame(molecule("H2O"), energy) for energy in (-10.0, -10.6))
    assert fit_baseline([low, high]).energy_scale == pytest.approx(0.1)
    assert fit_baseline([low]).energy_scale == 1.0  # nothing to tell a scale from
    assert fit_baseline([low]).force_scale == 1.0
