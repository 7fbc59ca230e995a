r"""Forces between atoms, as a potential has learned them.

Labels are total forces; how a potential shares them out over pairs is its own inference, and shows the physics that it
has found.  With the gradient of the energy by edge vectors, :math:`g_{ij} = \partial E / \partial r_{ij}`,

.. math:: F_{ij} = g_{ij} - g_{ji}, \qquad F_{ji} = -F_{ij}, \qquad F_i = \sum_j F_{ij}

is the force on i from j.  It lies along the bond for pair potentials; three-body terms and message passing add parts
across it.  For many-body potentials the division is not unique: it depends on which variables the model writes its
energy in.
"""

import csv
import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import NumericalError, StructureError
from ase_mlcalc.files import write_text
from ase_mlcalc.plots import COLORS, GREY, new_axes, new_figure, point_style, save
from ase_mlcalc.stress.edges import find_edges

SHOWN_PERCENT = 98.0
"""Of the points of a panel that fit in; a few atoms in contact would flatten all others."""
BINS = 60
"""Of the mean in the picture, from zero to the cutoff."""
FEWEST_FOR_MEAN = 3 * BINS
"""Of fewer pairs, points say it all: a mean would be bits of line between single ones."""


class PairForces(NamedTuple):
    """Forces of all P directed pairs (i, j, S): every pair is there twice, once from each end."""

    centers: NDArray[np.int64]
    """(P,) index of atom i, ascending."""
    neighbors: NDArray[np.int64]
    """(P,) index of atom j."""
    shifts: NDArray[np.int64]
    """(P, 3) S, whole cells from j to the image that is meant."""
    numbers: NDArray[np.int64]
    """(P, 2) atomic numbers of i and j."""
    vectors: NDArray[np.float64]
    """(P, 3) Å, r_ij = r_j + S @ cell - r_i."""
    forces: NDArray[np.float64]
    """(P, 3) eV/Å, force on i from j; those of one i add up to its force."""

    @property
    def distances(self) -> NDArray[np.float64]:
        """(P,) Å."""
        return np.linalg.norm(self.vectors, axis=1)

    @property
    def radial(self) -> NDArray[np.float64]:
        """(P,) eV/Å, the part along the bond: positive pushes i away from j, negative pulls it there.

        For a pair potential u(d) this is -du/dd.
        """
        away_pc = -self.vectors / self.distances[:, None]
        radial: NDArray[np.float64] = np.einsum("pc,pc->p", self.forces, away_pc)
        return radial

    def of(self, one: int, other: int) -> NDArray[np.bool_]:
        """(P,) which pairs are of these two elements, in either order."""
        return np.asarray((np.sort(self.numbers, axis=1) == sorted((one, other))).all(axis=1))


def pair_forces(calc: MLCalculator, atoms: Atoms) -> PairForces:
    """Forces between atoms in a structure.

    Parameters
    ----------
    calc : MLCalculator
        Of a model with energies, of a model that predicts forces of pairs, or of an ensemble of such (then the mean).
    atoms : ase.Atoms
        Any cell and boundaries; not modified.

    Returns
    -------
    PairForces
        All directed pairs up to the cutoff of the model, each image of an atom on its own.

    Raises
    ------
    ModelError
        The potential has no forces of pairs (it predicts forces of atoms, or stresses).
    ConfigError
        A calculator of another package, or a potential that does not show its models.
    SpeciesError, StructureError, DataError
        The structure is not one that the potential knows.
    NumericalError
        NaN or Inf in the forces.
    """
    i, j, shifts, vectors, g_pc = find_edges(calc, atoms)
    if not np.isfinite(g_pc).all():
        raise NumericalError("the potential gave NaN or Inf for forces of pairs; is the structure far from its data?")
    return PairForces(
        centers=i,
        neighbors=j,
        shifts=shifts,
        numbers=np.stack([atoms.numbers[i], atoms.numbers[j]], axis=1),
        vectors=vectors,
        forces=g_pc - g_pc[_reversed_pairs(i, j, shifts)],
    )


