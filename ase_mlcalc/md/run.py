"""`run_md`: one stage of molecular dynamics with any ASE calculator, from its start or from where it was killed."""

import warnings
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import MLCalcError, NumericalError, StructureError
from ase_mlcalc.files import exclusive, is_disk_full, make_folder, remove_leftovers, uninterrupted
from ase_mlcalc.foreign import forget
from ase_mlcalc.md.config import MDConfig
from ase_mlcalc.md.drift import energy_drift, fit_slope
from ase_mlcalc.md.engines import ASE, Engine
from ase_mlcalc.md.ensembles import Integrator, conserves_momentum, set_initial_momenta
from ase_mlcalc.md.evidence import RecentStates
from ase_mlcalc.md.frames import last_frame
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.progress import Update, ns_per_day, progress_bar
from ase_mlcalc.md.provenance import Provenance, identify_calculator, identify_structure, provenance
from ase_mlcalc.md.recorder import Recorder
from ase_mlcalc.md.restart import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from ase_mlcalc.md.result import (
    Event,
    RunResult,
    can_be_longer,
    earlier_stage,
    goes_on,
    is_longer,
    read_results,
    refuse_another_run,
    refuse_to_go_on,
    refuse_to_overtake,
    save_result,
)
from ase_mlcalc.md.start import check_start, doubts
from ase_mlcalc.md.thermo import THERMO_FILE, measure, read_thermo
from ase_mlcalc.md.velocities import degrees_of_freedom, temperature_K
from ase_mlcalc.md.watched import WatchedRun

Array = NDArray[np.float64]
Result = TypeVar("Result")


class RunWarning(UserWarning):
    """A run that is made as asked and probably not meant so."""


class _Good(NamedTuple):
    """The last state in which everything was finite."""

    step: int
    positions: Array
    momenta: Array
    cell: Array


class _Ended(Exception):  # noqa: N818  (how a run ends is no error)
    """Raised from within a step when the run is over before its last step."""

    def __init__(self, outcome: Outcome, detail: str = "") -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail


def run_md(
    atoms: Atoms,
    config: MDConfig,
    folder: Path | str,
    *,
    name: str = "md",
    reference: Sequence[Atoms] = (),
    source: str | None = None,
    progress: bool = True,
) -> RunResult:
    """Integrate the equations of motion of a structure for one stage.

    `atoms` moves: it ends in the last good state, so that a next stage with ``initial_velocities="keep"`` continues
    it.  Several stages can be written to one folder under different names.

    The same call continues a run that was killed, from its last checkpoint and, on the same machine, bit for bit as if
    it had not been; and it returns the result of one that has ended.  A longer ``time_ps`` goes on behind the end of
    one that completed.  `atoms` is given as at the very start each time.

    Parameters
    ----------
    atoms : ase.Atoms
        With a calculator that gives forces; energy, stress and per-atom stresses are recorded where it has them.
        The calculator is reset at each checkpoint.
    config : MDConfig
    folder : path
        Receives ``thermo.csv`` (all stages), ``NAME.traj`` (exact positions and momenta, energy, forces, stress and
        sampled per-atom stresses), ``result.json`` and, where `config` asks for them, ``NAME-stress.csv`` and
        ``NAME-heat-flux.csv`` (see `ase_mlcalc.transport`).  After a failure the last good state is the last frame, and
        ``NAME-failure.extxyz`` holds the structures up to the one on which the run failed.
    name : str
        Of the stage.
    reference : sequence of ase.Atoms
        Frames of a trajectory that is taken for right, for the monitors that compare with one.
    source : str, optional
        Where the calculator came from, for the record.
    progress : bool
        Show a progress bar if stderr is a terminal.

    Returns
    -------
    RunResult
        Ask `RunResult.outcome`: NaN, explosion, refusal and what monitors find are outcomes and not exceptions.

    Raises
    ------
    ConfigError
        No calculator; equations of motion that do not fit the structure; the folder already holds another stage of this
        name, or one that is not at its end; another process is at work in it.
    StructureError
        The starting structure is empty, its positions or momenta are not finite, or the potential refuses it.
    ModelError
        The calculator gives no forces.
    MLCalcError
        The disk is full; what was written so far is kept.
    KeyboardInterrupt
        After the outcome of an interrupted run is on disk.
    """
    return alone(md_steps(atoms, config, folder, name=name, reference=reference, source=source, progress=progress))


