"""What was sampled and what was chosen of it, as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ase_mlcalc.plots import COLORS, GREY, draw_histogram, logarithmic, new_axes, new_figure, save

Array = NDArray[np.float64]


def draw_sample(
    path: Path,
    points_nd: Array,
    chosen: NDArray[np.int64],
    labels: NDArray[np.str_],
    energies_eV_per_atom: Array,
    radius: Array,
    random_radius: Array,
) -> None:
    """Map of all candidates and the chosen ones, how far candidates are from those, and energies.

    Parameters
    ----------
    path : path
    points_nd : (N, d)
        Candidates, standardised.
    chosen : (k,)
        Places of those that were chosen, in order.
    labels : (N,)
        Temperature of each candidate in words.
    energies_eV_per_atom : (N,)
        NaN where there is none.
    radius, random_radius : (k,)
        Distance of the farthest candidate after each choice, and after as many random ones.
    """
    has_energy = np.isfinite(energies_eV_per_atom).any()
    figure = new_figure(4.4 * (2 + has_energy), 4.0)
    columns = 3 if has_energy else 2
    _draw_map(new_axes(figure, 1, columns, 0), points_nd, chosen, labels)
    _draw_radius(new_axes(figure, 1, columns, 1), radius, random_radius)
    if has_energy:
        _draw_energies(new_axes(figure, 1, columns, 2), energies_eV_per_atom, chosen, labels)
    save(figure, path)


def _draw_map(axes: Axes, points_nd: Array, chosen: NDArray[np.int64], labels: NDArray[np.str_]) -> None:
    """The two directions in which candidates differ most (principal components)."""
    centered = points_nd - points_nd.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    flat = centered @ directions[:2].T
    if flat.shape[1] < 2:
        flat = np.column_stack([flat[:, 0], np.zeros(len(flat))])
    share = sizes**2 / max(float((sizes**2).sum()), 1e-300)
    for label, color in zip(dict.fromkeys(labels.tolist()), COLORS, strict=False):
        own = labels == label
        axes.plot(*flat[own].T, ".", color=color, markersize=3, alpha=0.5, label=label, zorder=1)
    axes.plot(*flat[chosen].T, "o", color="black", markersize=4.5, fillstyle="none", label="chosen", zorder=2)
    axes.set_xlabel(f"first component, {100 * share[0]:.0f} % of the variance")
    axes.set_ylabel(f"second component, {100 * share[1]:.0f} %" if len(share) > 1 else "")
    axes.set_title(f"{len(chosen)} of {len(points_nd)} frames")
    axes.legend(frameon=False, fontsize=8)


def _draw_radius(axes: Axes, radius: Array, random_radius: Array) -> None:
    number = np.arange(1, len(radius) + 1)
    for values, color, label in ((random_radius, GREY, "at random"), (radius, COLORS[0], "farthest points")):
        drawn = values > 0
        axes.plot(number[drawn], values[drawn], color=color, linewidth=1.6, label=label)
    if len(radius) > 1 and (radius > 0).any():
        logarithmic(axes, x=True)
        logarithmic(axes)
    axes.set_xlabel("structures chosen")
    axes.set_ylabel("distance of the farthest frame")
    axes.legend(frameon=False)


def _draw_energies(axes: Axes, energies: Array, chosen: NDArray[np.int64], labels: NDArray[np.str_]) -> None:
    known = np.isfinite(energies)
    shifted = 1000.0 * (energies - np.nanmean(energies))
    names = list(dict.fromkeys(labels.tolist()))[: len(COLORS)]
    groups = {name: shifted[known & (labels == name)] for name in names}
    groups = {name: values for name, values in groups.items() if len(values)}
    picked = shifted[chosen][known[chosen]]
    draw_histogram(axes, {**groups, **({"chosen": picked} if len(picked) else {})}, [*COLORS[: len(groups)], "black"])
    axes.set_xlabel("energy / meV/atom, from the mean")
    axes.set_ylabel("probability density / atom/meV")
    axes.legend(frameon=False, fontsize=8)