def _reversed_pairs(i: NDArray[np.int64], j: NDArray[np.int64], shifts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(P,) where (j, i, -S) stands for each (i, j, S)."""
    there = np.lexsort((*shifts.T, j, i))
    back = np.lexsort((*-shifts.T, i, j))
    found = np.empty_like(there)
    found[back] = there
    same = (i[found] == j).all() and (j[found] == i).all() and (shifts[found] == -shifts).all()
    if not same:  # pairs at the cutoff to the last digit
        raise StructureError("a pair lies exactly at the cutoff; rattle the structure a little")
    return found


def write_csv(path: Path, pairs: PairForces) -> None:
    """Write all directed pairs as a table, one row a pair."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["i", "j", "shift_a", "shift_b", "shift_c", "element_i", "element_j", "distance_A", "radial_eV_per_A"]
        + [f"force_{axis}_eV_per_A" for axis in "xyz"]
    )
    for p, (distance, radial) in enumerate(zip(pairs.distances, pairs.radial, strict=True)):
        symbols = [chemical_symbols[z] for z in pairs.numbers[p]]
        numbers = [f"{value:.8g}" for value in (distance, radial, *pairs.forces[p])]
        writer.writerow([pairs.centers[p], pairs.neighbors[p], *pairs.shifts[p], *symbols, *numbers])
    write_text(path, text.getvalue())


def pair_force_plot(path: Path, pairs: PairForces, title: str = "") -> None:
    """Draw the radial part of the forces against distance, a panel for each pair of elements, with its mean.

    Raises
    ------
    StructureError
        There are no pairs: no two atoms see each other.
    """
    if len(pairs.centers) == 0:
        raise StructureError("no two atoms of the structure are within the cutoff, so there is nothing to draw")
    kinds = np.unique(np.sort(pairs.numbers, axis=1), axis=0).tolist()
    columns = min(3, len(kinds))
    rows = math.ceil(len(kinds) / columns)
    figure = new_figure(4.0 * columns, 3.3 * rows + 0.3 * bool(title))
    edges = np.linspace(0.0, 1.0001 * pairs.distances.max(), BINS + 1)
    for position, (one, other) in enumerate(kinds):
        mine = pairs.of(one, other) & (pairs.centers <= pairs.neighbors)  # the other end has the same radial part
        distance, radial = pairs.distances[mine], pairs.radial[mine]
        axes = new_axes(figure, rows, columns, position)
        axes.axhline(0.0, color=GREY, linewidth=0.8)
        color = COLORS[position % len(COLORS)]
        size, alpha = point_style(len(distance))
        axes.plot(distance, radial, ".", color=color, markersize=size, alpha=alpha, markeredgewidth=0, rasterized=True)
        if len(distance) >= FEWEST_FOR_MEAN:
            middle, mean = _binned_mean(distance, radial, edges)
            axes.plot(middle, mean, color="black", linewidth=1.1, label="mean")
        axes.set_title(f"{chemical_symbols[one]}-{chemical_symbols[other]}")
        margin = 0.04 * (edges[-1] - 0.9 * pairs.distances.min())
        axes.set_xlim(0.9 * pairs.distances.min(), edges[-1] + margin)  # or the last point is cut in half
        _scale(axes, radial)
        if position % columns == 0:
            axes.set_ylabel("radial force / eV/Å\n(> 0: repulsion)")
        if position >= len(kinds) - columns:
            axes.set_xlabel("distance / Å")
    if title:
        figure.suptitle(title, fontsize=11)
    means = [axes for axes in figure.axes if axes.get_legend_handles_labels()[1]]
    if means:
        means[0].legend(loc="lower right", frameon=False)
    save(figure, path)


def _scale(axes: Axes, values: NDArray[np.float64]) -> None:
    """Show almost all values, and say how many are left out."""
    low, high = np.percentile([*values, 0.0], [50 - SHOWN_PERCENT / 2, 50 + SHOWN_PERCENT / 2])
    pad = 0.25 * (high - low) or 1.0
    axes.set_ylim(low - pad, high + pad)
    outside = int(((values < low - pad) | (values > high + pad)).sum())
    if outside:
        text = f"{outside} of {len(values)} not shown"
        axes.text(0.97, 0.96, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=GREY)


def _binned_mean(
    x: NDArray[np.float64], y: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of y in bins of x; NaN, a gap in the line, in empty ones."""
    bins = np.digitize(x, edges) - 1
    count = np.bincount(bins, minlength=len(edges) - 1)
    total = np.bincount(bins, weights=y, minlength=len(edges) - 1)
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return 0.5 * (edges[1:] + edges[:-1]), mean
