"""Members of an ensemble that disagree."""

import numpy as np

from ase_mlcalc.md.monitors.base import Finding, Monitor, Setting, Snapshot
from ase_mlcalc.md.monitors.bond_graph import label
from ase_mlcalc.md.monitors.config import CommitteeConfig
from ase_mlcalc.md.outcome import Outcome


class Committee(Monitor):
    """The largest spread of the force on an atom over the members of an ensemble is above a threshold.

    The quantity is the largest root of the summed variances of the three components, as in active learning with
    DP-GEN (Zhang et al., Comput. Phys. Commun. 253, 107206 (2020)), whose upper trust levels are 0.2 to 0.5 eV/Å.  It
    is an error bar only if the ensemble is calibrated; then so is what is compared here.  By default it is noted, for a
    structure that is new to a potential is worth a label and not yet a failure.  Without an ensemble it is silent.
    """

    name = "committee"
    outcome = Outcome.UNCERTAIN

    def __init__(self, config: CommitteeConfig, setting: Setting) -> None:  # noqa: ARG002
        super().__init__(config)
        self._most = config.max_spread_eV_per_A

    def look(self, snapshot: Snapshot) -> Finding | None:
        """The atom about whose force the members disagree most."""
        if snapshot.forces_spread is None:
            return None
        atom = int(np.argmax(snapshot.forces_spread))
        spread = float(snapshot.forces_spread[atom])
        if spread <= self._most:
            return None
        return Finding(
            f"the members are unsure by {spread:.3g} eV/Å about the force on {label(snapshot.atoms, atom)}",
            value=spread,
            threshold=self._most,
            atoms=(atom,),
        )
