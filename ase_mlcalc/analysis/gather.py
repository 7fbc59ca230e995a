"""`gather`: one pass over a trajectory that keeps what observables need, in memory that is bounded where it can be.

Structure needs some frames, evenly spread; motion needs every frame, but not every atom.  So of a long trajectory
frames are thinned for the one and atoms for the other, each to a fixed number of values.  Elements of few atoms cannot
be thinned, and fewer frames would fold fast vibrations: motion of small molecules takes memory by the frame.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ase_mlcalc.analysis.distances import distances_per_frame
from ase_mlcalc.analysis.unwrap import Unwrapper
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.md.velocities import inertia, n_rotations

Array = NDArray[np.float64]

MAX_DISTANCES = 500_000_000
"""That are computed for structure, or twice as many, in at least `MIN_FRAMES` frames: 50 to 100 of 1000 atoms of water,
1000 to 2000 of 192.  Five to twenty seconds."""
MAX_FRAMES = 20_000
MIN_FRAMES = 50
MAX_SERIES = 5_000_000
"""Atoms times frames that motion is measured on: 10 000 frames of 500 atoms, 120 MB each for positions and velocities.
At least `MIN_ATOMS` atoms of an element, also beyond that: a million frames of 9 atoms take 400 MB each."""
MIN_ATOMS = 8

AMBIGUOUS, DOUBTFUL = 0.45, 0.3
"""Displacements between frames, in cell vectors, from which unwrapping is refused, and from which it is warned of."""
_FREE_OF_ROTATION = 0.01
"""Of what equipartition gives to rotation: below, a molecule does not rotate."""


class Samples(NamedTuple):
    """F frames for structure, evenly spread over the trajectory."""

    positions: Array
    """(F, N, 3) Å, as in the file."""
    cells: Array
    """(F, 3, 3) Å."""


@dataclass(frozen=True)
class Series:
    """Motion of n atoms at T equally spaced times, seen from the centre of mass of all atoms."""

    step_fs: float
    positions: Array
    """(T, n, 3) Å, continuous."""
    velocities: Array | None
    """(T, n, 3) in ASE's unit of velocity, from momenta; ``None`` without momenta."""
    atoms: NDArray[np.int64]
    """(n,) which atoms these are."""


@dataclass(frozen=True)
class Gathered:
    """What is kept of a trajectory of N atoms."""

    n_frames: int
    formula: str
    numbers: NDArray[np.int64]
    """(N,)"""
    masses: Array
    """(N,) u"""
    pbc: NDArray[np.bool_]
    samples: Samples
    series: Series | None
    """``None`` without times, or where paths cannot be followed; `notes` say why."""
    mean_cell: Array
    """(3, 3) Å"""
    temperature_K: float | None
    """From momenta, with `degrees_of_freedom`."""
    degrees_of_freedom: int
    notes: tuple[str, ...]


def gather(
    frames: Iterable[Atoms], *, r_max: float, interval_fs: float | None = None, discard_ps: float = 0.0
) -> Gathered:
    """Read a trajectory once.

    Parameters
    ----------
    frames : iterable of ase.Atoms
        One structure in time: the same atoms in the same order.  Times are ``info["time_ps"]``, which runs write.
    r_max : float, Å
        Up to which distance pairs will be counted: what that costs says how many frames to keep.
    interval_fs : float, optional
        Time between frames, where they do not know it.
    discard_ps : float
        Left out at the start.

    Raises
    ------
    DataError
        No frames; frames of different atoms or boundaries.
    ConfigError
        Something to discard but no times.
    """
    if interval_fs is not None and not 0.0 < interval_fs < math.inf:
        raise ConfigError(f"the interval between frames has to be a positive time in fs, got {interval_fs!r}")
    collector: _Collector | None = None
    start: float | None = None
    for number, frame in enumerate(frames):
        if not (np.isfinite(frame.positions).all() and np.isfinite(np.asarray(frame.cell)).all()):
            if collector is not None:
                collector.notes.append(f"from frame {number} on positions are NaN or Inf: left out")
            break
        time_ps = _time_ps(frame, number, interval_fs)
        start = time_ps if start is None else start
        if discard_ps > 0.0:
            if time_ps is None or start is None:
                raise ConfigError(
                    "times of the frames are not known, so none can be discarded by time: give interval_fs"
                )
            if time_ps - start < discard_ps - 1e-9:
                continue
        if collector is None:
            collector = _Collector(frame, r_max)
        collector.add(frame, number, time_ps)
    if collector is None or collector.n_frames == 0:
        raise DataError(
            f"no frames with finite positions to measure on (discarded: {discard_ps:g} ps); give a longer trajectory"
        )
    return collector.result()


