"""Two atoms alone, from contact to where they no longer see each other, for each pair of elements of a structure."""

from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.testing.outcome import NotApplicable
from ase_mlcalc.testing.scans.bonds import one_composition
from ase_mlcalc.testing.scans.defects import (
    Defect,
    Kind,
    Measures,
    Verdict,
    Way,
    judge,
    plain,
    smoothness,
    worst,
)
from ase_mlcalc.testing.scans.path import Noise, Path, noise_of, trace
from ase_mlcalc.testing.scans.shape import Fall

Array = NDArray[np.float64]

CLOSEST = 0.3
"""Of the sum of covalent radii, where a scan ends."""
NO_BOND = 0.5
"""Of the sum of covalent radii; no two atoms of any elements are bonded at less, and their energy is far up."""
FAR_A = 6.0
"""Å, where a scan begins if the calculator does not say its cutoff."""
BEYOND_A = 0.1
"""Å beyond the cutoff, so that what happens there is part of the scan."""
STEP_A = 0.03
STEP_OF_DISTANCE = 0.02
"""Steps are at most so large: Å, and a fraction of the distance, for walls get steep."""

DIRECTION = np.array([0.48, 0.60, 0.64])
"""Of the axis of a dimer, along no axis of anything."""


class Dimer(NamedTuple):
    """Two atoms and what their scan gave."""

    numbers: tuple[int, int]
    name: str
    """Elements, such as H-O."""
    distance: Array
    """(K,) Å"""
    energy: Array
    """(K,) eV above the farthest distance; NaN without an energy."""
    force: Array
    """(K,) eV/Å, positive pushes apart; NaN without forces."""
    minima_A: tuple[float, ...]
    """Distances of all minima of the energy, Å, from the outermost inward."""
    cutoff_A: float | None
    """Å; ``None`` where the calculator does not say it."""
    energy_at_cutoff_eV: float | None
    force_at_cutoff_eV_per_A: float | None
    """At the last distance within the cutoff, or without a cutoff at the last one; ``None`` where not known."""
    verdict: Verdict


class DimerScan(NamedTuple):
    """All pairs of elements of a structure as dimers."""

    curves: list[Dimer]
    noise: Noise
    refused: dict[str, str]
    """Pairs that the calculator has nothing for at any distance, with what it said."""

    @property
    def defects(self) -> list[Defect]:
        """What is wrong, pair by pair."""
        return [defect for curve in self.curves for defect in curve.verdict.defects]

    @property
    def measures(self) -> Measures:
        """The worst of each number over the pairs."""
        return worst([curve.verdict.measures for curve in self.curves])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "scanned": [
                {
                    "dimer": each.name,
                    "minima_A": list(each.minima_A),
                    "cutoff_A": each.cutoff_A,
                    "energy_at_cutoff_eV": each.energy_at_cutoff_eV,
                    "force_at_cutoff_eV_per_A": each.force_at_cutoff_eV_per_A,
                    **plain(each.verdict.measures),
                }
                for each in self.curves
            ],
            "refused": self.refused,
            "scores": plain(self.measures),
            "defects": [defect.to_dict() for defect in self.defects],
        }


