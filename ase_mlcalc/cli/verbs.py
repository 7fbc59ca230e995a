"""What ``ase-mlcalc`` can do: one function a verb, each a few calls into the package."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from ase import Atoms
    from rich.console import Console

    from ase_mlcalc.data.read import LabelKeys

app = typer.Typer(
    name="ase-mlcalc",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a value of the file, e.g. model.cutoff=6 or md.0.seed=1. Repeatable."
    ),
]
Format = Annotated[str | None, typer.Option("--format", help="Format of the files: a name of ASE, or npz.")]
Index = Annotated[str, typer.Option("--index", help="Which structures of each file, as in ASE.")]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="LABEL=NAME", help="Name of a label in the files, e.g. energy=dft_energy. Repeatable."
    ),
]

Compile = Annotated[
    bool, typer.Option("--compile", help="Evaluate with code compiled for this machine, made once and kept.")
]


def _print_version(value: bool) -> None:
    if value:
        from ase_mlcalc import __version__

        typer.echo(f"ase-mlcalc {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  (acts through its callback)
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="After an error, print the traceback too.")] = False,  # noqa: ARG001
) -> None:
    """Train machine-learned potentials, check them, and run molecular dynamics with them.

    Start with `ase-mlcalc demo`, or with `ase-mlcalc template train > train.toml`.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is written.")] = Path("demo-output"),
    minutes: Annotated[float | None, typer.Option("--minutes", min=0.01, help="Time for training.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Seconds instead of minutes, to see that it runs; the numbers mean nothing.")
    ] = False,
) -> None:
    """Train on 16 water molecules, check the physics, run molecular dynamics, and report: about five minutes.

    A killed demo goes on with the training when the same command is given again.
    """
    from ase_mlcalc.demo import FULL, QUICK, run_demo

    run_demo(out, plan=QUICK if quick else FULL, minutes=minutes, console=_console())


