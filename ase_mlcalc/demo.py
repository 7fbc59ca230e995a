"""The demo: labelled water to a potential to molecular dynamics, with the physics checked on the way.

It writes two configuration files and does with them what ``ase-mlcalc train`` and ``ase-mlcalc md`` do; everything
else here is measuring and showing.
"""

import json
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from ase_mlcalc import checkpoint
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.config import read_toml, toml_value, validate
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.sets import water16
from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.files import atomic_path, write_text
from ase_mlcalc.md import MDJob, RunResult, run_job
from ase_mlcalc.model import Model
from ase_mlcalc.report import write_report
from ase_mlcalc.report.overview import write_overview
from ase_mlcalc.testing import finite_difference
from ase_mlcalc.testing.outcome import FINITE_DIFFERENCE, FORCE_FLOOR, STRESS_FLOOR, SUMS
from ase_mlcalc.training import dataset
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.evaluate import write_predictions
from ase_mlcalc.training.metrics import compare_frames
from ase_mlcalc.training.train import train
from ase_mlcalc.virials import definition_at_hand


class Plan(NamedTuple):
    """How much of everything."""

    n_train: int
    n_validation: int
    minutes: float
    """Of training, its evaluation included."""
    model: dict[str, Any]
    nvt_ps: float
    nve_ps: float
    thermo_every_fs: float
    max_epochs: int | None = None
    meaningful: bool = True
    """False: too little of everything for the numbers to mean anything."""


FULL = Plan(
    n_train=478,
    n_validation=53,
    minutes=4.0,
    model={"name": "equivariant", "cutoff": 4.5, "features": 32, "edge_features": 16},
    nvt_ps=0.5,
    nve_ps=5.0,
    thermo_every_fs=5.0,
)
QUICK = Plan(
    n_train=16,
    n_validation=4,
    minutes=0.5,
    model={"name": "equivariant", "cutoff": 3.5, "features": 4, "edge_features": 2, "l_max": 1},
    nvt_ps=0.01,
    nve_ps=0.05,
    thermo_every_fs=1.0,
    max_epochs=2,
    meaningful=False,
)

TEMPERATURE_K = 300.0
TIMESTEP_FS = 0.5
STRUCTURE_FILE, TRAIN_FILE, MD_FILE = "start.extxyz", "train.toml", "md.toml"

FORCE_AIM_MEV_PER_A = 40.0
ENERGY_AIM_MEV_PER_ATOM = 1.0
DRIFT_AIM_MEV_PER_ATOM_PER_PS = 0.02
TOTAL_AIM_MINUTES = 8.0


class Check(BaseModel):
    """A law of physics, measured on the trained potential."""

    model_config = ConfigDict(frozen=True)

    name: str
    error: float
    """Largest deviation, relative to `signal`."""
    allowed: float
    signal: float
    """Largest number of the quantity that is checked."""
    floor: float
    """A smaller signal would check nothing."""
    unit: str

    @property
    def passed(self) -> bool:
        """The law holds, and there was something that could have broken it."""
        return self.error <= self.allowed and self.signal > self.floor


