"""Active learning: a committee drives molecular dynamics, and what it is unsure about is labelled and learned."""

from ase_mlcalc.active.config import LearnJob
from ase_mlcalc.active.run import learn
from ase_mlcalc.active.summary import Learned, RoundSummary, read_learned

__all__ = ["LearnJob", "Learned", "RoundSummary", "learn", "read_learned"]
