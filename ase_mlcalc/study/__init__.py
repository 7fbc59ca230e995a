"""Stability studies: many short runs, and what they say together about how far a potential can be trusted."""

from ase_mlcalc.study.config import StudyJob
from ase_mlcalc.study.run import run_study
from ase_mlcalc.study.summarize import refresh
from ase_mlcalc.study.summary import GroupSummary, RunSummary, StudySummary, read_study

__all__ = ["GroupSummary", "RunSummary", "StudyJob", "StudySummary", "read_study", "refresh", "run_study"]
