"""Data sets that come with the package."""

from importlib.resources import files
from pathlib import Path
from typing import Literal

from ase_mlcalc.errors import DataError

LEVELS = {"gfn1": "GFN1-xTB", "gfn2": "GFN2-xTB"}


def water16(level: Literal["gfn1", "gfn2"]) -> Path:
    """The file of 531 configurations of 16 H2O in a periodic box, sampled at 300-600 K.

    48 atoms in a cube of 14.798444 bohr, with energy, forces and stress from GFN1-xTB or GFN2-xTB; the same
    geometries at both levels, in a fixed random order.

    Parameters
    ----------
    level : {"gfn1", "gfn2"}

    Raises
    ------
    DataError
        Another level, or an installation that lacks the file.
    """
    if level not in LEVELS:
        raise DataError(f"water16 has no level {level!r}; it has {' and '.join(LEVELS)}")
    path = Path(str(files("ase_mlcalc"))) / "data" / "sets" / f"water16_{level}.extxyz.gz"
    if not path.is_file():
        raise DataError(f"the water16 set is missing from this installation ({path}); install the package again")
    return path
