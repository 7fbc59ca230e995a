"""Pictures of stress: profiles, slices through a field, atoms in the colour of their stress, distributions."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from numpy.typing import NDArray

from ase_mlcalc.plots import COLORS, GREY, HistogramPanel, histograms, new_axes, new_figure, save
from ase_mlcalc.stress.fields import StressField
from ase_mlcalc.stress.invariants import pressure, von_mises

Array = NDArray[np.float64]

_MAP = "RdBu_r"


def profile_plot(path: Path, fields: Mapping[str, StressField], layers: Sequence[float] = ()) -> None:
    """Normal stress against height for profiles along one cell vector, the first with a band of two standard errors.

    Parameters
    ----------
    path : Path
        PNG file to write.
    fields : mapping of label to StressField
        Of one field, the parts are drawn, too.
    layers : sequence of float, Å
        Heights to mark by thin lines, of layers of atoms for example.
    """
    figure = new_figure(8.0, 4.2)
    axes = new_axes(figure, 1, 1, 0)
    for height in layers:
        axes.axvline(height, color=GREY, linewidth=0.6, alpha=0.5, zorder=0)
    axes.axhline(0.0, color="black", linewidth=0.6, zorder=1)
    for k, ((label, field), color) in enumerate(zip(fields.items(), COLORS, strict=False)):
        draw_profile(axes, field, label, color, parts=len(fields) == 1, band=k == 0)
    axes.set_xlabel("height / Å")
    axes.set_ylabel("normal stress / GPa (tension > 0)")
    figure.legend(loc="outside upper center", ncols=3 if len(fields) == 1 else 2, frameon=False)
    save(figure, path)


def draw_profile(axes: Axes, field: StressField, label: str, color: str, *, parts: bool, band: bool) -> None:
    """The normal component of one profile; planes as a line through points, averages over bins as steps."""
    assert field.normal is not None  # callers draw profiles
    drawn = [(label, field.normal.total, field.normal.total_stderr, color)]
    if parts and field.normal.kinetic is not None:
        drawn += [
            ("potential part", field.normal.potential, field.normal.potential_stderr, COLORS[1]),
            ("kinetic part", field.normal.kinetic, field.normal.kinetic_stderr, COLORS[2]),
        ]
    for k, (name, values, stderr, hue) in enumerate(drawn):
        x, y = _line(field, values)
        axes.plot(x, y, color=hue, linewidth=1.4, label=name)
        if band and k == 0 and stderr is not None:
            (_, low), (_, high) = (_line(field, values + sign * 2 * stderr) for sign in (-1, 1))
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
    """A structure seen along each Cartesian direction, atoms in the colour of their pressure.

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


def _draw_atoms(axes: Axes, atoms: Atoms, view: tuple[int, int, int], colors: Array, largest: float) -> PathCollection:
    across, up, toward = view
    order = np.argsort(atoms.positions[:, toward])
    x, y = atoms.positions[order, across], atoms.positions[order, up]
    span = max(float(np.ptp(x)), float(np.ptp(y)), 1.0)
    points_per_angstrom = 200.0 / (span + 4.0)
    radii = covalent_radii[atoms.numbers[order]]
    axes.set_aspect("equal")
    axes.margins(0.12)
    axes.set_xlabel(f"{'xyz'[across]} / Å")
    axes.set_ylabel(f"{'xyz'[up]} / Å")
    return axes.scatter(
        x, y, c=colors[order], s=(1.6 * radii * points_per_angstrom) ** 2, cmap=_MAP, vmin=-largest, vmax=largest,
        edgecolors="black", linewidths=0.2,
    )  # fmt: skip


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
