"""Heat of forces that are no gradient, on a harmonic trap where everything is known in closed form."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator

from ase_mlcalc.analysis import spurious_heat
from ase_mlcalc.errors import DataError

SPRING, TEMPERATURE_K, STEP_PS, N_FRAMES = 2.0, 200.0, 0.0005, 60
MASS = Atoms("Ar").get_masses()[0]
OMEGA = np.sqrt(SPRING / MASS)


class Wrong(Calculator):
    """The trap with an error of its forces, a linear function of the position."""

    implemented_properties = ["forces"]  # noqa: RUF012

    def __init__(self, error):
        super().__init__()
        self.error = np.asarray(error)

    def calculate(self, atoms=None, properties=None, system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results = {"forces": -SPRING * atoms.positions + atoms.positions @ self.error.T}


def run(rng, step_ps=STEP_PS):
    """An atom in an isotropic harmonic trap from a canonical start, exactly."""
    amplitude = rng.normal(size=(2, 3)) * np.sqrt(units.kB * TEMPERATURE_K / SPRING)
    for k in range(N_FRAMES):
        phase = OMEGA * k * step_ps * 1000 * units.fs
        position = amplitude[0] * np.cos(phase) + amplitude[1] * np.sin(phase)
        velocity = OMEGA * (amplitude[1] * np.cos(phase) - amplitude[0] * np.sin(phase))
        atoms = Atoms("Ar", [position], momenta=[MASS * velocity], info={"time_ps": k * step_ps})
        atoms.calc = SinglePointCalculator(atoms, forces=-SPRING * atoms.positions)
        yield atoms


def test_curl_heats_as_in_closed_form():
    """The work of ε (z × r) is ε t times the angular momentum over the mass, which the trap conserves."""
    epsilon, rng = 0.01, np.random.default_rng(0)
    runs = [list(run(rng)) for _ in range(3)]
    curl = Wrong(epsilon * np.array([[0, -1, 0], [1, 0, 0], [0, 0, 0]]))
    found = spurious_heat(runs, curl, TEMPERATURE_K)
    turning = [np.cross(frames[0].positions[0], frames[0].get_velocities()[0])[2] for frames in runs]
    works = epsilon * np.outer(turning, found.lags_ps * 1000 * units.fs)
    expected = np.square(works) / (2 * units.kB * TEMPERATURE_K)
    assert expected[:, -1].max() > 1e-9
    assert found.heat_eV == pytest.approx(expected.mean(axis=0), rel=1e-6)
    assert found.stderr_eV == pytest.approx(expected.std(axis=0, ddof=1) / 3**0.5, rel=1e-6)
    rate, error = found.rate_K_per_ps(3)
    assert rate == pytest.approx(found.heat_eV[-1] / (3 * units.kB * found.lags_ps[-1]))
    assert error == pytest.approx(rate * found.stderr_eV[-1] / found.heat_eV[-1])
    errors = [np.square(epsilon * frame.positions[0, :2]).sum() / 3 for frames in runs for frame in frames]
    assert found.force_error_rms == pytest.approx(np.sqrt(np.mean(errors)))


def test_gradients_do_not_heat_in_the_long_run():
    """After whole periods the work of an error that is a gradient is zero again."""
    stiffer = Wrong(-0.01 * np.eye(3))
    period_ps = 2 * np.pi / OMEGA / (1000 * units.fs)
    step_ps = period_ps / 25
    rng = np.random.default_rng(1)
    found = spurious_heat([run(rng, step_ps)], stiffer, TEMPERATURE_K, longest_ps=2 * period_ps)
    assert found.heat_eV.max() > 1e-9
    assert found.heat_eV[-1] < 1e-6 * found.heat_eV.max()


def test_what_cannot_be_followed_is_refused():
    rng = np.random.default_rng(2)
    calculator = Wrong(np.eye(3))
    with pytest.raises(DataError, match="no runs"):
        spurious_heat([], calculator, TEMPERATURE_K)
    with pytest.raises(DataError, match="even times"):
        spurious_heat([[atoms for k, atoms in enumerate(run(rng)) if k != 5]], calculator, TEMPERATURE_K)
    with pytest.raises(DataError, match="does not fit"):
        spurious_heat([run(rng)], calculator, TEMPERATURE_K, longest_ps=1.0)
    bare = list(run(rng))
    bare[3].calc = None
    with pytest.raises(DataError, match="no forces"):
        spurious_heat([bare], calculator, TEMPERATURE_K)
