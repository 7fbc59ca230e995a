"""What a molecular dynamics job is told: `MDConfig` for one stage, `MDJob` for a job file."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ase_mlcalc.config import Section


def _positive(default: float, description: str) -> Any:
    return Field(default, gt=0, allow_inf_nan=False, description=description)


class MDConfig(Section):
    """One stage of molecular dynamics at constant volume."""

    ensemble: Literal["nve", "nvt"] = Field(
        "nvt", description='"nvt": Langevin thermostat; "nve": velocity Verlet, constant energy'
    )
    temperature_K: float = Field(
        300.0, ge=0, allow_inf_nan=False, description="of the thermostat (nvt) and of drawn velocities, K"
    )
    timestep_fs: float = _positive(0.5, "time step, fs; 0.5 with hydrogen, 1-2 for heavier atoms")
    time_ps: float = _positive(5.0, "length of the stage, ps")
    friction_per_ps: float = _positive(10.0, "Langevin friction, 1/ps (nvt); 10 thermalises in 0.1 ps")
    initial_velocities: Literal["thermal", "keep"] = Field(
        "thermal",
        description='"thermal": drawn at temperature_K; "keep": those of the structure.  '
        "nve takes out the motion of the center of mass, and the rotation of a molecule",
    )
    seed: int = Field(0, ge=0, description="of drawn velocities and of the thermostat")
    thermo_every_fs: float = _positive(5.0, "time between rows of thermo.csv, fs")
    frames_every_fs: float = _positive(50.0, "time between frames of the trajectory, fs")
    stresses_every_fs: float = Field(
        100.0, ge=0, allow_inf_nan=False, description="time between frames with per-atom stress, fs; 0: none"
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
    max_temperature_K: float = _positive(1e5, "stop the run as exploded above this temperature, K")

    @property
    def steps(self) -> int:
        """Number of time steps, at least one."""
        return max(1, round(1000.0 * self.time_ps / self.timestep_fs))

    def steps_between(self, every_fs: float) -> int:
        """A time interval in whole time steps, at least one."""
        return max(1, round(every_fs / self.timestep_fs))


class JobFiles(Section):
    """What to run on and where to write."""

    structure: str = Field(description="file with the starting structure, any format that ASE reads")
    index: int = Field(-1, description="which structure of the file; -1 is the last")
    output: str = Field("md-run", description="folder to write")
    overwrite: bool = Field(False, description="remove an earlier run from the folder first")
    model: str | None = Field(None, description="checkpoint of the potential; or give `calculator`")
    dtype: Literal["float32", "float64"] | None = Field(None, description="precision of the model; default: as stored")
    device: str | None = Field(None, description='device of the model, "cpu" or "cuda"')
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


class MDJob(Section):
    """A job file: ``[job]`` and one ``[md]``, or several ``[[md]]`` stages that continue one another.

    A stage after the first keeps the velocities and takes the next seed, unless it says otherwise.
    """

    job: JobFiles
    md: tuple[MDConfig, ...] = Field((MDConfig(),), description="stages, run in sequence")

    @field_validator("md", mode="before")
    @classmethod
    def _one_stage_is_a_list_of_one(cls, value: Any) -> Any:
        if value in ([], ()):
            raise ValueError("a job has at least one stage; leave md out for the default one")
        return (value,) if isinstance(value, dict | MDConfig) else value

    def stages(self) -> list[tuple[str, MDConfig]]:
        """Names and configurations in order; names are the ensembles, numbered where they repeat."""
        named: list[tuple[str, MDConfig]] = []
        for position, stage in enumerate(self.md):
            name, given = stage.ensemble, stage.model_fields_set
            repeats = sum(earlier.ensemble == stage.ensemble for earlier in self.md[:position])
            changes: dict[str, Any] = {}
            if position and "initial_velocities" not in given:
                changes["initial_velocities"] = "keep"
            if position and "seed" not in given:
                changes["seed"] = self.md[0].seed + position
            named.append((f"{name}-{repeats + 1}" if repeats else name, stage.model_copy(update=changes)))
        return named
