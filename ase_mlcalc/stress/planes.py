r"""The method of planes: the force through a plane per area, exact to rounding.

For a plane normal to n that cuts the structure at height s, with area A (of one cell),

.. math::

    t(s) = \frac{1}{A} \sum_{ij} c_{ij}(s) \, g_{ij}

where :math:`c_{ij}` counts how often the edge from i to j crosses the plane and its periodic images, positive along n.
What lies between two planes then feels :math:`A \, (t_{top} - t_{bottom})`, the sum of its forces: momentum is balanced
plane by plane, for any model.  With w the height of an atom in its cell, k the number of the cell that it is in and S
the cells that an edge crosses,

.. math:: A \, t(s) = \sum_{ij} (S + k_j - k_i) \, g_{ij} + \sum_{w_i < s} F_i

which is how it is computed: one sum over edges for all planes together.

The kinetic part is the flux of momentum, :math:`-\langle m \, v \, (v \cdot n) \rangle / V`, averaged over the slab
between the middles to the neighbouring planes, not counted by crossings.

Reference: B. D. Todd, D. J. Evans and P. J. Daivis, Phys. Rev. E 52, 1627 (1995).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.stress.edges import find_edges
from ase_mlcalc.stress.grid import Grid, fractional, kinetic_virials

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Planes:
    """Tractions on evenly spaced planes normal to the face of two cell vectors, pointing along the third.

    Parameters
    ----------
    axis : int
        0, 1 or 2: the cell vector that the planes are spread along; they are parallel to the other two.
    n : int
        Number of planes, at (k + 1/2)/n of that vector.
    """

    axis: int = 2
    n: int = 100
    name: ClassVar[str] = "planes"
    components: ClassVar[tuple[str, ...]] = ("x", "y", "z")

    def __post_init__(self) -> None:
        if self.axis not in (0, 1, 2) or self.n < 2:
            raise ConfigError(f"planes need an axis 0, 1 or 2 and a number of at least 2; got {self.axis}, {self.n}")

    @property
    def grid(self) -> Grid:
        """One plane in the middle of each bin."""
        return Grid.along(self.axis, self.n)

    def potential_part(self, calc: Calculator, atoms: Atoms) -> Array:
        """(n, 3) eV/Å³, traction of the side of larger heights on the other; positive normal component: tension."""
        heights = fractional(atoms, enclosed=False)[:, self.axis]
        edges = find_edges(calc, atoms)
        cells = np.floor(heights) if atoms.pbc[self.axis] else np.zeros(len(atoms))
        crossings = edges.shifts[:, self.axis] + cells[edges.neighbors] - cells[edges.centers]
        order = np.argsort(heights - cells)
        below = np.concatenate([np.zeros((1, 3)), np.cumsum(edges.forces(len(atoms))[order], axis=0)])
        planes = self.grid.fractions[self.axis]
        force = crossings @ edges.gradient + below[np.searchsorted((heights - cells)[order], planes)]
        return force / (atoms.get_volume() * np.linalg.norm(_reciprocal(atoms, self.axis)))

    def kinetic_part(self, atoms: Atoms) -> Array:
        """(n, 3) eV/Å³, the flux of momentum in the slab around each plane; atoms outside an open cell do not count."""
        heights = fractional(atoms, enclosed=False)
        periodic = atoms.pbc[self.axis]
        inside = np.full(len(atoms), True) if periodic else (abs(heights[:, self.axis] - 0.5) <= 0.5)
        reciprocal = _reciprocal(atoms, self.axis)
        normal = reciprocal / np.linalg.norm(reciprocal)
        flux = np.einsum("nab,a->nb", kinetic_virials(atoms).reshape(-1, 3, 3), normal)
        bins = self.grid.bins_of(heights * self.grid.shape, atoms.pbc)
        return self.grid.gather(bins[inside], flux[inside]) * self.n / atoms.get_volume()


def _reciprocal(atoms: Atoms, axis: int) -> Array:
    """(3,) 1/Å, normal to the planes; one over its length is the height of the cell."""
    column: Array = np.linalg.inv(atoms.cell.array)[:, axis]
    return column