@app.command("check-data")
def check_data(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files with labelled structures.")],
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write this as JSON.")] = None,
    format: Format = None,  # noqa: A002  (ASE's word)
    index: Index = ":",
    key: Keys = None,
) -> None:
    """Look at labelled structures before training: labels and where they come from, ranges, E0, suspicious ones.

    Fails if there are errors that have to be solved first.
    """
    from ase_mlcalc.data.audit import audit, render_audit
    from ase_mlcalc.data.read import read_frames
    from ase_mlcalc.errors import DataError
    from ase_mlcalc.files import write_text

    result = audit(read_frames(files, keys=_label_keys(key), format=format, index=index))
    if json_file is not None:
        write_text(json_file, _json(result.to_dict()))
    render_audit(result, _console())
    if result.errors:
        more = f" (and {len(result.errors) - 1} more above)" if len(result.errors) > 1 else ""
        raise DataError(f"the data need work before training: {result.errors[0].message}{more}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="`ase-mlcalc template train` prints one.")],
    overrides: Overrides = None,
    members: Annotated[
        int | None, typer.Option("--members", min=1, help="Train an ensemble of so many; short for train.members.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="MODEL", help="Start from its weights; short for train.start_from.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option("--delta-of", metavar="MODEL", help="Learn the difference to it; short for data.base.model."),
    ] = None,
) -> None:
    """Train a potential or an ensemble; the same command goes on with a run that was killed.

    Writes model.safetensors, metrics.json, log.csv, config.toml and pictures into the output folder of the file.
    Several processes share the work when torchrun starts them: torchrun --nproc-per-node 2 -m ase_mlcalc train ...
    """
    from ase_mlcalc.cli.tables import metrics_table
    from ase_mlcalc.config import apply_overrides, read_toml, validate
    from ase_mlcalc.training.config import TrainJob
    from ase_mlcalc.training.processes import joined
    from ase_mlcalc.training.train import train as run

    short = {"train.members": members, "train.start_from": start, "data.base.model": base}
    words = [*(overrides or ()), *(f"{key}={value}" for key, value in short.items() if value is not None)]
    job = validate(TrainJob, apply_overrides(read_toml(config), words), str(config))
    with joined() as processes:
        result = run(job)
    if not processes.first:
        return
    _console().print(metrics_table(result.metrics, "errors on the validation structures"))
    if result.test is not None:
        _console().print(metrics_table(result.test, "errors on the test structures"))


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint, or a folder of training.")],
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Files with labelled structures.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for metrics.json and parity.png; default: DATA-errors.")
    ] = None,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Also write predictions.extxyz with predictions and labels.")
    ] = False,
    format: Format = None,  # noqa: A002
    index: Index = ":",
    key: Keys = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Structures evaluated at once.")] = 16,
    definition: Annotated[
        str | None,
        typer.Option(
            "--definition",
            help="Of per-atom stress: edge, center, other, site, heat or cluster. Default: that which labels name.",
        ),
    ] = None,
    kinetic: Annotated[
        bool, typer.Option("--kinetic", help="Stresses with their kinetic part, from the momenta of the structures.")
    ] = False,
) -> None:
    """Measure the errors of a potential on labelled structures."""
    from ase_mlcalc.cli.potentials import file_of, say_if_seen
    from ase_mlcalc.cli.tables import metrics_table
    from ase_mlcalc.training.evaluate import evaluate_files
    from ase_mlcalc.virials import DEFAULT_STRESS_DEFINITION, DEFINITIONS

    model = file_of(model)
    out = Path(f"{data[0].stem}-errors") if out is None else out
    metrics = evaluate_files(
        model,
        data,
        out,
        keys=_label_keys(key),
        format=format,
        index=index,
        batch_size=batch_size,
        predictions=predictions,
        definition=definition,
        kinetic=kinetic,
    )
    _console().print(metrics_table(metrics, f"errors of {model}"))
    written = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    say_if_seen(written["n_seen_in_training"])
    if definition is None and written["stress_definition"] in DEFINITIONS.keys() - {DEFAULT_STRESS_DEFINITION}:
        typer.echo(f"note: per-atom stress by definition {written['stress_definition']}, which the labels name")
    typer.echo(f"wrote {out / 'metrics.json'}")


@app.command()
def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL... DATA...",
            help="Checkpoints (.safetensors, .compiled or folders of training), then files with labelled structures.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for compare.json and compare.png.")],
    format: Format = None,  # noqa: A002
    index: Index = ":",
    key: Keys = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Structures evaluated at once.")] = 16,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed calls of each potential.")] = 20,
) -> None:
    """Measure potentials side by side on the same labelled structures: errors, speed and size."""
    from ase_mlcalc.cli.potentials import say_if_seen
    from ase_mlcalc.cli.tables import comparison_table
    from ase_mlcalc.training.side_by_side import compare_files, split_arguments

    models, data = split_arguments(files)
    rows = compare_files(
        models,
        data,
        out,
        keys=_label_keys(key),
        format=format,
        index=index,
        batch_size=batch_size,
        repeats=repeats,
    )
    _console().print(comparison_table(rows))
    for row in rows:
        say_if_seen(row.n_seen_in_training, f" by {row.name}" if len(rows) > 1 else "")
    typer.echo(f"wrote {out / 'compare.json'}")


@app.command()
def calibrate(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A checkpoint of an ensemble, or a folder of training.")
    ],
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Files with labelled structures.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for calibration.json, calibration.png and the calibrated ensemble.")
    ],
    format: Format = None,  # noqa: A002
    index: Index = ":",
    key: Keys = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Structures evaluated at once.")] = 16,
) -> None:
    """Measure how well the spread of an ensemble tells its error, on structures that it was not trained on."""
    from ase_mlcalc.cli.potentials import file_of, say_if_seen
    from ase_mlcalc.cli.tables import calibration_table
    from ase_mlcalc.training.calibration import calibrate_files

    found = calibrate_files(
        file_of(model), data, out, keys=_label_keys(key), format=format, index=index, batch_size=batch_size
    )
    _console().print(calibration_table(found))
    say_if_seen(json.loads((out / "calibration.json").read_text(encoding="utf-8"))["n_seen_in_training"])
    typer.echo(f"wrote {out / 'calibration.json'}")