class Summary(BaseModel):
    """The results of a demo; ``summary.json`` has these names, and a check also whether it ``passed``."""

    model_config = ConfigDict(frozen=True)

    meaningful: bool
    checkpoint: str
    report: str
    overview: str | None
    force_mae_meV_per_A: float | None
    energy_mae_meV_per_atom: float | None
    stress_mae_GPa: float | None
    nve_drift_meV_per_atom_per_ps: float | None
    nve_drift_stderr: float | None
    nve_ps: float
    nve_temperature_K: float | None
    md_outcome: str
    md_ms_per_step: float | None
    checks: list[Check]
    train_minutes: float
    total_minutes: float

    def write(self, path: Path) -> None:
        """Write as JSON."""
        values = self.model_dump(mode="json")
        values["checks"] = [check.model_dump(mode="json") | {"passed": check.passed} for check in self.checks]
        write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def run_demo(
    out: Path | str,
    *,
    plan: Plan = FULL,
    minutes: float | None = None,
    data: Path | None = None,
    console: Console | None = None,
) -> Summary:
    """Train, check, run and report; a killed demo goes on with its training when called again.

    Parameters
    ----------
    out : path
        Folder for everything: configuration files, ``training/``, ``md/``, ``overview.png`` and ``summary.json``.
    plan : Plan
        `FULL`, or `QUICK` to see that everything works.
    minutes : float, optional
        Time for training in place of the plan's.
    data : path, optional
        Labelled structures in place of the 16 water molecules that come with the package.
    console : rich.console.Console, optional
        Where to show things.

    Raises
    ------
    MLCalcError
        A check of the physics failed or molecular dynamics did not come to its end (after `Summary` is written), or
        whatever the steps raise.
    """
    out = Path(out)
    console = Console() if console is None else console
    plan = plan if minutes is None else plan._replace(minutes=minutes)
    if not plan.meaningful:
        console.print("[bold red]QUICK: almost nothing is trained; none of the numbers below means anything[/]")
    before = time.monotonic()

    train_text = _train_text(out, plan, water16("gfn1") if data is None else data)
    train_job = validate(TrainJob, tomllib.loads(train_text), TRAIN_FILE)
    console.rule(f"training on {plan.n_train} structures, {plan.minutes:g} minutes")
    train_start = time.monotonic()
    trained = train(train_job)
    train_end = time.monotonic()
    write_text(out / TRAIN_FILE, train_text)  # not before: an earlier run with another configuration is refused
    (out / "summary.json").unlink(missing_ok=True)

    held_back = dataset.load(train_job.data).validation
    potential = checkpoint.load(trained.checkpoint)
    comparison = compare_frames(potential, held_back)
    write_predictions(out / "training" / "predictions.extxyz", held_back, comparison, definition_at_hand(potential))

    console.rule("checks of the physics, on a structure held back")
    start = _start_structure(held_back)
    checks = check_physics(trained.checkpoint, start)
    console.print(_checks_table(checks))

    md_job = _md_job(out, plan, trained.checkpoint, start)
    console.rule(f"molecular dynamics, {TEMPERATURE_K:g} K: {plan.nvt_ps:g} ps NVT, then {plan.nve_ps:g} ps NVE")
    stages = run_job(md_job)
    for stage in stages:
        console.print(stage.message, highlight=False)
    report = write_report(out / "md")
    overview = _overview(out, stages)

    last = stages[-1]
    around_training = (train_start - before) + (time.monotonic() - train_end)
    summary = Summary(
        meaningful=plan.meaningful,
        checkpoint=str(trained.checkpoint),
        report=str(report),
        overview=None if overview is None else str(overview),
        force_mae_meV_per_A=trained.metrics.force_mae_meV_per_A,
        energy_mae_meV_per_atom=trained.metrics.energy_mae_meV_per_atom,
        stress_mae_GPa=trained.metrics.stress_mae_GPa,
        nve_drift_meV_per_atom_per_ps=last.drift.slope if last.drift else None,
        nve_drift_stderr=last.drift.stderr if last.drift else None,
        nve_ps=last.time_ps if last.config.ensemble == "nve" else 0.0,
        nve_temperature_K=last.temperature_mean_K if last.config.ensemble == "nve" else None,
        md_outcome=last.outcome.name,
        md_ms_per_step=last.ms_per_step,
        checks=checks,
        train_minutes=trained.minutes,
        total_minutes=trained.minutes + around_training / 60,
    )
    summary.write(out / "summary.json")
    console.print(_summary_table(summary))
    for what, path in (("report", report), ("picture", overview), ("numbers", out / "summary.json")):
        if path is not None:
            console.print(f"{what:>8}: {path}", highlight=False, soft_wrap=True)
    _insist(checks, last)
    return summary


# ----- the two jobs ---------------------------------------------------------------------------------------------------


def _train_text(out: Path, plan: Plan, data: Path) -> str:
    """The configuration file that ``ase-mlcalc train`` would take."""
    model = "\n".join(f"{key} = {toml_value(value)}" for key, value in plan.model.items())
    limits = [f"max_minutes = {plan.minutes}"] + [f"max_epochs = {plan.max_epochs}"] * (plan.max_epochs is not None)
    return f"""\
# ase-mlcalc train {TRAIN_FILE}
output = {toml_value(out / "training")}

[data]
train = [{toml_value(data)}]
n_train = {plan.n_train}
n_validation = {plan.n_validation}

[model]
{model}

[train]
{chr(10).join(limits)}
"""


def _md_job(out: Path, plan: Plan, model: Path, start: Atoms) -> MDJob:
    """Write ``md.toml`` and its structure, and read it as ``ase-mlcalc md`` does."""
    with atomic_path(out / STRUCTURE_FILE) as part:
        ase.io.write(part, start, format="extxyz")
    text = f"""\
# ase-mlcalc md {MD_FILE}
[job]
structure = {toml_value(out / STRUCTURE_FILE)}
model = {toml_value(model)}
output = {toml_value(out / "md")}
overwrite = true

[[md]]
ensemble = "nvt"
temperature_K = {TEMPERATURE_K}
timestep_fs = {TIMESTEP_FS}
time_ps = {plan.nvt_ps}
thermo_every_fs = {plan.thermo_every_fs}

[[md]]
ensemble = "nve"
timestep_fs = {TIMESTEP_FS}
time_ps = {plan.nve_ps}
thermo_every_fs = {plan.thermo_every_fs}
"""
    write_text(out / MD_FILE, text)
    return validate(MDJob, read_toml(out / MD_FILE), str(out / MD_FILE))


def _start_structure(held_back: Sequence[Frame]) -> Atoms:
    """A structure that was not trained on, from the temperature of the run if the data say so."""
    fitting = [frame for frame in held_back if frame.atoms.info.get("temperature_K") == TEMPERATURE_K]
    atoms = (fitting or list(held_back))[0].atoms.copy()
    atoms.set_momenta(np.zeros((len(atoms), 3)))
    return atoms


# ----- the physics, measured ------------------------------------------------------------------------------------------


