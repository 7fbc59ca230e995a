"""Frames of a run: exact `.traj` files with momenta, read back even when a kill cut them short."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Self

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import TrajectoryReader, TrajectoryWriter

from ase_mlcalc.data.frames import DEFINITION_KEY
from ase_mlcalc.data.labels import OF_LABELS
from ase_mlcalc.errors import DataError
from ase_mlcalc.files import atomic_path, uninterrupted

OF_THE_START = OF_LABELS | {"temperature_K", "run", "density_g_per_cm3"}
"""Entries of a structure that later frames do not share: its labels, and where it was sampled."""


class FrameFile:
    """Writes frames of one stage: float64 positions and momenta, and the given calculator results.

    ``info`` of a frame has ``step`` and ``time_ps``, and with per-atom stress its ``stress_definition``.
    """

    def __init__(self, path: Path, n_frames: int = 0) -> None:
        """Go on behind the first `n_frames` of a file."""
        keep_frames(path, n_frames)
        self._writer = TrajectoryWriter(str(path), "a")
        self.n_frames = n_frames
        self.last_step: int | None = None
        """Step of the last frame written here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(
        self,
        atoms: Atoms,
        step: int,
        time_ps: float,
        results: dict[str, Any],
        stress_definition: str | None = None,
    ) -> None:
        """Append a frame; results that are ``None`` are left out."""
        frame = atoms.copy()
        for entries in (frame.info, frame.arrays):
            for key in OF_THE_START & entries.keys():
                del entries[key]
        frame.info |= {"step": step, "time_ps": time_ps}
        given = {name: value for name, value in results.items() if value is not None}
        if "stresses" in given and stress_definition is not None:
            frame.info[DEFINITION_KEY] = stress_definition
        if given:
            frame.calc = SinglePointCalculator(frame, **given)
        _append(self._writer, frame)
        self.last_step = step
        self.n_frames += 1


def keep_frames(path: Path, n_frames: int) -> None:
    """Cut off what a trajectory holds behind its first frames; a file that has no more is left alone.

    Raises
    ------
    DataError
        It does not hold so many.
    """
    held = _n_frames(path)
    if held < n_frames:
        raise DataError(f"{path} holds {held} frames where {n_frames} were written; the run cannot go on: run it again")
    if held == n_frames:
        return
    with atomic_path(path) as shorter, TrajectoryWriter(str(shorter), "w") as writer:
        for frame in islice(read_trajectory(path), n_frames):
            _append(writer, frame)


def _append(writer: TrajectoryWriter, frame: Atoms) -> None:
    """Whole: a writer that is closed in the midst of a frame makes the file unreadable."""
    with uninterrupted():
        writer.write(frame)


def _n_frames(path: Path) -> int:
    try:
        with TrajectoryReader(str(path)) as reader:
            return len(reader)
    except Exception:  # noqa: BLE001  # no file, an empty one or one without a header
        return 0


def last_frame(path: Path) -> Atoms | None:
    """The last complete frame of a trajectory; ``None`` if it has none."""
    try:
        with TrajectoryReader(str(path)) as reader:
            for index in range(len(reader) - 1, -1, -1):
                with suppress(Exception):
                    return reader[index]
    except Exception:  # noqa: BLE001
        return None
    return None


def read_trajectory(path: Path) -> Iterator[Atoms]:
    """Frames of a trajectory in order; a last frame that a kill cut short is left out."""
    try:
        reader = TrajectoryReader(str(path))
    except Exception:  # noqa: BLE001  # an empty or header-less file raises whatever its bytes suggest
        return
    with reader:
        for index in range(len(reader)):
            try:
                frame = reader[index]
            except Exception:  # noqa: BLE001
                return
            yield frame
