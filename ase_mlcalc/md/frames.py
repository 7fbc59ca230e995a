"""Frames of a run: exact `.traj` files with momenta, read back even when a kill cut them short."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import TrajectoryReader, TrajectoryWriter


class FrameFile:
    """Writes frames of one stage: float64 positions and momenta, and the given calculator results.

    ``info`` of a frame has ``step`` and ``time_ps``, and with per-atom stress its ``stress_definition``.
    """

    def __init__(self, path: Path) -> None:
        self._writer = TrajectoryWriter(str(path), "w")
        self.last_step: int | None = None
        """Step of the last frame written."""

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
        frame.info |= {"step": step, "time_ps": time_ps}
        given = {name: value for name, value in results.items() if value is not None}
        frame.info.pop("stress_definition", None)  # of the stresses that the starting structure was read with
        if "stresses" in given and stress_definition is not None:
            frame.info["stress_definition"] = stress_definition
        if given:
            frame.calc = SinglePointCalculator(frame, **given)
        self._writer.write(frame)
        self.last_step = step


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
