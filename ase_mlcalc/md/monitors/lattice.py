r"""A crystal that melts, seen by its Bragg peaks.

The intensity of a wave vector k of the reciprocal lattice of the cell is

.. math:: I_k = \Big| \sum_n Z_n \exp(2 \pi i \, h \cdot s_n) \Big|^2 \Big/ \Big( \sum_n Z_n \Big)^2

with integers h and fractional coordinates s.  It is of the order of one at the Bragg peaks of a crystal at any
temperature, and of 1/N everywhere in a liquid: Verlet's translational order parameter, with which molecular dynamics
has been told from the melt since L. Verlet, Phys. Rev. 159, 98 (1967).  Weights Z, as in diffraction of X-rays, leave
out what may be disordered in a healthy solid: hydrogen, or the light ions of a conductor.  Unlike displacements it
needs no unwrapping, does not see drift of the whole, hops of single atoms or a change of the cell, and no memory.
"""

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.md.monitors.base import Array, Finding, Monitor, Setting, Snapshot
from ase_mlcalc.md.monitors.config import LatticeConfig
from ase_mlcalc.md.outcome import Outcome

_PEAKS = 12
_MIN_INTENSITY = 0.1
_ABOVE_LIQUID = 25.0
"""Peaks are stronger than this over the number of atoms.  In a liquid that is the exponential of -8 even at the
maximum of its structure factor of about 3, so that three such peaks in different directions are no chance."""
_REACH = 8.0
"""Wave vectors up to this over the distance of neighbours: the first strong peaks of fcc and bcc are at 7.7."""
_GRID = 4
"""Grid points for the search over the largest h."""


class Lattice(Monitor):
    """The Bragg peaks of the starting structure have faded: their mean intensity over that at the start is small.

    Heating to the melting point leaves three quarters of the intensity of the first peaks (the Lindemann criterion in
    the Debye-Waller factor); in a melt it is 1/N.  The default threshold of 0.25 is passed only on melting, and by
    changes to another crystal.  See the equations at the top of this file.
    """

    name = "lattice"
    outcome = Outcome.RESTRUCTURED

    @classmethod
    def suits(cls, config: LatticeConfig, setting: Setting) -> bool:  # noqa: ARG003
        """Periodic in all directions, and with Bragg peaks."""
        return len(_bragg_peaks(setting.start)) > 0

    def __init__(self, config: LatticeConfig, setting: Setting) -> None:
        super().__init__(config)
        self._min_order = config.min_order
        self._peaks = _bragg_peaks(setting.start)
        if len(self._peaks) == 0:
            raise ConfigError(
                "monitors.lattice.use is true, but the starting structure has no Bragg peaks that stand out "
                '(a crystal of some 50 atoms has); use "auto" or false'
            )
        self._at_start = _intensities(setting.start, self._peaks)

    def look(self, snapshot: Snapshot) -> Finding | None:
        """Mean intensity of the peaks over that at the start."""
        order = float(np.mean(_intensities(snapshot.atoms, self._peaks) / self._at_start))
        if order >= self._min_order:
            return None
        return Finding(
            f"the Bragg peaks of the starting structure have {order:.2f} of their intensity at the start: it melted",
            value=order,
            threshold=self._min_order,
        )


def _intensities(atoms: Atoms, peaks: NDArray[np.int64]) -> Array:
    """(P,) I_k of the peaks h (P, 3)."""
    fractional = atoms.positions @ np.linalg.inv(np.asarray(atoms.cell))
    weights = atoms.numbers.astype(float)
    amplitudes = weights @ np.exp(2j * np.pi * (fractional @ peaks.T))
    return np.asarray(np.abs(amplitudes / weights.sum()) ** 2, dtype=float)


def _bragg_peaks(atoms: Atoms) -> NDArray[np.int64]:
    """(P, 3) the strongest wave vectors, of h and -h one; none if there are none that span space and stand out.

    Candidates are from the Fourier transform of the density on a grid, which is fast and a little low; intensities that
    count are exact.
    """
    none = np.zeros((0, 3), dtype=np.int64)
    cell = np.asarray(atoms.cell)
    if not atoms.pbc.all() or abs(np.linalg.det(cell)) < 1e-9:
        return none
    weights = atoms.numbers.astype(float)
    n_effective = weights.sum() ** 2 / (weights**2).sum()
    least = max(_MIN_INTENSITY, _ABOVE_LIQUID / n_effective)
    if least > 0.6:
        return none
    reach = _REACH / _neighbor_distance(atoms)
    most_h = np.maximum(1, np.floor(reach * np.linalg.norm(cell, axis=1) / (2.0 * np.pi))).astype(int)
    shape = tuple(int(n) for n in _GRID * most_h)
    spots = np.floor(atoms.get_scaled_positions(wrap=True) * shape).astype(int) % shape
    density = np.zeros(shape)
    np.add.at(density, tuple(spots.T), weights)
    rough = np.abs(np.fft.fftn(density) / weights.sum()) ** 2
    h = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most_h), indexing="ij"), axis=-1).reshape(-1, 3)
    length = 2.0 * np.pi * np.linalg.norm(h @ np.linalg.inv(cell).T, axis=1)
    half = (h[:, 0] > 0) | ((h[:, 0] == 0) & ((h[:, 1] > 0) | ((h[:, 1] == 0) & (h[:, 2] > 0))))
    h = h[half & (length <= reach)]
    h = h[rough[tuple(h.T)] > 0.5 * least]
    if len(h) == 0:
        return none
    exact = _intensities(atoms, h)
    strongest = np.argsort(-exact, kind="stable")[:_PEAKS]
    peaks = h[strongest[exact[strongest] > least]]
    return peaks if len(peaks) and np.linalg.matrix_rank(peaks) == 3 else none


def _neighbor_distance(atoms: Atoms) -> float:
    """Å, median distance to the nearest neighbour, hydrogen left out if there is anything else."""
    heavy = atoms.numbers > 1
    chosen = atoms[heavy] if heavy.any() else atoms
    if len(chosen) < 2:
        return float(np.cbrt(atoms.get_volume() / len(chosen)))
    cell = np.asarray(chosen.cell)
    # images in all directions: neighbours through the faces of the cell count
    shifts = np.stack(np.meshgrid(*([[-1, 0, 1]] * 3), indexing="ij"), axis=-1).reshape(-1, 3)
    inside = chosen.get_scaled_positions(wrap=True) @ cell
    images = (inside[None, :, :] + (shifts @ cell)[:, None, :]).reshape(-1, 3)
    nearest = cKDTree(images).query(inside, k=2)[0][:, 1]
    return float(np.median(nearest))
