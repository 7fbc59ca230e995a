r"""Radial distribution functions that leave those of a reference trajectory.

.. math:: \Delta = \int_0^{r_\mathrm{max}} |g(r) - g_\mathrm{ref}(r)| \, dr

in Å, with g(r) over a sliding window.  Fu et al., "Forces are not enough", arXiv:2210.07237, call water unstable where
the largest Δ of O-O, O-H and H-H passes 3 Å with a window of 1 ps and a reach of 6 Å (there as a mean over bins times
the reach), and LiPS where Δ of all pairs together passes 1 Å.
"""

from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.md.monitors.base import Array, Finding, Monitor, Setting, Snapshot, State
from ase_mlcalc.md.monitors.config import RdfConfig
from ase_mlcalc.md.monitors.pairs import pairs_within
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.neighbors import Pairs


class Rdf(Monitor):
    """The g(r) of a sliding window differs from that of the reference by more than a threshold, in Å.

    Defaults are MDsim's for water.  The threshold is raised to three times the difference between the two halves of the
    reference where these differ much: pairs of which there are few have a noisy g(r).  Without a reference, and with
    ``use = true``, the first window of the run is the reference.
    """

    name = "rdf"
    outcome = Outcome.RESTRUCTURED

    @classmethod
    def suits(cls, config: RdfConfig, setting: Setting) -> bool:  # noqa: ARG003
        """A reference of at least a few frames of the same elements, and a volume."""
        return len(_usable(setting)) >= 2 and _has_volume(setting.start)

    def __init__(self, config: RdfConfig, setting: Setting) -> None:
        super().__init__(config)
        if not _has_volume(setting.start):
            raise ConfigError(
                "monitors.rdf.use is true, but g(r) needs a structure that is periodic in all directions; "
                'use "auto" or false'
            )
        self._config = config
        self._histograms = _Histograms(setting.start, config)
        self._threshold_k = np.full(len(self._histograms.names), config.max_difference_A)
        self._reference_kb: Array | None = None
        frames = _usable(setting)
        if frames:
            g_fkb = np.array(
                [self._histograms.measure(frame, *pairs_within(frame, config.r_max_A)) for frame in frames]
            )
            self._reference_kb = g_fkb.mean(axis=0)
            if len(frames) >= 2:
                half = len(frames) // 2
                self._threshold_k = np.maximum(
                    self._threshold_k, 3.0 * self._difference(g_fkb[:half].mean(axis=0), g_fkb[half:].mean(axis=0))
                )
        self._every_ps = config.window_ps / config.samples
        self._window_skb = np.zeros((0, *self._histograms.shape))
        self._last_ps = -np.inf
        self._finding: Finding | None = None

    def look(self, snapshot: Snapshot) -> Finding | None:
        """Sample g(r) now and then, and compare the window once it is full."""
        now = snapshot.time_ps
        if now is None or now - self._last_ps >= self._every_ps - 1e-9:
            self._last_ps = -np.inf if now is None else now
            g_kb = self._histograms.measure(snapshot.atoms, *snapshot.pairs(self._config.r_max_A))
            self._window_skb = np.concatenate([self._window_skb, g_kb[None]])[-self._config.samples :]
            self._finding = self._judge()
        return self._finding

    def _judge(self) -> Finding | None:
        """Compare the window with the reference, if it is full."""
        if len(self._window_skb) < self._config.samples:
            return None
        mean_kb = self._window_skb.mean(axis=0)
        if self._reference_kb is None:
            self._reference_kb = mean_kb
        differences = self._difference(mean_kb, self._reference_kb)
        worst = int(np.argmax(differences / self._threshold_k))
        if differences[worst] <= self._threshold_k[worst]:
            return None
        return Finding(
            f"g(r) of {self._histograms.names[worst]} differs by {differences[worst]:.2f} Å from the reference",
            value=float(differences[worst]),
            threshold=float(self._threshold_k[worst]),
        )

    def _difference(self, a_kb: Array, b_kb: Array) -> Array:
        """(K,) Å, Δ of each kind of pair."""
        return np.abs(a_kb - b_kb).sum(axis=1) * self._histograms.width

    def state(self) -> State:
        """The window, and the reference where it is the first window of the run."""
        state: State = {"window": self._window_skb.copy(), "last_ps": np.array(self._last_ps)}
        return state if self._reference_kb is None else state | {"reference": self._reference_kb.copy()}

    def restore(self, state: State) -> None:
        """Go on from there."""
        self._window_skb = np.array(state["window"], dtype=float)
        self._last_ps = float(state["last_ps"])
        self._reference_kb = np.array(state["reference"], dtype=float) if "reference" in state else None
        self._finding = self._judge()


class _Histograms:
    """g(r) of single structures, for each pair of elements or for all atoms together."""

    def __init__(self, atoms: Atoms, config: RdfConfig) -> None:
        self._by_element = config.kinds == "pairs"
        elements = np.unique(atoms.numbers) if self._by_element else np.zeros(1, dtype=int)
        self._elements = elements
        symbols = [chemical_symbols[z] for z in elements] if self._by_element else ["all"]
        places = list(combinations_with_replacement(range(len(elements)), 2))
        self.names = [f"{symbols[a]}-{symbols[b]}" if self._by_element else "all pairs" for a, b in places]
        self._place_kk = np.zeros((len(elements), len(elements)), dtype=int)
        for place, (a, b) in enumerate(places):
            self._place_kk[a, b] = self._place_kk[b, a] = place
        self._n_bins = max(1, round(config.r_max_A / config.bin_A))
        self.width = config.r_max_A / self._n_bins
        edges = np.linspace(0.0, config.r_max_A, self._n_bins + 1)
        self._shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
        self.shape = (len(self.names), self._n_bins)

    def measure(self, atoms: Atoms, pairs: Pairs, distances: Array) -> Array:
        """(K, bins) g(r) of one structure; 0 for a pair of elements of which it has no two atoms."""
        kinds_n = (
            np.searchsorted(self._elements, atoms.numbers) if self._by_element else np.zeros(len(atoms), dtype=int)
        )
        places = self._place_kk[kinds_n[pairs.centers], kinds_n[pairs.neighbors]]
        bins = np.minimum((distances / self.width).astype(int), self._n_bins - 1)
        counts = np.bincount(places * self._n_bins + bins, minlength=len(self.names) * self._n_bins)
        n_k = np.bincount(kinds_n, minlength=len(self._elements))
        # ordered pairs of different atoms: what counts would be, were the atoms spread evenly
        n_pairs = np.zeros(len(self.names))
        for a in range(len(self._elements)):
            for b in range(len(self._elements)):
                n_pairs[self._place_kk[a, b]] += n_k[a] * (n_k[b] - (a == b))
        even = n_pairs[:, None] * self._shells / atoms.get_volume()
        return np.asarray(counts.reshape(self.shape) / np.where(even > 0, even, np.inf), dtype=float)


def _usable(setting: Setting) -> list[Atoms]:
    """Frames of the reference that have a volume and the elements of the start."""
    elements = set(setting.start.numbers.tolist())
    return [frame for frame in setting.reference if _has_volume(frame) and set(frame.numbers.tolist()) == elements]


def _has_volume(atoms: Atoms) -> bool:
    return bool(atoms.pbc.all()) and abs(float(np.linalg.det(np.asarray(atoms.cell)))) > 1e-9
