"""Pictures and reports, made from files alone: nothing here evaluates a potential."""

from ase_mlcalc.report.run_report import write_report

__all__ = ["write_report"]