def alone(running: Generator["Stage", None, Result]) -> Result:
    """Make a run, one step after another by its own integrator; what it returns."""
    try:
        stage = next(running)
        while True:
            try:
                stage.advance()
            except BaseException as error:  # noqa: BLE001  (the run knows what it means)
                stage = running.throw(error)
            else:
                stage = next(running)
    except StopIteration as end:
        return end.value


def md_steps(
    atoms: Atoms,
    config: MDConfig,
    folder: Path | str,
    *,
    name: str = "md",
    reference: Sequence[Atoms] = (),
    source: str | None = None,
    progress: bool = True,
    engine: Engine = ASE,
) -> Generator["Stage", None, RunResult]:
    """`run_md` without the time steps: each is asked for, made elsewhere, and then looked at and recorded.

    Whoever goes on with it has moved ``stage.atoms``, put the results for them into their calculator and set
    ``stage.step``; several steps may be made at once, up to `Stage.next_look`.  What goes wrong in a step is thrown
    into it.
    """
    folder = Path(folder)
    check_start(atoms, config)
    identity: dict[str, Any] = {
        "structure": identify_structure(atoms),
        "calculator": identify_calculator(atoms.calc),
        "reference": [identify_structure(frame) for frame in reference],
    }
    if engine.name != ASE.name:
        identity["engine"] = engine.name
    earlier = _same_stage(folder, name, config, identity)
    if earlier is None or goes_on(earlier, config):
        make_folder(folder)
        with exclusive(folder):
            remove_leftovers(folder)
            earlier = _same_stage(folder, name, config, identity)  # another process may have ended it meanwhile
            if earlier is None or goes_on(earlier, config):
                begun = _ready(folder, name, config, earlier)
                stage = Stage(atoms, config, folder, name, tuple(reference), engine)
                made_by = provenance(source, engine.packages)
                announced = begun or _announced(atoms, config, folder, name, identity, made_by)
                return (yield from stage.run(announced, progress=progress))
    _go_to_the_end(atoms, earlier)
    return earlier


def _same_stage(folder: Path, name: str, config: MDConfig, identity: dict[str, Any]) -> RunResult | None:
    """What a folder holds of a stage; refused where that is another run."""
    earlier = earlier_stage(folder, name)
    if earlier is not None:
        refuse_another_run(earlier, config, identity)
    return earlier


def _ready(folder: Path, name: str, config: MDConfig, earlier: RunResult | None) -> RunResult | None:
    """Make a folder ready for a stage that is to begin or to go on; what there is of it, as long as it is to be now."""
    refuse_to_overtake(folder, name)
    if earlier is None:
        for before in read_results(folder):  # whose ends are no ends any more
            checkpoint_path(folder, before.name).unlink(missing_ok=True)
    elif is_longer(config, earlier.config):
        there = not earlier.completed or checkpoint_path(folder, name).exists()
        refuse_to_go_on(earlier, config, at_its_end=there)
        return earlier.model_copy(update={"config": config})
    return earlier


def _go_to_the_end(atoms: Atoms, earlier: RunResult) -> None:
    """Put a structure into the state that a stage ended in."""
    final = last_frame(earlier.trajectory)
    if final is not None:
        atoms.set_cell(np.asarray(final.cell), scale_atoms=False)
        atoms.set_positions(final.positions, apply_constraint=False)
        atoms.set_momenta(final.get_momenta(), apply_constraint=False)


