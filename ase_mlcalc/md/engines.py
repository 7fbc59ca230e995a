"""Who makes the time steps of a run: ASE, one run after another, or another program, many runs at once."""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal, NamedTuple

from ase import Atoms

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.ensembles import Integrator, integrator

EngineName = Literal["ase", "torchsim"]


class Engine(NamedTuple):
    """What makes steps, and how time is counted."""

    name: EngineName
    """A run that one engine began is not continued by another."""
    integrator: Callable[[Atoms, MDConfig], Integrator]
    """Equations of motion with what they remember."""
    clock: Callable[[], float]
    """Seconds since some moment; of runs that share a processor their share."""
    packages: tuple[str, ...] = ()
    """That compute beside those of every run."""


ASE = Engine("ase", integrator, time.perf_counter)
NEEDS_TORCHSIM = 'this needs TorchSim, which is not installed: pip install "ase-mlcalc[torchsim]"'


def require_engine(name: EngineName) -> None:
    """Raise `ConfigError` where an engine is not installed."""
    if name == "torchsim" and find_spec("torch_sim") is None:
        raise ConfigError(f'engine = "torchsim": {NEEDS_TORCHSIM}')


def why_not_torchsim(config: MDConfig) -> str | None:
    """Why TorchSim cannot make the steps of a stage, or ``None`` if it can."""
    if config.driver not in ("verlet", "langevin"):
        what = f"thermostat = {config.driver!r}" if config.ensemble == "nvt" else f"ensemble = {config.ensemble!r}"
        return f"engine = 'torchsim' runs nve, and nvt with thermostat = 'langevin', got {what}; use engine = 'ase'"
    if config.rigid_motion == "removed-always":
        return (
            "engine = 'torchsim' cannot take out rigid motion after each step; leave rigid_motion = 'removed-always' "
            "out, or use engine = 'ase'"
        )
    return None
