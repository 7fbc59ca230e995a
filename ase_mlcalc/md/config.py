"""What molecular dynamics is told: `MDConfig` for one stage, `JobFiles` for what it runs on."""

from typing import Any, Literal, Self

from ase import units
from pydantic import Field, model_validator

from ase_mlcalc.config import Section
from ase_mlcalc.md.monitors.config import MonitorsConfig

LOWEST_TEMPERATURE_K = 0.5
"""Below this, a temperature is taken for a slip of units: 0.026 eV are 300 K."""


def _positive(default: float, description: str) -> Any:
    return Field(default, gt=0, allow_inf_nan=False, description=description)


class MDConfig(Section):
    """One stage of molecular dynamics."""

    ensemble: Literal["nve", "nvt", "npt"] = Field(
        "nvt",
        description='"nvt": constant temperature and volume; "nve": constant energy, velocity Verlet; '
        '"npt": constant temperature and pressure, Martyna-Tobias-Klein',
    )
    temperature_K: float = Field(
        300.0, ge=0, allow_inf_nan=False, description="of the thermostat (nvt, npt) and of drawn velocities, K"
    )
    temperature_end_K: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of the thermostat at the end of the stage, a linear ramp, K"
    )
    timestep_fs: float = _positive(0.5, "time step, fs; 0.5 with hydrogen, 1-2 for heavier atoms")
    time_ps: float = _positive(5.0, "length of the stage, ps")
    thermostat: Literal["langevin", "bussi", "nose-hoover"] = Field(
        "langevin",
        description='nvt: "langevin" drives every atom; "bussi" (stochastic) and "nose-hoover" (a chain of three) '
        "drive the kinetic energy and disturb the dynamics less",
    )
    friction_per_ps: float = _positive(10.0, "Langevin friction, 1/ps; 10 thermalises in 0.1 ps")
    thermostat_time_fs: float = _positive(100.0, "relaxation time of the bussi, nose-hoover and npt thermostats, fs")
    pressure_GPa: float = Field(0.0, allow_inf_nan=False, description="npt: external pressure, GPa")
    barostat_time_fs: float = _positive(1000.0, "npt: relaxation time of the cell, fs")
    cell_shape: Literal["fixed", "free"] = Field(
        "fixed", description='npt: "fixed": the cell keeps its shape and only the volume changes; "free": it shears too'
    )
    initial_velocities: Literal["thermal", "keep"] = Field(
        "thermal", description='"thermal": drawn at temperature_K; "keep": those of the structure'
    )
    rigid_motion: Literal["removed", "removed-always", "kept"] = Field(
        "removed",
        description='motion of the center of mass, and rotation of a molecule: "removed" at the start unless langevin '
        'drives it; "removed-always": after each step (forces that do not conserve momentum); "kept"',
    )
    seed: int = Field(0, ge=0, description="of drawn velocities and of the thermostat")
    settle_within_percent: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="end the stage early, once the temperature is so close to its target",
    )
    settle_after_ps: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="with settle_within_percent: not before this time, ps"
    )
    thermo_every_fs: float = _positive(5.0, "time between rows of thermo.csv, fs")
    frames_every_fs: float = _positive(50.0, "time between frames of the trajectory, fs")
    checkpoint_every_fs: float = _positive(500.0, "time between checkpoints, from which a killed run goes on, fs")
    monitors_every_fs: float = Field(
        5.0, ge=0, allow_inf_nan=False, description="time between looks of the monitors, fs; 0: no monitors"
    )
    stresses_every_fs: float = Field(
        100.0,
        ge=0,
        allow_inf_nan=False,
        description="time between frames with per-atom stress, fs; 0: none. Frames are at equal distances: the larger "
        "of this and frames_every_fs is rounded to a multiple of the other",
    )
    stress_series_every_fs: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="time between rows of NAME-stress.csv, the total stress for viscosities, fs, usually 5-10; 0: none",
    )
    heat_flux_every_fs: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="time between rows of NAME-heat-flux.csv for thermal conductivity, each of which costs a few "
        "evaluations, fs; 0: none",
    )
    max_temperature_K: float = _positive(1e5, "stop the run as exploded above this temperature, at any step, K")
    monitors: MonitorsConfig = MonitorsConfig()

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        if 0 < self.temperature_K < LOWEST_TEMPERATURE_K:
            raise ValueError(
                f"temperature_K = {self.temperature_K:g} is next to nothing; if it is an energy in eV, it is "
                f"{self.temperature_K / units.kB:.0f} K"
            )
        if max(self.temperature_K, self.temperature_end_K or 0.0) >= self.max_temperature_K:
            raise ValueError(f"temperature_K is not below max_temperature_K = {self.max_temperature_K:g}")
        if self.ensemble == "nve":
            for key in ("temperature_end_K", "settle_within_percent"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} needs a thermostat, and nve has none; use nvt")
        elif self.temperature_K == 0:
            raise ValueError(f"a thermostat at 0 K stops everything; give {self.ensemble} a temperature")
        return self

    @property
    def driver(self) -> Literal["verlet", "langevin", "bussi", "nose-hoover", "npt"]:
        """Which equations of motion: what ensemble and thermostat come down to."""
        if self.ensemble == "nvt":
            return self.thermostat
        return "verlet" if self.ensemble == "nve" else "npt"

    def target_K(self, step: int) -> float | None:
        """Temperature of the thermostat at a step; ``None`` at constant energy."""
        if self.ensemble == "nve":
            return None
        if self.temperature_end_K is None:
            return self.temperature_K
        return self.temperature_K + (self.temperature_end_K - self.temperature_K) * min(1.0, step / self.steps)

    @property
    def steps(self) -> int:
        """Number of time steps, at least one."""
        return max(1, round(1000.0 * self.time_ps / self.timestep_fs))

    def steps_between(self, every_fs: float) -> int:
        """A time interval in whole time steps, at least one."""
        return max(1, round(every_fs / self.timestep_fs))

    @property
    def steps_between_frames(self) -> tuple[int, int | None]:
        """Steps between frames, and between those with per-atom stress: one is a multiple of the other.

        So frames are at equal distances, as whoever reads a trajectory takes for granted.
        """
        frames = self.steps_between(self.frames_every_fs)
        if not self.stresses_every_fs:
            return frames, None
        stresses = self.steps_between(self.stresses_every_fs)
        if stresses >= frames:
            return frames, frames * round(stresses / frames)
        return stresses, stresses


