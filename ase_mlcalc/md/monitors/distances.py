"""Atoms that are closer than their elements allow: what happens where a potential has no repulsive wall."""

import re

import numpy as np
from ase.data import atomic_numbers

from ase_mlcalc.md.monitors.base import Array, Finding, Monitor, Setting, Snapshot
from ase_mlcalc.md.monitors.bond_graph import Kinds, label
from ase_mlcalc.md.monitors.config import DistancesConfig
from ase_mlcalc.md.monitors.pairs import pairs_within
from ase_mlcalc.md.outcome import Outcome

CLOSER_THAN = " Å, closer than "
"""What this monitor says of a distance, and no other one."""
_REFERENCE_REACH_A = 4.0
"""Pairs of elements that are never closer than this in the reference get no limit from it."""


class Distances(Monitor):
    r"""A pair of atoms closer than the limit of its elements.

    .. math:: d_{ij} < \max(f \, (R_i + R_j), \; d_\mathrm{min})

    with covalent radii R of Cordero et al., Dalton Trans. 2008, 2832.  The default f = 0.6 lies below what is found in
    nature: the shortest triple bonds have 0.77 of the sum, uranyl 0.67, hot crystals 0.75; and
    :math:`d_\mathrm{min}` = 0.5 Å is for H2, whose bond of 0.74 Å is longer than the sum.  Se-Se in GeSe2, which
    learned potentials let collapse, has 1.44 Å.  With a reference trajectory the limit is at least 0.75 of the smallest
    distance of that pair of elements there.  Limits of single pairs replace all of this.
    """

    name = "distances"
    outcome = Outcome.FUSED

    def __init__(self, config: DistancesConfig, setting: Setting) -> None:
        super().__init__(config)
        kinds = Kinds(setting.start.numbers)
        limits_kk = np.maximum(config.fraction * kinds.radii_sums(), config.min_distance_A)
        if setting.reference and config.reference_fraction > 0.0:
            limits_kk = np.maximum(limits_kk, config.reference_fraction * _smallest(kinds, setting))
        for name, limit in config.pairs.items():
            a, b = (atomic_numbers[symbol] for symbol in re.split("-", name))
            for first, second in ((a, b), (b, a)):
                limits_kk[np.ix_(kinds.elements == first, kinds.elements == second)] = limit
        self._limits_kk, self._kinds_n = limits_kk, kinds.of_atoms
        self.cutoff_A = float(limits_kk.max())

    def look(self, snapshot: Snapshot) -> Finding | None:
        """The pair that is farthest below its limit."""
        pairs, distances = snapshot.pairs(self.cutoff_A)
        limits = self._limits_kk[self._kinds_n[pairs.centers], self._kinds_n[pairs.neighbors]]
        close = distances < limits
        if not close.any():
            return None
        worst = int(np.argmin(np.where(close, distances / np.maximum(limits, 1e-9), np.inf)))
        i, j = sorted((int(pairs.centers[worst]), int(pairs.neighbors[worst])))
        distance, limit = float(distances[worst]), float(limits[worst])
        n_close = len({(min(a, b), max(a, b)) for a, b in zip(*(c[close].tolist() for c in pairs[:2]), strict=True)})
        more = f", and {n_close - 1} more pairs" if n_close > 1 else ""
        return Finding(
            f"{label(snapshot.atoms, i)}-{label(snapshot.atoms, j)} is {distance:.2f}{CLOSER_THAN}{limit:.2f} Å{more}",
            value=distance,
            threshold=limit,
            atoms=tuple(sorted({i, j})),
        )


def _smallest(kinds: Kinds, setting: Setting) -> Array:
    """(K, K) Å, smallest distance of each pair of elements in the reference; 0 where there is none within reach."""
    smallest_kk = np.full((len(kinds.elements), len(kinds.elements)), np.inf)
    for frame in setting.reference:
        known = np.isin(frame.numbers, kinds.elements)
        kinds_n = np.searchsorted(kinds.elements, frame.numbers)
        pairs, distances = pairs_within(frame, _REFERENCE_REACH_A)
        use = known[pairs.centers] & known[pairs.neighbors]
        np.minimum.at(smallest_kk, (kinds_n[pairs.centers[use]], kinds_n[pairs.neighbors[use]]), distances[use])
    return np.where(np.isfinite(smallest_kk), smallest_kk, 0.0)