def check_physics(model: Path | Model, atoms: Atoms) -> list[Check]:
    """Measure the laws that a potential has to obey on one structure.

    Parameters
    ----------
    model : path or Model
        A checkpoint or a model, taken as it is for the sum rule and in float64 for the derivatives.
    atoms : ase.Atoms
        Periodic; not modified.
    """
    atoms = atoms.copy()
    atoms.calc = MLCalculator(model)
    stress = atoms.get_stress()
    summed = atoms.get_stresses().sum(axis=0)
    exact = MLCalculator(model, dtype="float64")
    atoms.calc = exact
    forces, precise_stress = atoms.get_forces(), atoms.get_stress(voigt=False)

    def energies(structures: Sequence[Atoms]) -> list[float]:
        return [float(exact.get_property("energy", each)) for each in structures]

    moves = finite_difference.directions(len(atoms), 4, seed=0)
    slopes = finite_difference.along_displacements(energies, atoms, moves, step_angstrom=1e-3)
    along = -np.einsum("kna,na->k", moves, forces)
    strain_slopes = finite_difference.stress(energies, atoms, step=1e-4)
    return [
        _check("per-atom stresses sum to the stress", summed - stress, stress, SUMS, STRESS_FLOOR, "eV/Å³"),
        _check("forces are -dE/dr", slopes - along, forces, FINITE_DIFFERENCE, FORCE_FLOOR, "eV/Å"),
        _check(
            "stress is (1/V) dE/dε",
            strain_slopes - precise_stress,
            precise_stress,
            FINITE_DIFFERENCE,
            STRESS_FLOOR,
            "eV/Å³",
        ),
    ]


def _check(name: str, error: Any, of: Any, allowed: float, floor: float, unit: str) -> Check:
    signal = float(np.abs(of).max())
    largest = float(np.abs(error).max())
    return Check(name=name, error=largest / max(signal, floor), allowed=allowed, signal=signal, floor=floor, unit=unit)


def _insist(checks: Sequence[Check], last: RunResult) -> None:
    failed = [check for check in checks if not check.passed]
    if failed:
        what = "; ".join(f"{c.name}: {c.error:.1e} of {c.signal:.2g} {c.unit}, allowed {c.allowed:.0e}" for c in failed)
        raise MLCalcError(f"checks of the physics failed: {what}")
    if not last.completed:
        raise MLCalcError(f"molecular dynamics: {last.message}")


# ----- what is shown --------------------------------------------------------------------------------------------------


def _overview(out: Path, stages: Sequence[RunResult]) -> Path | None:
    """The composite picture; without a finished constant-energy stage there is nothing to put in it."""
    last = stages[-1]
    if not last.completed or last.config.ensemble != "nve":
        return None
    path = out / "overview.png"
    training = out / "training"
    write_overview(
        path,
        predictions=training / "predictions.extxyz",
        log=training / "log.csv",
        run_folder=out / "md",
        stage=last.name,
    )
    return path


def _checks_table(checks: Sequence[Check]) -> Table:
    table = Table("law", "relative error", "allowed", "signal", "")
    for check in checks:
        verdict = "[green]holds[/]" if check.passed else "[bold red]FAILS[/]"
        signal = f"{check.signal:.3g} {check.unit}"
        table.add_row(check.name, f"{check.error:.1e}", f"{check.allowed:.0e}", signal, verdict)
    return table


def _summary_table(summary: Summary) -> Table:
    title = "results" if summary.meaningful else "results of a QUICK run, which mean nothing"
    table = Table("number", "measured", "aim", "unit", title=title, title_justify="left")

    def row(name: str, value: float | None, aim: float, unit: str, error: float | None = None) -> None:
        if value is None:
            table.add_row(name, "not measured", f"≤ {aim:g}", unit)
            return
        style = "" if not summary.meaningful else "green" if abs(value) <= aim else "yellow"
        shown = f"{value:.3g}" if error is None else f"{value:+.2g} ± {error:.1g}"
        table.add_row(name, shown, f"≤ {aim:g}", unit, style=style)

    row("force MAE", summary.force_mae_meV_per_A, FORCE_AIM_MEV_PER_A, "meV/Å")
    row("energy MAE", summary.energy_mae_meV_per_atom, ENERGY_AIM_MEV_PER_ATOM, "meV/atom")
    row(
        f"energy drift over {summary.nve_ps:g} ps NVE",
        summary.nve_drift_meV_per_atom_per_ps,
        DRIFT_AIM_MEV_PER_ATOM_PER_PS,
        "meV/atom/ps",
        summary.nve_drift_stderr,
    )
    if summary.stress_mae_GPa is not None:
        table.add_row("stress MAE", f"{summary.stress_mae_GPa:.3g}", "", "GPa")
    passed = sum(check.passed for check in summary.checks)
    table.add_row("checks of the physics", f"{passed} of {len(summary.checks)} hold", "all", "")
    if summary.md_ms_per_step is not None:
        table.add_row("time per step", f"{summary.md_ms_per_step:.3g}", "", "ms")
    table.add_row("training", f"{summary.train_minutes:.2g}", "", "min")
    row("everything", summary.total_minutes, TOTAL_AIM_MINUTES, "min")
    return table
