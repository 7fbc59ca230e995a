r"""What can be wrong with a curve of energy and force against a distance, in numbers.

With E the energy and F the force along the path (positive pushes apart) at distances r:

- a jump of E is what is left of :math:`\Delta E + \int F dr` over an interval when the interval is made 512 and then up
  to two million times smaller; a jump of F what is left of :math:`\Delta F`.  Whatever is smooth shrinks with the
  interval, if only the steepest of it at last; a jump stays.
- the error of the force over an interval of length h is :math:`(\Delta E + \int F dr)/h`, the mean of F + dE/dr there.
- a fall is a stretch over which E goes down while a physical bond goes up.

The ideas that energies and forces along deformed bonds tell how a potential will do in molecular dynamics, and which
defects to look for, are those of the Bond Smoothness Characterization Test (Liu et al., arXiv:2602.04861), and for
diatomics of MLIP Arena (Chiang et al., arXiv:2509.20630); the quantities here are defined above and not theirs.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ase_mlcalc.testing.scans.path import Curve, Noise, Path

Array = NDArray[np.float64]

RIPPLE_EV = 0.005
"""Ups and downs of the energy below this are not counted as falls."""

ENERGY_FLOOR_EV = 1e-4
FORCE_FLOOR_EV_PER_A = 2e-3
KINK_FLOOR_EV_PER_A2 = 1.0
"""Jumps of energy, force and slope of the force below these are not looked for."""

_STANDS_OUT = 4.0
_MOST_ZOOMS = 4
_PARTS, _LEVELS, _MOST_LEVELS = 8, 3, 7
_SIGMAS = 6.0
_NOISY = 0.1
_DOUBTFUL, _MOST_DIVIDED = 0.005, 20


class Jump(NamedTuple):
    """A place where a quantity changes from one distance to the next, however close these are."""

    distance: float
    """Å"""
    size: float
    """eV, eV/Å, or for the slope of the force eV/Å²; with its sign as the distance grows."""


class Fall(NamedTuple):
    """A descent of the energy, as indices of a curve; `bottom` lies farther along the way than `top`."""

    top: int
    bottom: int


def falls(work: Array) -> list[Fall]:
    """Descents larger than `RIPPLE_EV` on the way along an array of energies."""
    found: list[Fall] = []
    top = bottom = 0
    descending = False
    for k, value in enumerate(work):
        if descending:
            if value < work[bottom]:
                bottom = k
            elif value > work[bottom] + RIPPLE_EV:
                found.append(Fall(top, bottom))
                descending, top = False, k
        elif value > work[top]:
            top = k
        elif value < work[top] - RIPPLE_EV:
            descending, bottom = True, k
    return [*found, Fall(top, bottom)] if descending else found


def energy_jumps(path: Path, curve: Curve, noise: Noise) -> list[Jump]:
    """Jumps of the energy; those that the force does not explain, if there are forces."""
    if not curve.has_energy:
        return []
    with_force = curve.has_forces
    rough = _residual(curve) if with_force else _roughness(np.diff(curve.energy))

    def changes(x: Array, energy: Array, force: Array) -> Array:
        return np.diff(energy) + (0.5 * (force[1:] + force[:-1]) * np.diff(x) if with_force else 0.0)

    floor = max(ENERGY_FLOOR_EV, _SIGMAS * noise.energy)
    return _jumps(path, curve, rough, changes, floor)


def force_jumps(path: Path, curve: Curve, noise: Noise) -> list[Jump]:
    """Jumps of the force, which are kinks of the energy."""
    if not curve.has_forces:
        return []
    floor = max(FORCE_FLOOR_EV_PER_A, _SIGMAS * noise.force)
    return _jumps(path, curve, _roughness(np.diff(curve.force)), lambda _x, _energy, force: np.diff(force), floor)


def force_kinks(path: Path, curve: Curve, noise: Noise, known: list[Jump]) -> list[Jump]:
    """Jumps of the slope of the force, away from the jumps of the force itself."""
    if not curve.has_forces or len(curve.distance) < 12:
        return []
    r, h = curve.distance, float(np.diff(curve.distance).max())
    rough = np.abs(_roughness(np.diff(curve.force)))
    for jump in known:
        near = np.abs(0.5 * (r[1:] + r[:-1]) - jump.distance) < 3 * h
        rough[near] = 0.0
    found: list[Jump] = []
    for k in _outstanding(rough, 0.25 * h * KINK_FLOOR_EV_PER_A2, most=2):
        low, high = max(k - 1, 0), min(k + 2, len(r) - 1)
        kink = _kink(path, float(r[low]), float(r[high]), noise)
        if kink is not None and not any(abs(kink.distance - other.distance) < h for other in found):
            found.append(kink)
    return found


def force_errors(path: Path, curve: Curve, jumps: list[Jump], noise: Noise, ignored: NDArray[np.bool_]) -> Array:
    """(K - 1,) eV/Å, mean of F + dE/dr over each interval; NaN if ignored, where E or F jumps or one is not there.

    Intervals that look wrong are zoomed into, the worst first, until one of them stays as wrong: an integral over a
    narrow feature is only inaccurate.
    """
    r = curve.distance
    if not (curve.has_energy and curve.has_forces):
        return np.full(len(r) - 1, np.nan)
    error = np.where(ignored, np.nan, _residual(curve) / np.diff(r))
    for jump in jumps:
        k = int(np.searchsorted(r, jump.distance)) - 1
        error[max(k - 1, 0) : k + 2] = np.nan
    relative = np.nan_to_num(np.abs(error)) / np.maximum(0.5 * np.abs(curve.force[1:] + curve.force[:-1]), 1.0)
    suspects = [k for k in np.argsort(-relative).tolist() if relative[k] > _DOUBTFUL]
    for number, k in enumerate(suspects):
        if number == _MOST_DIVIDED:
            error[suspects[number:]] = np.nan
            break
        zoomed = _error_within(path, float(r[k]), float(r[k + 1]), noise)
        if abs(zoomed) > 0.5 * abs(error[k]):
            break
        error[k] = zoomed
    return error


def wiggle(force: Array) -> float:
    """eV/Å, by how much a force goes up and down more than that of a bond in its surroundings.

    With growing distance the force of a bond falls, may rise again after its strongest pull, and fall again where the
    atoms meet others; the total variation beyond the smallest of a curve of this shape is what is called wiggle here.
    """
    if len(force) < 3:
        return 0.0
    variation = float(np.abs(np.diff(force)).sum())
    highest_after = np.maximum.accumulate(force[::-1])[::-1]
    # down to any of the points, up to the highest after it, and down to the end
    plain = (force[0] - force) + (highest_after - force) + (highest_after - force[-1])
    return max(0.0, variation - float(plain.max()))


# ----- helpers --------------------------------------------------------------------------------------------------------


def _residual(curve: Curve) -> Array:
    """(K - 1,) eV, ΔE + ∫F dr by the trapezoidal rule with its end correction (Euler-Maclaurin, error of order h⁵)."""
    h = np.diff(curve.distance)
    slope = np.gradient(curve.force, curve.distance, edge_order=2) if len(h) > 1 else np.zeros(len(curve.force))
    trapezoid = 0.5 * h * (curve.force[1:] + curve.force[:-1])
    return np.diff(curve.energy) + trapezoid - h**2 / 12 * np.diff(slope)


def _roughness(change: Array) -> Array:
    """By how much each change differs from the mean of those beside it; zero on lines and parabolas."""
    if len(change) < 3:
        return np.zeros(len(change))
    padded = np.pad(change, 1, mode="reflect", reflect_type="odd")
    return change - 0.5 * (padded[2:] + padded[:-2])


def _outstanding(values: Array, floor: float, most: int) -> list[int]:
    """Indices of the values that are well above those a few places away, the most outstanding first."""
    size = np.abs(values)
    ratio = np.zeros(len(size))
    for k in range(len(size)):
        around = np.concatenate([size[max(k - 7, 0) : max(k - 1, 0)], size[k + 2 : k + 8]])
        usual = float(np.median(around)) if len(around) else 0.0
        ratio[k] = size[k] / max(usual, floor / _STANDS_OUT)
    order = np.argsort(-ratio, kind="stable").tolist()
    return [k for k in order if ratio[k] > _STANDS_OUT][:most]


def _jumps(
    path: Path, curve: Curve, rough: Array, changes: Callable[[Array, Array, Array], Array], floor: float
) -> list[Jump]:
    """Zoom into the intervals that stand out, and keep what does not shrink."""
    found: dict[int, Jump] = {}
    r = curve.distance
    for k in _outstanding(rough, floor, 3 * _MOST_ZOOMS):
        if len(found) == _MOST_ZOOMS:
            break
        if k - 1 in found or k + 1 in found:  # a jump roughens the intervals beside it, too
            continue
        jump = _zoomed(path, float(r[k]), float(r[k + 1]), changes)
        if jump is not None and abs(jump.size) > floor:
            found[k] = jump
    return sorted(found.values())


def _zoomed(path: Path, low: float, high: float, changes: Callable[[Array, Array, Array], Array]) -> Jump | None:
    """The change that stands out most in an interval, after zooming into it."""
    size = before = 0.0
    for level in range(1, _MOST_LEVELS + 1):
        before = size
        x = np.linspace(low, high, _PARTS + 1)
        energy, force = path.along(x)
        change = changes(x, energy, force)
        if not np.isfinite(change).all():
            return None
        excess = change - np.median(change)
        k = int(np.abs(excess).argmax())
        size, low, high = float(excess[k]), float(x[k]), float(x[k + 1])
        if level >= _LEVELS and abs(size) <= 0.5 * abs(before):
            return None
    return Jump(0.5 * (low + high), size)


def _error_within(path: Path, low: float, high: float, noise: Noise) -> float:
    """F + dE/dr where it is largest in an interval, as near to a point as the noise of the energy lets it be told."""
    worst = np.inf
    for _ in range(_MOST_LEVELS):
        x = np.linspace(low, high, _PARTS + 1)
        local = _residual(Curve(x, *path.along(x), "", "")) / np.diff(x)
        k = int(np.nan_to_num(np.abs(local), nan=np.inf).argmax())
        worst, low, high = float(local[k]), float(x[k]), float(x[k + 1])
        if _SIGMAS * noise.energy / (high - low) > _NOISY * abs(worst):
            break
    return worst


def _kink(path: Path, low: float, high: float, noise: Noise) -> Jump | None:
    """The largest jump of the slope of the force in an interval, if there is one."""
    size = before = width = 0.0
    middle = 0.5 * (low + high)
    for _ in range(_LEVELS + 1):
        before = size
        x = np.linspace(low, high, _PARTS + 1)
        _, force = path.along(x)
        width = float(x[1] - x[0])
        change = np.diff(np.diff(force)) / width
        if not np.isfinite(change).all():
            return None
        excess = change - np.median(change)
        k = int(np.abs(excess).argmax())
        # a kink between two points shows at both
        size, middle = float(excess[max(k - 1, 0) : k + 2].sum()), float(x[k + 1])
        # two intervals that meet at the kink, and so that it stays inside
        low, high = float(x[k]), float(x[k + 2])
    floor = max(KINK_FLOOR_EV_PER_A2, _SIGMAS * 2 * noise.force / width)
    return Jump(middle, size) if abs(size) > max(floor, 0.5 * abs(before)) else None