class JobFiles(Section):
    """What to run on and where to write."""

    structure: str = Field(description="file with the starting structure, any format that ASE reads")
    index: int = Field(-1, description="which structure of the file; -1 is the last")
    reference: str | None = Field(
        None, description="trajectory that is taken for right, for the monitors that compare with one"
    )
    equilibration: Literal["none", "langevin", "langevin-settle"] = Field(
        "none",
        description='stages before the first: "langevin": 1 ps with a thermostat; "langevin-settle": strong friction, '
        "then weak until the temperature is within 5 % of its target",
    )
    output: str = Field("md-run", description="folder to write")
    overwrite: bool = Field(False, description="remove an earlier run from the folder first")
    model: str | None = Field(None, description="checkpoint of the potential; or give `calculator`")
    dtype: Literal["float32", "float64"] | None = Field(None, description="precision of the model; default: as stored")
    device: str | None = Field(None, description='device of the model, "cpu" or "cuda"')
    compile: bool = Field(False, description="evaluate with code compiled for this machine, made once and kept")
    calculator: str | None = Field(
        None, description='any ASE calculator, "package.module:Factory", for example "ase.calculators.emt:EMT"'
    )
    calculator_arguments: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of the calculator's factory"
    )

    @model_validator(mode="after")
    def _one_source_of_forces(self) -> Self:
        if (self.model is None) == (self.calculator is None):
            raise ValueError(
                "give either model = (a checkpoint) or calculator = (package.module:Factory), "
                f"got {'neither' if self.model is None else 'both'}"
            )
        return self
