"""A cell that becomes much larger, smaller or flatter."""

import numpy as np

from ase_mlcalc.data.geometry import G_PER_CM3
from ase_mlcalc.md.monitors.base import Array, Finding, Monitor, Setting, Snapshot
from ase_mlcalc.md.monitors.config import VolumeConfig
from ase_mlcalc.md.outcome import Outcome


class Volume(Monitor):
    """The volume over that at the start, the density, or the height of the cell left its range.

    Solids expand by a tenth before they melt, and a tenth more in doing so; liquids that start from a poor guess of the
    density settle within a fifth.  The defaults of 0.67 and 1.5 leave room for both and are passed by a collapse and by
    boiling.  A cell can go flat at constant volume: so the distance between opposite faces is looked at too.
    """

    name = "volume"
    outcome = Outcome.CELL_CHANGED

    def __init__(self, config: VolumeConfig, setting: Setting) -> None:
        super().__init__(config)
        self._config = config
        self._start = np.array(setting.start.cell)
        self._density_is_limited = (config.min_density_g_per_cm3, config.max_density_g_per_cm3) != (None, None)

    def look(self, snapshot: Snapshot) -> Finding | None:
        """What is out of its range; structures that are not periodic in all directions have no volume."""
        atoms, config = snapshot.atoms, self._config
        cell = np.asarray(atoms.cell)
        if not atoms.pbc.all() or not (self._density_is_limited or (cell != self._start).any()):
            return None
        volume, volume_at_start = abs(float(np.linalg.det(cell))), abs(float(np.linalg.det(self._start)))
        ratio = volume / volume_at_start
        for limit, beyond in (
            (config.min_ratio, ratio < config.min_ratio),
            (config.max_ratio, ratio > config.max_ratio),
        ):
            if beyond:
                return Finding(
                    f"the volume is {volume:.1f} Å³, {ratio:.2f} of that at the start", value=ratio, threshold=limit
                )
        low, high = config.min_density_g_per_cm3, config.max_density_g_per_cm3
        density = float(atoms.get_masses().sum()) / volume * G_PER_CM3
        for density_limit, beyond in (
            (low, low is not None and density < low),
            (high, high is not None and density > high),
        ):
            if beyond:
                return Finding(f"the density is {density:.3f} g/cm³", value=density, threshold=density_limit)
        shrunk = _heights(cell) / _heights(self._start)
        if shrunk.min() < config.min_height_ratio:
            axis = int(np.argmin(shrunk))
            return Finding(
                f"the cell is flat: {_heights(cell)[axis]:.2f} Å between its {'abc'[axis]} faces, "
                f"{shrunk[axis]:.2f} of that at the start",
                value=float(shrunk[axis]),
                threshold=config.min_height_ratio,
            )
        return None


def _heights(cell: Array) -> Array:
    """(3,) Å, distances between opposite faces."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