@app.command()
def md(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG.toml]", help="`ase-mlcalc template md` prints one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="FILE", help="A checkpoint, or a .compiled file.")
    ] = None,
    calculator: Annotated[
        str | None, typer.Option("--calculator", help="Any ASE calculator as package.module:Factory.")
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option("--argument", metavar="KEY=VALUE", help="Of the calculator's factory, as in TOML. Repeatable."),
    ] = None,
    structure: Annotated[str | None, typer.Option("--structure", metavar="FILE", help="To start from.")] = None,
    index: Annotated[
        int | None, typer.Option("--index", help="Which structure of the file; by default the last.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="FILE", help="Trajectory that monitors compare with.")
    ] = None,
    equilibration: Annotated[
        str | None, typer.Option("--equilibration", help="Stages before: none, langevin or langevin-settle.")
    ] = None,
    ensemble: Annotated[str | None, typer.Option("--ensemble", help="nve, nvt or npt.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", metavar="K")] = None,
    timestep: Annotated[float | None, typer.Option("--timestep", metavar="FS")] = None,
    time_ps: Annotated[float | None, typer.Option("--time-ps", help="Length of the run.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of velocities and thermostat.")] = None,
    out: Annotated[str | None, typer.Option("--out", help="Folder for everything that is written.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove an earlier run from the folder first.")
    ] = False,
    compile: Compile = False,  # noqa: A002
    overrides: Overrides = None,
) -> None:
    """Run molecular dynamics, then write its report; the same command goes on with a run that was killed.

    Everything from a file, or a simple run from options.  Fails if the run did not come to its end.
    """
    from contextlib import suppress

    from ase_mlcalc.cli.runs import ended_before, job_of
    from ase_mlcalc.cli.tables import describe_stage
    from ase_mlcalc.errors import MLCalcError
    from ase_mlcalc.md import run_job
    from ase_mlcalc.report import write_report

    job = job_of(
        config,
        files={
            "model": model,
            "calculator": calculator,
            "structure": structure,
            "index": index,
            "reference": reference,
            "equilibration": equilibration,
            "output": out,
            "overwrite": overwrite or None,
            "compile": compile or None,
        },
        stage={
            "ensemble": ensemble,
            "temperature_K": temperature,
            "timestep_fs": timestep,
            "time_ps": time_ps,
            "seed": seed,
        },
        arguments=argument or (),
        overrides=overrides or (),
    )
    before = ended_before(job)
    try:
        results = run_job(job)
    except KeyboardInterrupt:
        with suppress(MLCalcError):  # nothing to report on yet
            write_report(job.job.output, reference=job.job.reference)
        raise
    if results == before:
        ended = "finished run" if results[-1].completed else "run that failed"
        typer.echo(f"{job.job.output} holds a {ended}; nothing was run, choose another folder to run anew")
    for result in results:
        typer.echo(describe_stage(result))
    typer.echo(f"wrote {write_report(job.job.output, reference=job.job.reference)}")
    if not results[-1].completed:
        raise MLCalcError(results[-1].message)


