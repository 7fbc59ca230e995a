"""What is found wrong with a data set, and what all checks of one need."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ase_mlcalc.data.baseline import SpeciesEnergyFit
from ase_mlcalc.data.bonds import Bonds
from ase_mlcalc.data.frames import Frame


class Problem(NamedTuple):
    """Something about a data set that its user should act on (error), look at (warning), or that nobody can tell."""

    severity: Literal["error", "warning", "not checked"]
    message: str


class Labelled(NamedTuple):
    """A data set with what all checks need, so that it is computed once."""

    frames: Sequence[Frame]
    fit: SpeciesEnergyFit
    residual: NDArray[np.float64]
    """(n,) eV per atom after the reference energies; NaN where there is no energy, and for isolated atoms, which are
    the reference themselves and would only hide what bound structures say."""
    max_force: NDArray[np.float64]
    """(n,) eV/Å, largest force on an atom; NaN where there are no forces."""
    pressure: NDArray[np.float64]
    """(n,) eV/Å³, minus a third of the trace of the stress; NaN where there is none."""
    volume: NDArray[np.float64]
    """(n,) Å³; NaN where there is none."""
    composition: list[str]
    """Reduced formula of each structure."""
    bonds: Callable[[int], Bonds]
    """Of a structure with forces; found when first asked for, and kept."""


def named(frames: Sequence[Frame], indices: Sequence[int] | NDArray[np.intp], limit: int = 4) -> str:
    """The first few structures of a list, by source."""
    sources = [frames[int(k)].source for k in indices[:limit]]
    return ", ".join(sources) + (", ..." if len(indices) > limit else "")


def root_mean_square(arrays: Iterable[NDArray[np.float64]]) -> float:
    """Of all components of several arrays together."""
    return float(np.sqrt(np.mean(np.concatenate([array.ravel() for array in arrays]) ** 2)))


def robust_spread(values: NDArray[np.float64]) -> float:
    """Standard deviation estimated from the median absolute deviation; NaN are left out."""
    finite = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(finite - np.median(finite)))) if len(finite) else 0.0


def correlation_of(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of two quantities; 0 where one of them does not vary."""
    if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
