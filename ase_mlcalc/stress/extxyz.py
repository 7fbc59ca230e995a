"""Extended XYZ with the digits that per-atom stresses need.

ASE writes eight places behind the point: of a stress of 1e-5 eV/Å³, usual where the volume of a large cell divides it,
three digits would be left.
"""

from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_dict_to_str
from numpy.typing import NDArray

_FORMAT = "{:.12g}"


def write_frame(
    file: TextIO, atoms: Atoms, columns: Mapping[str, NDArray[np.float64]], info: Mapping[str, Any]
) -> None:
    """Append a structure to an open file; ``ase.io.read`` gives results of ASE's names back as such.

    Parameters
    ----------
    file : open text file
    atoms : ase.Atoms
        Elements, positions, cell and periodic directions are written, nothing else of it.
    columns : mapping of name to (N, C) array
    info : mapping of name to number, string or array
        Goes into the comment line.
    """
    arrays = {"pos": atoms.positions, **columns}
    properties = "species:S:1:" + ":".join(f"{name}:R:{array.shape[1]}" for name, array in arrays.items())
    lattice = " ".join(_FORMAT.format(number) for number in atoms.cell.array.ravel())
    comment = key_val_dict_to_str({**info, "pbc": atoms.pbc})
    file.write(f'{len(atoms)}\nLattice="{lattice}" Properties={properties} {comment}\n')
    rows = np.column_stack(list(arrays.values())).tolist()
    file.writelines(
        f"{symbol:2s} {' '.join(map(_FORMAT.format, row))}\n" for symbol, row in zip(atoms.symbols, rows, strict=True)
    )
