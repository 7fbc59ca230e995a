"""Monitors: when a trajectory can no longer be believed, and why; live and on the trajectory of any program."""

from ase_mlcalc.md.monitors.base import Finding, Moment, Monitor, Setting, Snapshot
from ase_mlcalc.md.monitors.config import MonitorsConfig
from ase_mlcalc.md.monitors.inspect import Inspection, inspect
from ase_mlcalc.md.monitors.make import MONITORS, make_monitors
from ase_mlcalc.md.monitors.watch import Alarm, Watch

__all__ = [
    "MONITORS",
    "Alarm",
    "Finding",
    "Inspection",
    "Moment",
    "Monitor",
    "MonitorsConfig",
    "Setting",
    "Snapshot",
    "Watch",
    "inspect",
    "make_monitors",
]
