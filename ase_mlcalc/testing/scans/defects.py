"""Defects of one curve: named, located, and whether molecular dynamics can meet them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ase_mlcalc.testing.scans import shape
from ase_mlcalc.testing.scans.path import Curve, Noise, Path
from ase_mlcalc.testing.scans.shape import Fall, Jump

Array = NDArray[np.float64]

Kind = Literal[
    "energy_jump",
    "force_jump",
    "force_kink",
    "force_not_derivative",
    "false_minimum",
    "second_minimum",
    "hole",
    "no_wall",
    "dissociates",
    "undefined",
]

REACH_EV = 0.75
"""Energies that molecular dynamics reaches: with 10¹³ attempts a second, one of a hundred bonds gets there about every
2 ns at 600 K and every 6 ps at 1000 K."""
WALL_EV = 5.0
"""What a barrier has to have for a fall behind it not to count in scores."""

ENERGY_JUMP_EV = 1e-3
FORCE_JUMP_EV_PER_A = 0.05
FORCE_ERROR = 0.02
"""eV/Å, and above 1 eV/Å a fraction of the force."""
FALL_EV = 0.05
"""Within reach, jumps and falls above these and larger errors of the force are failures; smaller ones are notes."""

ABYSS_EV = 50.0
"""Deeper than any bond.  What falls below is reported as a fall; how smooth a curve is down there means nothing."""

JUMP_LENGTH_A = 0.1
"""A jump of the force counts in scores as its work over this length, that of a thermal vibration."""

WHAT: dict[Kind, str] = {
    "energy_jump": "the energy jumps by",
    "force_jump": "the force jumps by",
    "force_kink": "the slope of the force jumps by",
    "force_not_derivative": "the force is not -dE/dr, off by up to",
    "false_minimum": "the energy has a second minimum, behind a top it falls by",
    "second_minimum": "the energy has a second minimum, behind a top it falls by",
    "hole": "the energy falls below where it began, by",
    "no_wall": "there is no repulsive wall, on compression the energy falls by",
    "dissociates": "on stretching the energy falls up to the end of the scan, by",
    "undefined": "the calculator has no finite result",
}
"""Each kind in words."""


class Defect(NamedTuple):
    """One thing that is wrong with a curve."""

    kind: Kind
    where: str
    """Atoms of the bond or elements of the dimer."""
    from_A: float
    to_A: float
    """The distances between which it lies, Å."""
    size: float | None
    """How large, in `unit`."""
    unit: str
    barrier_eV: float
    """The highest energy on the way there."""
    serious: bool
    """Whether molecular dynamics meets it: large enough, and within reach."""
    reason: str = ""
    """What the calculator said, where it is undefined."""

    @property
    def text(self) -> str:
        """In words, with numbers and units."""
        size = "" if self.size is None else f" {abs(self.size):.3g} {self.unit}"
        place = f"{self.from_A:.3f}" if self.to_A - self.from_A < 5e-4 else f"{self.from_A:.2f} to {self.to_A:.2f}"
        way = f", {self.barrier_eV:.2g} eV up" if self.barrier_eV > 0.005 else ""
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.where}: {WHAT[self.kind]}{size} at {place} Å{way}{reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return self._asdict() | {"text": self.text}


@dataclass(frozen=True)
class Way:
    """A curve as seen from where atoms come from: a bond from its minimum to both sides, a dimer from far apart."""

    curve: Curve
    origin: int
    """Index of the start."""
    work: Array = field(init=False)
    """(K,) eV, from the start."""
    highest: Array = field(init=False)
    """(K,) eV, the highest energy between the start and each point, both included."""

    def __post_init__(self) -> None:
        work = self.curve.work - self.curve.work[self.origin]
        inward = np.maximum.accumulate(work[self.origin :: -1])[::-1]
        outward = np.maximum.accumulate(work[self.origin :])
        object.__setattr__(self, "work", work)
        object.__setattr__(self, "highest", np.concatenate([inward, outward[1:]]))

    @property
    def within_reach(self) -> NDArray[np.bool_]:
        """(K,) which points are reached without passing `REACH_EV`."""
        return self.highest < REACH_EV

    def falls(self, *, outward: bool) -> list[Fall]:
        """Falls on one side, as indices of the curve."""
        if outward:
            return [
                Fall(self.origin + top, self.origin + bottom) for top, bottom in shape.falls(self.work[self.origin :])
            ]
        found = shape.falls(self.work[self.origin :: -1])
        return [Fall(self.origin - top, self.origin - bottom) for top, bottom in found]

    def before(self, distance: float) -> int:
        """Index of the end of the interval around a distance that is nearer to the start: the other lies behind."""
        r = self.curve.distance
        k = int(np.searchsorted(r, distance))
        return min(k, len(r) - 1) if distance <= r[self.origin] else max(k - 1, 0)

    def barrier(self, distance: float) -> float:
        """eV, the highest energy on the way to a distance on the curve."""
        return float(self.highest[self.before(distance)])

    @property
    def in_abyss(self) -> NDArray[np.bool_]:
        """(K - 1,) which intervals lie deeper than `ABYSS_EV` below the start."""
        lost = self.work < -ABYSS_EV
        return lost[:-1] & lost[1:]

    def outside_abyss(self, jumps: list[Jump]) -> list[Jump]:
        """Those of some jumps that are met before the abyss."""
        return [jump for jump in jumps if self.work[self.before(jump.distance)] >= -ABYSS_EV]


class Measures(NamedTuple):
    """Numbers of one curve, over what is within reach; bigger is worse, NaN where it cannot be told."""

    energy_jump_eV: float
    """Largest jump of the energy."""
    force_jump_eV_per_A: float
    """Largest jump of the force."""
    force_error_eV_per_A: float
    """Largest F + dE/dr, above 1 eV/Å as a fraction of the force."""
    fall_eV: float
    """Largest fall where a physical curve rises, at most `REACH_EV`."""
    missing_barrier_eV: float
    """What the lowest barrier in front of a fall above `FALL_EV`, or of an undefined region, lacks to `WALL_EV`."""
    force_wiggle_eV_per_A: float
    """Ups and downs of the force beyond those of a bond; see `shape.wiggle`."""
    undefined: float
    """1 if the calculator has no finite result at a place within reach, otherwise 0."""
    score_eV: float
    """Falls, jumps of the energy, jumps of the force times 0.1 Å, and work of wrong forces, added up."""


class Verdict(NamedTuple):
    """What was found on one curve."""

    defects: list[Defect]
    measures: Measures


NOTHING = Measures(*[np.nan] * len(Measures._fields))


class Smoothness(NamedTuple):
    """Jumps and errors of the force on one curve; these take evaluations of their own."""

    energy_jumps: list[Jump]
    force_jumps: list[Jump]
    force_kinks: list[Jump]
    force_errors: Array
    """(K - 1,) eV/Å; see `shape.force_errors`."""
    noise: Noise


def smoothness(path: Path, way: Way, noise: Noise) -> Smoothness:
    """Look for everything that is not smooth, except in an abyss."""
    curve = way.curve
    of_energy = way.outside_abyss(shape.energy_jumps(path, curve, noise))
    of_force = way.outside_abyss(shape.force_jumps(path, curve, noise))
    known = of_energy + of_force
    kinks = way.outside_abyss(shape.force_kinks(path, curve, noise, known))
    return Smoothness(of_energy, of_force, kinks, shape.force_errors(path, curve, known, noise, way.in_abyss), noise)


def judge(where: str, way: Way, smooth: Smoothness, bad_falls: Sequence[tuple[Kind, Fall]]) -> Verdict:
    """Everything that is wrong with a curve, and its numbers.

    Parameters
    ----------
    where : str
        Name of the curve.
    way : Way
    smooth : Smoothness
    bad_falls : sequence of (kind, Fall)
        Falls that a physical curve does not have; which these are differs between bonds and dimers.
    """
    curve, r = way.curve, way.curve.distance
    defects = [
        *_of_jumps("energy_jump", where, way, smooth.energy_jumps, "eV", ENERGY_JUMP_EV),
        *_of_jumps("force_jump", where, way, smooth.force_jumps, "eV/Å", FORCE_JUMP_EV_PER_A),
        *_of_jumps("force_kink", where, way, smooth.force_kinks, "eV/Å²", np.inf),
        *_of_forces(where, way, smooth),
    ]
    for kind, fall in bad_falls:
        size, barrier = float(way.work[fall.top] - way.work[fall.bottom]), float(way.highest[fall.top])
        low, high = sorted((float(r[fall.top]), float(r[fall.bottom])))
        serious = size > FALL_EV and barrier < REACH_EV and kind not in NOTES
        defects.append(Defect(kind, where, low, high, size, "eV", barrier, serious))
    for end, reason in ((0, curve.refused_below), (-1, curve.refused_above)):
        if reason:
            place, barrier = float(r[end]), float(way.highest[end])
            defects.append(Defect("undefined", where, place, place, None, "", barrier, barrier < REACH_EV, reason))
    return Verdict(defects, _measures(way, smooth, defects))


def _of_jumps(kind: Kind, where: str, way: Way, jumps: Sequence[Jump], unit: str, allowed: float) -> list[Defect]:
    found = []
    for jump in jumps:
        barrier = way.barrier(jump.distance)
        serious = abs(jump.size) > allowed and barrier < REACH_EV
        found.append(Defect(kind, where, jump.distance, jump.distance, jump.size, unit, barrier, serious))
    return found


def _of_forces(where: str, way: Way, smooth: Smoothness) -> list[Defect]:
    """The regions where the force is not the derivative of the energy, as one defect within reach and one beyond."""
    r, relative = way.curve.distance, _relative_errors(way.curve, smooth)
    reached = way.within_reach[1:] & way.within_reach[:-1]
    found = []
    for inside in (True, False):
        wrong = np.flatnonzero((np.nan_to_num(relative) > FORCE_ERROR) & (reached == inside))
        if len(wrong):
            size = float(np.nanmax(np.abs(smooth.force_errors[wrong])))
            barrier = min(float(way.highest[wrong].min()), float(way.highest[wrong + 1].min()))
            low, high = float(r[wrong[0]]), float(r[wrong[-1] + 1])
            found.append(Defect("force_not_derivative", where, low, high, size, "eV/Å", barrier, inside))
    return found


def _relative_errors(curve: Curve, smooth: Smoothness) -> Array:
    """(K - 1,) errors of the force, above 1 eV/Å as a fraction of the force; noise of the energy is taken off."""
    noise = 6 * smooth.noise.energy / np.diff(curve.distance)
    size = 0.5 * (np.abs(curve.force[1:]) + np.abs(curve.force[:-1]))
    relative: Array = np.maximum(np.abs(smooth.force_errors) - noise, 0.0) / np.maximum(size, 1.0)
    return relative


def _measures(way: Way, smooth: Smoothness, defects: Sequence[Defect]) -> Measures:
    curve = way.curve
    near = [defect for defect in defects if defect.barrier_eV < REACH_EV]
    reached = way.within_reach[1:] & way.within_reach[:-1]

    def sizes(*kinds: Kind) -> list[float]:
        return [abs(defect.size) for defect in near if defect.kind in kinds and defect.size is not None]

    energy, force = sizes("energy_jump"), sizes("force_jump")
    of_falls = [min(size, REACH_EV) for size in sizes(*FALLS)]
    errors, lengths = smooth.force_errors[reached], np.diff(curve.distance)[reached]
    told = np.isfinite(errors)
    relative = _relative_errors(curve, smooth)[reached][told]
    missing = [
        WALL_EV - defect.barrier_eV
        for defect in defects
        if defect.kind == "undefined" or (defect.kind in FALLS and (defect.size or 0.0) > FALL_EV)
    ]
    both = curve.has_energy and curve.has_forces
    noise = 6 * smooth.noise.energy / lengths[told]
    wrong_work = float((np.maximum(np.abs(errors[told]) - noise, 0.0) * lengths[told]).sum()) if both else 0.0
    return Measures(
        energy_jump_eV=max(energy, default=0.0) if curve.has_energy else np.nan,
        force_jump_eV_per_A=max(force, default=0.0) if curve.has_forces else np.nan,
        force_error_eV_per_A=float(relative.max(initial=0.0)) if both else np.nan,
        fall_eV=max(of_falls, default=0.0),
        missing_barrier_eV=max([0.0, *missing]),
        force_wiggle_eV_per_A=shape.wiggle(curve.force[way.within_reach]) if curve.has_forces else np.nan,
        undefined=float(any(defect.kind == "undefined" for defect in near)),
        score_eV=sum(of_falls) + sum(energy) + JUMP_LENGTH_A * sum(force) + wrong_work,
    )


FALLS: tuple[Kind, ...] = ("false_minimum", "second_minimum", "hole", "no_wall", "dissociates")
"""Kinds that are falls of the energy."""
NOTES: tuple[Kind, ...] = ("force_kink", "second_minimum")
"""Kinds that are never failures: integrators pass over kinks, and two atoms alone may have states of their own."""


def worst(measures: Sequence[Measures]) -> Measures:
    """The largest of each number over several curves; NaN where none of them has it."""
    if not measures:
        return NOTHING
    table = np.array(measures, dtype=float)
    known = np.isfinite(table).any(axis=0)
    largest = np.where(known, np.max(np.where(np.isfinite(table), table, -np.inf), axis=0), np.nan)
    return Measures(*largest.tolist())


def plain(measures: Measures) -> dict[str, float | None]:
    """Numbers for JSON, which has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in measures._asdict().items()}
