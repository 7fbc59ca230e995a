r"""`Unwrapper`: paths of atoms through periodic boundaries, also where the cell changes.

Between two frames every atom takes the shortest way in fractional coordinates s,

.. math:: \Delta s = s_{k+1} - s_k - \mathrm{round}(s_{k+1} - s_k), \qquad
          u_{k+1} = u_k + \Delta s \, (h_k + h_{k+1}) / 2

with the cell h (rows are lattice vectors) and without rounding along open directions.  Images are never multiplied by
a later cell: with a barostat that would turn fluctuations of the cell into displacements that grow with the distance
an atom has come (von Bülow, Bullerjahn and Hummer, J. Chem. Phys. 153, 021101 (2020); Bullerjahn et al., J. Chem.
Theory Comput. 19, 3406 (2023)).  What is summed here is the motion relative to the cell: in the equations of motion of
barostats dx/dt = p/m + (dh/dt h^-1) x it is the part p/m, and where the cell stands still it is all of it.

The shortest way is the right one only if atoms move less than half a cell between frames; `farthest` says how far they
were seen to go.
"""

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Unwrapper:
    """Takes frames in order and gives continuous positions; starts from the positions of the first frame."""

    def __init__(self) -> None:
        self.farthest = 0.0
        """Largest displacement between two frames seen so far, as a fraction of a cell vector of a periodic direction.
        Close to 1/2 the way of an atom is ambiguous."""
        self._fractional: Array | None = None
        self._box = np.eye(3)
        self._path = np.zeros((0, 3))

    def __call__(self, atoms: Atoms) -> Array:
        """(N, 3) Å, continuous positions of the next frame."""
        box = np.asarray(complete_cell(np.where(atoms.pbc[:, None], atoms.cell, 0.0)))
        fractional = atoms.positions @ np.linalg.inv(box)
        if self._fractional is None:
            self._path = atoms.positions.copy()
        else:
            step = fractional - self._fractional
            step -= np.where(atoms.pbc, np.rint(step), 0.0)
            if atoms.pbc.any():
                self.farthest = max(self.farthest, float(np.abs(step[:, atoms.pbc]).max()))
            self._path = self._path + step @ (0.5 * (self._box + box))
        self._fractional, self._box = fractional, box
        return self._path