@app.command()
def study(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG.toml]", help="`ase-mlcalc template study` prints one.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="FILE", help="A checkpoint. Repeatable.")
    ] = None,
    calculator: Annotated[
        list[str] | None,
        typer.Option("--calculator", help="Any ASE calculator as package.module:Factory. Repeatable."),
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option("--argument", metavar="KEY=VALUE", help="Of the calculator's factory, as in TOML. Repeatable."),
    ] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option("--structure", metavar="FILE", help="To start from; FILE@3 is the fourth in it. Repeatable."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="FILE", help="Trajectory that monitors compare with.")
    ] = None,
    equilibration: Annotated[
        str | None, typer.Option("--equilibration", help="Stages before: none, langevin or langevin-settle.")
    ] = None,
    ensemble: Annotated[str | None, typer.Option("--ensemble", help="nve, nvt or npt.")] = None,
    temperature: Annotated[str | None, typer.Option("--temperature", metavar="K", help="One or more: 300,600.")] = None,
    timestep: Annotated[
        str | None, typer.Option("--timestep", metavar="FS", help="One or more: 0.5,1; two also check the dt² law.")
    ] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="How many, 8, or a list of them, 3,4,5.")] = None,
    time_ps: Annotated[float | None, typer.Option("--time-ps", help="Length of each run.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for everything that is written.")] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="ase, run by run; or torchsim, all runs of a process at once.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes side by side; default: one for each core.")
    ] = None,
    compile: Compile = False,  # noqa: A002
    overrides: Overrides = None,
) -> None:
    """Run many short runs, models against each other, and say how long they survive, why they fail and how they drift.

    Everything from a file, or a simple study from options.  The same command goes on with a study that was stopped.
    Runs that are not stable are a result; it fails only if runs could not be made.
    """
    from ase_mlcalc.cli.studies import job_of, show_study
    from ase_mlcalc.errors import MLCalcError
    from ase_mlcalc.report.study_report import write_study_report
    from ase_mlcalc.study import run_study

    job = job_of(
        config,
        models=model or (),
        compile=compile,
        calculators=calculator or (),
        arguments=argument or (),
        structures=structure or (),
        reference=reference,
        temperatures=temperature,
        timesteps=timestep,
        seeds=seeds,
        equilibration=equilibration,
        stage={"ensemble": ensemble, "time_ps": time_ps},
        out=out,
        workers=workers,
        overrides=overrides or (),
        engine=engine,
    )
    summary = run_study(job)
    show_study(summary, _console())
    typer.echo(f"wrote {write_study_report(job.study.output)}")
    broken = [run for run in summary.runs if run.status == "error"]
    if broken:
        raise MLCalcError(
            f"{len(broken)} of {len(summary.runs)} runs could not be made; the first, {broken[0].folder}: "
            f"{broken[0].error}"
        )


@app.command()
def stress(
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint, or any ASE calculator as package.module:Factory.")
    ],
    trajectory: Annotated[Path, typer.Argument(metavar="TRAJ", help="A file of structures that ASE reads.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is written.")] = Path("stress-output"),
    definition: Annotated[
        str | None,
        typer.Option(
            "--definition",
            help="Of per-atom stress: edge (default), center, other, site, heat or cluster; of a calculator by import "
            "path: what it has.",
        ),
    ] = None,
    field: Annotated[
        str | None, typer.Option("--field", metavar="NAME", help="Also local stress: planes, ik, hardy or bins.")
    ] = None,
    axis: Annotated[
        str | None, typer.Option("--axis", help="Of a profile: x, y or z (default), the cell vector.")
    ] = None,
    bins: Annotated[
        str | None, typer.Option("--bins", help="Bins or planes of a profile (default 100), or a grid as 20x20x30.")
    ] = None,
    radius: Annotated[
        float | None, typer.Option("--radius", help="Å, how far a Hardy field smears; default 4.")
    ] = None,
    kinetic: Annotated[
        bool | None, typer.Option("--kinetic/--no-kinetic", help="The kinetic part; default: if there are velocities.")
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option("--argument", metavar="KEY=VALUE", help="Of the calculator's factory, as in TOML. Repeatable."),
    ] = None,
    memory: Annotated[float | None, typer.Option("--memory-GB", help="What the averages of a field may take.")] = None,
    format: Format = None,  # noqa: A002
    index: Index = ":",
) -> None:
    """Per-atom and local stress of a structure or trajectory, with pictures."""
    from ase_mlcalc.cli.checks import calculator_of
    from ase_mlcalc.cli.fields import localisation_of
    from ase_mlcalc.stress.folder import write_stress_folder

    localisation = localisation_of(field, bins=bins, axis=axis, radius_A=radius, memory_GB=memory)
    result = write_stress_folder(
        calculator_of(source, argument or (), None, definition),
        trajectory,
        out,
        localisation=localisation,
        definition=definition,
        kinetic=kinetic,
        index=index,
        format=format,
        max_memory_GB=memory,
    )
    for path in result.files:
        typer.echo(f"wrote {path}")


