"""`run_md`: one stage of molecular dynamics with any ASE calculator, from start to outcome."""

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.md import MolecularDynamics
from numpy.typing import NDArray

from ase_mlcalc.calculator import MLCalculator, definition_of
from ase_mlcalc.errors import ConfigError, ModelError, NumericalError, StructureError
from ase_mlcalc.graph import has_volume
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.drift import energy_drift, fit_slope
from ase_mlcalc.md.ensembles import integrator, set_initial_momenta
from ase_mlcalc.md.fluxes import FluxFiles, check_fluxes
from ase_mlcalc.md.frames import FrameFile
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.progress import Update, ns_per_day, progress_bar
from ase_mlcalc.md.result import RunResult, claim_stage, save_result
from ase_mlcalc.md.thermo import THERMO_FILE, ThermoFile, measure, quantity, read_thermo
from ase_mlcalc.md.velocities import degrees_of_freedom, temperature_K

Array = NDArray[np.float64]


class _State(NamedTuple):
    """The last state in which everything was finite."""

    step: int
    positions: Array
    momenta: Array
    forces: Array


class _Ending(NamedTuple):
    outcome: Outcome
    detail: str
    last_good: _State | None


def run_md(atoms: Atoms, config: MDConfig, folder: Path | str, *, name: str = "md", progress: bool = True) -> RunResult:
    """Integrate the equations of motion of a structure for one stage.

    `atoms` moves: it ends in the last good state, so that a next stage with ``initial_velocities="keep"`` continues
    it.  Several stages can be written to one folder under different names.

    Parameters
    ----------
    atoms : ase.Atoms
        With a calculator that gives forces; energy, stress and per-atom stresses are recorded where it has them.
    config : MDConfig
    folder : path
        Receives ``thermo.csv`` (all stages), ``NAME.traj`` (exact positions and momenta, energy, forces, stress and
        sampled per-atom stresses), ``result.json`` and, where `config` asks for them, ``NAME-stress.csv`` and
        ``NAME-heat-flux.csv`` (see `ase_mlcalc.transport`).  After a failure the last good state is the last frame, and
        ``NAME-failed.traj`` holds the structure on which the run failed, if its positions are finite.
    name : str
        Of the stage.
    progress : bool
        Show a progress bar if stderr is a terminal.

    Returns
    -------
    RunResult
        Ask `RunResult.outcome`: NaN, explosion and refusal are outcomes and not exceptions.

    Raises
    ------
    ConfigError
        No calculator, or the folder already holds a stage of this name.
    StructureError
        The starting structure is empty, its positions or momenta are not finite, or the potential refuses it.
    ModelError
        The calculator gives no forces.
    KeyboardInterrupt
        After the outcome of an interrupted run is on disk.
    """
    folder = Path(folder)
    _check_start(atoms)
    check_fluxes(atoms, config)
    claim_stage(folder, name)
    set_initial_momenta(atoms, config)
    n_degrees = degrees_of_freedom(atoms, thermostat=config.ensemble == "nvt")
    dynamics = integrator(atoms, config)
    result = _announced(atoms, config, folder, name, n_degrees)
    start = time.perf_counter()
    with (
        ThermoFile(folder / THERMO_FILE, name) as thermo,
        FrameFile(folder / f"{name}.traj") as frames,
        FluxFiles(folder, name, config) as fluxes,
        progress_bar(name, config.steps, config.timestep_fs, shown=progress) as update,
    ):
        ending = _integrate(atoms, dynamics, config, n_degrees, thermo, frames, fluxes, update)
        if ending.outcome is not Outcome.COMPLETED:
            _keep_evidence(atoms, ending.last_good, config, frames, folder / f"{name}-failed.traj")
    result = _measured(result, ending, time.perf_counter() - start)
    save_result(result)
    if ending.outcome is Outcome.INTERRUPTED:
        raise KeyboardInterrupt
    return result


def _check_start(atoms: Atoms) -> None:
    if atoms.calc is None:
        raise ConfigError("the structure has no calculator; set atoms.calc, for example to MLCalculator(checkpoint)")
    if len(atoms) == 0:
        raise StructureError("the starting structure has no atoms")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.get_momenta()).all()):
        raise StructureError("positions or momenta of the starting structure are NaN or Inf; repair the input file")
    if not (atoms.get_masses() > 0).all():
        raise StructureError("an atom of the starting structure has no mass; set its mass or remove it")
    # evaluated here so that bad input is refused before anything is written; the first step finds it in the cache
    with suppress(NumericalError):  # NaN is an outcome of the run
        try:
            atoms.get_forces()
        except PropertyNotImplementedError as error:
            raise ModelError(
                f"{type(atoms.calc).__name__} gives no forces, so it cannot drive molecular dynamics ({error})"
            ) from error


