"""Which of the frames that the committee met are worth a label, and why not the others.

Frames are chosen one after another, each with the largest product of its expected force error and its distance from all
structures that have a label or were chosen before, with vectors as in `ase_mlcalc.sampling`.  So neither twenty copies
of the one worst structure are chosen, nor structures that are merely different.  First, each run that failed gives one
of the frames around its failure: there the potential was wrong, whatever the committee thought of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ase_mlcalc.active.assess import Assessed
from ase_mlcalc.active.trust import Trust
from ase_mlcalc.sampling.farthest import standardized

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

APART_FS = 20.0
"""Frames of a run that are nearer in time than two periods of the fastest vibrations say the same."""
FAR_OVER_STOP = 3.0
"""Above so many times the upper trust level a structure is taken for a product of the potential's failure."""


class Decision(NamedTuple):
    """About a frame."""

    run: int
    """Position of its run in the study."""
    frame: int
    """Position among the frames of the run."""
    rank: int | None
    """Place among the chosen ones, from 0; ``None`` if it was not chosen."""
    why: str


class _Pool(NamedTuple):
    """The frames of all runs in one row.  F frames."""

    run: NDArray[np.int64]
    frame: NDArray[np.int64]
    features: Array
    uncertainty: Array
    time_ps: Array
    at_stop: Mask
    unphysical: NDArray[np.str_]
    at_start: Mask


def choose(assessed: Sequence[Assessed], known: Array, levels: Trust, most: int) -> list[Decision]:
    """Choose frames to be labelled.

    Parameters
    ----------
    assessed : sequence of Assessed
        One a run.
    known : (K, d)
        Vectors of the structures that have labels.
    levels : Trust
    most : int
        How many to choose.

    Returns
    -------
    list of Decision
        One for each frame, in the order of runs and frames.
    """
    pool = _pool(assessed)
    whys = _first_look(pool, levels)
    open_frames = np.array([not why for why in whys], dtype=bool)
    chosen: list[int] = []
    if open_frames.any():
        greedy = _Greedy(pool, open_frames, known, levels)
        uncertain = open_frames & (pool.uncertainty > levels.threshold_eV_per_A)
        for place in greedy.take(open_frames & pool.at_stop, most, once_a_run=True):
            whys[place] = "its run failed here"
            chosen.append(place)
        for place in greedy.take(uncertain, most - len(chosen)):
            whys[place] = "uncertain, and unlike what has a label"
            chosen.append(place)
        for place, why in greedy.left_out(full=len(chosen) == most).items():
            whys[place] = whys[place] or why
    rank = {place: k for k, place in enumerate(chosen)}
    return [
        Decision(int(pool.run[place]), int(pool.frame[place]), rank.get(place), why) for place, why in enumerate(whys)
    ]


def _pool(assessed: Sequence[Assessed]) -> _Pool:
    size = max((each.features.shape[1] for each in assessed), default=0)
    rows = [
        _Pool(
            np.full(len(each.step), run),
            np.arange(len(each.step)),
            each.features if each.features.shape[1] == size else np.full((len(each.step), size), np.nan),
            each.uncertainty_eV_per_A,
            each.time_ps,
            each.at_stop,
            each.unphysical,
            each.step == 0,
        )
        for run, each in enumerate(assessed)
    ]
    return _Pool(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def _first_look(pool: _Pool, levels: Trust) -> list[str]:
    """Why frames are out of the question; "" for those that are not."""
    whys = []
    far = FAR_OVER_STOP * levels.stop_eV_per_A
    for place, unphysical in enumerate(pool.unphysical.tolist()):
        uncertainty = pool.uncertainty[place]
        if unphysical:
            whys.append(unphysical)
        elif pool.at_start[place]:
            whys.append("a structure that runs start from")
        elif uncertainty > far:
            whys.append(f"too far from what is known to be believed, above {far:.3g} eV/Å")
        elif not pool.at_stop[place] and uncertainty <= levels.threshold_eV_per_A:
            whys.append("below the threshold")
        else:
            whys.append("")
    return whys


class _Greedy:
    """Takes frames one after another, and remembers what was taken."""

    def __init__(self, pool: _Pool, open_frames: Mask, known: Array, levels: Trust) -> None:
        self._pool, self._open, self._stop = pool, open_frames, levels.stop_eV_per_A
        # only what is in question sets the scale, or one burst structure would shrink all other distances
        points = standardized(np.concatenate([known, pool.features[open_frames]]))
        self._points = np.full((len(pool.run), points.shape[1]), np.nan)
        self._points[open_frames] = points[len(known) :]
        self._nearest = np.full(len(pool.run), np.inf)
        if len(known):
            self._nearest[open_frames] = cdist(self._points[open_frames], points[: len(known)]).min(axis=1)
        self._taken: list[int] = []

    def take(self, among: Mask, most: int, *, once_a_run: bool = False) -> list[int]:
        """The next few frames of those in a mask."""
        left = among & ~self._too_near()
        taken: list[int] = []
        while len(taken) < most and left.any():
            score = np.where(left, np.minimum(self._pool.uncertainty, self._stop) * self._nearest, -1.0)
            best = int(score.argmax())
            if score[best] <= 0.0:
                break
            taken.append(best)
            self._taken.append(best)
            with np.errstate(invalid="ignore"):
                distance = np.linalg.norm(self._points - self._points[best], axis=1)
            self._nearest = np.fmin(self._nearest, distance)
            left &= ~self._too_near()
            if once_a_run:
                left &= self._pool.run != self._pool.run[best]
        return taken

    def left_out(self, *, full: bool) -> dict[int, str]:
        """Why frames were not taken that could have been."""
        near, found = self._too_near(), {}
        for place in np.flatnonzero(self._open).tolist():
            if near[place]:
                found[place] = f"within {APART_FS:g} fs of a chosen frame"
            elif self._nearest[place] == 0.0:
                found[place] = "the same as a structure that has a label"
            else:
                found[place] = "others are more uncertain or more different" if full else "not needed"
        return found

    def _too_near(self) -> Mask:
        """Frames that are taken, or near in time to one of the same run that is."""
        near = np.zeros(len(self._pool.run), dtype=bool)
        for place in self._taken:
            apart = np.abs(self._pool.time_ps - self._pool.time_ps[place]) * 1000.0
            near |= (self._pool.run == self._pool.run[place]) & (apart < APART_FS - 1e-6)
        return near