def _time_ps(frame: Atoms, number: int, interval_fs: float | None) -> float | None:
    if interval_fs is not None:
        return number * interval_fs / 1000.0
    time = frame.info.get("time_ps")
    return None if time is None else float(time)


class _Collector:
    """Keeps thinned frames and thinned atoms while frames come in."""

    def __init__(self, first: Atoms, r_max: float) -> None:
        self.first = first
        self.numbers = np.asarray(first.numbers, dtype=np.int64)
        self.masses = first.get_masses()
        self.notes: list[str] = []
        self.n_frames = 0
        self._anchored = bool(first.constraints)  # what is held fixed says where the frame of reference is
        self._unwrap = Unwrapper()
        self._times: list[float | None] = []
        # structure: every stride-th frame
        self._stride = 1
        cost = distances_per_frame(len(first), np.asarray(first.cell), np.asarray(first.pbc), r_max)
        self._least_frames = int(np.clip(MAX_DISTANCES // max(1, cost), MIN_FRAMES, MAX_FRAMES))
        self._sampled: list[tuple[Array, Array]] = []
        # motion: the atoms `_kept`
        self._kept = np.arange(len(first))
        self._paths: list[Array] = []
        self._velocities: list[Array] | None = []
        self._moved = False
        # totals
        self._cell = np.zeros((3, 3))
        self._kinetic = 0.0
        self._rotational = 0.0

    def add(self, frame: Atoms, number: int, time_ps: float | None) -> None:
        """Take in the next frame."""
        if not np.array_equal(frame.numbers, self.numbers):
            raise DataError(
                f"frame {number} is {frame.get_chemical_formula()} or has its atoms in another order, the first is "
                f"{self.first.get_chemical_formula()}: observables need one structure in time"
            )
        if not np.array_equal(frame.pbc, self.first.pbc):
            raise DataError(f"frame {number} has pbc {frame.pbc.tolist()}, the first {self.first.pbc.tolist()}")
        if time_ps is not None and self._times and self._times[-1] is not None and time_ps <= self._times[-1]:
            self._note_once("frames whose time is not later than that of the frame before (a restart): left out")
            return
        self._sample(frame)
        self._follow(frame)
        self._times.append(time_ps)
        self._cell += np.asarray(frame.cell)
        self.n_frames += 1

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _sample(self, frame: Atoms) -> None:
        if self.n_frames % self._stride:
            return
        self._sampled.append((frame.positions.copy(), np.asarray(frame.cell).copy()))
        if len(self._sampled) == 2 * self._least_frames:
            self._sampled = self._sampled[::2]
            self._stride *= 2

    def _follow(self, frame: Atoms) -> None:
        path = self._unwrap(frame)
        weight = self.masses / self.masses.sum()
        if not self._anchored:
            path = path - weight @ path
        self._paths.append(path[self._kept])
        self._add_velocities(frame, weight)
        if len(self._paths) * len(self._kept) > MAX_SERIES:
            self._thin_atoms()

    def _add_velocities(self, frame: Atoms, weight: Array) -> None:
        if self._velocities is None:
            return
        if not frame.has("momenta"):
            self._velocities = None
            return
        velocities = frame.get_momenta() / self.masses[:, None]
        if not np.isfinite(velocities).all():
            self._velocities = None
            return
        self._moved = self._moved or bool(velocities.any())
        if not self._anchored:
            velocities = velocities - weight @ velocities
        self._velocities.append(velocities[self._kept])
        self._kinetic += 0.5 * float(self.masses @ np.einsum("nc,nc->n", velocities, velocities))
        if not frame.pbc.any():
            self._rotational += _rotational_energy(frame, velocities)

    def _thin_atoms(self) -> None:
        """Every second atom of each element goes, where enough are left."""
        stay = np.ones(len(self._kept), dtype=bool)
        for number in np.unique(self.numbers):
            mine = np.flatnonzero(self.numbers[self._kept] == number)
            if len(mine) >= 2 * MIN_ATOMS:
                stay[mine[1::2]] = False
        if stay.all():
            return
        self._kept = self._kept[stay]
        self._paths = [path[stay] for path in self._paths]
        if self._velocities is not None:
            self._velocities = [velocity[stay] for velocity in self._velocities]

    def result(self) -> Gathered:
        has_velocities = self._velocities is not None and self._moved
        degrees = self._degrees_of_freedom() if has_velocities else self._translations()
        temperature = None
        if has_velocities and degrees > 0:
            temperature = 2.0 * self._kinetic / self.n_frames / (degrees * units.kB)
        return Gathered(
            n_frames=self.n_frames,
            formula=self.first.get_chemical_formula(),
            numbers=self.numbers,
            masses=self.masses,
            pbc=np.asarray(self.first.pbc),
            samples=self._samples(),
            series=self._series(),
            mean_cell=self._cell / self.n_frames,
            temperature_K=temperature,
            degrees_of_freedom=degrees,
            notes=tuple(self.notes),
        )

    def _samples(self) -> Samples:
        if len(self._sampled) < self.n_frames:
            self.notes.append(f"structure is measured on {len(self._sampled)} of {self.n_frames} frames, evenly spread")
        positions, cells = zip(*self._sampled, strict=True)
        return Samples(np.array(positions), np.array(cells))

    def _translations(self) -> int:
        if self._anchored:
            return int(self.first.get_number_of_degrees_of_freedom())
        return 3 * len(self.numbers) - 3

    def _degrees_of_freedom(self) -> int:
        """Independent momenta: without those of the centre of mass, and of rotation where a molecule has none."""
        degrees = self._translations()
        if self._anchored or self.first.pbc.any() or degrees <= 0:
            return degrees
        rotations = n_rotations(len(self.numbers))
        share = rotations / degrees * self._kinetic
        return degrees - rotations if self._rotational < _FREE_OF_ROTATION * share else degrees

    def _series(self) -> Series | None:
        if self.n_frames < 2:
            return None
        if any(time is None for time in self._times):
            self.notes.append(
                "times of the frames are not known: no motion; give interval_fs "
                "(--interval-fs, or --reference-interval-fs where this is the reference)"
            )
            return None
        if self._unwrap.farthest > AMBIGUOUS:
            self.notes.append(
                f"an atom moved by {self._unwrap.farthest:.2f} cell vectors between two frames, so its path cannot be "
                "told: no motion; write frames more often"
            )
            return None
        if self._unwrap.farthest > DOUBTFUL:
            self.notes.append(
                f"an atom moved by {self._unwrap.farthest:.2f} cell vectors between two frames; from 0.5 on paths "
                "would be wrong: write frames more often"
            )
        times = np.array(self._times, dtype=float)
        stretch = _regular(times)
        if len(stretch) < self.n_frames:
            self.notes.append(
                f"motion is measured on {len(stretch)} of {self.n_frames} frames, the longest stretch at equal times"
            )
        if len(self._kept) < len(self.numbers):
            self.notes.append(f"motion is measured on {len(self._kept)} of {len(self.numbers)} atoms")
        if len(self._paths) * len(self._kept) > MAX_SERIES:
            self.notes.append(
                f"motion is measured on {len(self._paths) * len(self._kept)} positions, all in memory, for elements of "
                f"fewer than {2 * MIN_ATOMS} atoms are not thinned; read fewer frames (--index) if that is too much"
            )
        step_ps = (times[stretch[-1]] - times[stretch[0]]) / (len(stretch) - 1) if len(stretch) > 1 else 0.0
        if step_ps <= 0.0:
            return None
        positions = np.array([self._paths[k] for k in stretch])
        self._paths = []  # or everything would be there twice
        velocities = None
        if self._velocities is not None and self._moved:
            velocities = np.array([self._velocities[k] for k in stretch])
            self._velocities = []
        return Series(1000.0 * float(step_ps), positions, velocities, self._kept)


def _regular(times: Array) -> NDArray[np.int64]:
    """Indices of the longest run of frames at multiples of the most common interval, none missing.

    Runs write extra frames between the regular ones, as their last and where per-atom stress is kept.
    """
    intervals = np.diff(times)
    values, counts = np.unique(np.round(intervals, 9), return_counts=True)
    usual = np.isclose(intervals, values[np.argmax(counts)], rtol=1e-6)
    step = float(intervals[usual].mean())  # the rounded one would be off the frames after some thousand of them
    best = np.arange(1)
    # the grid may start at any frame where a regular interval begins; later ones matter only after a gap
    start = 0
    while start < len(times) - 1:
        begin = start + int(np.argmax(usual[start:]))
        places = (times[begin:] - times[begin]) / step
        on_grid = begin + np.flatnonzero(np.abs(places - np.rint(places)) < 1e-3)
        order = np.rint(places[on_grid - begin]).astype(int)
        gap = np.flatnonzero(order != np.arange(len(order)))
        end = int(gap[0]) if len(gap) else len(order)
        if end > len(best):
            best = on_grid[:end]
        start = int(on_grid[end]) if end < len(on_grid) else len(times)
        if len(times) - start <= len(best):
            break
    return best


def _rotational_energy(atoms: Atoms, velocities: Array) -> float:
    """eV, of rigid rotation about the centre of mass."""
    arms = atoms.positions - atoms.get_center_of_mass()
    angular = atoms.get_masses() @ np.cross(arms, velocities)
    # the pseudo-inverse leaves out the axis of a linear molecule, which has no inertia
    return 0.5 * float(angular @ np.linalg.pinv(inertia(atoms), rcond=1e-9, hermitian=True) @ angular)
