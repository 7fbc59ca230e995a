"""Pictures of stress: profiles, slices through a field, atoms in the colour of their stress, distributions."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from numpy.typing import NDArray

from ase_mlcalc.plots import COLORS, GREY, HistogramPanel, histograms, new_axes, new_figure, save
from ase_mlcalc.stress.fields import Parts, StressField
from ase_mlcalc.stress.invariants import pressure, von_mises

Array = NDArray[np.float64]

_MAP = "RdBu_r"
_RADIUS = 0.8
"""Of a circle, over the covalent radius: neighbours do not quite touch."""
_EDGE_A = 0.4
"""Around what is drawn of a structure."""
_CORNERS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
# corners are numbered in binary: those that differ in one digit are joined
_EDGES = np.array([(a, a | bit) for a in range(8) for bit in (1, 2, 4) if not a & bit])


def profile_plot(path: Path, fields: Mapping[str, StressField], layers: Sequence[float] = ()) -> None:
    """Stress against height for profiles along one cell vector, the first with a band of two standard errors.

    Normal stress; of a single field of whole stress tensors the tangential stress, too, which is what a surface has
    where the normal stress vanishes.

    Parameters
    ----------
    path : Path
        PNG file to write.
    fields : mapping of label to StressField
        Of one field, the parts are drawn, too.
    layers : sequence of float, Å
        Heights to mark by thin lines, of layers of atoms for example.
    """
    (first, *others) = fields.values()
    both = not others and len(first.components) == 9
    figure = new_figure(8.0, 6.8 if both else 4.2)
    upper = new_axes(figure, 2 if both else 1, 1, 0)
    for k, ((label, field), color) in enumerate(zip(fields.items(), COLORS, strict=False)):
        draw_profile(upper, field, label, color, parts=not others, band=k == 0)
    upper.set_ylabel("normal stress / GPa (tension > 0)")
    every = [upper]
    if both:
        (label,) = fields
        every.append(new_axes(figure, 2, 1, 1, sharex=upper))
        _draw_parts(every[1], first, tangential(first), label, COLORS[0], parts=True, band=True)
        every[1].set_ylabel("tangential stress / GPa (tension > 0)")
    for axes in every:
        axes.axhline(0.0, color="black", linewidth=0.6, zorder=1)
        for height in layers:
            axes.axvline(height, color=GREY, linewidth=0.6, alpha=0.5, zorder=0)
    every[-1].set_xlabel("height / Å")
    handles, words = upper.get_legend_handles_labels()
    figure.legend(handles, words, loc="outside upper center", ncols=2 if others else 3, frameon=False)
    save(figure, path)


def draw_profile(axes: Axes, field: StressField, label: str, color: str, *, parts: bool, band: bool) -> None:
    """The normal component of one profile; planes as a line through points, averages over bins as steps."""
    assert field.normal is not None  # callers draw profiles
    _draw_parts(axes, field, field.normal, label, color, parts=parts, band=band)


def tangential(field: StressField) -> Parts:
    r"""Mean of the two normal stresses in the planes of a profile.

    .. math:: \sigma_t = (\mathrm{tr}\, \sigma - n \cdot \sigma n) / 2

    Arrays (n,), eV/Å³; standard errors are upper bounds, since how the components vary together is not kept.

    Raises
    ------
    ValueError
        Tractions on planes, which have no such part.
    """
    if len(field.components) != 9:
        raise ValueError("the tangential stress is one of tensors, not of tractions on planes")
    assert field.axis is not None  # callers draw profiles
    normal = np.linalg.inv(field.cell)[:, field.axis]
    weights = 0.5 * (np.eye(3) - np.outer(normal, normal) / (normal @ normal)).ravel()

    def mean(values: Array | None, by: Array) -> Array | None:
        return None if values is None else values.reshape(-1, 9) @ by

    stress = field.stress
    return Parts(
        potential=stress.potential.reshape(-1, 9) @ weights,
        kinetic=mean(stress.kinetic, weights),
        total=stress.total.reshape(-1, 9) @ weights,
        potential_stderr=mean(stress.potential_stderr, np.abs(weights)),
        kinetic_stderr=mean(stress.kinetic_stderr, np.abs(weights)),
        total_stderr=mean(stress.total_stderr, np.abs(weights)),
    )


def _draw_parts(
    axes: Axes, field: StressField, values: Parts, label: str, color: str, *, parts: bool, band: bool
) -> None:
    """One component of a profile with its parts."""
    drawn = [(label, values.total, values.total_stderr, color)]
    if parts and values.kinetic is not None:
        drawn += [
            ("potential part", values.potential, values.potential_stderr, COLORS[1]),
            ("kinetic part", values.kinetic, values.kinetic_stderr, COLORS[2]),
        ]
    for k, (name, numbers, stderr, hue) in enumerate(drawn):
        x, y = _line(field, numbers)
        axes.plot(x, y, color=hue, linewidth=1.4, label=name)
        if band and k == 0 and stderr is not None:
            (_, low), (_, high) = (_line(field, numbers + sign * 2 * stderr) for sign in (-1, 1))
            axes.fill_between(x, low, high, color=hue, alpha=0.2, linewidth=0)


def _line(field: StressField, values: Array) -> tuple[Array, Array]:
    """Heights and GPa to join by straight lines; averages over bins hold from the lower edge to the upper one."""
    if field.name not in ("ik", "bins"):
        return field.heights, values / units.GPa
    edges = np.append(field.heights - field.heights[0], field.heights[-1] + field.heights[0])
    return edges.repeat(2)[1:-1], (values / units.GPa).repeat(2)


def slice_plot(path: Path, field: StressField) -> None:
    """Pressure and von Mises stress in the middle layer of a field, normal to its cell vector of fewest bins."""
    axis = int(np.argmin(field.grid.shape))
    across = [k for k in range(3) if k != axis]
    middle = field.grid.shape[axis] // 2
    values = np.take(field.stress.total, middle, axis=axis) / units.GPa
    if values.shape[-1] != 9:
        raise ValueError("slices are drawn of stresses, not of tractions on planes")
    first, second = (field.cell[k] for k in across)
    faces = [np.linspace(0.0, 1.0, field.grid.shape[k] + 1) for k in across]
    corners = faces[0][:, None, None] * first + faces[1][:, None] * second
    x, y = (corners @ direction for direction in _plane(first, second))
    voigt = 0.5 * (values + values.reshape(*values.shape[:2], 3, 3).swapaxes(-1, -2).reshape(values.shape))
    flat = voigt[..., [0, 4, 8, 5, 2, 1]].reshape(-1, 6)
    figure = new_figure(9.5, 4.2)
    panels = (("pressure / GPa", pressure(flat), True), ("von Mises stress / GPa", von_mises(flat), False))
    for position, (label, numbers, signed) in enumerate(panels):
        axes = new_axes(figure, 1, 2, position)
        axes.grid(visible=False)
        largest = float(np.abs(numbers).max()) or 1.0
        low, name = (-largest, _MAP) if signed else (0.0, "viridis")
        mesh = axes.pcolormesh(x, y, numbers.reshape(values.shape[:2]), cmap=name, vmin=low, vmax=largest)
        figure.colorbar(mesh, ax=axes, label=label, pad=0.02)
        axes.set_aspect("equal")
        axes.set_xlabel(f"along {'abc'[across[0]]} / Å")
        axes.set_ylabel("across / Å")
    figure.suptitle(f"layer {middle + 1} of {field.grid.shape[axis]} along {'abc'[axis]}", fontsize=10)
    save(figure, path)


def atoms_plot(path: Path, atoms: Atoms, stresses: Array, definition: str) -> None:
    """A structure in its cell seen along each Cartesian direction, atoms in the colour of their pressure.

    Parameters
    ----------
    path : Path
    atoms : ase.Atoms
    stresses : (N, 6) eV/Å³
        Divided by the volume of the cell, as ASE's; referred to V/N here.
    definition : str
        Stands above.
    """
    pressures = pressure(stresses) * len(atoms) / units.GPa
    largest = float(np.percentile(np.abs(pressures), 99)) or 1.0
    figure = new_figure(12.0, 4.2)
    all_axes = []
    for position, (across, up, toward) in enumerate(((0, 1, 2), (0, 2, 1), (1, 2, 0))):
        axes = new_axes(figure, 1, 3, position)
        axes.grid(visible=False)
        points = _draw_atoms(axes, atoms, (across, up, toward), pressures, largest)
        all_axes.append(axes)
    figure.colorbar(points, ax=all_axes, label="pressure of an atom (by V/N) / GPa", pad=0.01, extend="both")
    figure.suptitle(_title(definition), fontsize=10)
    save(figure, path)


def _draw_atoms(
    axes: Axes, atoms: Atoms, view: tuple[int, int, int], colors: Array, largest: float
) -> EllipseCollection:
    """Atoms from the farthest to the nearest as circles of their size in Å, in the outline of the cell."""
    across, up, toward = view
    corners = (_CORNERS @ atoms.cell.array)[:, [across, up]]
    axes.add_collection(LineCollection(list(corners[_EDGES]), colors=GREY, linewidths=0.8, zorder=1))
    order = np.argsort(atoms.positions[:, toward])
    middles = atoms.positions[order][:, [across, up]]
    radii = _RADIUS * covalent_radii[atoms.numbers[order]]
    circles = EllipseCollection(
        2 * radii, 2 * radii, np.zeros(len(radii)), units="xy", offsets=middles, offset_transform=axes.transData,
        array=colors[order], cmap=_MAP, clim=(-largest, largest), edgecolors="black", linewidths=0.2, zorder=2,
    )  # fmt: skip
    axes.add_collection(circles)
    low = np.minimum((middles - radii[:, None]).min(axis=0), corners.min(axis=0)) - _EDGE_A
    high = np.maximum((middles + radii[:, None]).max(axis=0), corners.max(axis=0)) + _EDGE_A
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.set_xlabel(f"{'xyz'[across]} / Å")
    axes.set_ylabel(f"{'xyz'[up]} / Å")
    return circles


def histogram_plot(path: Path, symbols: NDArray[np.str_], stresses: Array, definition: str) -> None:
    """Pressure and von Mises stress of atoms (M, 6) in GPa, by element."""
    panels = [
        HistogramPanel(label, {str(name): values[symbols == name] for name in np.unique(symbols)})
        for label, values in (
            ("pressure of an atom (by V/N) / GPa", pressure(stresses)),
            ("von Mises stress of an atom / GPa", von_mises(stresses)),
        )
    ]
    histograms(path, panels, title=_title(definition))


def _title(definition: str) -> str:
    return textwrap.shorten(f"per-atom stress, definition: {definition}", 120, placeholder=" ...")


def _plane(first: Array, second: Array) -> tuple[Array, Array]:
    """Two orthonormal directions that span the plane of two vectors."""
    x = first / np.linalg.norm(first)
    rest = second - (second @ x) * x
    return x, rest / np.linalg.norm(rest)
