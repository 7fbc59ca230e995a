"""Per-atom stress of a run's frames: invariants per element, and whether the atoms add up to the structure."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

Array = NDArray[np.float64]


class StressSample(NamedTuple):
    """Per-atom stresses of M atoms gathered from frames."""

    symbols: NDArray[np.str_]
    """(M,) element of each atom."""
    stresses_GPa: Array
    """(M, 6) xx yy zz yz xz xy, referred to the mean volume per atom, so that their mean is the stress."""
    n_frames: int
    sum_error_GPa: float
    """Largest deviation of the sum over atoms from the stress of its frame."""
    sum_scale_GPa: float
    """Largest stress component, to judge the deviation by."""

    @property
    def adds_up(self) -> bool:
        """The atoms of every frame sum to its stress within a thousandth of the scale."""
        return self.sum_error_GPa <= 1e-3 * max(self.sum_scale_GPa, 1e-3)


def gather_stresses(frames: Iterable[Atoms]) -> StressSample | None:
    """Per-atom stresses of all frames that hold them; ``None`` if none does.

    Stored stresses are divided by the volume V of the cell (they sum to the stress); times the number of atoms
    they are referred to V/N, the usual reading of "stress of an atom".
    """
    symbols, stresses, errors, scales = [], [], [0.0], [0.0]
    for frame in frames:
        results = {} if frame.calc is None else frame.calc.results
        if "stresses" not in results:
            continue
        stresses_n6 = np.asarray(results["stresses"], dtype=float)
        symbols.append(np.array(frame.get_chemical_symbols()))
        stresses.append(stresses_n6 * len(frame) / units.GPa)
        if "stress" in results:
            total = np.asarray(results["stress"], dtype=float)
            errors.append(float(np.abs(stresses_n6.sum(axis=0) - total).max()) / units.GPa)
            scales.append(float(np.abs(total).max()) / units.GPa)
    if not stresses:
        return None
    return StressSample(np.concatenate(symbols), np.concatenate(stresses), len(stresses), max(errors), max(scales))