@app.command()
def check(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A checkpoint, a folder of training, or any ASE calculator as package.module:Factory."
        ),
    ],
    structure: Annotated[Path, typer.Argument(metavar="STRUCTURE", help="A file that ASE reads.")],
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write this as JSON.")] = None,
    index: Annotated[int, typer.Option("--index", help="Which structure of the file; the last one by default.")] = -1,
    argument: Annotated[
        list[str] | None,
        typer.Option("--argument", metavar="KEY=VALUE", help="Of the calculator's factory, as in TOML. Repeatable."),
    ] = None,
    definition: Annotated[
        str | None,
        typer.Option("--definition", help="Of per-atom stress; of a calculator by import path: what it has."),
    ] = None,
    single: Annotated[
        bool, typer.Option("--float32", help="With the steps and tolerances that float32 allows.")
    ] = False,
    scans: Annotated[
        bool, typer.Option("--scans/--no-scans", help="Also deform bonds and dimers; takes the most time.")
    ] = True,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="DIR", help="Folder for bond_scan.png and dimer_scan.png.")
    ] = None,
) -> None:
    """Check a potential on a structure: conventions of ASE, energy and forces, stress, scans of bonds and dimers.

    Checkpoints are checked in float64 unless told otherwise.  Fails if a check fails.
    """
    from ase_mlcalc.calculator import MLCalculator, definition_of
    from ase_mlcalc.cli.checks import calculator_of, checks_table, scan_notes
    from ase_mlcalc.errors import ConfigError, MLCalcError
    from ase_mlcalc.files import write_text
    from ase_mlcalc.model import check_species
    from ase_mlcalc.testing.everything import check_everything, failures, to_dict
    from ase_mlcalc.testing.scans.checks import ScanSubject

    precision: Literal["float32", "float64"] = "float32" if single else "float64"
    calculator = calculator_of(source, argument or (), precision, definition)
    atoms = _one_structure(structure, index)
    if isinstance(calculator, MLCalculator):  # else each check would say so
        check_species(atoms.numbers.tolist(), calculator.potential.species, source)
    if plots is not None and not scans:
        raise ConfigError("--plots draws the scans that --no-scans leaves out; give one of the two")
    scanned = ScanSubject(calculator, atoms) if scans else None
    groups = check_everything(calculator, atoms, precision=precision, definition=definition, scans=scanned)
    if json_file is not None:
        checked = {"model": source, "arguments": argument or [], "structure": str(structure), "index": index}
        settings = {"precision": precision, "stress_definition": definition or definition_of(calculator)}
        write_text(json_file, _json(checked | settings | to_dict(groups, scanned)))
    _console().print(checks_table(groups))
    for note in [] if scanned is None else scan_notes(scanned):
        typer.echo(note)
    if plots is not None and scanned is not None:
        from ase_mlcalc.testing.scans.pictures import scan_plots

        for path in scan_plots(plots, scanned.made):
            typer.echo(f"wrote {path}")
    if failed := failures(groups):
        names = ", ".join(row.name.replace("_", " ") for row in failed)
        raise MLCalcError(f"{len(failed)} of the checks failed: {names}")