def _announced(
    atoms: Atoms, config: MDConfig, folder: Path, name: str, identity: dict[str, Any], made_by: Provenance
) -> RunResult:
    """What is known before the first step."""
    calculator = atoms.calc
    ours = isinstance(calculator, MLCalculator)
    return RunResult(
        name=name,
        folder=folder,
        outcome=Outcome.RUNNING,
        config=config,
        formula=atoms.get_chemical_formula(),
        n_atoms=len(atoms),
        degrees_of_freedom=0,
        calculator=type(calculator).__name__,
        dtype=str(calculator.potential.dtype).removeprefix("torch.") if ours else None,
        stress_definition=calculator.stress_definition if ours else None,
        notes=doubts(atoms, config),
        identity=identity,
        provenance=made_by,
    )


class Stage:
    """A stage at work: from its first step, or from a checkpoint, to its end.

    A checkpoint is made before a step is recorded, and the calculator is reset there, so that a run that goes on from
    the checkpoint and the run that made it do the same from then on.  The last one stays, for a run that is to be
    longer.
    """

    def __init__(
        self,
        atoms: Atoms,
        config: MDConfig,
        folder: Path,
        name: str,
        reference: tuple[Atoms, ...],
        engine: Engine,
    ) -> None:
        self.atoms, self.config, self.folder, self.name = atoms, config, folder, name
        self.checkpoint_every = config.steps_between(config.checkpoint_every_fs)
        self.checkpoint_path = checkpoint_path(folder, name)
        earlier = load_checkpoint(self.checkpoint_path)
        set_initial_momenta(atoms, config)
        n_degrees = degrees_of_freedom(atoms, all_momenta=not conserves_momentum(config))
        self.watched = WatchedRun(atoms, config, n_degrees, reference)
        self.resumed = earlier is not None
        self.first = self.step = 0 if earlier is None else earlier.step
        self.seconds_before = 0.0 if earlier is None else earlier.wall_seconds
        if earlier is not None:
            earlier.put_into(atoms)
        self.integrator: Integrator = engine.integrator(atoms, config)
        self.recent = RecentStates(atoms, earlier.parts.get("recent") if earlier else None)
        self.lengths = None if earlier is None else earlier.files
        if earlier is not None:
            self.integrator.restore(earlier.parts["integrator"])
            self.watched.restore(earlier.parts["monitors"])
            forget(atoms.calc)
        self.n_degrees = n_degrees
        self.masses_n1 = atoms.get_masses()[:, None]
        self.good: _Good | None = None
        self._intervals: tuple[int, ...] = ()
        """In steps, between what is done while it runs."""
        self.clock = engine.clock
        self.started = self.clock()

    def run(self, result: RunResult, *, progress: bool) -> Generator["Stage", None, RunResult]:
        """To the end."""
        result = result.model_copy(
            update={
                "outcome": Outcome.RUNNING,
                "degrees_of_freedom": self.n_degrees,
                "restarts": result.restarts + self.resumed,
            }
        )
        for note in result.notes if not self.resumed else ():
            warnings.warn(f"{self.name}: {note}", RunWarning, stacklevel=5)
        try:
            save_result(result)
            ended = yield from self._run_to_the_end(progress=progress)
            result = self._measured(result, ended)
            save_result(result)
        except (OSError, MLCalcError) as error:
            if not is_disk_full(error):
                raise
            with suppress(OSError, MLCalcError):  # there may be no space to say so
                save_result(result.model_copy(update={"outcome": Outcome.DISK_FULL, "steps_done": self.step}))
            raise MLCalcError(f"{self.name}: {Outcome.DISK_FULL.value} ({self.folder}, step {self.step})") from error
        if ended.outcome is Outcome.INTERRUPTED:
            raise KeyboardInterrupt
        if not (result.completed and can_be_longer(self.config)):
            self.checkpoint_path.unlink(missing_ok=True)
        return result

    def _run_to_the_end(self, *, progress: bool) -> Generator["Stage", None, _Ended]:
        config = self.config
        with (
            Recorder(self.folder, self.name, config, self.lengths) as recorder,
            progress_bar(self.name, config.steps, config.timestep_fs, shown=progress, first=self.first) as update,
        ):
            self._intervals = (self.checkpoint_every, *recorder.intervals, *self.watched.intervals)
            try:
                yield from self._integrate(recorder, update)
            except _Ended as ended:
                return self._closed(ended, recorder)
            except NumericalError as error:
                return self._closed(_Ended(Outcome.NAN, str(error)), recorder)
            except StructureError as error:
                return self._closed(_Ended(Outcome.REFUSED, str(error)), recorder)
            except KeyboardInterrupt:
                return self._closed(_Ended(Outcome.INTERRUPTED), recorder)
            except Exception as error:
                # a method that does not converge says something about the structure; a disk or memory does not
                if isinstance(error, MLCalcError | OSError | MemoryError) or isinstance(self.atoms.calc, MLCalculator):
                    raise
                failed = f"{type(error).__name__} at step {self.step}: {' '.join(str(error).split())}"
                return self._closed(_Ended(Outcome.CALCULATION_FAILED, failed), recorder)
        return _Ended(Outcome.COMPLETED)

    def _integrate(self, recorder: Recorder, update: Update) -> Generator["Stage", None, None]:
        """Look and record until the end; every quantity here is already in the calculator's cache."""
        if not self.resumed:
            self._save(recorder)
        last = False
        while not last:
            with uninterrupted():
                if self.step % self.checkpoint_every == 0 and self.step > self.first:
                    self._save(recorder)
                    forget(self.atoms.calc)
                elif self.step == self.config.steps > self.first:
                    self._save(recorder)
                temperature = self._check_motion()
                last = self.step == self.config.steps or self._settled(temperature)
                self._record(recorder, temperature, last=last)
                update(self.step, temperature)
            if not last:
                yield self

    def advance(self) -> None:
        """Make a step by the integrator of this stage alone."""
        target = self.config.target_K(self.step)
        if self.config.temperature_end_K is not None and target is not None:
            self.integrator.set_temperature(target)
        self.step += 1
        self.integrator.step()

    def next_look(self) -> int:
        """The step at which something is due next; in those before there is nothing to do but to see that all is
        finite and the temperature below its limit.
        """
        config, step = self.config, self.step
        if config.settle_within_percent is not None:
            return step + 1
        return min(config.steps, *((step // every + 1) * every for every in self._intervals))

    @property
    def hottest_eV(self) -> float:
        """Kinetic energy above which the run has exploded."""
        return 0.5 * max(self.n_degrees, 1) * units.kB * self.config.max_temperature_K

    def keep(self) -> None:
        """Note that all is well in the present state, to which a failure goes back."""
        atoms = self.atoms
        self.good = _Good(self.step, atoms.positions.copy(), atoms.get_momenta(), np.array(atoms.cell))

    def _check_motion(self) -> float | None:
        """The temperature; cheap, because it is asked for at every step."""
        momenta = self.atoms.arrays.get("momenta")  # get_momenta() copies them
        kinetic = 0.0 if momenta is None else 0.5 * float(np.vdot(momenta, momenta / self.masses_n1))
        if not (np.isfinite(kinetic) and np.isfinite(self.atoms.positions).all()):
            raise _Ended(Outcome.NAN, f"forces or positions at step {self.step}")
        temperature = temperature_K(kinetic, max(self.n_degrees, 1))
        if temperature is not None and temperature > self.config.max_temperature_K:
            raise _Ended(Outcome.EXPLODED, f"{temperature:.3g} K at step {self.step}")
        return temperature

    def _settled(self, temperature: float | None) -> bool:
        within, target = self.config.settle_within_percent, self.config.target_K(self.step)
        if within is None or target is None or temperature is None:
            return False
        long_enough = self.step * self.config.timestep_fs >= 1000.0 * self.config.settle_after_ps
        return long_enough and abs(temperature - target) <= 0.01 * within * target

    def _record(self, recorder: Recorder, temperature: float | None, *, last: bool) -> None:
        atoms, step = self.atoms, self.step
        with_thermo, with_monitors = recorder.thermo_is_due(step) or last, self.watched.is_due(step)
        # a thermostat conserves what it does at one temperature only
        ramped = self.config.temperature_end_K is not None
        conserved = self.integrator.conserved_eV() if (with_thermo or with_monitors) and not ramped else None
        if with_thermo:
            row = measure(atoms, step, self.config.timestep_fs, self.n_degrees, conserved)
            if not np.isfinite(row.max_force_eV_per_A):
                raise _Ended(Outcome.NAN, f"forces at step {step}")
            recorder.write_thermo(row)
        recorder.write_fluxes(atoms, step, temperature)
        recorder.write_frames(atoms, step, last=last)
        self.keep()
        if with_monitors:
            self.recent.remember(step)
            self._end_by(self.watched.look(step, temperature, conserved))
        if last:
            self._end_by(self.watched.finish(step))

    @staticmethod
    def _end_by(event: Event | None) -> None:
        if event is not None:
            raise _Ended(event.outcome, event.detail)

    def _save(self, recorder: Recorder) -> None:
        save_checkpoint(
            self.checkpoint_path,
            Checkpoint(
                step=self.step,
                positions=self.atoms.positions.copy(),
                momenta=self.atoms.get_momenta(),
                cell=np.array(self.atoms.cell),
                parts={
                    "integrator": self.integrator.state(),
                    "monitors": self.watched.state(),
                    "recent": self.recent.state(),
                },
                files=recorder.lengths(),
                wall_seconds=self._wall_seconds(),
            ),
        )

    def _closed(self, ended: _Ended, recorder: Recorder) -> _Ended:
        """Keep the evidence of a failure, go back to the last good state and make that the last frame."""
        good = self.good
        if good is None:
            return ended
        atoms = self.atoms
        if ended.outcome is not Outcome.INTERRUPTED:
            ended = self._with_its_cause(ended)
            why = f"{ended.outcome.name}: {ended.detail}"
            path = self.folder / f"{self.name}-failure.extxyz"
            try:
                self.recent.write(path, self.config.timestep_fs, self.step, why)
            except MLCalcError as error:  # how the run ended counts more than the structures before it
                ended = _Ended(ended.outcome, "; ".join(filter(None, (ended.detail, str(error)))))
        atoms.set_cell(good.cell, scale_atoms=False)
        atoms.set_positions(good.positions, apply_constraint=False)
        atoms.set_momenta(good.momenta, apply_constraint=False)
        self.step = good.step
        if recorder.last_frame_step != good.step:
            recorder.write_bare_frame(atoms, good.step)
        return ended

    def _with_its_cause(self, ended: _Ended) -> _Ended:
        """What monitors see in the structure that failed says more than how the failure came to light."""
        if any(event.stops for event in self.watched.events):
            return ended
        cause = self.watched.last_look(self.step)
        if cause is None:
            return ended
        return _Ended(cause.outcome, f"{cause.detail}; then {ended.outcome.name}: {ended.detail}")

    def _wall_seconds(self) -> float:
        return self.seconds_before + self.clock() - self.started

    def _measured(self, result: RunResult, ended: _Ended) -> RunResult:
        config, seconds = self.config, self._wall_seconds()
        steps = self.good.step if self.good else self.first
        rows = read_thermo(self.folder / THERMO_FILE).get(self.name)
        temperatures = np.array([]) if rows is None else rows["temperature_K"][np.isfinite(rows["temperature_K"])]
        measured = {
            "outcome": ended.outcome,
            "detail": ended.detail,
            "steps_done": steps,
            "time_ps": steps * config.timestep_fs / 1000.0,
            "wall_seconds": seconds,
            "ms_per_step": 1000.0 * seconds / steps if steps else None,
            "ns_per_day": ns_per_day(steps, config.timestep_fs, seconds) if steps else None,
            "temperature_mean_K": float(temperatures.mean()) if len(temperatures) else None,
            "temperature_std_K": float(temperatures.std()) if len(temperatures) else None,
            "events": tuple(self.watched.events),
        }
        # the slope of a run that blew up says nothing about the potential
        if rows is not None and ended.outcome in (Outcome.COMPLETED, Outcome.DRIFTED, Outcome.WRONG_TEMPERATURE):
            measured["drift"] = energy_drift(rows["time_ps"], rows["conserved_eV"], result.n_atoms)
            if config.ensemble == "nve":
                measured["heating"] = fit_slope(rows["time_ps"], rows["temperature_K"])
        return result.model_copy(update=measured)
