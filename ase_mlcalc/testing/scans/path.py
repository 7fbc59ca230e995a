"""Energy and force of any calculator while a structure is deformed along one distance."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from ase_mlcalc.foreign import forget
from ase_mlcalc.testing.outcome import NotApplicable

Array = NDArray[np.float64]

Place = Callable[[float], Atoms]
"""Distance in Å to the structure that is deformed to it."""


class Point(NamedTuple):
    """What a calculator says at one distance."""

    energy: float
    """eV; NaN where it has none."""
    force: float
    """eV/Å, along the path: positive pushes apart.  NaN where there are no forces."""
    refusal: str
    """Why there is nothing here, or nothing finite; empty where all is well."""


class Path:
    """A deformation of a structure: one number, the distance, moves atoms along fixed directions.

    Parameters
    ----------
    calculator : Calculator
    place : distance in Å to structure
    moves : (N, 3)
        Derivative of the positions by the distance, so that the force along the path is ``(forces * moves).sum()``.

    Raises
    ------
    NotApplicable
        The calculator gives neither energy nor forces.
    """

    def __init__(self, calculator: Calculator, place: Place, moves: Array) -> None:
        self.calculator, self.place, self.moves = calculator, place, moves
        given = calculator.implemented_properties
        # forces are the derivatives of the free energy, where there is one
        self._energy = next((name for name in ("free_energy", "energy") if name in given), None)
        self.has_energy, self.has_forces = self._energy is not None, "forces" in given
        if not (self.has_energy or self.has_forces):
            raise NotApplicable("the calculator gives neither energy nor forces")
        self.evaluations = 0

    def __call__(self, distance: float) -> Point:
        """Energy and force at a distance in Å; whatever the calculator refuses is a reason and not an error."""
        self.evaluations += 1
        atoms = self.place(distance)
        energy = force = np.nan
        try:
            if self._energy is not None:
                energy = float(self.calculator.get_property(self._energy, atoms))
            if self.has_forces:
                force = float((np.asarray(self.calculator.get_property("forces", atoms)) * self.moves).sum())
        except Exception as error:  # noqa: BLE001  # calculators raise whatever they like
            forget(self.calculator)
            return Point(np.nan, np.nan, f"{type(error).__name__}: {error}")
        finite = (not self.has_energy or np.isfinite(energy)) and (not self.has_forces or np.isfinite(force))
        return Point(energy, force, "" if finite else "NaN or Inf")

    def along(self, distances: Array) -> tuple[Array, Array]:
        """Energies and forces at several distances."""
        points = [self(float(distance)) for distance in distances]
        return np.array([point.energy for point in points]), np.array([point.force for point in points])


class Noise(NamedTuple):
    """How much the last digits of a calculator scatter: in float64 nothing that matters."""

    energy: float
    """eV"""
    force: float
    """eV/Å"""


def noise_of(path: Path, *distances: float) -> Noise:
    """Scatter of energy and force about smooth curves through points within 0.01 Å of each distance; the smallest.

    At several distances, so that a jump at one of them is not taken for noise; on slopes, because energies that are
    rounded do not change at all at a minimum.
    """
    steps = np.linspace(-1.0, 1.0, 15) + 0.02 * np.cos(np.arange(15.0) ** 2)
    found = []
    for distance in distances:
        energies, forces = path.along(distance + 0.01 * steps)
        found.append((_scatter(steps, energies, 4), _scatter(steps, forces, 4)))
    smallest = np.min(found, axis=0)
    return Noise(*np.where(np.isfinite(smallest), smallest, 0.0).tolist())


def _scatter(x: Array, y: Array, degree: int) -> float:
    if not np.isfinite(y).all():
        return np.inf
    # without its mean, which may be many orders of magnitude larger
    left = (y - y.mean()) - np.polyval(np.polyfit(x, y - y.mean(), degree), x)
    return float(np.sqrt((left**2).sum() / (len(x) - degree - 1)))


class Curve(NamedTuple):
    """Energy and force along a path, on a grid of K distances without gaps."""

    distance: Array
    """(K,) Å, ascending."""
    energy: Array
    """(K,) eV; NaN without an energy."""
    force: Array
    """(K,) eV/Å, positive pushes apart; NaN without forces."""
    refused_below: str
    """Why the calculator has nothing, or nothing finite, one step before the first distance; empty if not tried."""
    refused_above: str
    """The same one step after the last distance."""

    @property
    def has_energy(self) -> bool:
        """Whether there are energies."""
        return bool(np.isfinite(self.energy).all())

    @property
    def has_forces(self) -> bool:
        """Whether there are forces."""
        return bool(np.isfinite(self.force).all())

    @property
    def work(self) -> Array:
        """(K,) eV, the energy; without one the work against the force, which moves along the path pay all the same."""
        if self.has_energy:
            return self.energy
        steps = 0.5 * (self.force[1:] + self.force[:-1]) * np.diff(self.distance)
        return -np.concatenate([[0.0], np.cumsum(steps)])


def trace(path: Path, inward: Array, outward: Array) -> Curve:
    """Follow a path from a start to both sides, on each as far as the calculator goes.

    Parameters
    ----------
    path : Path
    inward : (A,) Å
        Descending; empty if the path only goes outward.
    outward : (B,) Å
        Ascending.  Together at least one distance.
    """
    points: dict[float, Point] = {}
    refused = ["", ""]
    for side, distances in enumerate((inward, outward)):
        for distance in distances.tolist():
            point = path(distance)
            if point.refusal:
                refused[side] = point.refusal
                break
            points[distance] = point
    grid = sorted(points)
    energy, force = (np.array([points[x][k] for x in grid], dtype=float) for k in (0, 1))
    return Curve(np.array(grid, dtype=float), energy, force, *refused)
