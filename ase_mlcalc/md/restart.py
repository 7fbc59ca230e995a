"""Checkpoints of a stage: everything that a killed run needs to go on as if nothing had happened.

A checkpoint is one ``.npz`` file of plain numbers, replaced whole.  It holds the state after a step, and how much of
each output file belongs to that state: what was written later is cut off before the run goes on, so that nothing is
there twice.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.errors import DataError
from ase_mlcalc.files import atomic_path

Array = NDArray[np.float64]
State = dict[str, NDArray[Any]]

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """The state of a stage after a step."""

    step: int
    positions: Array
    momenta: Array
    cell: Array
    parts: Mapping[str, State]
    """What else is remembered, by whoever remembers it: integrator, monitors, recent structures."""
    files: Mapping[str, int]
    """Length of each output file, in bytes; of trajectories, in frames."""
    wall_seconds: float
    """Spent so far."""

    def put_into(self, atoms: Atoms) -> None:
        """Give a structure this state, exactly: no constraint moves it."""
        atoms.set_cell(self.cell, scale_atoms=False)
        atoms.set_positions(self.positions, apply_constraint=False)
        atoms.set_momenta(self.momenta, apply_constraint=False)


def checkpoint_path(folder: Path, stage: str) -> Path:
    """Where a stage keeps its checkpoint."""
    return folder / f"{stage}-checkpoint.npz"


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one before."""
    about = {
        "format": FORMAT,
        "step": checkpoint.step,
        "files": dict(checkpoint.files),
        "wall_seconds": checkpoint.wall_seconds,
    }
    arrays: dict[str, Any] = {
        "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
        "positions": checkpoint.positions,
        "momenta": checkpoint.momenta,
        "cell": checkpoint.cell,
    }
    for part, state in checkpoint.parts.items():
        arrays |= {f"{part}/{name}": value for name, value in state.items()}
    held = io.BytesIO()
    np.savez(held, **arrays)
    with atomic_path(path) as new:
        new.write_bytes(held.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint of a stage, or ``None`` if it has none yet.

    Raises
    ------
    DataError
        The file is damaged or no checkpoint.
    """
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        about = json.loads(arrays.pop("about").tobytes())
        if about["format"] != FORMAT:
            raise DataError(f"{path} has format {about['format']}, this version reads {FORMAT}; run again elsewhere")
        parts: dict[str, State] = {}
        own = {name: arrays.pop(name) for name in ("positions", "momenta", "cell")}
        for name, value in arrays.items():
            part, _, key = name.partition("/")
            parts.setdefault(part, {})[key] = value
        return Checkpoint(
            step=int(about["step"]),
            parts=parts,
            files={str(name): int(length) for name, length in about["files"].items()},
            wall_seconds=float(about["wall_seconds"]),
            **own,
        )
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is not a checkpoint of a run ({type(error).__name__}: {error}); remove the folder and run again"
        ) from error
