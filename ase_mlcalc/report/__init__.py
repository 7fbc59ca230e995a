"""Pictures and reports, made from files alone: nothing here evaluates a potential."""

from ase_mlcalc.report.plots import ParityPanel, learning_curves, parity_plot
from ase_mlcalc.report.run_report import write_report

__all__ = ["ParityPanel", "learning_curves", "parity_plot", "write_report"]