@app.command()
def report(
    source: Annotated[
        Path, typer.Argument(metavar="TRAJ_OR_DIR", help="Folder of a run or of a study, or any trajectory.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the page of a trajectory; default: its name and -report.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="FILE", help="Trajectory to compare with.")
    ] = None,
    interval: Annotated[
        float | None, typer.Option("--interval-fs", help="Time between frames that do not know theirs.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0.0, help="K, of the thermostat of a trajectory.")
    ] = None,
    ensemble: Annotated[
        Literal["nve", "nvt", "npt"] | None, typer.Option("--ensemble", help="Of a trajectory; nve conserves energy.")
    ] = None,
) -> None:
    """Write report.html and its pictures from the files of a run or a study, or about a trajectory made elsewhere.

    Nothing is run again.
    """
    from ase_mlcalc.cli.reports import write_page_of

    page = write_page_of(
        source, out=out, reference=reference, interval_fs=interval, temperature_K=temperature, ensemble=ensemble
    )
    typer.echo(f"wrote {page}")


@app.command()
def observables(
    trajectory: Annotated[Path, typer.Argument(metavar="TRAJ", help="Frames in time, in a file that ASE reads.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is written.")],
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="FILE", help="Trajectory to compare with.")
    ] = None,
    interval: Annotated[
        float | None, typer.Option("--interval-fs", help="Time between frames, where they do not know theirs.")
    ] = None,
    reference_interval: Annotated[
        float | None, typer.Option("--reference-interval-fs", help="The same of the reference.")
    ] = None,
    discard: Annotated[float, typer.Option("--discard-ps", min=0.0, help="Left out at the start of TRAJ.")] = 0.0,
    index: Index = ":",
    reference_index: Annotated[str, typer.Option("--reference-index", help="Which frames of the reference.")] = ":",
    bond: Annotated[
        list[str] | None,
        typer.Option("--bond", metavar="A-B=Å", help="Where bonds end; default: first minimum of g(r). Repeatable."),
    ] = None,
    fit_from: Annotated[float | None, typer.Option("--fit-from-ps", help="Of the line for diffusion.")] = None,
    fit_to: Annotated[float | None, typer.Option("--fit-to-ps", help="Of the line for diffusion.")] = None,
    viscosity: Annotated[
        float | None, typer.Option("--viscosity-mPa-s", help="Corrects diffusion for the periodic images.")
    ] = None,
    blocks: Annotated[int, typer.Option("--blocks", min=2, help="Stretches for standard errors.")] = 8,
) -> None:
    """Measure structure and motion of a trajectory of any program, with errors, and how far it is from a reference.

    g(r), distances, coordination, angles, mean square displacement, diffusion, velocity autocorrelation and density of
    states as curves, pictures and numbers.
    """
    from ase_mlcalc.analysis import write_observables
    from ase_mlcalc.cli import observed
    from ase_mlcalc.errors import ConfigError

    if (fit_from is None) != (fit_to is None):
        raise ConfigError("a fit window needs both --fit-from-ps and --fit-to-ps")
    found, expected, rows = observed.measure(
        trajectory,
        reference,
        index=index,
        reference_index=reference_index,
        interval_fs=interval,
        reference_interval_fs=reference_interval,
        discard_ps=discard,
        cutoffs=bond or (),
        fit_ps=None if fit_from is None or fit_to is None else (fit_from, fit_to),
        viscosity_mPa_s=viscosity,
        n_blocks=blocks,
    )
    names = (str(trajectory), "" if reference is None else str(reference))
    for path in write_observables(out, found, expected, rows, names=names):
        typer.echo(f"wrote {path}")
    console = _console()
    for name, one in zip(names, (found, expected), strict=True):
        if one is not None:
            console.print(name, *observed.describe(one), sep="\n  ", markup=False, highlight=False)
            console.print(observed.scalars_table(one))
    if rows:
        console.print(observed.comparison_table(rows))


