r"""How atoms are arranged: g(r), distances, running coordination numbers and h(r) from one count of pairs.

With :math:`c_{ab}(r)` the number of directed pairs in a bin (i of element a, j of element b, periodic images counted
one by one, an atom with its own image too), averages over frames are

.. math::

    g_{ab}(r) &= \Big\langle \frac{V}{N_a N_b} \, \frac{c_{ab}(r)}{v(r)} \Big\rangle, \qquad
    v(r) = \tfrac{4}{3}\pi (r_+^3 - r_-^3)

    n_{ab}(r) &= \frac{1}{N_a} \sum_{r' \le r} \langle c_{ab}(r') \rangle

    p_{ab}(r) &= \langle c_{ab}(r) \rangle / \big( \Delta r \textstyle\sum_{r'} \langle c_{ab}(r') \rangle \big)

g needs a volume and belongs to fully periodic structures; within half a cell that of an ideal gas is 1 - 1/N between
atoms of one element (M. P. Allen and D. J. Tildesley, Computer Simulation of Liquids (2017), section 8.2).  Of open and
partly periodic structures p is given instead: the probability density of the distances shorter than the largest one.
h(r) is p over all pairs, of any elements.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ase_mlcalc.analysis.curves import Axis, Curve, even_blocks
from ase_mlcalc.analysis.distances import count_distances
from ase_mlcalc.analysis.gather import Samples
from ase_mlcalc.analysis.species import Species

Array = NDArray[np.float64]
Advance = Callable[[], None]

DISTANCE = Axis("distance", "Å")
DENSITY = Axis("probability density", "1/Å")


class PairCounts(NamedTuple):
    """Mean number of directed pairs in a frame, for each of B blocks, S x S elements and K bins."""

    edges: Array
    """(K + 1,) Å"""
    counts: Array
    """(B, S, S, K)"""
    densities: Array | None
    """(B, S, S, K) Å³, counts times the volume of their frame; ``None`` without volumes."""
    own: Array
    """(B, S, K) of the counts, those of atoms and images of themselves."""
    own_densities: Array | None
    """(B, S, K) Å³, of the densities."""
    species: Species
    weights: Array
    """(B,) frames in each block."""


class StructureCurves(NamedTuple):
    """What `structure_curves` makes of pairs; by name of the elements."""

    rdf: dict[str, Curve] | None
    distances: dict[str, Curve] | None
    running_coordination: dict[str, Curve]
    h_of_r: Curve | None
    own_images: dict[str, Curve]
    """What atoms and their own images make of g(r), by pair of like atoms, and of h(r), by an empty name."""
    n_pairs: float
    """Directed pairs in a frame."""


def count_pairs(
    samples: Samples,
    pbc: NDArray[np.bool_],
    species: Species,
    *,
    r_max: float,
    n_bins: int,
    n_blocks: int,
    advance: Advance = lambda: None,
) -> PairCounts:
    """Count pairs by distance and elements in every frame.

    Parameters
    ----------
    samples : Samples
    pbc : (3,)
    species : Species
    r_max : float, Å
        May be longer than the cell: images are counted one by one.
    n_bins, n_blocks : int
    advance : callable
        Called after each frame.
    """
    block_of = even_blocks(len(samples.positions), n_blocks)
    frames_in = np.bincount(block_of).astype(float)
    size = len(species)
    counts = np.zeros((len(frames_in), size, size, n_bins))
    own = np.zeros((len(frames_in), size, n_bins))
    densities, own_densities = (np.zeros_like(each) if pbc.all() else None for each in (counts, own))
    for block, positions, cell in zip(block_of, samples.positions, samples.cells, strict=True):
        found = count_distances(positions, cell, pbc, species.kinds, r_max=r_max, n_bins=n_bins)
        counts[block] += found.pairs
        own[block] += found.own_images
        if densities is not None and own_densities is not None:
            volume = abs(np.linalg.det(cell))
            densities[block] += found.pairs * volume
            own_densities[block] += found.own_images * volume
        advance()
    per_frame = frames_in[:, None, None, None]
    return PairCounts(
        edges=np.linspace(0.0, r_max, n_bins + 1),
        counts=counts / per_frame,
        densities=None if densities is None else densities / per_frame,
        own=own / per_frame[..., 0],
        own_densities=None if own_densities is None else own_densities / per_frame[..., 0],
        species=species,
        weights=frames_in,
    )


def structure_curves(pairs: PairCounts) -> StructureCurves:
    """g(r) or the density of distances, running coordination numbers, and h(r)."""
    species, edges = pairs.species, pairs.edges
    middle = 0.5 * (edges[1:] + edges[:-1])
    width = float(edges[1] - edges[0])
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    rdf: dict[str, Curve] = {}
    distances: dict[str, Curve] = {}
    running: dict[str, Curve] = {}
    for name, a, b in species.pairs():
        if pairs.densities is not None:
            g = pairs.densities[:, a, b] / (shells * species.counts[a] * species.counts[b])
            rdf[name] = _averaged(middle, g, pairs.weights, DISTANCE, Axis("g(r)", ""))
        else:
            density = _density(middle, pairs.counts[:, a, b], pairs.weights, width)
            if density is not None:
                distances[name] = density
    for name, a, b in species.ordered_pairs():
        sums = np.cumsum(pairs.counts[:, a, b], axis=1) / species.counts[a]
        running[name] = _averaged(edges[1:], sums, pairs.weights, DISTANCE, Axis("running coordination number", ""))
    every = pairs.counts.sum(axis=(1, 2))
    h_of_r = _density(middle, every, pairs.weights, width)
    own: dict[str, Curve] = {}
    if pairs.own_densities is not None and pairs.own.any() and h_of_r is not None:
        for name, a, b in species.pairs():
            if a == b:
                g = pairs.own_densities[:, a] / (shells * species.counts[a] ** 2)
                own[name] = _averaged(middle, g, pairs.weights, DISTANCE, Axis("g(r)", ""))
        own[""] = _share(h_of_r, pairs.own.sum(axis=1), every, pairs.weights)
    return StructureCurves(
        rdf=rdf if pairs.densities is not None else None,
        distances=None if pairs.densities is not None else distances,
        running_coordination=running,
        h_of_r=h_of_r,
        own_images=own,
        n_pairs=float(np.average(every.sum(axis=1), weights=pairs.weights)),
    )


def _averaged(x: Array, blocks: Array, weights: Array, x_axis: Axis, y_axis: Axis) -> Curve:
    return Curve(x, np.average(blocks, axis=0, weights=weights), blocks, x_axis, y_axis)


def _density(x: Array, blocks: Array, weights: Array, width: float) -> Curve | None:
    """Probability density of what is counted; ``None`` where there is nothing."""
    return density_curve(x, blocks * weights[:, None], width, DISTANCE, DENSITY)


def _share(density: Curve, part: Array, whole: Array, weights: Array) -> Curve:
    """What a part (B, K) of the counts (B, K) makes of their density."""
    part, whole = part * weights[:, None], whole * weights[:, None]
    counted = whole.sum(axis=1) > 0
    blocks = part[counted] / whole[counted].sum(axis=1, keepdims=True) / density.step
    return replace(density, y=part.sum(axis=0) / whole.sum() / density.step, blocks=blocks)


def density_curve(x: Array, counts: Array, width: float, x_axis: Axis, y_axis: Axis) -> Curve | None:
    """The density of all that B blocks (B, K) have counted; blocks that found nothing have no curve of their own."""
    total = counts.sum()
    if total == 0:
        return None
    own = counts.sum(axis=1)
    blocks = counts[own > 0] / own[own > 0, None] / width
    return Curve(x, counts.sum(axis=0) / total / width, blocks, x_axis, y_axis)
