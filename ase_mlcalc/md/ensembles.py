# ruff: noqa: SLF001, D102  (ASE gives no other way to the state of its thermostats; methods are described in Integrator)
"""ASE's integrators from a configuration, with the degrees of freedom that there really are, and what they remember.

ASE's thermostats that act on the total kinetic energy take 3N degrees of freedom for granted.  Where momentum (and for
a molecule angular momentum) is conserved at zero there are fewer, and the atoms would run hot by 3N/(3N - 6): ethanol
at "500 K" would be at 643 K.  So the thermostats are told the number here.
"""

import json
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from ase_mlcalc.foreign import potential_energy
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.velocities import degrees_of_freedom, draw_momenta, draw_momenta_at_rest, remove_rigid_motion

State = dict[str, NDArray[Any]]


def set_initial_momenta(atoms: Atoms, config: MDConfig) -> None:
    """Draw or keep momenta; rigid motion is taken out where the equations of motion would conserve it."""
    if config.initial_velocities == "thermal":
        draw = draw_momenta_at_rest if conserves_momentum(config) else draw_momenta
        draw(atoms, config.temperature_K, np.random.default_rng([config.seed, 0]))
    elif conserves_momentum(config):
        remove_rigid_motion(atoms)


def conserves_momentum(config: MDConfig) -> bool:
    """Whether rigid motion is out for good: there is no Langevin noise, and it is asked for."""
    if config.rigid_motion == "kept":
        return False
    return config.driver != "langevin" or config.rigid_motion == "removed-always"


class Integrator(ABC):
    """Equations of motion: an ASE dynamics object, its thermostat's target, and its state for a restart."""

    def __init__(self, atoms: Atoms, config: MDConfig) -> None:
        self.atoms = atoms
        self.config = config
        self.degrees_of_freedom = degrees_of_freedom(atoms, all_momenta=not conserves_momentum(config))
        self.temperature_K = config.temperature_K
        """Target of the thermostat now."""
        self.dynamics: Any = self._make()

    @abstractmethod
    def _make(self) -> MolecularDynamics:
        """ASE's object for atoms as they are now."""

    def step(self) -> None:
        """One time step, after which the forces on the new positions are in the calculator's cache."""
        self.dynamics.step()
        if self.config.rigid_motion == "removed-always":
            remove_rigid_motion(self.atoms)

    def set_temperature(self, temperature_K: float) -> None:
        """Change the target of the thermostat."""
        self.temperature_K = temperature_K

    def conserved_eV(self) -> float | None:
        """What the equations of motion conserve; ``None`` if nothing, or if the potential gives no energy."""
        return None

    def state(self) -> State:
        """What is remembered beside positions, momenta and cell."""
        return {"temperature_K": np.array(self.temperature_K)}

    def restore(self, state: State) -> None:
        """Go on from a state; atoms have their positions, momenta and cell."""
        self.set_temperature(float(state["temperature_K"]))

    def _energy(self) -> float | None:
        if "energy" not in self.atoms.calc.implemented_properties:
            return None
        try:
            return potential_energy(self.atoms) + float(self.atoms.get_kinetic_energy())
        except PropertyNotImplementedError:
            return None

    @property
    def _timestep(self) -> float:
        return self.config.timestep_fs * units.fs


class Verlet(Integrator):
    """Velocity Verlet at constant energy."""

    def _make(self) -> MolecularDynamics:
        return VelocityVerlet(self.atoms, self._timestep)

    def conserved_eV(self) -> float | None:
        return self._energy()


class _Noisy(Integrator):
    """A thermostat with a random number generator of its own."""

    def __init__(self, atoms: Atoms, config: MDConfig) -> None:
        self._rng = np.random.default_rng([config.seed, 1])
        super().__init__(atoms, config)

    def state(self) -> State:
        # the generator's state is integers beyond 64 bits
        generator = json.dumps(self._rng.bit_generator.state).encode()
        return super().state() | {"rng": np.frombuffer(generator, dtype=np.uint8)}

    def restore(self, state: State) -> None:
        super().restore(state)
        self._rng.bit_generator.state = json.loads(state["rng"].tobytes())


class LangevinNVT(_Noisy):
    """Langevin dynamics of all 3N momenta.

    With ``fixcm=False``: ASE's variant that holds the center of mass samples a wrong temperature.
    """

    def _make(self) -> MolecularDynamics:
        return Langevin(
            self.atoms,
            self._timestep,
            temperature_K=self.config.temperature_K,
            friction=self.config.friction_per_ps / (1000.0 * units.fs),
            fixcm=False,
            rng=self._rng,
        )

    def set_temperature(self, temperature_K: float) -> None:
        super().set_temperature(temperature_K)
        self.dynamics.set_temperature(temperature_K=temperature_K)


class BussiNVT(_Noisy):
    """Stochastic velocity rescaling (Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007))."""

    def _make(self) -> MolecularDynamics:
        made = Bussi(
            self.atoms,
            self._timestep,
            temperature_K=self.config.temperature_K,
            taut=self.config.thermostat_time_fs * units.fs,
            rng=self._rng,
        )
        made.ndof = self.degrees_of_freedom
        made.target_kinetic_energy = 0.5 * made.temp * made.ndof
        return made

    def set_temperature(self, temperature_K: float) -> None:
        super().set_temperature(temperature_K)
        self.dynamics.temp = temperature_K * units.kB
        self.dynamics.target_kinetic_energy = 0.5 * self.dynamics.temp * self.dynamics.ndof

    def conserved_eV(self) -> float | None:
        """Total energy less what the thermostat put in (eq. 15 of the reference)."""
        energy = self._energy()
        return None if energy is None else energy - float(self.dynamics.transferred_energy)

    def state(self) -> State:
        return super().state() | {"transferred": np.array(self.dynamics.transferred_energy)}

    def restore(self, state: State) -> None:
        super().restore(state)
        self.dynamics.transferred_energy = float(state["transferred"])


