"""Transport: Green-Kubo integrals of series with known integrals, the heat flux, and series written by runs."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.lj import LennardJones as AseLennardJones
from scipy import signal

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import ConfigError, DataError, MLCalcError, StructureError
from ase_mlcalc.md import MDConfig, clear_run, run_md
from ase_mlcalc.models.lennard_jones import LennardJones, LennardJonesConfig
from ase_mlcalc.models.stillinger_weber import StillingerWeber, StillingerWeberConfig
from ase_mlcalc.potential import Baseline, Derived
from ase_mlcalc.stress import total_stress
from ase_mlcalc.transport import (
    FluxSeries,
    StressSeries,
    anisotropic,
    autocorrelation,
    bulk_viscosity,
    by_spectrum,
    heat_flux,
    in_blocks,
    read_flux_series,
    read_stress_series,
    running_integral,
    shear,
    shear_viscosity,
    thermal_conductivity,
)


def ornstein_uhlenbeck(shape, tau, step, seed, variance=1.0):
    """Series whose autocorrelation is variance exp(-t/tau): exact updates (Gillespie 1996), started in equilibrium."""
    rng = np.random.default_rng(seed)
    decay = np.exp(-step / tau)
    noise = np.sqrt(variance * (1 - decay**2)) * rng.standard_normal(shape)
    noise[..., 0] = np.sqrt(variance) * rng.standard_normal(shape[:-1])
    return signal.lfilter([1.0], [1.0, -decay], noise, axis=-1)


# ----- integrals -----


def test_autocorrelation_is_the_direct_sum():
    series = np.random.default_rng(0).standard_normal((2, 57))
    direct = [[np.mean(row[: 57 - k] * row[k:]) for k in range(20)] for row in series]
    np.testing.assert_allclose(autocorrelation(series, 20), direct, atol=1e-13)


def test_integral_of_ornstein_uhlenbeck():
    tau, step = 1.0, 0.1
    series = ornstein_uhlenbeck((5, 200_000), tau, step, seed=1)
    found = running_integral(in_blocks(series, 20), step, 101)
    exact = tau * (1 - np.exp(-found.times / tau))
    # the trapezoidal rule overestimates an exponential by (step / tau)^2 / 12
    np.testing.assert_array_less(np.abs(found.integral - exact)[1:], 4 * found.error[1:] + 1e-3)
    assert 0.005 < found.error[-1] < 0.03
    assert found.settled


def test_error_bars_are_right():
    """Over many repetitions the deviation from the exact integral is as large as the error says."""
    ratios = []
    for seed in range(150):
        series = ornstein_uhlenbeck((3, 6_000), 1.0, 0.1, seed)
        found = running_integral(in_blocks(series, 10), 0.1, 61)
        ratios.append((found.integral[-1] - (1 - np.exp(-6.0))) / found.error[-1])
    # Student's t with 9 degrees of freedom: variance 9/7
    assert abs(np.mean(ratios)) < 0.35
    assert 0.8 < np.var(ratios) < 1.9


def test_unsettled_integral_says_so():
    series = ornstein_uhlenbeck((5, 100_000), 5.0, 0.1, seed=2)
    assert not running_integral(in_blocks(series, 10), 0.1, 40).settled


def test_anisotropic_components_are_half_the_square_of_the_traceless_tensor():
    stress = np.random.default_rng(3).standard_normal((4, 6))
    xx, yy, zz, yz, xz, xy = stress.T
    trace = (xx + yy + zz) / 3
    square = (xx - trace) ** 2 + (yy - trace) ** 2 + (zz - trace) ** 2 + 2 * (yz**2 + xz**2 + xy**2)
    np.testing.assert_allclose((anisotropic(stress) ** 2).sum(axis=0), square / 2, rtol=1e-12)
    hydrostatic = np.array([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(anisotropic(hydrostatic), 0.0)


def test_units_of_viscosity():
    """V variance tau / kT in SI, done by hand."""
    tau_ps, deviation_GPa, volume_nm3, temperature = 0.2, 0.05, 10.0, 300.0
    variance = (deviation_GPa * units.GPa) ** 2
    parts = ornstein_uhlenbeck((5, 200_000), tau_ps, 0.01, seed=4, variance=variance)
    xy, xz, yz, half, rest = parts
    # diagonal of the traceless tensor that has these anisotropic components, and a pressure that fluctuates, too
    zz = -rest * np.sqrt(12) / 3
    pressure = ornstein_uhlenbeck((200_000,), tau_ps, 0.01, seed=5, variance=variance) + 2.0 * units.GPa
    stress = np.stack([half - zz / 2 - pressure, -half - zz / 2 - pressure, zz - pressure, yz, xz, xy], axis=1)
    series = StressSeries(0.01, stress, temperature, 1e3 * volume_nm3)
    si = volume_nm3 * 1e-27 / (1.380649e-23 * temperature) * (deviation_GPa * 1e9) ** 2 * tau_ps * 1e-12
    si_unit = volume_nm3 * 1e-27 / (1.380649e-23 * temperature) * 1e-12  # from Pa² ps to Pa s
    found = shear_viscosity(series, 2.0)
    same = running_integral(in_blocks(parts / units.Pascal, 10), 0.01, 201)
    assert found.value == pytest.approx(1e3 * si_unit * same.integral[-1], rel=1e-5)
    assert found.error == pytest.approx(1e3 * si_unit * same.error[-1], rel=1e-5)
    assert found.unit == "mPa s"
    assert abs(found.value - 1e3 * si) < 4 * found.error + 1e-3 * 1e3 * si
    assert found.error < 0.05 * found.value
    found = bulk_viscosity(series, 2.0)
    assert abs(found.value - 1e3 * si) < 4 * found.error
    assert found.error < 0.1 * found.value
    assert str(found).startswith("bulk viscosity")


def test_units_of_thermal_conductivity():
    tau_fs, deviation_W_per_m2, volume_nm3, temperature = 100.0, 1e11, 10.0, 300.0
    in_ase = deviation_W_per_m2 * units.J / 1e20 / 1e15  # eV/(Å² fs)
    flux = ornstein_uhlenbeck((3, 200_000), tau_fs, 5.0, seed=6, variance=in_ase**2).T
    found = thermal_conductivity(FluxSeries(5e-3, flux, temperature, 1e3 * volume_nm3), 1.0)
    si_unit = volume_nm3 * 1e-27 / (1.380649e-23 * temperature**2) * 1e-15  # from (W/m²)² fs to W/(m K)
    same = running_integral(in_blocks(flux.T / in_ase * deviation_W_per_m2, 10), 5.0, 201)
    assert found.value == pytest.approx(si_unit * same.integral[-1], rel=1e-5)
    si = si_unit * deviation_W_per_m2**2 * tau_fs
    assert abs(found.value - si) < 4 * found.error + 1e-3 * si
    assert found.error < 0.1 * found.value


@pytest.mark.slow
def test_stacie_agrees():
    pytest.importorskip("stacie", reason='pip install "ase-mlcalc[stacie]"')
    parts = ornstein_uhlenbeck((5, 10_000), 0.2, 0.01, seed=7, variance=1e-6)
    xy, xz, yz, half, rest = parts
    zz = -rest * np.sqrt(12) / 3
    series = StressSeries(0.01, np.stack([half - zz / 2, -half - zz / 2, zz, yz, xz, xy], axis=1), 300.0, 1e3)
    ours, theirs = shear_viscosity(series, 2.0), by_spectrum(shear(series), n_blocks=10)
    exact = 1e3 * (1e3 / (units.kB * 300.0)) * 1e-6 * 0.2 / units.Pascal * 1e-12
    assert theirs.unit == ours.unit
    assert abs(theirs.value - exact) < 4 * theirs.error
    assert theirs.error < 0.25 * exact
    assert abs(theirs.value - ours.value) < 4 * np.hypot(ours.error, theirs.error)


def test_bad_requests():
    series = StressSeries(0.01, np.random.default_rng(8).standard_normal((1000, 6)), 300.0, 1e3)
    with pytest.raises(ConfigError, match="a block has 100 samples"):
        shear_viscosity(series, 1.0)
    with pytest.raises(ConfigError, match="at least 2 blocks"):
        shear_viscosity(series, 0.1, n_blocks=1)
    with pytest.raises(ConfigError, match="longest lag"):
        shear_viscosity(series, 0.0)
    with pytest.raises(ConfigError, match="longest lag"):
        shear_viscosity(series, np.nan)
    series.stress[3, 3] = np.nan
    with pytest.raises(DataError, match="NaN"):
        shear_viscosity(series, 0.1)


# ----- heat flux -----


def silicon(seed=0, repeat=2):
    atoms = bulk("Si", cubic=True) * (repeat, 1, 1)
    atoms.rattle(0.15, seed=seed)
    velocities = np.sqrt(units.kB * 800 / 28.0) * np.random.default_rng(seed).standard_normal((len(atoms), 3))
    atoms.set_velocities(velocities - velocities.mean(axis=0))
    return atoms


def test_heat_flux_is_the_motion_of_the_energy_barycenter():
    """In a drop that no bond leaves, V J = d/dt sum R_i E_i, here by central differences along the true motion."""
    inside = silicon(repeat=1)
    atoms = Atoms(
        inside.numbers, inside.positions + 10.0, cell=[30.0] * 3, pbc=True, velocities=inside.get_velocities()
    )
    atoms.set_velocities(atoms.get_velocities() + np.array([0.01, -0.02, 0.03]))  # reference energies would flow along
    baseline = Baseline({14: -3.0})
    atoms.calc = MLCalculator(Derived(StillingerWeber(StillingerWeberConfig()), baseline))

    def barycenter(time):
        moved = atoms.copy()
        moved.calc = atoms.calc
        acceleration = atoms.get_forces() / atoms.get_masses()[:, None]
        moved.positions += time * atoms.get_velocities() + 0.5 * time**2 * acceleration
        moved.set_velocities(atoms.get_velocities() + time * acceleration)
        kinetic = 0.5 * moved.get_masses() * (moved.get_velocities() ** 2).sum(axis=1)
        return ((moved.get_potential_energies() + 3.0 + kinetic)[:, None] * moved.positions).sum(axis=0)

    step = 1e-4
    expected = (barycenter(step) - barycenter(-step)) / (2 * step)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(heat_flux(atoms) * atoms.get_volume(), expected, atol=1e-6 * np.abs(expected).max())


def test_heat_flux_of_a_supercell_is_the_same():
    atoms = silicon()
    double = atoms * (1, 2, 1)
    for each in (atoms, double):
        each.calc = MLCalculator(StillingerWeber(StillingerWeberConfig()))
    flux = heat_flux(atoms)
    assert np.abs(flux).max() > 1e-5
    np.testing.assert_allclose(heat_flux(double), flux, atol=1e-12)


def test_heat_flux_refuses():
    atoms = silicon()
    atoms.calc = AseLennardJones()
    with pytest.raises(ConfigError, match="needs an MLCalculator"):
        heat_flux(atoms)
    atoms.calc = MLCalculator(StillingerWeber(StillingerWeberConfig()))
    del atoms.arrays["momenta"]
    with pytest.raises(StructureError, match="needs velocities"):
        heat_flux(atoms)
    atoms.cell[2] = 0.0
    with pytest.raises(StructureError, match="three independent vectors"):
        heat_flux(atoms)


# ----- series of runs -----

ARGON = LennardJonesConfig(species=(18,), epsilon=0.0104, sigma=3.4, cutoff=6.0)


def argon():
    atoms = bulk("Ar", a=5.4, cubic=True)
    atoms.calc = MLCalculator(LennardJones(ARGON))
    return atoms


def test_run_writes_series(tmp_path):
    config = MDConfig(
        ensemble="nve", timestep_fs=2.0, time_ps=0.1, stress_series_every_fs=4.0, heat_flux_every_fs=10.0, seed=1
    )
    atoms = argon()
    run_md(atoms, config, tmp_path, name="nve", progress=False)
    stress = read_stress_series(tmp_path / "nve-stress.csv")
    assert stress.stress.shape == (26, 6)
    assert stress.step_ps == pytest.approx(0.004)
    assert stress.volume_A3 == pytest.approx(atoms.get_volume())
    assert 50 < stress.temperature_K < 600
    np.testing.assert_array_equal(stress.stress[-1], total_stress(atoms))
    flux = read_flux_series(tmp_path / "nve-heat-flux.csv")
    np.testing.assert_array_equal(flux.flux[-1], heat_flux(atoms) * units.fs)
    assert len(read_stress_series(tmp_path / "nve-stress.csv", skip_ps=0.05).stress) == 13
    clear_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_no_series_unless_asked_for(tmp_path):
    run_md(argon(), MDConfig(time_ps=0.01), tmp_path, progress=False)
    assert not list(tmp_path.glob("*.csv")) or [path.name for path in tmp_path.glob("*.csv")] == ["thermo.csv"]


def test_series_that_cannot_be_written_are_refused_before_the_run(tmp_path):
    atoms = argon()
    atoms.calc = AseLennardJones()
    with pytest.raises(ConfigError, match="heat flux needs an MLCalculator"):
        run_md(atoms, MDConfig(heat_flux_every_fs=1.0), tmp_path / "run", progress=False)
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]], calculator=MLCalculator(LennardJones(ARGON)))
    with pytest.raises(StructureError, match="stress_series_every_fs needs a cell"):
        run_md(atoms, MDConfig(stress_series_every_fs=1.0), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_series_cut_short_by_a_kill(tmp_path):
    path = tmp_path / "nve-stress.csv"
    run_md(argon(), MDConfig(time_ps=0.02, stress_series_every_fs=1.0), tmp_path, name="nve", progress=False)
    whole = path.read_text()
    rows = len(read_stress_series(path).stress)
    path.write_text(whole[:-20])
    assert len(read_stress_series(path).stress) == rows - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a stress series"),
        ("a,b\n1,2\n", "is not a stress series"),
        ("HEADER\n0,300,1000,1,1,1,1,1,1\n", "holds 1 samples"),
        ("HEADER\n0,300,1000,1,1,1,1,1,1\n1,300,1000,1,1,x,1,1,1\n", "not 9 numbers"),
        ("HEADER\n0,300,1000,1,1,1,1,1,1\n1,300,1000,1,1\n", "not 9 numbers"),
        ("HEADER\n" + "".join(f"{t},300,1000,1,1,1,1,1,1\n" for t in (0, 1, 3)), "equal steps"),
        ("HEADER\n" + "".join(f"{t},300,{1000 + t},1,1,1,1,1,1\n" for t in (0, 1, 2)), "volume changes"),
    ],
)
def test_foreign_series(tmp_path, text, message):
    from ase_mlcalc.transport.series import STRESS_COLUMNS

    path = tmp_path / "series.csv"
    path.write_text(text.replace("HEADER", ",".join(STRESS_COLUMNS)))
    with pytest.raises(DataError, match=message):
        read_stress_series(path)
    with pytest.raises(MLCalcError, match="cannot read"):
        read_stress_series(tmp_path / "none.csv")
