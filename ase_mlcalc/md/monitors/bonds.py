"""Bonds that leave the length that they have in the reference."""

import math

import numpy as np

from ase_mlcalc.md.monitors.base import Array, Finding, Moment, Monitor, Setting, Snapshot, State
from ase_mlcalc.md.monitors.bond_graph import BondGraph, bond_graph, label
from ase_mlcalc.md.monitors.config import BondsConfig
from ase_mlcalc.md.monitors.pairs import nearest_distances
from ase_mlcalc.md.outcome import Outcome


class Bonds(Monitor):
    r"""A bond of the starting structure whose length leaves its mean in the reference.

    .. math:: \max_{ij} |d_{ij} - \bar d_{ij}| > 0.5 \, \text{Å}

    the criterion for molecules of Fu et al., "Forces are not enough", arXiv:2210.07237.  Bonds are those of the
    starting structure; means are over all frames of the reference, or else the lengths at the start, which differ from
    the mean by a tenth of the threshold or so.  Half an ångström takes more than an electronvolt in any bond, which
    thermal motion does not have below thousands of kelvin.

    The finding is held back for `wait_fs`, by default the 50 fs between the frames that Fu et al. look at, and then
    dated back: when an atom leaves, the broken molecule is found in this time, and that says more.
    """

    name = "bonds"
    outcome = Outcome.STRETCHED

    @classmethod
    def suits(cls, config: BondsConfig, setting: Setting) -> bool:  # noqa: ARG003
        """Molecules, and no network: in a melt of one bonds come and go."""
        return bond_graph(setting.start).is_molecular

    def __init__(self, config: BondsConfig, setting: Setting) -> None:
        super().__init__(config)
        self._most, self._wait_ps = config.max_deviation_A, config.wait_fs / 1000.0
        self._start = setting.start.copy()
        self._graph = bond_graph(setting.start)
        self._lengths, self._usually_in = _usual_lengths(self._graph, setting)
        self._since: Moment | None = None
        self._bond, self._length = 0, math.nan

    def look(self, snapshot: Snapshot) -> Finding | None:
        """The bond that deviates most, if it deviates too much."""
        lengths = nearest_distances(snapshot.atoms, self._graph.first, self._graph.second)
        deviations = np.abs(lengths - self._lengths)
        worst = int(np.argmax(deviations)) if len(deviations) else 0
        wrong = len(deviations) > 0 and deviations[worst] > self._most
        if wrong and (self._since is None or deviations[worst] > abs(self._length - self._lengths[self._bond])):
            self._since = self._since or snapshot.moment
            self._bond, self._length = worst, float(lengths[worst])
        if self._since is None or not self._waited(snapshot, self._since):
            return None
        finding = self._found()
        if not wrong:
            self._since = None
        return finding

    def pending(self) -> Finding | None:
        """The largest deviation so far, whether or not the time to wait is over."""
        return None if self._since is None else self._found()

    def finish(self) -> Finding | None:
        """What was still held back when the trajectory ended."""
        return self.pending()

    def state(self) -> State:
        """Since when which bond is too long."""
        if self._since is None:
            return {}
        return {"since": self._since.to_array(), "bond": np.array(self._bond), "length": np.array(self._length)}

    def restore(self, state: State) -> None:
        """Go on from there."""
        self._since = Moment.from_array(state["since"]) if state else None
        if state:
            self._bond, self._length = int(state["bond"]), float(state["length"])

    def _waited(self, snapshot: Snapshot, since: Moment) -> bool:
        if snapshot.time_ps is None or since.time_ps is None:
            return True
        return snapshot.time_ps - since.time_ps >= self._wait_ps - 1e-9

    def _found(self) -> Finding:
        i, j = int(self._graph.first[self._bond]), int(self._graph.second[self._bond])
        usual = float(self._lengths[self._bond])
        return Finding(
            f"{label(self._start, i)}-{label(self._start, j)} is {self._length:.2f} Å, "
            f"in {self._usually_in} {usual:.2f} Å",
            value=abs(self._length - usual),
            threshold=self._most,
            atoms=(i, j),
            since=self._since,
        )


def _usual_lengths(graph: BondGraph, setting: Setting) -> tuple[Array, str]:
    """(B,) Å, mean length of each bond in frames of the reference that have the same atoms; and where this is from."""
    same = [frame for frame in setting.reference if np.array_equal(frame.numbers, setting.start.numbers)]
    frames, where = (same, "the reference") if same else ([setting.start], "the starting structure")
    return np.mean([nearest_distances(frame, graph.first, graph.second) for frame in frames], axis=0), where
