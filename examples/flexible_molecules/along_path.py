"""Energies and forces of potentials along a path, beside those of the reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from common import KCAL_EV
from numpy.typing import NDArray

from ase_mlcalc.plots import COLORS, logarithmic, new_axes, new_figure, save

Array = NDArray[np.float64]
COLUMNS = (
    "MAE of energies from the first / kcal/mol",
    "error of the highest energy / kcal/mol",
    "force MAE / kcal/mol/Å, outside the transition region",
    "within it",
)


class Followed(NamedTuple):
    """What a potential says of K structures."""

    energies: Array
    """(K,) eV relative to the first."""
    force_errors: Array
    """(K,) mean absolute error of a component, eV/Å."""


def follow(points: Sequence[Atoms], calculator: Calculator) -> Followed:
    """Evaluate a potential on a labelled path."""
    energies, errors = [], []
    for atoms in points:
        energies.append(float(calculator.get_property("energy", atoms)))
        errors.append(float(np.abs(calculator.get_property("forces", atoms) - atoms.get_forces()).mean()))
    return Followed(np.array(energies) - energies[0], np.array(errors))


def errors(points: Sequence[Atoms], found: Followed, critical: tuple[float, float] | None) -> list[float | None]:
    """In the order of `COLUMNS`; without a transition region all structures are outside."""
    reference = _energies(points)
    top = int(np.argmax(reference))
    inside = np.zeros(len(points), dtype=bool)
    if critical is not None:
        values = np.array([atoms.info["coordinate_deg"] for atoms in points])
        inside = (values >= critical[0]) & (values <= critical[1])
    return [
        float(np.abs(found.energies - reference).mean()) / KCAL_EV,
        float(found.energies[top] - reference[top]) / KCAL_EV,
        *(float(found.force_errors[part].mean()) / KCAL_EV if part.any() else None for part in (~inside, inside)),
    ]


def _energies(points: Sequence[Atoms]) -> Array:
    energies = np.array([atoms.get_potential_energy() for atoms in points])
    return energies - energies[0]


def draw(path: Path, points: Sequence[Atoms], found: Mapping[str, Followed]) -> None:
    """Energy and force error against the coordinate, or the number of the structure."""
    x = np.array([atoms.info.get("coordinate_deg", k) for k, atoms in enumerate(points)], dtype=float)
    figure = new_figure(9.0, 3.6)
    above, below = new_axes(figure, 1, 2, 0), new_axes(figure, 1, 2, 1)
    above.plot(x, _energies(points) / KCAL_EV, "o-", color="black", linewidth=2.2, label="GFN2-xTB", zorder=1)
    for (name, own), color in zip(found.items(), COLORS, strict=False):
        above.plot(x, own.energies / KCAL_EV, "--", color=color, label=name, zorder=2)
        below.plot(x, own.force_errors / KCAL_EV, "o-", markersize=3, color=color, label=name)
    label = "angle / degrees" if "coordinate_deg" in points[0].info else "conformer"
    above.set_ylabel("energy / kcal/mol")
    below.set_ylabel("force MAE / kcal/mol/Å")
    logarithmic(below)
    for axes in (above, below):
        axes.set_xlabel(label)
    above.legend(frameon=False, fontsize=8)
    save(figure, path)
