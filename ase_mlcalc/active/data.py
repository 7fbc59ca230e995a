"""Which labels the committee is trained on, and which measure it."""

from collections.abc import Sequence

from ase import Atoms

from ase_mlcalc.active.config import LearnJob
from ase_mlcalc.data.geometry import is_isolated_atom
from ase_mlcalc.errors import DataError
from ase_mlcalc.training.calibration import FEWEST_ITEMS

HELD_BACK = (1, 10)
"""The second of each ten labels is for validation, and stays so: the committee has never been trained on a structure
that its spread is calibrated with."""


def divide(labelled: Sequence[Atoms]) -> tuple[list[Atoms], list[Atoms]]:
    """Training and validation structures; what is in one of them stays there when further ones are added."""
    first, each = HELD_BACK
    alone = [atoms for atoms in labelled if is_isolated_atom(atoms)]
    several = [atoms for atoms in labelled if not is_isolated_atom(atoms)]
    held = several[first::each]
    return [*alone, *(atoms for k, atoms in enumerate(several) if k % each != first)], held


def require_calibration(job: LearnJob, held: Sequence[Atoms], what: str) -> None:
    """Refuse so few structures that those held back have too few atoms to calibrate the committee by.

    Raises
    ------
    DataError
    """
    n_atoms = sum(map(len, held))
    if n_atoms < FEWEST_ITEMS and job.learn.threshold_eV_per_A is None:
        raise DataError(
            f"of the {what} one in ten is held back for validation; they have {n_atoms} atoms, and a calibration takes "
            f"at least {FEWEST_ITEMS}: give more structures, or learn.threshold_eV_per_A"
        )
