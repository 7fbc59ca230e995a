"""Reference calculations: energies, forces and stresses of structures from any ASE calculator, many side by side.

The names below are imported when they are first used: worker processes need none of them, and so no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase_mlcalc.labelling.level import level_of_theory
    from ase_mlcalc.labelling.run import Labelled, label

__all__ = ["Labelled", "label", "level_of_theory"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "level" if name == "level_of_theory" else "run"
    return getattr(import_module(f"{__name__}.{module}"), name)
