"""The output files of a stage: rows and frames that are due at a step, and how long the files are for a checkpoint."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from ase import Atoms

from ase_mlcalc.calculator import definition_of
from ase_mlcalc.errors import DataError
from ase_mlcalc.graph import has_volume
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.fluxes import FluxFiles, heat_flux_path, stress_series_path
from ase_mlcalc.md.frames import FrameFile
from ase_mlcalc.md.thermo import THERMO_FILE, ThermoFile, ThermoRow, quantity


class Recorder:
    """Writes ``thermo.csv``, the trajectory and the series of fluxes of one stage.

    Parameters
    ----------
    folder : Path
    stage : str
    config : MDConfig
    lengths : mapping of file name to length, optional
        As `lengths` gave them for a checkpoint: what the files hold behind that is cut off.

    Raises
    ------
    DataError
        A file is shorter than it was at the checkpoint.
    """

    def __init__(self, folder: Path, stage: str, config: MDConfig, lengths: Mapping[str, int] | None = None) -> None:
        self._config = config
        self._thermo_every = config.steps_between(config.thermo_every_fs)
        self._frames_every, self._stresses_every = config.steps_between_frames
        self._trajectory = folder / f"{stage}.traj"
        self._rows = [folder / THERMO_FILE, stress_series_path(folder, stage), heat_flux_path(folder, stage)]
        kept = _lengths_at_start(folder, stage, self._rows) if lengths is None else lengths
        for path in self._rows:
            _cut(path, kept.get(path.name, 0))
        with ExitStack() as opened:
            self._thermo = opened.enter_context(ThermoFile(folder / THERMO_FILE, stage))
            self._frames = opened.enter_context(FrameFile(self._trajectory, kept.get(self._trajectory.name, 0)))
            self._fluxes = opened.enter_context(FluxFiles(folder, stage, config))
            self._open = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def intervals(self) -> tuple[int, ...]:
        """Steps between what is written, of each kind."""
        return (self._thermo_every, self._frames_every, *self._fluxes.intervals)

    @property
    def last_frame_step(self) -> int | None:
        """Step of the last frame that was written here."""
        return self._frames.last_step

    def lengths(self) -> dict[str, int]:
        """How long each file is now: bytes, and frames of the trajectory."""
        rows = {path.name: path.stat().st_size for path in self._rows if path.exists()}
        return rows | {self._trajectory.name: self._frames.n_frames}

    def thermo_is_due(self, step: int) -> bool:
        """Whether a row of ``thermo.csv`` belongs to a step."""
        return step % self._thermo_every == 0

    def write_thermo(self, row: ThermoRow) -> None:
        """Append a row."""
        self._thermo.write(row)

    def write_fluxes(self, atoms: Atoms, step: int, temperature_K: float | None) -> None:
        """Append the samples of stress and heat flux that are due."""
        self._fluxes.write(atoms, step, temperature_K)

    def write_frames(self, atoms: Atoms, step: int, *, last: bool) -> None:
        """Append a frame if one is due, which it is at the last step."""
        with_stresses = self._stresses_every is not None and step % self._stresses_every == 0
        if not (step % self._frames_every == 0 or last):
            return
        with_stress = has_volume(atoms) and atoms.pbc.any()
        results = {
            "energy": quantity(atoms, "energy"),
            "forces": atoms.get_forces(apply_constraint=False),
            "stress": quantity(atoms, "stress") if with_stress else None,
            "stresses": quantity(atoms, "stresses") if with_stress and with_stresses else None,
        }
        self._frames.write(atoms, step, self._time_ps(step), results, definition_of(atoms.calc))

    def write_bare_frame(self, atoms: Atoms, step: int) -> None:
        """Append a frame without results: of a state on which the calculator failed afterwards."""
        self._frames.write(atoms, step, self._time_ps(step), {})

    def _time_ps(self, step: int) -> float:
        return step * self._config.timestep_fs / 1000.0


def _lengths_at_start(folder: Path, stage: str, rows: list[Path]) -> dict[str, int]:
    """A stage adds to the thermo file of those before it, and begins its own files anew."""
    thermo = folder / THERMO_FILE
    return {path.name: _length_before(thermo, stage) if path == thermo else 0 for path in rows}


def _length_before(thermo: Path, stage: str) -> int:
    """Bytes of whole rows before the first of a stage, which are there if it began before and lost its checkpoint."""
    text = thermo.read_bytes() if thermo.exists() else b""
    first = text.find(f"\n{stage},".encode())
    return (first if first >= 0 else text.rfind(b"\n")) + 1


def _cut(path: Path, length: int) -> None:
    size = path.stat().st_size if path.exists() else 0
    if size < length:
        raise DataError(f"{path} is {size} bytes long and was {length} at the checkpoint; the run cannot go on from it")
    if size > length:
        os.truncate(path, length)
