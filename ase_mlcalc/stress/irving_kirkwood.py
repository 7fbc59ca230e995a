r"""The stress field of Irving and Kirkwood: the virial of each edge lies on the straight line between its atoms.

.. math::

    \sigma(x) = \sum_{ij} r_{ij} \otimes g_{ij} \int_0^1 \delta(r_i + \lambda r_{ij} - x) \, d\lambda
              - \sum_i m_i v_i \otimes v_i \, \delta(r_i - x)

averaged over bins, which share an edge by the length of its line in each, exactly.  The mean over all bins is the
stress of the structure, and the mean over the bins of a layer is the mean of the traction by the method of planes in
it.

Reference: J. H. Irving and J. G. Kirkwood, J. Chem. Phys. 18, 817 (1950).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray
from scipy.sparse import coo_array

from ase_mlcalc.stress.edges import find_edges
from ase_mlcalc.stress.grid import TENSOR, Grid, chunks, fractional, kinetic_virials

Array = NDArray[np.float64]

_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class IrvingKirkwood:
    """Stress averaged over the bins of a grid; see the equations at the top of this file."""

    grid: Grid
    name: ClassVar[str] = "ik"
    components: ClassVar[tuple[str, ...]] = TENSOR

    def potential_part(self, calc: Calculator, atoms: Atoms) -> Array:
        """(n_bins, 9) eV/Å³, not symmetrised: the first index is the normal of a surface."""
        places = fractional(atoms)
        edges = find_edges(calc, atoms).merged()
        start = places[edges.centers] * self.grid.shape
        along = (places[edges.neighbors] + edges.shifts - places[edges.centers]) * self.grid.shape
        virials = edges.virials.reshape(-1, 9)
        total = np.zeros((self.grid.n_bins, 9))
        for part in chunks(2 + _faces_crossed(self.grid, start, along).sum(axis=1), _AT_ONCE):
            edge, bins, share = _pieces(self.grid, start[part], along[part], atoms.pbc)
            size = (self.grid.n_bins, part.stop - part.start)
            total += coo_array((share, (bins, edge)), shape=size).tocsr() @ virials[part]
        return total * (self.grid.n_bins / atoms.get_volume())

    def kinetic_part(self, atoms: Atoms) -> Array:
        """(n_bins, 9) eV/Å³, that of the atoms in each bin."""
        bins = self.grid.bins_of(fractional(atoms) * self.grid.shape, atoms.pbc)
        return self.grid.gather(bins, kinetic_virials(atoms)) * (self.grid.n_bins / atoms.get_volume())


def _faces_crossed(grid: Grid, start: Array, along: Array) -> NDArray[np.int64]:
    """(E, 3) how many faces between bins each line crosses; in directions of one bin none matters."""
    crossed = np.abs(np.floor(start + along) - np.floor(start)).astype(np.int64)
    return np.where(np.array(grid.shape) > 1, crossed, 0)


def _pieces(
    grid: Grid, start: Array, along: Array, pbc: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Lines cut where they cross faces: of each piece its line, its bin, and its share of the length of the line."""
    n = len(start)
    crossed = _faces_crossed(grid, start, along)
    lines, cuts = [np.arange(n), np.arange(n)], [np.zeros(n), np.ones(n)]
    for axis in range(3):
        count = crossed[:, axis]
        line = np.repeat(np.arange(n), count)
        which = np.arange(len(line)) - np.repeat(np.cumsum(count) - count, count)  # 0, 1, ... on each line
        first = np.floor(start[line, axis])
        face = np.where(along[line, axis] > 0, first + 1 + which, first - which)
        lines.append(line)
        cuts.append(np.clip((face - start[line, axis]) / along[line, axis], 0.0, 1.0))
    line, cut = np.concatenate(lines), np.concatenate(cuts)
    order = np.lexsort((cut, line))
    line, cut = line[order], cut[order]
    same = line[1:] == line[:-1]
    line, begin, end = line[:-1][same], cut[:-1][same], cut[1:][same]
    middle = start[line] + 0.5 * (begin + end)[:, None] * along[line]
    return line, grid.bins_of(middle, pbc), end - begin