def scan_dimers(calculator: Calculator, atoms: Atoms) -> DimerScan:
    """Bring two atoms of each pair of elements together in empty space, and look at energy and force on the way.

    From the cutoff of the calculator, or 6 Å if it does not say one, to 0.3 times the sum of covalent radii, in steps
    of at most 0.03 Å and 2 %.  The energy may rise once, fall into one well, and then has to rise to the end.

    Parameters
    ----------
    calculator : Calculator
        Of ASE, with energy, forces or both; with forces alone, work takes the place of energy.
    atoms : ase.Atoms
        Whose elements are paired.

    Raises
    ------
    NotApplicable
        Neither energy nor forces; a model of one molecule; a calculator that takes no dimers.
    """
    if one_composition(calculator):
        raise NotApplicable("the model is of one molecule and knows no dimers")
    cutoff = _cutoff(calculator)
    noise: Noise | None = None
    curves: list[Dimer] = []
    refused: dict[str, str] = {}
    for pair in combinations_with_replacement(sorted(set(atoms.numbers.tolist())), 2):
        name = "-".join(sorted(chemical_symbols[z] for z in pair))
        path = _path(calculator, pair)
        grid = distances(pair, cutoff)
        first = path(float(grid[0]))
        if first.refusal:
            refused[name] = first.refusal
            continue
        if noise is None:
            bond = float(covalent_radii[list(pair)].sum())
            noise = noise_of(path, 0.93 * bond, 1.07 * bond)
        curves.append(_scan(path, pair, name, grid, noise, cutoff))
    if noise is None:
        raise NotApplicable(f"the calculator takes no dimers ({next(iter(refused.values()))})")
    return DimerScan(curves, noise, refused)


def distances(pair: tuple[int, int], cutoff: float | None) -> Array:
    """(K,) Å, descending, from far apart to 0.3 times the sum of covalent radii."""
    closest = CLOSEST * float(covalent_radii[list(pair)].sum())
    far = FAR_A if cutoff is None else max(cutoff + BEYOND_A, 2 * closest)
    grid = [closest]
    while grid[-1] < far:
        grid.append(grid[-1] + min(STEP_A, STEP_OF_DISTANCE * grid[-1]))
    return np.array(grid[::-1])


def _cutoff(calculator: Calculator) -> float | None:
    if not isinstance(calculator, MLCalculator):
        return None
    cutoff = float(calculator.potential.cutoff)
    return cutoff if np.isfinite(cutoff) else None


def _path(calculator: Calculator, pair: tuple[int, int]) -> Path:
    def place(distance: float) -> Atoms:
        return Atoms(list(pair), positions=[np.zeros(3), distance * DIRECTION])

    return Path(calculator, place, np.stack([np.zeros(3), DIRECTION]))


def _scan(path: Path, pair: tuple[int, int], name: str, grid: Array, noise: Noise, cutoff: float | None) -> Dimer:
    curve = trace(path, grid, np.zeros(0))
    way = Way(curve, len(curve.distance) - 1)
    no_bond = NO_BOND * float(covalent_radii[list(pair)].sum())
    found = way.falls(outward=False)
    verdict = judge(f"{name} dimer", way, smoothness(path, way, noise), _bad_falls(way, found, no_bond))
    inner = [fall.bottom for fall in found if fall.bottom > 0]
    within = len(curve.distance) - 1 if cutoff is None else int(np.searchsorted(curve.distance, cutoff)) - 1
    at_cutoff = [_known(values[within]) if within >= 0 else None for values in (way.work, curve.force)]
    return Dimer(
        numbers=pair,
        name=name,
        distance=curve.distance,
        energy=way.work if curve.has_energy else curve.energy,
        force=curve.force,
        minima_A=tuple(curve.distance[inner].tolist()),
        cutoff_A=cutoff,
        # without a cutoff the last distance is where energies are counted from
        energy_at_cutoff_eV=at_cutoff[0] if curve.has_energy and cutoff is not None else None,
        force_at_cutoff_eV_per_A=at_cutoff[1],
        verdict=verdict,
    )


def _bad_falls(way: Way, found: list[Fall], no_bond: float) -> list[tuple[Kind, Fall]]:
    """Falls other than the one into the well of a bond."""
    bad: list[tuple[Kind, Fall]] = []
    for number, fall in enumerate(found):
        too_close = way.curve.distance[fall.bottom] < no_bond
        if fall.bottom == 0 and way.curve.refused_below:
            continue  # the end is one of the calculator
        if fall.bottom == 0:
            bad.append(("no_wall", fall))
        elif too_close and way.work[fall.bottom] < 0.0:
            bad.append(("hole", fall))
        elif number > 0:
            bad.append(("second_minimum", fall))
    return bad


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
