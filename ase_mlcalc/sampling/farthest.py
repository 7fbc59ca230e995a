"""Farthest-point sampling: the few structures that leave no other one far away."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CONSTANT = 1e-8
"""A component whose standard deviation is so small, beside its size, says nothing."""


def standardized(features_nd: Array) -> Array:
    """Components with mean 0 and standard deviation 1, constant ones left out, divided by the root of their number.

    Distances are then of order 1 whatever the number of components.
    """
    deviation = features_nd.std(axis=0)
    varies = deviation > CONSTANT * np.maximum(np.abs(features_nd).max(axis=0), CONSTANT)
    if not varies.any():
        return np.zeros((len(features_nd), 1))
    chosen = features_nd[:, varies]
    scaled: Array = (chosen - chosen.mean(axis=0)) / deviation[varies] / np.sqrt(varies.sum())
    return scaled


def farthest_points(points_nd: Array, n: int) -> tuple[NDArray[np.int64], Array]:
    """Choose points one after another, each the one that is farthest from all that were chosen before.

    The first one is that nearest to the mean.  The largest distance of any point from the chosen ones is at most twice
    that of the best possible choice of as many (T. F. Gonzalez, Theor. Comput. Sci. 38, 293 (1985)).  For the choice of
    reference structures by symmetry functions: G. Imbalzano et al., J. Chem. Phys. 148, 241730 (2018).

    Parameters
    ----------
    points_nd : (N, d)
    n : int
        How many; fewer are chosen where all others are copies of chosen ones.

    Returns
    -------
    (k,) places of the chosen points, in order; the first m of them are the choice of m.
    (k,) after each choice, the largest distance of any point from the nearest chosen one.
    """
    if not len(points_nd) or n < 1:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    following = int(((points_nd - points_nd.mean(axis=0)) ** 2).sum(axis=1).argmin())
    nearest = np.full(len(points_nd), np.inf)
    chosen: list[int] = []
    radii: list[float] = []
    while len(chosen) < n:
        chosen.append(following)
        np.minimum(nearest, ((points_nd - points_nd[following]) ** 2).sum(axis=1), out=nearest)
        nearest[following] = 0.0
        following = int(nearest.argmax())
        radii.append(float(np.sqrt(nearest[following])))
        if radii[-1] == 0.0:
            break
    return np.array(chosen, dtype=np.int64), np.array(radii)


def covering_radii(points_nd: Array, order: NDArray[np.int64]) -> Array:
    """After each point of an order, the largest distance of any point from the nearest one so far."""
    nearest = np.full(len(points_nd), np.inf)
    radii = np.empty(len(order))
    for k, place in enumerate(order):
        np.minimum(nearest, ((points_nd - points_nd[place]) ** 2).sum(axis=1), out=nearest)
        radii[k] = np.sqrt(nearest.max())
    return radii
