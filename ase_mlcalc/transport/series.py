"""Time series of the stress and of the heat flux of a run: one CSV row a sample, on disk at once."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ase_mlcalc.errors import DataError
from ase_mlcalc.stress.kinetic import total_stress
from ase_mlcalc.transport.heat_flux import heat_flux

Array = NDArray[np.float64]

STATE = ("time_ps", "temperature_K", "volume_A3")
STRESS_COLUMNS = (*STATE, *(f"{axes}_eV_per_A3" for axes in ("xx", "yy", "zz", "yz", "xz", "xy")))
FLUX_COLUMNS = (*STATE, *(f"{axis}_eV_per_A2_fs" for axis in "xyz"))


class StressSeries(NamedTuple):
    """Total stress (kinetic part included) at equally spaced times."""

    step_ps: float
    stress: Array
    """(T, 6) eV/Å³, positive under tension, xx yy zz yz xz xy."""
    temperature_K: float
    """Mean over the series."""
    volume_A3: float


class FluxSeries(NamedTuple):
    """Heat flux at equally spaced times."""

    step_ps: float
    flux: Array
    """(T, 3) eV/(Å² fs)."""
    temperature_K: float
    """Mean over the series."""
    volume_A3: float


class SeriesFile:
    """Appends samples to a CSV file, which begins with its columns; each row is on disk when `write` returns."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115
        self._csv = csv.writer(self._file)
        if self._file.tell() == 0:
            self._csv.writerow(columns)
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, atoms: Atoms, time_ps: float, temperature_K: float | None, values: Array) -> None:
        """Append a sample with all digits."""
        state = (time_ps, math.nan if temperature_K is None else temperature_K, atoms.get_volume())
        self._csv.writerow([repr(float(value)) for value in (*state, *values)])
        self._file.flush()


def stress_sample(atoms: Atoms) -> Array:
    """(6,) eV/Å³, what a row of a stress series holds: the total stress, kinetic part included."""
    return total_stress(atoms)


def flux_sample(atoms: Atoms) -> Array:
    """(3,) eV/(Å² fs), what a row of a heat flux series holds."""
    return heat_flux(atoms) * units.fs


def read_stress_series(path: Path | str, *, skip_ps: float = 0.0) -> StressSeries:
    """The stress series of a run, without its first `skip_ps`.

    A last row that a kill cut short is left out.

    Raises
    ------
    DataError
        No such file; not a stress series; rows that are not numbers; unequal steps; a volume that changes.
    """
    return StressSeries(*_read(Path(path), STRESS_COLUMNS, "a stress series", skip_ps))


def read_flux_series(path: Path | str, *, skip_ps: float = 0.0) -> FluxSeries:
    """The heat flux series of a run, without its first `skip_ps`; see `read_stress_series`."""
    return FluxSeries(*_read(Path(path), FLUX_COLUMNS, "a heat flux series", skip_ps))


def _read(path: Path, columns: Sequence[str], kind: str, skip_ps: float) -> tuple[float, Array, float, float]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {kind} from {path} ({error}); run molecular dynamics with md.stress_series_every_fs or "
            "md.heat_flux_every_fs and give the CSV file of the stage"
        ) from error
    header, *rows = text[: text.rfind("\n") + 1].splitlines() or [""]
    if tuple(header.split(",")) != tuple(columns):
        raise DataError(f"{path} is not {kind}: columns {header!r}, expected {','.join(columns)!r}")
    try:
        table = np.array([[float(cell) for cell in row.split(",")] for row in rows]).reshape(-1, len(columns))
    except ValueError as error:
        raise DataError(f"{path} has a row that is not {len(columns)} numbers ({error}); remove it") from error
    table = table[table[:, 0] >= skip_ps + (table[0, 0] if len(table) else 0.0)]
    if len(table) < 2:
        raise DataError(f"{path} holds {len(table)} samples after the first {skip_ps} ps, too few to correlate")
    times, temperatures, volumes = table[:, :3].T
    steps = np.diff(times)
    if not np.allclose(steps, steps[0], rtol=1e-6, atol=0.0) or steps[0] <= 0:
        raise DataError(f"{path} is not sampled at equal steps ({steps.min():.4g} to {steps.max():.4g} ps)")
    if not np.allclose(volumes, volumes[0], rtol=1e-9, atol=0.0):
        raise DataError(f"the volume changes in {path}; Green-Kubo integrals need runs at constant volume")
    return float(steps.mean()), table[:, 3:], float(temperatures.mean()), float(volumes[0])
