"""`make_monitors`: the monitors that a configuration asks for and that make sense for a structure."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ase_mlcalc.md.monitors.base import Monitor, Setting
from ase_mlcalc.md.monitors.bonds import Bonds
from ase_mlcalc.md.monitors.committee import Committee
from ase_mlcalc.md.monitors.config import MonitorsConfig
from ase_mlcalc.md.monitors.distances import Distances
from ase_mlcalc.md.monitors.drift import Drift
from ase_mlcalc.md.monitors.energy import EnergyJump
from ase_mlcalc.md.monitors.finite import Finite
from ase_mlcalc.md.monitors.force import StrongForce
from ase_mlcalc.md.monitors.fragments import Fragments
from ase_mlcalc.md.monitors.frozen import Frozen
from ase_mlcalc.md.monitors.lattice import Lattice
from ase_mlcalc.md.monitors.lost import Lost
from ase_mlcalc.md.monitors.rdf import Rdf
from ase_mlcalc.md.monitors.stale import Stale
from ase_mlcalc.md.monitors.temperature import Temperature
from ase_mlcalc.md.monitors.thermostat import Thermostat
from ase_mlcalc.md.monitors.volume import Volume

MONITORS: tuple[type[Monitor], ...] = (
    Stale,
    Frozen,
    Distances,
    Fragments,
    Lost,
    Bonds,
    Volume,
    Lattice,
    Rdf,
    Temperature,
    EnergyJump,
    Drift,
    StrongForce,
    Committee,
    Thermostat,
    Finite,
)
"""In order of precedence: where several speak at one snapshot, causes come before what they lead to.

A calculator that is stale heats the system; atoms that fuse, or a molecule that breaks, throw the energy and the
temperature off; NaN comes after all of them.
"""


def make_monitors(config: MonitorsConfig, setting: Setting) -> list[Monitor]:
    """Monitors in order of precedence.

    Raises
    ------
    ConfigError
        One is asked for by ``use = true`` that cannot work on this structure.
    """
    monitors = []
    # nothing can be compared with a structure that is not one
    kinds = MONITORS if np.isfinite(setting.start.positions).all() else (Finite,)
    for kind in kinds:
        section = getattr(config, kind.name)
        if section.use is True or (section.use == "auto" and kind.suits(section, setting)):
            make: Callable[[Any, Setting], Monitor] = kind  # every monitor is made from its table and the setting
            monitors.append(make(section, setting))
    return monitors
