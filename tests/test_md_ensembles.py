"""Physics of the ensembles: what is conserved, which temperature there is, and how it all scales with the time step."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms

from ase_mlcalc.errors import ConfigError, ModelError, StructureError
from ase_mlcalc.md import MDConfig, Outcome, read_thermo, run_md
from ase_mlcalc.md.ensembles import integrator, set_initial_momenta
from ase_mlcalc.md.protocols import EQUILIBRATIONS
from ase_mlcalc.md.run import RunWarning
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.md.start import longest_timestep_fs


class Springs(Calculator):
    """Harmonic bonds between all atoms of a molecule: translations and rotations are free, vibrations are not."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, atoms, stiffness=20.0):
        super().__init__()
        self.i, self.j = np.triu_indices(len(atoms), 1)
        self.lengths = np.linalg.norm(atoms.positions[self.j] - atoms.positions[self.i], axis=1)
        self.stiffness = stiffness

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        vectors = atoms.positions[self.j] - atoms.positions[self.i]
        now = np.linalg.norm(vectors, axis=1)
        pull = (self.stiffness * (now - self.lengths) / now)[:, None] * vectors
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, self.i, pull)
        np.add.at(forces, self.j, -pull)
        energy = 0.5 * self.stiffness * float(((now - self.lengths) ** 2).sum())
        self.results = {"energy": energy, "forces": forces}


