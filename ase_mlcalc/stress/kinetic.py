r"""The kinetic part of stress, and stress by the volume of an atom instead of that of the cell.

.. math::

    \sigma^{kin}_i = -\frac{1}{V} \, m_i \, v_i \otimes v_i, \qquad
    \sum_i (\sigma_i + \sigma^{kin}_i) = \sigma + \sigma^{kin}

with V the volume of the cell for every atom, as in ASE's ``stresses``: then atoms add up to the structure.  Divided by
the volume of the atom's own Voronoi cell instead, they are local Cauchy stresses, whose mean weighted with those
volumes is the total.
"""

from typing import Literal

import numpy as np
from ase import Atoms, units
from ase.geometry import minkowski_reduce
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, Voronoi

from ase_mlcalc.data.geometry import kinetic_part
from ase_mlcalc.errors import StructureError
from ase_mlcalc.graph import describe_flat_cell, has_volume

Array = NDArray[np.float64]


def kinetic_stresses(atoms: Atoms) -> Array:
    """(N, 6) eV/Å³, the kinetic part -m v v / V of each atom; xx yy zz yz xz xy, never positive on the diagonal.

    Raises
    ------
    StructureError
        No velocities, or no volume.
    """
    _require(atoms, velocities=True)
    stresses: Array = full_3x3_to_voigt_6_stress(kinetic_part(atoms))
    return stresses


def total_stresses(atoms: Atoms) -> Array:
    """(N, 6) eV/Å³, per-atom stress with its kinetic part, for any calculator that divides by the volume of the cell.

    Sums to `total_stress`.  ASE's ``atoms.get_stresses(include_ideal_gas=True)`` gives the same with an `MLCalculator`;
    with other calculators it divides the kinetic part by V/N and the potential part by V.

    Raises
    ------
    StructureError
        No velocities, or no volume.
    """
    kinetic = kinetic_stresses(atoms)
    return np.asarray(atoms.get_stresses()) + kinetic


def total_stress(atoms: Atoms) -> Array:
    """(6,) eV/Å³, stress of the structure with its kinetic part; constraints are not applied to it."""
    kinetic = kinetic_stresses(atoms).sum(axis=0)
    return np.asarray(atoms.get_stress(apply_constraint=False)) + kinetic


def voronoi_volumes(atoms: Atoms) -> Array:
    """Volume of space that is closer to an atom than to any other atom, periodic images included.

    Parameters
    ----------
    atoms : ase.Atoms
        Periodic in all three directions.

    Returns
    -------
    (N,) Å³, which sum to the volume of the cell.

    Raises
    ------
    StructureError
        Not periodic, no volume, or two atoms on one spot.
    """
    _require(atoms)
    if not atoms.pbc.all():
        raise StructureError(
            f"Voronoi cells fill space only where the structure is periodic in three directions, got pbc={atoms.pbc}; "
            "at a surface an atom has no volume of its own"
        )
    # a cell of short vectors, so that few images are enough
    cell, _ = minkowski_reduce(atoms.cell.array)
    inside = _wrapped(atoms.positions, cell)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    # neighbours in the sense of Voronoi lie within twice the radius of the largest hole; a few times the spacing of
    # atoms is usually enough, and cells that miss a neighbour are too large or open, so that the sum tells
    spacing = (atoms.get_volume() / len(atoms)) ** (1 / 3)
    reach = 3.0 * spacing
    largest = 2.0 * float(np.abs(cell).sum())
    while True:
        volumes = _with_images(inside, cell, heights, reach)
        complete = abs(volumes.sum() / atoms.get_volume() - 1.0) < 1e-10
        if complete:
            return volumes
        if reach > largest:
            raise StructureError(
                f"Voronoi volumes add up to {volumes.sum():.6f} of {atoms.get_volume():.6f} Å³; are two atoms on one "
                "spot?"
            )
        reach *= 1.5


def local_stresses_GPa(atoms: Atoms, *, part: Literal["total", "potential", "kinetic"] = "total") -> Array:
    """(N, 6) GPa, stress of each atom by its own Voronoi volume: the local Cauchy stress of an atom.

    Parameters
    ----------
    atoms : ase.Atoms
        Periodic in all directions, with a calculator whose ``stresses`` are divided by the volume of the cell.
    part : "total", "potential" or "kinetic"

    Raises
    ------
    StructureError
        See `voronoi_volumes`; no velocities where the kinetic part is asked for.
    """
    stresses = {
        "total": total_stresses,
        "potential": lambda structure: np.asarray(structure.get_stresses()),
        "kinetic": kinetic_stresses,
    }[part](atoms)
    return stresses * (atoms.get_volume() / voronoi_volumes(atoms))[:, None] / units.GPa


def _require(atoms: Atoms, *, velocities: bool = False) -> None:
    if not has_volume(atoms):
        raise StructureError(
            f"stress needs a cell with three independent vectors, {describe_flat_cell(atoms)}; set atoms.cell (a "
            "volume is never invented)"
        )
    if velocities and not atoms.has("momenta"):
        raise StructureError(
            "the kinetic part of stress needs velocities and the structure has none; read a trajectory that holds "
            "momenta, or set them with atoms.set_velocities"
        )


def _wrapped(positions: Array, cell: Array) -> Array:
    fractional = np.linalg.solve(cell.T, positions.T).T
    return (fractional % 1.0) @ cell


def _with_images(inside: Array, cell: Array, heights: Array, reach: float) -> Array:
    """Volumes of the Voronoi cells of atoms among their images up to a distance from the cell; NaN-free.

    A cell that is open because images are missing counts as zero.
    """
    counts = np.ceil(reach / heights).astype(int)
    shifts = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in counts), indexing="ij"), -1).reshape(-1, 3)
    shifts = shifts[np.argsort(np.abs(shifts).sum(axis=1), kind="stable")]  # no shift first: atoms come first
    points = (inside[None] + (shifts @ cell)[:, None]).reshape(-1, 3)
    fractional = np.linalg.solve(cell.T, points.T).T
    margin = reach / heights
    near = ((fractional >= -margin) & (fractional <= 1.0 + margin)).all(axis=1)
    diagram = Voronoi(points[near])
    volumes = np.zeros(len(inside))
    for atom, region in enumerate(diagram.point_region[: len(inside)]):
        corners = diagram.regions[region]
        if corners and -1 not in corners:
            volumes[atom] = ConvexHull(diagram.vertices[corners]).volume
    return volumes
