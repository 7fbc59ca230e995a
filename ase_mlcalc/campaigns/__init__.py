"""Campaigns: many trainings that answer one question together, each an ordinary run in a folder of its own."""

from ase_mlcalc.campaigns.config import LearningCurveJob, ScanJob
from ase_mlcalc.campaigns.curve_summary import LearningCurve, read_learning_curve
from ase_mlcalc.campaigns.learning_curve import run_learning_curve
from ase_mlcalc.campaigns.scan import run_scan
from ase_mlcalc.campaigns.scan_summary import ScanSummary, read_scan
from ase_mlcalc.campaigns.several import run_trainings

__all__ = [
    "LearningCurve",
    "LearningCurveJob",
    "ScanJob",
    "ScanSummary",
    "read_learning_curve",
    "read_scan",
    "run_learning_curve",
    "run_scan",
    "run_trainings",
]