class Pushed(Springs):
    """With a force on one atom that conserves neither momentum nor energy."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["forces"][0] += 0.3


def water():
    atoms = molecule("H2O")
    atoms.calc = Springs(atoms)
    return atoms


def argon(a=5.4):
    atoms = bulk("Ar", "fcc", a=a, cubic=True) * 2
    atoms.calc = LennardJones(sigma=3.40, epsilon=0.0104, rc=6.0, smooth=True)
    return atoms


def vibrations(atoms, config, steps, every=1):
    """Kinetic energies in eV along a run, and the integrator."""
    set_initial_momenta(atoms, config)
    dynamics = integrator(atoms, config)
    kinetic = []
    for step in range(steps):
        dynamics.step()
        if step % every == 0:
            kinetic.append(atoms.get_kinetic_energy())
    return np.array(kinetic), dynamics


@pytest.mark.parametrize(
    ("thermostat", "changes"),
    [("bussi", {"thermostat_time_fs": 20}), ("nose-hoover", {"thermostat_time_fs": 25})],
    ids=["bussi", "nose-hoover"],
)
def test_thermostats_count_the_degrees_of_freedom_that_there_are(thermostat, changes):
    # 21 vibrations of ethanol: with ASE's 27 degrees of freedom they would have 386 K
    config = MDConfig(thermostat=thermostat, temperature_K=300, timestep_fs=0.5, seed=4, **changes)
    atoms = molecule("CH3CH2OH")
    atoms.calc = Springs(atoms, stiffness=3.0)
    kinetic, dynamics = vibrations(atoms, config, 6000)
    assert dynamics.degrees_of_freedom == 21
    temperatures = 2 * kinetic / (21 * units.kB)
    blocks = temperatures.reshape(20, -1).mean(axis=1)
    error = blocks.std(ddof=1) / np.sqrt(20)
    assert error < 16
    assert abs(temperatures.mean() - 300) < 3.5 * error
    # canonical: the variance of the kinetic energy is 2/f of its square
    assert temperatures.var() / 300**2 == pytest.approx(2 / 21, rel=0.35)


def test_conserved_quantities_are_conserved_while_the_energy_is_not():
    for changes in ({"thermostat": "bussi"}, {"thermostat": "nose-hoover"}):
        config = MDConfig(temperature_K=300, timestep_fs=0.25, thermostat_time_fs=30, **changes)
        atoms = water()
        set_initial_momenta(atoms, config)
        dynamics = integrator(atoms, config)
        conserved, total = [], []
        for _ in range(1000):
            dynamics.step()
            conserved.append(dynamics.conserved_eV())
            total.append(atoms.get_total_energy())
        assert np.ptp(total) > 0.05
        assert np.ptp(conserved) < 0.02 * np.ptp(total), changes


@pytest.mark.parametrize("shape", ["fixed", "free"])
def test_npt_conserves_its_quantity_and_reaches_the_pressure(tmp_path, shape):
    atoms = argon(a=5.1)  # squeezed
    config = MDConfig(
        ensemble="npt", cell_shape=shape, temperature_K=40, pressure_GPa=0.05, timestep_fs=4, time_ps=3,
        thermostat_time_fs=200, barostat_time_fs=400, thermo_every_fs=8, stresses_every_fs=0, monitors_every_fs=0,
    )  # fmt: skip
    result = run_md(atoms, config, tmp_path, progress=False)
    assert result.completed, result.message
    rows = read_thermo(tmp_path / "thermo.csv")["md"]
    later = rows["time_ps"] > 1
    assert rows["volume_A3"][later].mean() > 1.03 * rows["volume_A3"][0]
    assert rows["pressure_GPa"][0] > 0.15
    assert rows["pressure_GPa"][later].mean() == pytest.approx(0.05, abs=0.02)
    exchanged = np.ptp(rows["total_eV"])
    assert np.ptp(rows["conserved_eV"]) < 0.05 * exchanged
    assert result.drift is not None
    is_cube = np.allclose(np.asarray(atoms.cell), np.eye(3) * atoms.cell[0, 0], atol=1e-9)
    assert is_cube == (shape == "fixed")


def test_a_ramp_follows_its_target(tmp_path):
    atoms = bulk("Cu", cubic=True) * 2
    atoms.calc = EMT()
    config = MDConfig(
        temperature_K=200,
        temperature_end_K=800,
        timestep_fs=2,
        time_ps=3,
        friction_per_ps=50,
        stresses_every_fs=0,
        monitors_every_fs=0,
    )
    assert config.target_K(0) == 200
    assert config.target_K(config.steps) == 800
    run_md(atoms, config, tmp_path, progress=False)
    rows = read_thermo(tmp_path / "thermo.csv")["md"]
    early, late = rows["time_ps"] < 0.6, rows["time_ps"] > 2.4
    assert rows["temperature_K"][early].mean() == pytest.approx(260, rel=0.25)
    assert rows["temperature_K"][late].mean() == pytest.approx(740, rel=0.25)
    assert np.isnan(rows["conserved_eV"]).all()


def test_the_energy_fluctuates_with_the_square_of_the_time_step():
    fluctuation = {}
    for timestep in (1.0, 0.5, 0.25):
        atoms = water()
        config = MDConfig(ensemble="nve", temperature_K=300, timestep_fs=timestep)
        set_initial_momenta(atoms, config)
        dynamics = integrator(atoms, config)
        total = []
        for _ in range(round(200 / timestep)):
            dynamics.step()
            total.append(atoms.get_total_energy())
        fluctuation[timestep] = np.std(total)
    assert fluctuation[1.0] / fluctuation[0.5] == pytest.approx(4, rel=0.15)
    assert fluctuation[0.5] / fluctuation[0.25] == pytest.approx(4, rel=0.15)


def test_momentum_stays_out():
    for changes in ({"ensemble": "nve"}, {"thermostat": "bussi"}, {"thermostat": "nose-hoover"}):
        atoms = water()
        config = MDConfig(temperature_K=300, **changes)
        set_initial_momenta(atoms, config)
        dynamics = integrator(atoms, config)
        for _ in range(500):
            dynamics.step()
        scale = np.abs(atoms.get_momenta()).max()
        assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-10 * scale
        assert np.abs(atoms.get_angular_momentum()).max() < 1e-8 * scale


@pytest.mark.parametrize("ensemble", [{"ensemble": "nve"}, {"thermostat": "nose-hoover"}], ids=["nve", "chain"])
def test_rigid_motion_can_be_removed_at_each_step(ensemble):
    momenta = {}
    for choice in ("removed", "removed-always", "kept"):
        atoms = molecule("H2O")
        atoms.calc = Pushed(atoms)
        config = MDConfig(temperature_K=300, rigid_motion=choice, **ensemble)
        set_initial_momenta(atoms, config)
        dynamics = integrator(atoms, config)
        assert dynamics.degrees_of_freedom == (9 if choice == "kept" else 3)
        for _ in range(20):
            dynamics.step()
        momenta[choice] = np.abs(atoms.get_momenta().sum(axis=0)).max()
    assert momenta["removed"] > 0.1
    assert momenta["removed-always"] < 1e-12


def test_the_protocol_that_settles(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    production = MDConfig(ensemble="nve", temperature_K=300, timestep_fs=2, time_ps=0.02, seed=3)
    first, second = EQUILIBRATIONS["langevin-settle"](production)
    assert first.friction_per_ps == pytest.approx(98.2, abs=0.05)  # 1.0 in ASE's units
    assert second.friction_per_ps == pytest.approx(9.82, abs=0.005)
    job = MDJob.model_validate(
        {"job": {"structure": "-", "calculator": "a:b", "equilibration": "langevin-settle"}, "md": production}
    )
    named = job.stages()
    assert [name for name, _ in named] == ["equilibration", "equilibration-2", "nve"]
    assert [stage.initial_velocities for _, stage in named] == ["thermal", "keep", "keep"]
    assert len({stage.seed for _, stage in named}) == 3
    results = [run_md(atoms, stage, tmp_path, name=name, progress=False) for name, stage in named]
    assert all(result.completed for result in results)
    settled = results[1]
    rows = read_thermo(tmp_path / "thermo.csv")["equilibration-2"]
    assert 0.5 <= settled.time_ps <= 1.0
    assert settled.time_ps == rows["time_ps"][-1]
    if settled.time_ps < 1.0:
        assert rows["temperature_K"][-1] == pytest.approx(300, rel=0.05)


def test_what_does_not_fit_is_refused(tmp_path):
    fixed = bulk("Cu", cubic=True)
    fixed.calc = EMT()
    fixed.set_constraint(FixAtoms([0]))
    for changes in ({"thermostat": "nose-hoover"}, {"ensemble": "npt"}):
        with pytest.raises(ConfigError, match="ignores constraints"):
            run_md(fixed, MDConfig(**changes), tmp_path)
    with pytest.raises(StructureError, match="periodic in three directions"):
        run_md(water(), MDConfig(ensemble="npt"), tmp_path)
    crystal = bulk("Cu", cubic=True)
    crystal.calc = Springs(crystal)
    with pytest.raises(ModelError, match="npt needs the stress"):
        run_md(crystal, MDConfig(ensemble="npt"), tmp_path)
    with pytest.raises(StructureError, match="has no velocities"):
        run_md(water(), MDConfig(ensemble="nve", initial_velocities="keep"), tmp_path)
    atom = Atoms("Ar")
    atom.calc = Springs(atom)
    with pytest.raises(ConfigError, match="nothing moves"):
        run_md(atom, MDConfig(thermostat="bussi"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_doubts_are_warnings_with_numbers(tmp_path):
    assert longest_timestep_fs(Atoms("H")) == pytest.approx(1.16, abs=0.01)
    with pytest.warns(RunWarning, match=r"timestep_fs = 2 is long for H.*about 9 fs; at most 1\.2 fs"):
        result = run_md(
            water(), MDConfig(ensemble="nve", timestep_fs=2, time_ps=0.004, temperature_K=1), tmp_path, progress=False
        )
    assert "long for H" in result.notes[0]
    assert result.outcome is Outcome.COMPLETED