@app.command("compile")
def compile_checkpoint(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Default: that of the checkpoint, ending in .compiled.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float64"] | None, typer.Option("--dtype", help="Precision; default: as stored.")
    ] = None,
    no_tables: Annotated[
        bool, typer.Option("--no-tables", help="Functions of the distance as they are, not as tables to 1e-5.")
    ] = False,
    several_threads: Annotated[
        bool, typer.Option("--several-threads", help="For large systems on several cores; slower on one.")
    ] = False,
) -> None:
    """Compile a potential for this machine, into one file that commands and MLCalculator take in its place.

    It takes about a minute and a C++ compiler; using the file takes neither.
    """
    import torch

    from ase_mlcalc.accelerate import DEFAULT_TOLERANCE, SUFFIX, compile_model

    header = compile_model(
        model,
        out,
        dtype=None if dtype is None else getattr(torch, dtype),
        tolerance=None if no_tables else DEFAULT_TOLERANCE,
        several_threads=several_threads,
    )
    with_tables = "" if header.tables is None else f", tables to {header.tables:.0e}"
    typer.echo(
        f"wrote {out or model.with_suffix(SUFFIX)}: {header.model}, {header.dtype}{with_tables}; forces are within "
        f"{header.force_error:.0e} of those of the model in float64"
    )


@app.command("pair-forces")
def pair_forces(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint.")],
    structure: Annotated[Path, typer.Argument(metavar="STRUCTURE", help="A file that ASE reads.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.png", help="Picture to write.")],
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Also write all pairs as a table.")] = None,
    index: Annotated[int, typer.Option("--index", help="Which structure of the file; the last one by default.")] = -1,
) -> None:
    """Draw the forces between atoms that a potential has learned, against distance, for each pair of elements."""
    from ase_mlcalc.analysis import pair_force_plot, write_csv
    from ase_mlcalc.analysis import pair_forces as forces_of_pairs
    from ase_mlcalc.calculator import MLCalculator

    pairs = forces_of_pairs(MLCalculator(model), _one_structure(structure, index))
    pair_force_plot(out, pairs)
    typer.echo(f"wrote {out}")
    if csv is not None:
        write_csv(csv, pairs)
        typer.echo(f"wrote {csv}")


@app.command()
def models(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the models: what each predicts itself, what follows from that, and its size."""
    from ase_mlcalc.cli.tables import describe_models, models_table

    described = describe_models()
    if as_json:
        typer.echo(_json(described), nl=False)
    else:
        _console().print(models_table(described))


@app.command()
def template(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="train, transfer, md, study, sample, learn, learning-curve or scan.")
    ],
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Model to train.")] = None,
) -> None:
    """Print a configuration file with every key, its default and what it means."""
    from ase_mlcalc.cli.templates import template_of

    typer.echo(template_of(job, model), nl=False)


def _one_structure(path: Path, index: int) -> "Atoms":
    from ase import Atoms
    from ase.io import read

    from ase_mlcalc.errors import DataError

    try:
        atoms = read(path, index=index)
    except FileNotFoundError as error:
        raise DataError(f"no structure at {path}; give a file that ASE reads") from error
    except (IndexError, StopIteration) as error:
        raise DataError(f"{path} has no structure {index}; they count from 0, from the end from -1") from error
    except Exception as error:  # ASE's readers raise anything
        raise DataError(f"ASE cannot read structure {index} of {path} ({type(error).__name__}: {error})") from error
    assert isinstance(atoms, Atoms)
    return atoms


def _console() -> "Console":
    from ase_mlcalc.cli.console import new_console

    return new_console()


def _label_keys(items: list[str] | None) -> "LabelKeys":
    from ase_mlcalc.config import apply_overrides, validate
    from ase_mlcalc.data.read import LabelKeys

    return validate(LabelKeys, apply_overrides({}, items or ()), "--key")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
