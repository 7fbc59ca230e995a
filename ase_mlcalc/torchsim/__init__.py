"""Potentials as models of TorchSim, and runs of molecular dynamics whose steps TorchSim makes, many at once."""

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.md.engines import NEEDS_TORCHSIM

try:
    import torch_sim  # noqa: F401
except ImportError as error:
    raise ConfigError(NEEDS_TORCHSIM) from error

from ase_mlcalc.torchsim.model import TorchSimModel
from ase_mlcalc.torchsim.runs import run_jobs

__all__ = ["TorchSimModel", "run_jobs"]