def _announced(atoms: Atoms, config: MDConfig, folder: Path, name: str, n_degrees: int) -> RunResult:
    """What is known before the first step, already on disk."""
    calculator = atoms.calc
    ours = isinstance(calculator, MLCalculator)
    result = RunResult(
        name=name,
        folder=folder,
        outcome=Outcome.RUNNING,
        config=config,
        formula=atoms.get_chemical_formula(),
        n_atoms=len(atoms),
        degrees_of_freedom=n_degrees,
        calculator=type(calculator).__name__,
        dtype=str(calculator.potential.dtype).removeprefix("torch.") if ours else None,
        stress_definition=calculator.stress_definition if ours else None,
    )
    save_result(result)
    return result


def _integrate(
    atoms: Atoms,
    dynamics: MolecularDynamics,
    config: MDConfig,
    n_degrees: int,
    thermo: ThermoFile,
    frames: FrameFile,
    fluxes: FluxFiles,
    update: Update,
) -> _Ending:
    """Step until the end or until something is wrong; every quantity here is already in the calculator's cache."""
    thermo_every = config.steps_between(config.thermo_every_fs)
    frames_every = config.steps_between(config.frames_every_fs)
    stresses_every = config.steps_between(config.stresses_every_fs) if config.stresses_every_fs else None
    good: _State | None = None
    try:
        for _ in dynamics.irun(config.steps):
            step = dynamics.nsteps
            forces = atoms.get_forces()
            kinetic = float(atoms.get_kinetic_energy())
            temperature = temperature_K(kinetic, max(n_degrees, 1))
            if not (np.isfinite(forces).all() and np.isfinite(kinetic) and np.isfinite(atoms.positions).all()):
                return _Ending(Outcome.NAN, f"forces or positions at step {step}", good)
            if temperature is not None and temperature > config.max_temperature_K:
                return _Ending(Outcome.EXPLODED, f"{temperature:.3g} K at step {step}", good)
            if step % thermo_every == 0:
                thermo.write(measure(atoms, step, config.timestep_fs, n_degrees))
            fluxes.write(atoms, step, temperature)
            with_stresses = stresses_every is not None and step % stresses_every == 0
            if step % frames_every == 0 or with_stresses or step == config.steps:
                _write_frame(atoms, step, config, frames, with_stresses=with_stresses)
            good = _State(step, atoms.positions.copy(), atoms.get_momenta(), forces)
            update(step, temperature)
    except NumericalError as error:
        return _Ending(Outcome.NAN, str(error), good)
    except StructureError as error:
        return _Ending(Outcome.REFUSED, str(error), good)
    except KeyboardInterrupt:
        return _Ending(Outcome.INTERRUPTED, "", good)
    return _Ending(Outcome.COMPLETED, "", good)


def _write_frame(atoms: Atoms, step: int, config: MDConfig, frames: FrameFile, *, with_stresses: bool) -> None:
    with_stress = has_volume(atoms) and atoms.pbc.any()
    results = {
        "energy": quantity(atoms, "energy"),
        "forces": atoms.get_forces(apply_constraint=False),
        "stress": quantity(atoms, "stress") if with_stress else None,
        "stresses": quantity(atoms, "stresses") if with_stress and with_stresses else None,
    }
    frames.write(atoms, step, step * config.timestep_fs / 1000.0, results, definition_of(atoms.calc))


def _keep_evidence(atoms: Atoms, good: _State | None, config: MDConfig, frames: FrameFile, failed_path: Path) -> None:
    """Save the structure that failed, go back to the last good state and make that the last frame."""
    if good is None:
        return
    if np.isfinite(atoms.positions).all() and not np.array_equal(atoms.positions, good.positions):
        with FrameFile(failed_path) as failed:
            failed.write(atoms, good.step + 1, (good.step + 1) * config.timestep_fs / 1000.0, {})
    atoms.set_positions(good.positions, apply_constraint=False)
    atoms.set_momenta(good.momenta, apply_constraint=False)
    if frames.last_step != good.step:
        frames.write(atoms, good.step, good.step * config.timestep_fs / 1000.0, {"forces": good.forces})


def _measured(result: RunResult, ending: _Ending, seconds: float) -> RunResult:
    config = result.config
    steps = ending.last_good.step if ending.last_good else 0
    rows = read_thermo(result.folder / THERMO_FILE).get(result.name)
    temperatures = np.array([]) if rows is None else rows["temperature_K"][np.isfinite(rows["temperature_K"])]
    measured = {
        "outcome": ending.outcome,
        "detail": ending.detail,
        "steps_done": steps,
        "time_ps": steps * config.timestep_fs / 1000.0,
        "wall_seconds": seconds,
        "ms_per_step": 1000.0 * seconds / steps if steps else None,
        "ns_per_day": ns_per_day(steps, config.timestep_fs, seconds) if steps else None,
        "temperature_mean_K": float(temperatures.mean()) if len(temperatures) else None,
        "temperature_std_K": float(temperatures.std()) if len(temperatures) else None,
    }
    # the slope of a run that blew up says nothing about the potential
    if rows is not None and config.ensemble == "nve" and ending.outcome is Outcome.COMPLETED:
        measured["drift"] = energy_drift(rows["time_ps"], rows["total_eV"], result.n_atoms)
        measured["heating"] = fit_slope(rows["time_ps"], rows["temperature_K"])
    return result.model_copy(update=measured)
