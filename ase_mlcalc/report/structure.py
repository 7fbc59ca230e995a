"""Pictures of structures: atoms as shaded circles seen from one side, those that matter ringed and named.

ASE's own picture (`ase.visualize.plot.plot_atoms`) shows whole cells and knows neither depth nor atoms that matter, and
a pair that meets through a periodic boundary lies at its two ends; so pictures of failures are drawn here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.patches import Circle, Polygon
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ase_mlcalc.md.monitors.pairs import to_nearest_images
from ase_mlcalc.plots import COLORS, GREY

Array = NDArray[np.float64]

MOST_ATOMS = 90
"""Where some atoms matter, only so many around them are drawn."""

_BONDED = 1.18
"""Atoms closer than this times the sum of their covalent radii are joined."""

_MOST_BONDS = 4.5
"""Mean number of bonds per atom above which a structure is close packed, and spheres say more than sticks."""


class View(NamedTuple):
    """From where a structure is looked at; the same for all frames of a comparison."""

    axes: Array
    """(3, 3) rows are right, up and towards the reader."""
    origin: Array
    """(3,) Å, the middle of the picture."""
    shift: Array
    """(3,) Å, by which atoms are moved before they are put back into the cell."""
    half_width: float
    """Å, from the middle to the edge of the picture."""
    half_height: float
    """Å, from the middle to the upper edge."""
    drawn: NDArray[np.intp]
    """Indices of the atoms to draw."""
    packed: bool
    """Spheres and no sticks."""


def name_of(atoms: Atoms, index: int) -> str:
    """An atom by element and index, as messages have it: Se12."""
    return f"{atoms.symbols[index]}{index}"


def choose_view(atoms: Atoms, marked: Sequence[int] = ()) -> View:
    """Look at a structure so that the marked atoms are in the middle, and the first two of them side by side."""
    marked = [index for index in marked if index < len(atoms)]
    shift = _to_the_middle(atoms, marked)
    positions = _placed(atoms, shift)
    center = positions[marked].mean(axis=0) if marked else 0.5 * (positions.min(axis=0) + positions.max(axis=0))
    from_center = np.linalg.norm(positions - center, axis=1)
    drawn = np.sort(np.argsort(from_center)[:MOST_ATOMS]) if marked else None
    drawn = np.arange(len(atoms)) if drawn is None else drawn
    axes = _orientation(atoms, positions, marked)
    seen = (positions[drawn] - center) @ axes.T
    corners = seen[:, :2]
    if len(drawn) == len(atoms) and atoms.pbc.any():
        corners = np.concatenate([corners, ((_corners(atoms) - center) @ axes.T)[:, :2]])
    middle = 0.5 * (corners.min(axis=0) + corners.max(axis=0))
    half = 0.5 * (corners.max(axis=0) - corners.min(axis=0)) + 1.3
    bonds = _bonds(positions[drawn], covalent_radii[atoms.numbers[drawn]])
    packed = 2 * len(bonds) / len(drawn) > _MOST_BONDS
    return View(axes, center + middle @ axes[:2], shift, float(half[0]), float(half[1]), drawn, packed)


def draw_structure(axes: Axes, atoms: Atoms, view: View, marked: Sequence[int] = ()) -> int:
    """Draw a structure; atoms with positions that are no numbers are left out.

    Returns
    -------
    int
        How many atoms lie outside the picture.
    """
    marked = [index for index in marked if index < len(atoms)]
    indices = view.drawn[view.drawn < len(atoms)]
    indices = indices[np.isfinite(atoms.positions[indices]).all(axis=1)]
    seen = (_placed(atoms, view.shift)[indices] - view.origin) @ view.axes.T
    limits = np.array([view.half_width, view.half_height])
    inside = (np.abs(seen[:, :2]) < limits + 1.0).all(axis=1)
    lost = len(view.drawn) - int(inside.sum())
    indices, seen = indices[inside], seen[inside]
    _draw_cell(axes, atoms, view)
    radii = covalent_radii[atoms.numbers[indices]]
    bonds = [] if view.packed else _bonds(seen, radii)
    shown = radii * (0.75 if view.packed else 0.5)
    near, far = (seen[:, 2].max(), seen[:, 2].min()) if len(seen) else (0.0, 0.0)
    haze = 0.62 * (near - seen[:, 2]) / max(near - far, 2.0)
    place = {int(index): position for position, index in enumerate(indices)}
    glass = _in_the_way(seen, shown, [place[index] for index in marked if index in place], packed=view.packed)
    _draw_atoms(axes, seen, shown, jmol_colors[atoms.numbers[indices]], haze, glass, bonds)
    _mark(axes, atoms, seen, shown, place, marked)
    axes.set(xlim=(-view.half_width, view.half_width), ylim=(-view.half_height, view.half_height), aspect="equal")
    axes.set_axis_off()
    return lost


def _to_the_middle(atoms: Atoms, marked: Sequence[int]) -> Array:
    """The shift that brings marked atoms to the middle of the cell, along its periodic directions."""
    if not (marked and atoms.pbc.any()):
        return np.zeros(3)
    first = atoms.positions[marked[0]]
    others = to_nearest_images(atoms.positions[marked] - first, np.asarray(atoms.cell), atoms.pbc)
    scaled = atoms.cell.complete().scaled_positions((first + others.mean(axis=0))[None])[0]
    return np.asarray(np.where(atoms.pbc, 0.5 - scaled, 0.0) @ atoms.cell.complete())


def _placed(atoms: Atoms, shift: Array) -> Array:
    """(N, 3) Å, positions moved by the shift and put back into the cell along its periodic directions."""
    moved = atoms.positions + shift
    if not atoms.pbc.any():
        return np.asarray(moved)
    cell = atoms.cell.complete()
    scaled = cell.scaled_positions(moved)
    with np.errstate(invalid="ignore"):
        scaled -= np.where(atoms.pbc, np.floor(scaled + 1e-9), 0.0)
    return np.asarray(scaled @ cell)


def _orientation(atoms: Atoms, positions: Array, marked: Sequence[int]) -> Array:
    """(3, 3) right, up, towards the reader."""
    centered = positions - positions.mean(axis=0)
    principal = np.linalg.svd(centered, full_matrices=True)[2] if len(atoms) > 1 else np.eye(3)
    hints = [principal[0], principal[1], *np.eye(3)]
    if atoms.pbc.any():
        # a little off the axes, or atoms of a crystal hide one another
        cell = atoms.cell.complete()
        hints = [cell[0] - 0.17 * cell[1], cell[2] + 0.10 * cell[1], cell[1], *np.eye(3)]
    if len(marked) > 1:
        pair = positions[marked[1]] - positions[marked[0]]
        hints = [pair, *hints[1:], hints[0]] if np.linalg.norm(pair) > 1e-6 else hints
    right = hints[0] / np.linalg.norm(hints[0])
    for hint in hints[1:]:
        up = hint - (hint @ right) * right
        if np.linalg.norm(up) > 0.3 * np.linalg.norm(hint) > 0:
            up /= np.linalg.norm(up)
            return np.array([right, up, np.cross(right, up)])
    raise AssertionError("the three unit vectors are not all parallel")


def _corners(atoms: Atoms) -> Array:
    cell = np.asarray(atoms.cell)
    return np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) @ cell


def _draw_cell(axes: Axes, atoms: Atoms, view: View) -> None:
    if not atoms.pbc.any() or not np.isfinite(atoms.cell).all():
        return
    corners = ((_corners(atoms) - view.origin) @ view.axes.T)[:, :2]
    # corners are numbered in binary: those that differ in one digit are joined
    edges = [(a, a | bit) for a in range(8) for bit in (1, 2, 4) if not a & bit]
    segments = [np.array([corners[a], corners[b]]) for a, b in edges]
    axes.add_collection(LineCollection(segments, colors="#9ca3af", linewidths=0.8, zorder=1))


def _in_the_way(seen: Array, radii: Array, marked: Sequence[int], *, packed: bool) -> NDArray[np.bool_]:
    """Atoms in front of marked ones; in close packing also those that hide the neighbours of marked ones."""
    hidden = np.zeros(len(seen), dtype=bool)
    for place in marked:
        apart = np.linalg.norm(seen[:, :2] - seen[place, :2], axis=1)
        near = apart < radii + radii[place] + (2.0 if packed else 0.3)
        hidden |= near & (seen[:, 2] > seen[place, 2] + 0.5)
    hidden[list(marked)] = False
    return hidden


def _bonds(seen: Array, radii: Array) -> list[tuple[int, int]]:
    if len(seen) < 2:
        return []
    pairs = cKDTree(seen).query_pairs(2 * _BONDED * float(radii.max()), output_type="ndarray")
    lengths = np.linalg.norm(seen[pairs[:, 0]] - seen[pairs[:, 1]], axis=1)
    bonded = lengths < _BONDED * (radii[pairs[:, 0]] + radii[pairs[:, 1]])
    return [(int(a), int(b)) for a, b in pairs[bonded]]


def _draw_atoms(
    axes: Axes,
    seen: Array,
    radii: Array,
    colors: Array,
    haze: Array,
    glass: NDArray[np.bool_],
    bonds: Sequence[tuple[int, int]],
) -> None:
    """Atoms and halves of bonds from the farthest to the nearest; what is far fades, what is in the way is glass."""
    faces = np.column_stack([colors + (1.0 - colors) * haze[:, None], np.where(glass, 0.12, 1.0)])
    edges = np.column_stack([np.repeat((0.25 + 0.6 * haze)[:, None], 3, axis=1), np.where(glass, 0.3, 1.0)])
    drawn: list[tuple[float, Circle | Polygon, Array, Array]] = []
    for where, radius, face, edge in zip(seen, radii, faces, edges, strict=True):
        drawn.append((where[2], Circle((where[0], where[1]), radius), face, edge))
    for a, b in bonds:
        along = seen[b, :2] - seen[a, :2]
        length = np.linalg.norm(along)
        if length < 1e-9:
            continue
        side = 0.1 * np.array([-along[1], along[0]]) / length
        middle = 0.5 * (seen[a, :2] + seen[b, :2])
        for end in (a, b):
            outline = np.array([seen[end, :2] - side, seen[end, :2] + side, middle + side, middle - side])
            depth = 0.75 * seen[end, 2] + 0.25 * seen[a + b - end, 2]
            # a stick starts behind the atom that it belongs to
            drawn.append((min(depth, seen[end, 2] - 1e-6), Polygon(outline), faces[end], edges[end]))
    drawn.sort(key=lambda each: each[0])
    if drawn:
        _, shapes, inner, outer = zip(*drawn, strict=True)
        axes.add_collection(
            PatchCollection(shapes, facecolors=np.clip(inner, 0, 1), edgecolors=np.clip(outer, 0, 1), linewidths=0.6,
                            zorder=2)
        )  # fmt: skip


def _mark(axes: Axes, atoms: Atoms, seen: Array, radii: Array, place: dict[int, int], marked: Sequence[int]) -> None:
    """Rings and names; a dashed line where two atoms are meant."""
    here = [(index, seen[place[index]], radii[place[index]]) for index in marked if index in place]
    if len(marked) == 2 and len(here) == 2:
        (_, first, _), (_, second, _) = here
        axes.plot(
            [first[0], second[0]],
            [first[1], second[1]],
            color=COLORS[1],
            linewidth=1.3,
            linestyle=(0, (3, 2)),
            zorder=4,
        )
    for position, (index, where, radius) in enumerate(here[:24]):
        ring = Circle((where[0], where[1]), radius + 0.12, fill=False, edgecolor=COLORS[1], linewidth=2.0, zorder=5)
        axes.add_patch(ring)
        if position < 4:
            above = position % 2 == 0
            axes.annotate(
                name_of(atoms, index), (where[0], where[1] + (radius + 0.15) * (1 if above else -1)),
                xytext=(0, 3 if above else -3), textcoords="offset points", ha="center",
                va="bottom" if above else "top", fontsize=9, fontweight="bold", color="black", zorder=6,
                bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8},
            )  # fmt: skip


def draw_scale(axes: Axes, view: View) -> None:
    """A bar of a round length in the lower left corner."""
    length = next((size for size in (50.0, 20.0, 10.0, 5.0, 2.0, 1.0) if size <= 0.6 * view.half_width), 0.5)
    x, y = -0.96 * view.half_width, -0.97 * view.half_height
    axes.plot([x, x + length], [y, y], color=GREY, linewidth=2.0, solid_capstyle="butt", zorder=6)
    axes.annotate(
        f"{length:g} Å", (x + length, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
        color=GREY, zorder=6, bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.5},
    )  # fmt: skip
