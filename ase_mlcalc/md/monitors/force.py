"""A force that is too large."""

import numpy as np

from ase_mlcalc.md.monitors.base import Finding, Monitor, Setting, Snapshot
from ase_mlcalc.md.monitors.bond_graph import label
from ase_mlcalc.md.monitors.config import ForceConfig
from ase_mlcalc.md.outcome import Outcome


class StrongForce(Monitor):
    """The largest force on an atom is above a threshold.

    The default of 100 eV/Å is far from what matter meets below tens of thousands of kelvin: a carbon-carbon bond
    pressed to 1.0 Å pushes with some 50 eV/Å.
    """

    name = "force"
    outcome = Outcome.STRONG_FORCE

    def __init__(self, config: ForceConfig, setting: Setting) -> None:  # noqa: ARG002
        super().__init__(config)
        self._most = config.max_eV_per_A

    def look(self, snapshot: Snapshot) -> Finding | None:
        """The atom with the largest force."""
        if snapshot.forces is None:
            return None
        squared_n = np.einsum("nc,nc->n", snapshot.forces, snapshot.forces)
        atom = int(np.argmax(squared_n))
        strength = float(np.sqrt(squared_n[atom]))
        if strength <= self._most:
            return None
        return Finding(
            f"{strength:.4g} eV/Å on {label(snapshot.atoms, atom)}",
            value=strength,
            threshold=self._most,
            atoms=(atom,),
        )
