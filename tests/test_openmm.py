"""OpenMM, the real program: its integrators with our forces, along a trajectory that ASE evaluates again."""

import importlib.util
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule

from ase_mlcalc import Derived, MLCalculator, checkpoint
from ase_mlcalc.model import lookup

mm = pytest.importorskip("openmm", reason='needs OpenMM: pip install "ase-mlcalc[openmm]"')
pytest.importorskip("openmmml", reason='needs OpenMM: pip install "ase-mlcalc[openmm]"')

from openmm import unit  # noqa: E402

EXAMPLE = Path(__file__).parents[1] / "examples" / "engines" / "openmm_nve.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("openmm_nve", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def potential():
    cls = lookup("lennard_jones")
    return Derived(cls(cls.Config(species=(6, 1, 18), sigma=3.4, epsilon=0.0104, cutoff=6.0)))


def crystal():
    """A primitive cell, whose vectors are not in the directions that OpenMM wants, with atoms off their places."""
    atoms = bulk("Ar", "fcc", a=5.3).repeat((4, 4, 4))
    atoms.rattle(0.05, seed=1)
    return atoms


def cluster():
    return bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 1, 1)


@pytest.mark.parametrize("atoms", [crystal(), cluster()], ids=["crystal", "cluster"])
def test_energies_at_constant_energy_are_those_of_ase(example, atoms):
    if len(atoms) < 20:
        atoms.set_pbc(False)
    integrator = mm.VerletIntegrator(2.0 * unit.femtosecond)
    running = example.simulation(atoms, MLCalculator(potential()), integrator)
    running.context.setVelocitiesToTemperature(40 * unit.kelvin, 1)
    ours, totals, potentials = MLCalculator(potential()), [], []
    for _ in range(8):
        running.step(10)
        energy, kinetic = example.energies(running)
        state = running.context.getState(getPositions=True)
        frame = atoms.copy()
        frame.positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        if atoms.pbc.all():
            box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom)
            frame.set_cell(box, scale_atoms=False)
            assert frame.get_volume() == pytest.approx(atoms.get_volume())
        assert energy == pytest.approx(ours.get_potential_energy(frame), abs=1e-9)
        totals.append(energy + kinetic)
        potentials.append(energy)
    assert np.ptp(potentials) > 1e-3
    assert np.ptp(totals) < 0.05 * np.ptp(potentials)


def test_forces_are_those_of_ase(example):
    atoms = crystal()
    running = example.simulation(atoms, MLCalculator(potential()), mm.VerletIntegrator(0.001))
    state = running.context.getState(getForces=True, getPositions=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.angstrom) * units.kJ / units.mol
    rotation = atoms.cell.standard_form()[1]
    expected = MLCalculator(potential()).get_forces(atoms) @ rotation.T
    np.testing.assert_allclose(forces, expected, atol=1e-9)
    assert np.abs(expected).max() > 0.01


def test_a_barostat_of_openmm_moves_the_cell(example):
    atoms = crystal()
    atoms.set_cell(1.04 * atoms.cell.array, scale_atoms=True)
    running = example.simulation(
        atoms, MLCalculator(potential()), mm.LangevinMiddleIntegrator(40, 5 / unit.picosecond, 4 * unit.femtosecond)
    )
    running.system.addForce(mm.MonteCarloBarostat(5000 * unit.bar, 40 * unit.kelvin, 1))
    running.context.reinitialize(preserveState=True)
    running.step(60)
    box = running.context.getState().getPeriodicBoxVolume().value_in_unit(unit.angstrom**3)
    assert box < atoms.get_volume()


def test_a_slab_is_refused(example):
    slab = crystal()
    slab.pbc = (True, True, False)
    with pytest.raises(ValueError, match="periodic in all directions or in none"):
        example.simulation(slab, MLCalculator(potential()), mm.VerletIntegrator(0.001))


def test_the_example_runs(example, tmp_path, monkeypatch, capsys):
    checkpoint.save(potential(), tmp_path / "model.safetensors")
    ase.io.write(tmp_path / "start.extxyz", molecule("CH4"))
    files = [str(tmp_path / name) for name in ("model.safetensors", "start.extxyz")]
    monkeypatch.setattr(sys, "argv", ["openmm_nve.py", *files, "--steps", "10", "--temperature", "1"])
    example.main()
    assert "total energy within" in capsys.readouterr().out