class NoseHooverNVT(Integrator):
    """Nosé-Hoover chain (Martyna, Klein and Tuckerman, J. Chem. Phys. 97, 2635 (1992))."""

    def _make(self) -> MolecularDynamics:
        made: Any = NoseHooverChainNVT(
            self.atoms,
            self._timestep,
            temperature_K=self.config.temperature_K,
            tdamp=self.config.thermostat_time_fs * units.fs,
        )
        _count(made._thermostat, self.degrees_of_freedom)
        self._chain_masses = made._thermostat._Q / made._thermostat._kT
        _heat(made._thermostat, self.temperature_K, self._chain_masses)  # rounded as after a restart
        return made

    def step(self) -> None:
        super().step()
        if self.config.rigid_motion == "removed-always":
            self.dynamics._p = self.atoms.get_momenta()  # it keeps a copy of its own

    def set_temperature(self, temperature_K: float) -> None:
        super().set_temperature(temperature_K)
        _heat(self.dynamics._thermostat, temperature_K, self._chain_masses)

    def conserved_eV(self) -> float | None:
        energy = self._energy()
        return None if energy is None else energy + self.dynamics._thermostat.get_thermostat_energy()

    def state(self) -> State:
        return super().state() | _chain_state(self.dynamics._thermostat)

    def restore(self, state: State) -> None:
        super().restore(state)
        _restore_chain(self.dynamics._thermostat, state)


class MartynaTobiasKlein(Integrator):
    """Constant temperature and pressure (Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177 (1994))."""

    def _make(self) -> MolecularDynamics:
        kind = IsotropicMTKNPT if self.config.cell_shape == "fixed" else MTKNPT
        made: Any = kind(
            self.atoms,
            self._timestep,
            temperature_K=self.config.temperature_K,
            pressure_au=self.config.pressure_GPa * units.GPa,
            tdamp=self.config.thermostat_time_fs * units.fs,
            pdamp=self.config.barostat_time_fs * units.fs,
        )
        _count(made._thermostat, self.degrees_of_freedom)
        # N stands for a third of the degrees of freedom in the equations of the cell, too
        made._num_atoms_global = self.degrees_of_freedom / 3.0
        self._chain_masses = made._thermostat._Q / made._thermostat._kT
        self._cell_masses = made._barostat._W / made._kT, made._barostat._R / made._kT
        self._heat_all(made, self.temperature_K)  # rounded as after a restart
        return made

    def step(self) -> None:
        super().step()
        if self.config.rigid_motion == "removed-always":
            self.dynamics._p = self.atoms.get_momenta()

    def set_temperature(self, temperature_K: float) -> None:
        super().set_temperature(temperature_K)
        self._heat_all(self.dynamics, temperature_K)

    def _heat_all(self, dynamics: Any, temperature_K: float) -> None:
        _heat(dynamics._thermostat, temperature_K, self._chain_masses)
        dynamics._barostat._kT = dynamics._kT = temperature_K * units.kB
        dynamics._barostat._W, dynamics._barostat._R = (mass * dynamics._kT for mass in self._cell_masses)

    def conserved_eV(self) -> float | None:
        return None if self._energy() is None else float(self.dynamics.get_conserved_energy())

    def state(self) -> State:
        dynamics, barostat = self.dynamics, self.dynamics._barostat
        own: State = {"xi": barostat._xi.copy(), "p_xi": barostat._p_xi.copy()}
        for name in self._own_variables():
            own[name] = np.array(getattr(dynamics, name), dtype=float)
        return super().state() | _chain_state(dynamics._thermostat) | own

    def restore(self, state: State) -> None:
        super().restore(state)
        dynamics, barostat = self.dynamics, self.dynamics._barostat
        _restore_chain(dynamics._thermostat, state)
        barostat._xi, barostat._p_xi = state["xi"].copy(), state["p_xi"].copy()
        for name in self._own_variables():
            value = state[name].copy()
            setattr(dynamics, name, float(value) if value.ndim == 0 else value)

    def _own_variables(self) -> tuple[str, ...]:
        if self.config.cell_shape == "fixed":
            return ("_eps", "_p_eps", "_volume0", "_cell0")  # the cell is that of the start, scaled
        return ("_h", "_p_g")


_INTEGRATORS: dict[str, type[Integrator]] = {
    "verlet": Verlet,
    "langevin": LangevinNVT,
    "bussi": BussiNVT,
    "nose-hoover": NoseHooverNVT,
    "npt": MartynaTobiasKlein,
}


def integrator(atoms: Atoms, config: MDConfig) -> Integrator:
    """The equations of motion that a configuration asks for."""
    return _INTEGRATORS[config.driver](atoms, config)


def _count(thermostat: Any, degrees_of_freedom: int) -> None:
    """Make the chain thermostat so many degrees of freedom: it uses N only as a third of them."""
    thermostat._Q[0] *= degrees_of_freedom / (3.0 * thermostat._num_atoms_global)
    thermostat._num_atoms_global = degrees_of_freedom / 3.0


def _heat(thermostat: Any, temperature_K: float, masses_per_kT: NDArray[np.float64]) -> None:
    """Another target; masses follow, so that the relaxation time stays."""
    thermostat._kT = temperature_K * units.kB
    thermostat._Q = masses_per_kT * thermostat._kT


def _chain_state(thermostat: Any) -> State:
    return {"eta": thermostat._eta.copy(), "p_eta": thermostat._p_eta.copy()}


def _restore_chain(thermostat: Any, state: State) -> None:
    thermostat._eta, thermostat._p_eta = state["eta"].copy(), state["p_eta"].copy()
