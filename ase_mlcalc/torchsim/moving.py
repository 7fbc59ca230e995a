"""Many stages of molecular dynamics in one state of TorchSim, whose time steps are made together."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms, units
from numpy.typing import NDArray
from torch import Tensor
from torch_sim.integrators.md import MDState, momentum_step, position_step

from ase_mlcalc.batch import Batch, Evaluated
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import ConfigError, MLCalcError
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.engines import why_not_torchsim
from ase_mlcalc.md.ensembles import Integrator, LangevinNVT, Verlet
from ase_mlcalc.md.run import Stage

Array = NDArray[np.float64]


class Kind(NamedTuple):
    """What stages have in common that are stepped together."""

    driver: str
    timestep_fs: float
    friction_per_ps: float

    @classmethod
    def of(cls, stage: Stage) -> "Kind":
        """Of a stage."""
        config = stage.config
        return cls(config.driver, config.timestep_fs, config.friction_per_ps if config.driver == "langevin" else 0.0)


class _Elsewhere(Verlet):
    """Velocity Verlet whose steps are made by `Moving`."""

    def _make(self) -> Any:
        return None


class _NoisyElsewhere(LangevinNVT):
    """Langevin dynamics whose steps are made by `Moving`, with the noise of each run from its own generator."""

    def _make(self) -> Any:
        return None

    def set_temperature(self, temperature_K: float) -> None:
        Integrator.set_temperature(self, temperature_K)

    def noise(self) -> Array:
        """(N, 3) standard normal numbers for the next step."""
        return self._rng.standard_normal((len(self.atoms), 3))


def integrator(atoms: Atoms, config: MDConfig) -> Integrator:
    """What a run remembers of its equations of motion.

    Raises
    ------
    ConfigError
        Equations of motion that are not there.
    """
    why = why_not_torchsim(config)
    if why is not None:
        raise ConfigError(why)
    if atoms.constraints:
        raise ConfigError(
            f"engine = 'torchsim' moves all atoms, and this structure has {len(atoms.constraints)} constraints; remove "
            "them, or use engine = 'ase'"
        )
    return (_Elsewhere if config.driver == "verlet" else _NoisyElsewhere)(atoms, config)


class Moving:
    """Structures of stages of one kind, which move together.

    Steps are TorchSim's: velocity Verlet, and for Langevin dynamics the splitting BAOAB (Leimkuhler and Matthews, Appl.
    Math. Res. Express 2013, 34).  The state of TorchSim has neither cells nor periodic directions: those are with the
    batch, so that atoms are not wrapped, and slabs and wires are what they are.

    Parameters
    ----------
    stages : sequence of Stage
        At their present steps; their calculators are `MLCalculator` with the potential of the first.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)
        self.kind = Kind.of(stages[0])
        every = [stage.atoms for stage in stages]
        for atoms in every:
            if "momenta" not in atoms.arrays:
                atoms.set_momenta(np.zeros((len(atoms), 3)))
        calculator = every[0].calc
        assert isinstance(calculator, MLCalculator)
        self._batch = Batch(
            calculator.potential, [each.numbers for each in every], np.array([each.pbc for each in every])
        )
        self._first = self._batch.neighbors.first_atom
        self._cells = np.array([each.cell.array for each in every])
        self.steps = np.array([stage.step for stage in stages])
        """That each stage has reached."""
        self._next_looks = np.array([stage.next_look() for stage in stages])
        self._hottest_eV = np.array([stage.hottest_eV for stage in stages])
        self._ramps = any(stage.config.temperature_end_K is not None for stage in stages)
        self._state = _state_of(every)
        self._inverse_masses = (1.0 / self._state.masses).numpy()
        self._timestep = torch.tensor(self.kind.timestep_fs * units.fs, dtype=torch.float64)
        self._before: tuple[Tensor, Tensor] = (self._state.positions, self._state.momenta)
        self._wrong = np.zeros(len(stages), dtype=bool)
        """Where the last step was not finite, too hot or refused."""
        self._evaluated: Evaluated = self._evaluate()
        self._advance: Callable[[], None] = self._verlet if self.kind.driver == "verlet" else self._langevin()

    def step(self) -> list[int]:
        """Make a step; the places of stages that have to look at it, or to hear what went wrong."""
        self._before = (self._state.positions, self._state.momenta)
        if self._ramps:
            self._follow_ramps()
        self._advance()
        self.steps += 1
        self._wrong = self._is_wrong()
        self._wrong[list(self._evaluated.errors)] = True
        return np.flatnonzero((self.steps >= self._next_looks) | self._wrong).tolist()

    def show(self, place: int) -> MLCalcError | None:
        """Give a stage its present state and the results for it; what went wrong, if something did.

        The stage has the state before as its last good one then.
        """
        stage = self.stages[place]
        if self._wrong[place]:
            self._put(place, *self._before)
            stage.step = int(self.steps[place]) - 1
            stage.keep()
        self._put(place, self._state.positions, self._state.momenta)
        stage.step = int(self.steps[place])
        if not self._wrong[place]:
            found, calculator = self._evaluated, stage.atoms.calc
            assert isinstance(calculator, MLCalculator)
            std = None if found.std is None else self._batch.of_structure(found.std, place)
            calculator.hold(stage.atoms, self._batch.of_structure(found.properties, place), std)
        return self._evaluated.errors.get(place)

    def looked(self, place: int) -> None:
        """A stage goes on, behind a look at its state."""
        self._next_looks[place] = self.stages[place].next_look()

    def leave(self, places: Sequence[int]) -> None:
        """Put stages where they are now, before they move in another company."""
        for place in places:
            self._put(place, self._state.positions, self._state.momenta)
            self.stages[place].step = int(self.steps[place])

    def _put(self, place: int, positions: Tensor, momenta: Tensor) -> None:
        atoms, rows = self.stages[place].atoms, slice(self._first[place], self._first[place + 1])
        atoms.arrays["positions"][:] = positions[rows].numpy()
        atoms.arrays["momenta"][:] = momenta[rows].numpy()

    def _evaluate(self) -> Evaluated:
        """Results for the present positions, with forces put into the state."""
        found = self._batch(self._state.positions.numpy(), self._cells)
        forces = found.properties.forces
        assert forces is not None
        self._state.forces = forces.to("cpu", torch.float64)
        self._evaluated = found
        return found

    def _verlet(self) -> None:
        half = 0.5 * self._timestep
        state = position_step(momentum_step(self._state, half), self._timestep)
        self._evaluate()
        self._state = momentum_step(state, half)

    def _langevin(self) -> Callable[[], None]:
        half = 0.5 * self._timestep
        friction = self.kind.friction_per_ps / (1000.0 * units.fs)
        kept = torch.exp(-friction * self._timestep)
        sqrt_masses = self._state.masses.sqrt()[:, None] * torch.sqrt(1.0 - kept**2)
        integrators = [stage.integrator for stage in self.stages]
        self._spread = self._spread_of_momenta()

        def advance() -> None:
            state = position_step(momentum_step(self._state, half), half)
            noise = torch.from_numpy(np.concatenate([each.noise() for each in integrators]))  # type: ignore[attr-defined]
            state.momenta = kept * state.momenta + sqrt_masses * self._spread * noise
            state = position_step(state, half)
            self._evaluate()
            self._state = momentum_step(state, half)

        return advance

    def _spread_of_momenta(self) -> Tensor:
        """(N, 1) square root of the temperature of the thermostat of each atom, in units of energy."""
        targets = np.sqrt([units.kB * stage.integrator.temperature_K for stage in self.stages])
        return torch.from_numpy(np.repeat(targets, np.diff(self._first)))[:, None]

    def _follow_ramps(self) -> None:
        for place, stage in enumerate(self.stages):
            target = stage.config.target_K(int(self.steps[place]))
            if target is not None:
                stage.integrator.set_temperature(target)
        if self.kind.driver == "langevin":
            self._spread = self._spread_of_momenta()

    def _is_wrong(self) -> NDArray[np.bool_]:
        """(B,) where something is not finite, or hotter than allowed."""
        momenta, positions = self._state.momenta.numpy(), self._state.positions.numpy()
        with np.errstate(invalid="ignore", over="ignore"):
            kinetic_n = 0.5 * np.einsum("nc,nc->n", momenta, momenta) * self._inverse_masses
            kinetic = np.add.reduceat(kinetic_n, self._first[:-1])
            wrong: NDArray[np.bool_] = ~(kinetic <= self._hottest_eV)
            if not np.isfinite(np.add.reduce(positions, axis=None)):
                wrong |= ~np.isfinite(np.add.reduceat(positions.sum(axis=1), self._first[:-1]))
        return wrong


def _state_of(structures: Sequence[Atoms]) -> Any:
    """A state of TorchSim with the momenta that the structures have."""
    n_atoms = [len(atoms) for atoms in structures]

    def joined(arrays: Sequence[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays))

    positions = joined([atoms.positions for atoms in structures])
    return MDState(
        positions=positions,
        momenta=joined([atoms.arrays["momenta"] for atoms in structures]),
        masses=joined([atoms.get_masses() for atoms in structures]),
        cell=torch.zeros(len(structures), 3, 3, dtype=torch.float64),
        pbc=False,
        atomic_numbers=joined([atoms.numbers for atoms in structures]),
        system_idx=torch.repeat_interleave(torch.arange(len(structures)), torch.tensor(n_atoms)),
        energy=torch.zeros(len(structures), dtype=torch.float64),
        forces=torch.zeros_like(positions),
    )
