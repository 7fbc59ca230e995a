"""Molecular dynamics through ASE's integrators: exact trajectories, thermo rows, and an outcome in words."""

from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.drift import Slope, energy_drift, fit_slope
from ase_mlcalc.md.frames import read_trajectory
from ase_mlcalc.md.job import run_job
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.result import RunResult, clear_run, read_results
from ase_mlcalc.md.run import run_md
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.md.thermo import read_thermo

__all__ = [
    "MDConfig",
    "MDJob",
    "Outcome",
    "RunResult",
    "Slope",
    "clear_run",
    "energy_drift",
    "fit_slope",
    "read_results",
    "read_thermo",
    "read_trajectory",
    "run_job",
    "run_md",
]
