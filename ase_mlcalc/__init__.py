"""Machine-learned potentials for ASE: energy, forces, stress and per-atom stress from one gradient.

The names below are the public interface.  They are imported when they are first used, so that ``import ase_mlcalc``
costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase_mlcalc.accelerate import compile_model, load
    from ase_mlcalc.calculator import MLCalculator
    from ase_mlcalc.checkpoint import save
    from ase_mlcalc.data.read import read_frames
    from ase_mlcalc.ensemble import Ensemble
    from ase_mlcalc.ensemble_calculator import EnsembleCalculator
    from ase_mlcalc.graph import Graph
    from ase_mlcalc.md.config import MDConfig
    from ase_mlcalc.md.run import run_md
    from ase_mlcalc.memory import keep_memory, use_large_pages
    from ase_mlcalc.model import Model, ModelConfig
    from ase_mlcalc.potential import Baseline, Derived
    from ase_mlcalc.properties import Properties
    from ase_mlcalc.report.run_report import write_report
    from ase_mlcalc.testing import check_calculator, check_model, check_stresses
    from ase_mlcalc.training.train import train

    __version__: str

_WHERE = {
    "Baseline": "potential",
    "Derived": "potential",
    "Ensemble": "ensemble",
    "EnsembleCalculator": "ensemble_calculator",
    "Graph": "graph",
    "MDConfig": "md.config",
    "MLCalculator": "calculator",
    "Model": "model",
    "ModelConfig": "model",
    "Properties": "properties",
    "check_calculator": "testing",
    "check_model": "testing",
    "check_stresses": "testing",
    "compile_model": "accelerate",
    "keep_memory": "memory",
    "load": "accelerate",
    "read_frames": "data.read",
    "run_md": "md.run",
    "save": "checkpoint",
    "train": "training.train",
    "use_large_pages": "memory",
    "write_report": "report.run_report",
}
"""Public name to the module that defines it."""

__all__ = [
    "Baseline",
    "Derived",
    "Ensemble",
    "EnsembleCalculator",
    "Graph",
    "MDConfig",
    "MLCalculator",
    "Model",
    "ModelConfig",
    "Properties",
    "__version__",
    "check_calculator",
    "check_model",
    "check_stresses",
    "compile_model",
    "keep_memory",
    "load",
    "read_frames",
    "run_md",
    "save",
    "train",
    "use_large_pages",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _WHERE:
        value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ase-mlcalc")
    except PackageNotFoundError:
        return "unknown (not installed)"
