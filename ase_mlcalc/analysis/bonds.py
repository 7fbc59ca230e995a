"""Who is bonded to whom: cutoffs from the first minimum of g(r), then coordination numbers and angles."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from ase_mlcalc.analysis.curves import Axis, Curve, even_blocks
from ase_mlcalc.analysis.gather import Samples
from ase_mlcalc.analysis.species import Species
from ase_mlcalc.analysis.structure import Advance, density_curve
from ase_mlcalc.neighbors import find_pairs

Array = NDArray[np.float64]

SMOOTHING = 0.05
"""Å, standard deviation of the Gaussian that takes noise off before peaks are looked for."""
PROMINENCE = 0.1
"""A peak stands out by at least this part of the highest one."""
SIGNIFICANT = 4.0
"""And by this many standard errors."""
FLOOR = 0.01
"""Below this part of the first peak there are no pairs."""
LONGEST_BOND = 7.0
"""Å, up to which a first shell is looked for: farther out a minimum bounds no bonds."""
BEYOND = 0.2
"""Å, from where a lonely peak has ended to the cutoff."""
ANGLE_BINS = 90

ANGLE = Axis("angle", "degrees")
ANGLE_DENSITY = Axis("probability density", "1/degree")


def first_minimum(r: Array, density: Array, stderr: Array | None = None) -> float | None:
    """Where the first shell of neighbours ends, Å: between the first two peaks of a pair density.

    Where no pair is found over some range, which is so in molecules and cold solids, its middle.

    Parameters
    ----------
    r : (K,) Å, evenly spaced
    density : (K,)
        g(r), or anything proportional to it.
    stderr : (K,), optional
        Its standard error: peaks that noise could make are none.  Not for densities of few pairs that make one peak.

    Returns
    -------
    float or None
        ``None`` if there is no peak, or none that ends.
    """
    width = SMOOTHING / (r[1] - r[0])
    smooth = gaussian_filter1d(density, width, mode="nearest")
    least = np.full(len(r), PROMINENCE * smooth.max())
    if stderr is not None and np.isfinite(stderr).all():
        # of a mean under a Gaussian of this width, neighbouring bins being independent
        noise = np.sqrt(
            gaussian_filter1d(stderr**2, width / np.sqrt(2.0), mode="nearest") / (2.0 * np.sqrt(np.pi) * width)
        )
        least = np.maximum(least, SIGNIFICANT * noise)
    peaks, _ = find_peaks(smooth, prominence=least)
    if not len(peaks):
        return None
    first = int(peaks[0])
    if len(peaks) > 1:
        valley = smooth[first : peaks[1]]
        lowest = np.flatnonzero(valley <= valley.min() + FLOOR * smooth[first])
        return float(r[first + int(np.median(lowest))])
    ended = np.flatnonzero(smooth[first:] < FLOOR * smooth[first])
    return float(r[first + ended[0]]) + BEYOND if len(ended) else None


def find_bond_cutoffs(curves: Mapping[str, Curve], *, open_structure: bool) -> dict[str, float]:
    """Cutoffs by name of the pair, where g(r) (of open structures p(r)/r²) has a first minimum."""
    found = {}
    for name, curve in curves.items():
        scale = curve.x**-2 if open_structure else 1.0
        cutoff = first_minimum(curve.x, curve.y * scale, None if open_structure else curve.stderr)
        if cutoff is not None and cutoff < LONGEST_BOND:
            found[name] = cutoff
    return found


def bond_curves(
    samples: Samples,
    pbc: NDArray[np.bool_],
    species: Species,
    cutoffs: Mapping[str, float],
    *,
    n_blocks: int,
    advance: Advance = lambda: None,
) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """Distributions of coordination numbers and of angles between bonds.

    Parameters
    ----------
    samples : Samples
    pbc : (3,)
    species : Species
    cutoffs : mapping of str to float, Å
        By name of the pair; a pair without one has no bonds.
    n_blocks : int
    advance : callable
        Called after each frame.

    Returns
    -------
    coordination : dict of Curve
        By name as "O around H": part of the centres that have 0, 1, 2, ... such neighbours.
    angles : dict of Curve
        By name as "H-O-H", the centre in the middle: density over angles from 0 to 180 degrees.  It is not divided by
        sin(angle), so that of a gas is sin(angle)/2 per radian.  Triplets that are never seen have none.
    """
    size = len(species)
    limit = np.zeros((size, size))
    for name, a, b in species.pairs():
        limit[a, b] = limit[b, a] = cutoffs.get(name, 0.0)
    block_of = even_blocks(len(samples.positions), n_blocks)
    blocks = int(block_of[-1]) + 1
    neighbours = np.zeros((blocks, size, size, 0))
    angles = np.zeros((blocks, size**3 * ANGLE_BINS))
    for block, positions, cell in zip(block_of, samples.positions, samples.cells, strict=True):
        if not limit.any():
            break
        bonds = _find_bonds(positions, cell, pbc, species.kinds, limit)
        counts = _count_neighbours(bonds, species)
        longer = counts.shape[-1] - neighbours.shape[-1]
        if longer > 0:
            neighbours = np.pad(neighbours, ((0, 0), (0, 0), (0, 0), (0, longer)))
        neighbours[block, ..., : counts.shape[-1]] += counts
        angles[block] += _count_angles(bonds, species)
        advance()
    n_axis, part = Axis("coordination number", ""), Axis("part of the atoms", "")
    coordination = {}
    for name, a, b in species.ordered_pairs():
        if limit[a, b]:
            most = int(np.flatnonzero(neighbours[:, a, b].sum(axis=0))[-1]) + 2
            curve = density_curve(np.arange(most, dtype=np.float64), neighbours[:, a, b, :most], 1.0, n_axis, part)
            assert curve is not None  # every centre is counted
            coordination[name] = curve
    width = 180.0 / ANGLE_BINS
    middle = np.linspace(0.5 * width, 180.0 - 0.5 * width, ANGLE_BINS)
    by_triplet = angles.reshape(blocks, size, size, size, ANGLE_BINS)
    found = {
        name: density_curve(middle, by_triplet[:, b, a, c], width, ANGLE, ANGLE_DENSITY)
        for name, a, b, c in species.triplets()
    }
    return coordination, {name: curve for name, curve in found.items() if curve is not None}


class _Bonds(NamedTuple):
    """Directed pairs, both directions present, sorted by i."""

    centers: NDArray[np.int64]
    """(P,) i"""
    neighbors: NDArray[np.int64]
    """(P,) j"""
    vectors: Array
    """(P, 3) Å, from i to j or its image."""
    lengths: Array
    """(P,) Å"""


def _find_bonds(
    positions: Array, cell: Array, pbc: NDArray[np.bool_], kinds: NDArray[np.int64], limit: Array
) -> _Bonds:
    """Pairs closer than the limit (S, S) for their elements; atoms on one spot have no direction and no bond."""
    pairs = find_pairs(positions, cell, pbc, float(limit.max()))
    r_pc = pairs.vectors(positions, cell)
    d_p = np.sqrt(np.einsum("pc,pc->p", r_pc, r_pc))
    near = (d_p < limit[kinds[pairs.centers], kinds[pairs.neighbors]]) & (d_p > 0.0)
    return _Bonds(pairs.centers[near], pairs.neighbors[near], r_pc[near], d_p[near])


def _count_neighbours(bonds: _Bonds, species: Species) -> Array:
    """(S, S, M) how many atoms of one element have 0, 1, 2, ... neighbours of another in a frame; M - 2 is the most."""
    size = len(species)
    place = bonds.centers * size + species.kinds[bonds.neighbors]
    numbers = np.bincount(place, minlength=len(species.kinds) * size).reshape(-1, size)
    columns = int(numbers.max()) + 2  # a curve ends with a zero
    counts = np.zeros((size, size, columns))
    for a in range(size):
        for b in range(size):
            counts[a, b] = np.bincount(numbers[species.kinds == a, b], minlength=columns)
    return counts


def _count_angles(bonds: _Bonds, species: Species) -> Array:
    """(S³ bins,) angles between all pairs of bonds of one centre, by centre, lesser end and greater end."""
    size, i, kind_j = len(species), bonds.centers, species.kinds[bonds.neighbors]
    unit_pc = bonds.vectors / bonds.lengths[:, None]
    end_p = np.searchsorted(i, i, side="right")
    partners_p = end_p - np.arange(len(i)) - 1
    first = np.repeat(np.arange(len(i)), partners_p)
    rank = np.arange(len(first)) - np.repeat(np.cumsum(partners_p) - partners_p, partners_p)
    second = first + 1 + rank
    cosine = np.clip(np.einsum("tc,tc->t", unit_pc[first], unit_pc[second]), -1.0, 1.0)
    place = np.minimum((np.degrees(np.arccos(cosine)) * (ANGLE_BINS / 180.0)).astype(np.int64), ANGLE_BINS - 1)
    one, other = kind_j[first], kind_j[second]
    which = (species.kinds[i[first]] * size + np.minimum(one, other)) * size + np.maximum(one, other)
    return np.bincount(which * ANGLE_BINS + place, minlength=size**3 * ANGLE_BINS).astype(float)
