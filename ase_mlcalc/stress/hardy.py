r"""The stress field of Hardy: that of Irving and Kirkwood seen through a smooth localisation function.

.. math::

    \sigma(x) = \sum_{ij} r_{ij} \otimes g_{ij} \int_0^1 \psi(|r_i + \lambda r_{ij} - x|) \, d\lambda
              - \sum_i m_i v_i \otimes v_i \, \psi(|r_i - x|)

    \psi(d) = \frac{c}{R^D} \Big(1 - \frac{d^2}{R^2}\Big)^3 \quad (d < R), \qquad \int \psi \, d^D x = 1

at the middles of the bins of a grid.  Directions of one bin are averaged over, so that distances are measured and the
function is normalised in the D = 1, 2 or 3 dimensions that are left: c = 35/32, 4/π, 315/(64π).  On a line, ψ is a
polynomial of degree six between the places where it enters and leaves the sphere, which four points of Gauss and
Legendre integrate exactly.

Reference: R. J. Hardy, J. Chem. Phys. 76, 622 (1982); the integral over λ is his bond function.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray
from scipy.sparse import coo_array

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.stress.edges import find_edges
from ase_mlcalc.stress.grid import TENSOR, Grid, chunks, fractional, kinetic_virials

Array = NDArray[np.float64]

NORM = {1: 35 / 32, 2: 4 / np.pi, 3: 315 / (64 * np.pi)}
_AT_ONCE = 500_000
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)


@dataclass(frozen=True)
class Hardy:
    """Smooth stress at the middles of the bins of a grid; see the equations at the top of this file.

    Parameters
    ----------
    grid : Grid
        Two bins at least along one cell vector; finer than `radius`, or structure is missed between the points.
    radius : float, Å
        R, beyond which nothing is seen.
    """

    grid: Grid
    radius: float = 4.0
    name: ClassVar[str] = "hardy"
    components: ClassVar[tuple[str, ...]] = TENSOR

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ConfigError(f"the radius of the localisation function is positive, got {self.radius} Å")
        if self.grid.n_bins == 1:
            raise ConfigError("a Hardy field needs two bins or more along one cell vector, got a grid of one bin")

    def potential_part(self, calc: Calculator, atoms: Atoms) -> Array:
        """(n_bins, 9) eV/Å³, not symmetrised: the first index is the normal of a surface."""
        places = fractional(atoms)
        edges = find_edges(calc, atoms).merged()
        return self._spread(atoms, places[edges.centers], edges.vectors, edges.virials.reshape(-1, 9))

    def kinetic_part(self, atoms: Atoms) -> Array:
        """(n_bins, 9) eV/Å³."""
        return self._spread(atoms, fractional(atoms), np.zeros((len(atoms), 3)), kinetic_virials(atoms))

    def _spread(self, atoms: Atoms, start: Array, vectors: Array, virials: Array) -> Array:
        """Amounts of lines (or of points: lines of no length) seen from all points of the grid."""
        self._check_radius(atoms)
        view = _view(self.grid, atoms)
        low, count = self._points_near(view, start, vectors, atoms)
        total = np.zeros((self.grid.n_bins, virials.shape[1]))
        for part in chunks(count.prod(axis=1), _AT_ONCE):
            line, bins, seen = self._bond_functions(view, start[part], vectors[part], low[part], count[part])
            size = (self.grid.n_bins, part.stop - part.start)
            total += coo_array((seen, (bins, line)), shape=size).tocsr() @ virials[part]
        return total * (NORM[view.dimensions] / (self.radius**view.dimensions * view.averaged_over))

    def _check_radius(self, atoms: Atoms) -> None:
        heights = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
        spacing = max(height / n for height, n in zip(heights, self.grid.shape, strict=True) if n > 1)
        if self.radius < spacing:
            raise ConfigError(
                f"a Hardy field of radius {self.radius:g} Å misses structure between the points of its grid, which are "
                f"{spacing:.3g} Å apart; take a radius of at least that, or more bins"
            )

    def _points_near(
        self, view: "_View", start: Array, vectors: Array, atoms: Atoms
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First point of the grid along each cell vector that a line may reach, and how many; (L, 3) each."""
        n = np.array(self.grid.shape)
        end = start + vectors @ view.inverse_cell
        reach = self.radius * np.linalg.norm(view.inverse_cell, axis=0)
        low = np.ceil((np.minimum(start, end) - reach) * n - 0.5).astype(np.int64)
        high = np.floor((np.maximum(start, end) + reach) * n - 0.5).astype(np.int64)
        low = np.where(atoms.pbc, low, np.maximum(low, 0))
        high = np.where(atoms.pbc, high, np.minimum(high, n - 1))
        resolved = n > 1
        return np.where(resolved, low, 0), np.where(resolved, np.maximum(high - low + 1, 0), 1)

    def _bond_functions(
        self, view: "_View", start: Array, vectors: Array, low: NDArray[np.int64], count: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Lines and the points that see them, with ∫(1 - d²/R²)³ dλ over the part of the line within R."""
        n = np.array(self.grid.shape)
        per_line = count.prod(axis=1)
        line = np.repeat(np.arange(len(start)), per_line)
        rank = np.arange(len(line)) - np.repeat(np.cumsum(per_line) - per_line, per_line)
        rest, third = np.divmod(rank, count[line, 2])
        first, second = np.divmod(rest, count[line, 1])
        point = low[line] + np.stack([first, second, third], axis=1)
        to_point = ((point + 0.5) / n - start[line]) @ view.cell_seen
        along = (vectors @ view.projector)[line]
        # distance² from the point, in units of R²: q0 - 2 q1 λ + q2 λ²
        q0, q1, q2 = (
            np.einsum("lc,lc->l", a, b) / self.radius**2
            for a, b in ((to_point, to_point), (to_point, along), (along, along))
        )
        begin, end = _within(q0, q1, q2)
        integral = np.zeros(len(line))
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            at = begin + 0.5 * (1 + node) * (end - begin)
            integral += weight * np.maximum(1 - (q0 - 2 * q1 * at + q2 * at**2), 0.0) ** 3
        integral *= 0.5 * (end - begin)
        seen = integral > 0
        bins = np.ravel_multi_index(tuple((point[seen] % n).T), self.grid.shape)
        return line[seen], bins, integral[seen]


class _View(NamedTuple):
    """Geometry in which the directions of one bin do not count."""

    inverse_cell: Array
    projector: Array
    """(3, 3) takes out of vectors what lies along averaged cell vectors."""
    cell_seen: Array
    """(3, 3) the cell vectors after that."""
    averaged_over: float
    """Length or area of the averaged cell vectors, in Å or Å²; 1 where all are resolved."""
    dimensions: int


def _view(grid: Grid, atoms: Atoms) -> _View:
    cell = atoms.cell.array
    averaged = cell[np.array(grid.shape) == 1]
    basis = np.linalg.qr(averaged.T)[0]
    projector = np.eye(3) - basis @ basis.T
    size = float(np.sqrt(np.linalg.det(averaged @ averaged.T)))
    return _View(np.linalg.inv(cell), projector, cell @ projector, size, 3 - len(averaged))


def _within(q0: Array, q1: Array, q2: Array) -> tuple[Array, Array]:
    """Where q0 - 2 q1 λ + q2 λ² <= 1 begins and ends on the line, 0 <= λ <= 1; an empty range where nowhere."""
    short = q2 < 1e-20  # a point, or a line along directions that do not count
    root = np.sqrt(np.maximum(q1**2 - q2 * (q0 - 1), 0.0))
    safe = np.where(short, 1.0, q2)
    begin, end = np.clip((q1 - root) / safe, 0, 1), np.clip((q1 + root) / safe, 0, 1)
    return np.where(short, 0.0, begin), np.where(short, (q0 < 1).astype(float), end)
