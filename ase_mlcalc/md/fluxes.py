"""Series for transport coefficients, written while a stage runs: total stress and heat flux at their own intervals."""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from ase import Atoms

from ase_mlcalc.errors import ConfigError, StructureError
from ase_mlcalc.graph import has_volume
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.transport.heat_flux import heat_source
from ase_mlcalc.transport.series import FLUX_COLUMNS, STRESS_COLUMNS, SeriesFile, flux_sample, stress_sample


def stress_series_path(folder: Path, stage: str) -> Path:
    """Where a stage writes its stress series."""
    return folder / f"{stage}-stress.csv"


def heat_flux_path(folder: Path, stage: str) -> Path:
    """Where a stage writes its heat flux series."""
    return folder / f"{stage}-heat-flux.csv"


def check_fluxes(atoms: Atoms, config: MDConfig) -> None:
    """Refuse series that the calculator or the structure cannot give, before anything is written.

    Raises
    ------
    ConfigError, StructureError
    """
    if config.stress_series_every_fs:
        if "stress" not in atoms.calc.implemented_properties:
            raise ConfigError(
                f"md.stress_series_every_fs needs stress, which {type(atoms.calc).__name__} does not give"
            )
        if not has_volume(atoms):
            raise StructureError(
                "md.stress_series_every_fs needs a cell with three independent vectors; set atoms.cell"
            )
    if config.heat_flux_every_fs:
        heat_source(atoms)


class FluxFiles:
    """The series that a stage asks for, each in a CSV file of its own; none if it asks for none."""

    def __init__(self, folder: Path, stage: str, config: MDConfig) -> None:
        self._timestep_fs = config.timestep_fs
        self._open = ExitStack()
        self._series = []
        for every_fs, path, columns, sample in (
            (config.stress_series_every_fs, stress_series_path(folder, stage), STRESS_COLUMNS, stress_sample),
            (config.heat_flux_every_fs, heat_flux_path(folder, stage), FLUX_COLUMNS, flux_sample),
        ):
            if every_fs:
                file = self._open.enter_context(SeriesFile(path, columns))
                self._series.append((config.steps_between(every_fs), file, sample))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def intervals(self) -> tuple[int, ...]:
        """Steps between samples, of each series."""
        return tuple(every for every, _, _ in self._series)

    def write(self, atoms: Atoms, step: int, temperature_K: float | None) -> None:
        """Append the samples that are due at a step."""
        for every, file, sample in self._series:
            if step % every == 0:
                file.write(atoms, step * self._timestep_fs / 1000.0, temperature_K, sample(atoms))
