"""Ensembles judged by the package physical_validation (Merz and Shirts, PLoS ONE 13, e0202764 (2018)); slow."""

import contextlib
import io

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from test_md_ensembles import Springs

from ase_mlcalc.md import MDConfig, read_thermo, run_md

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the package warns about its optional parts


@pytest.fixture(scope="module")
def validation():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return pytest.importorskip("physical_validation", reason="pip install physical_validation")


def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.calc = Springs(atoms, stiffness=3.0)
    return atoms


def series(folder, **changes):
    """Thermo rows of a run, without its first part."""
    settings = {"timestep_fs": 0.5, "time_ps": 25, "thermo_every_fs": 5, "frames_every_fs": 1000, "seed": 11}
    config = MDConfig(**(settings | {"stresses_every_fs": 0, "monitors_every_fs": 0} | changes))
    result = run_md(ethanol(), config, folder, progress=False)
    rows = read_thermo(folder / "thermo.csv")["md"]
    return result, {name: values[len(values) // 5 :] for name, values in rows.items()}


def as_data(validation, result, rows, ensemble, temperature=None):
    data = validation.data
    volume = 1000.0
    return data.SimulationData(
        units=data.UnitData(
            kb=units.kB, energy_conversion=96.4853, length_conversion=0.1, volume_conversion=1e-3,
            temperature_conversion=1.0, pressure_conversion=1e4, time_conversion=1.0,
        ),
        dt=0.5e-3,
        system=data.SystemData(
            natoms=result.n_atoms, nconstraints=0, ndof_reduction_tra=3, ndof_reduction_rot=3,
            mass=ethanol().get_masses(),
        ),
        ensemble=data.EnsembleData(ensemble, natoms=result.n_atoms, volume=volume, temperature=temperature),
        observables=data.ObservableData(
            kinetic_energy=rows["kinetic_eV"], potential_energy=rows["potential_eV"], total_energy=rows["total_eV"],
            volume=np.full(len(rows["step"]), volume), constant_of_motion=rows["conserved_eV"],
        ),
    )  # fmt: skip


THERMOSTATS = {
    "bussi": {"thermostat": "bussi", "thermostat_time_fs": 20},
    "nose-hoover": {"thermostat": "nose-hoover", "thermostat_time_fs": 25},
}


@pytest.mark.parametrize("thermostat", THERMOSTATS)
def test_kinetic_energies_are_distributed_canonically(tmp_path, validation, thermostat):
    result, rows = series(tmp_path, temperature_K=300, **THERMOSTATS[thermostat])
    assert result.degrees_of_freedom == 21
    right = as_data(validation, result, rows, "NVT", temperature=300)
    assert validation.kinetic_energy.distribution(right, strict=True, verbosity=0, bootstrap_seed=1) > 0.01
    # with the temperature that ASE's count of 27 degrees of freedom would have made, the same test is very sure
    wrong = as_data(validation, result, rows, "NVT", temperature=300 * 27 / 21)
    assert validation.kinetic_energy.distribution(wrong, strict=True, verbosity=0, bootstrap_seed=1) < 1e-6


def test_potential_energies_at_two_temperatures_belong_to_one_system(tmp_path, validation):
    both = []
    for temperature in (280, 320):
        result, rows = series(tmp_path / str(temperature), temperature_K=temperature, **THERMOSTATS["bussi"])
        both.append(as_data(validation, result, rows, "NVT", temperature=temperature))
    (quantiles,) = validation.ensemble.check(*both, verbosity=0, bootstrap_seed=1)
    assert abs(quantiles) < 3


def test_the_fluctuation_of_what_is_conserved_goes_with_the_square_of_the_time_step(tmp_path, validation):
    runs = []
    for timestep in (1.0, 0.5, 0.25):
        folder = tmp_path / str(timestep)
        result, rows = series(
            folder, ensemble="nve", temperature_K=300, timestep_fs=timestep, time_ps=2, thermo_every_fs=timestep
        )
        data = as_data(validation, result, rows, "NVE")
        data.dt = 1e-3 * timestep
        runs.append(data)
    with contextlib.redirect_stdout(io.StringIO()):
        assert validation.integrator.convergence(runs, verbose=False) < 0.15
