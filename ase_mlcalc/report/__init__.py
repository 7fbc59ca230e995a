"""Pictures and reports, made from files alone: nothing here evaluates a potential."""

from ase_mlcalc.report.run_report import write_report
from ase_mlcalc.report.study_report import write_study_report
from ase_mlcalc.report.trajectory_report import write_trajectory_report

__all__ = ["write_report", "write_study_report", "write_trajectory_report"]
