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
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the file, e.g. model.cutoff=6. Repeatable."),
]
Format = Annotated[str | None, typer.Option("--format", help="Format of the files: a name of ASE, or npz.")]
Index = Annotated[str, typer.Option("--index", help="Which structures of each file, as in ASE.")]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="LABEL=NAME", help="Name of a label in the files, e.g. energy=dft_energy. Repeatable."
    ),
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
    """Train on 16 water molecules, check the physics, run molecular dynamics, and report: about eight minutes.

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
) -> None:
    """Train a potential or an ensemble; the same command goes on with a run that was killed.

    Writes model.safetensors, metrics.json, log.csv, config.toml and pictures into the output folder of the file.
    """
    from ase_mlcalc.cli.tables import metrics_table
    from ase_mlcalc.config import apply_overrides, read_toml, validate
    from ase_mlcalc.training.config import TrainJob
    from ase_mlcalc.training.train import train as run

    words = [*(overrides or ()), *([f"train.members={members}"] if members is not None else [])]
    job = validate(TrainJob, apply_overrides(read_toml(config), words), str(config))
    result = run(job)
    _console().print(metrics_table(result.metrics, "errors on the validation structures"))


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint.")],
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Files with labelled structures.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for metrics.json and parity.png.")],
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Also write predictions.extxyz with predictions and labels.")
    ] = False,
    format: Format = None,  # noqa: A002
    index: Index = ":",
    key: Keys = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Structures evaluated at once.")] = 16,
) -> None:
    """Measure the errors of a potential on labelled structures."""
    from ase_mlcalc.cli.tables import metrics_table
    from ase_mlcalc.training.evaluate import evaluate_files

    metrics = evaluate_files(
        model,
        data,
        out,
        keys=_label_keys(key),
        format=format,
        index=index,
        batch_size=batch_size,
        predictions=predictions,
    )
    _console().print(metrics_table(metrics, f"errors of {model}"))
    typer.echo(f"wrote {out / 'metrics.json'}")


@app.command()
def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL... DATA...",
            help="Checkpoints (.safetensors files or folders of training), then files with labelled structures.",
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
    typer.echo(f"wrote {out / 'compare.json'}")


@app.command()
def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint of an ensemble.")],
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
    from ase_mlcalc.cli.tables import calibration_table
    from ase_mlcalc.training.calibration import calibrate_files

    found = calibrate_files(model, data, out, keys=_label_keys(key), format=format, index=index, batch_size=batch_size)
    _console().print(calibration_table(found))
    typer.echo(f"wrote {out / 'calibration.json'}")


@app.command()
def md(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="`ase-mlcalc template md` prints one.")],
    overrides: Overrides = None,
) -> None:
    """Run molecular dynamics, then write its report; fails if the run did not come to its end."""
    from contextlib import suppress

    from ase_mlcalc.cli.tables import describe_stage
    from ase_mlcalc.config import apply_overrides, read_toml, validate
    from ase_mlcalc.errors import MLCalcError
    from ase_mlcalc.md import MDJob, run_job
    from ase_mlcalc.report import write_report

    job = validate(MDJob, apply_overrides(read_toml(config), overrides or ()), str(config))
    try:
        results = run_job(job)
    except KeyboardInterrupt:
        with suppress(MLCalcError):  # nothing to report on yet
            write_report(job.job.output)
        raise
    for result in results:
        typer.echo(describe_stage(result))
    typer.echo(f"wrote {write_report(job.job.output)}")
    if not results[-1].completed:
        raise MLCalcError(results[-1].message)


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
    axis: Annotated[str, typer.Option("--axis", help="Of a profile: x, y or z, the cell vector.")] = "z",
    bins: Annotated[str, typer.Option("--bins", help="Bins or planes of a profile, or a grid as 20x20x30.")] = "100",
    radius: Annotated[float, typer.Option("--radius", help="Å, how far a Hardy field smears.")] = 4.0,
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
    from ase_mlcalc.stress.folder import localisation_named, write_stress_folder

    result = write_stress_folder(
        calculator_of(source, argument or (), None, definition),
        trajectory,
        out,
        localisation=None if field is None else localisation_named(field, bins, axis, radius),
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
        str, typer.Argument(metavar="MODEL", help="A checkpoint, or any ASE calculator as package.module:Factory.")
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
) -> None:
    """Check a potential on a structure: conventions of ASE, energy and forces, stress and per-atom stress.

    Checkpoints are checked in float64 unless told otherwise.  Fails if a check fails.
    """
    from ase_mlcalc.calculator import definition_of
    from ase_mlcalc.cli.checks import calculator_of, checks_table
    from ase_mlcalc.errors import MLCalcError
    from ase_mlcalc.files import write_text
    from ase_mlcalc.testing.everything import check_everything, failures, to_dict

    precision: Literal["float32", "float64"] = "float32" if single else "float64"
    calculator = calculator_of(source, argument or (), precision, definition)
    atoms = _one_structure(structure, index)
    groups = check_everything(calculator, atoms, precision=precision, definition=definition)
    if json_file is not None:
        checked = {"model": source, "arguments": argument or [], "structure": str(structure), "index": index}
        settings = {"precision": precision, "stress_definition": definition or definition_of(calculator)}
        write_text(json_file, _json(checked | settings | to_dict(groups)))
    _console().print(checks_table(groups))
    if failed := failures(groups):
        names = ", ".join(row.name.replace("_", " ") for row in failed)
        raise MLCalcError(f"{len(failed)} of the checks failed: {names}")


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder that a run was written to.")],
) -> None:
    """Write report.html and its pictures again from the files of a run."""
    from ase_mlcalc.report import write_report

    typer.echo(f"wrote {write_report(run_folder)}")


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
    job: Annotated[str, typer.Argument(metavar="JOB", help="train or md.")],
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
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=120)


def _label_keys(items: list[str] | None) -> "LabelKeys":
    from ase_mlcalc.config import apply_overrides, validate
    from ase_mlcalc.data.read import LabelKeys

    return validate(LabelKeys, apply_overrides({}, items or ()), "--key")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
