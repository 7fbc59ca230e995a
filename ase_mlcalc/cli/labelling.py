"""Verbs that make training data: ``label`` and ``sample``."""

from pathlib import Path
from typing import Annotated

import typer

from ase_mlcalc.cli.verbs import Format, Index, Overrides, app


@app.command()
def label(
    structures: Annotated[list[Path], typer.Argument(metavar="STRUCTURES...", help="Files that ASE reads, or npz.")],
    calculator: Annotated[
        str, typer.Option("--calculator", help="Any ASE calculator as package.module:Factory, or a checkpoint.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.extxyz", help="Labelled structures.")],
    argument: Annotated[
        list[str] | None,
        typer.Option(
            "--arg", "--argument", metavar="KEY=VALUE", help="Of the calculator's factory, as in TOML. Repeatable."
        ),
    ] = None,
    properties: Annotated[
        str | None,
        typer.Option(
            "--properties", help="Of energy,energies,forces,stress,stresses; default: energy, forces and stress."
        ),
    ] = None,
    level: Annotated[
        str | None, typer.Option("--level", help="Level of theory in words; default: method, program and its version.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes side by side; default: one for each core.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Of each process; default: its share of the cores.")
    ] = None,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout-s", min=0.0, help="Longest that one structure may take.")
    ] = None,
    executor: Annotated[
        Path | None,
        typer.Option("--executor", metavar="FILE.toml", help="With a table executor: where calculations run."),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try structures again that failed before.")] = False,
    index: Index = ":",
    format: Format = None,  # noqa: A002  (ASE's word)
) -> None:
    """Calculate energies, forces and stresses of structures with a reference calculator, many side by side.

    The same command goes on after any kill and calculates nothing twice.  Structures that fail go into
    FILE.failed.extxyz with the reason.
    """
    from ase_mlcalc.config import apply_overrides
    from ase_mlcalc.data.read import read_structures
    from ase_mlcalc.errors import MLCalcError
    from ase_mlcalc.labelling import label as run
    from ase_mlcalc.workers.executor import read_executor

    result = run(
        [atoms for path in structures for atoms in read_structures(path, format=format, index=index)],
        calculator,
        out,
        arguments=apply_overrides({}, argument or ()),
        properties=None if properties is None else [name.strip() for name in properties.split(",")],
        level=level,
        workers=workers,
        threads=threads,
        timeout_s=timeout_s,
        executor=None if executor is None else read_executor(executor),
        retry=retry,
    )
    failures = f"{result.n_failed} structures failed; {result.failed} says why, --retry tries them again"
    if not result.n_labelled:
        raise MLCalcError(failures)
    typer.echo(f"wrote {result.out}: {result.n_labelled} structures at {result.level}")
    if result.n_failed:
        typer.echo(failures)
    if result.n_damaged:
        typer.echo(
            f"{result.n_damaged} lines of the journal could not be read, and what they held was calculated again; is "
            "the disk sound?"
        )


@app.command()
def sample(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="`ase-mlcalc template sample` prints one.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for everything that is written.")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes side by side; default: one for each core.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Sample structures by molecular dynamics at several temperatures and densities, and choose those that differ most.

    The same command goes on with a sampling that was stopped.  The chosen structures have no labels; `label` gives
    them some.
    """
    from ase_mlcalc.cli.console import new_console
    from ase_mlcalc.cli.sampled import describe_sample, sample_table
    from ase_mlcalc.config import apply_overrides, read_toml, validate
    from ase_mlcalc.sampling import SampleJob
    from ase_mlcalc.sampling import sample as run

    given = {"output": None if out is None else str(out), "workers": workers}
    raw = read_toml(config)
    raw["sample"] = {**raw.get("sample", {}), **{key: value for key, value in given.items() if value is not None}}
    result = run(validate(SampleJob, apply_overrides(raw, overrides or ()), str(config)))
    new_console().print(sample_table(result))
    typer.echo(f"wrote {result.out}: {result.n_chosen} of {result.n_candidates} frames; {describe_sample(result)}")
    typer.echo(f"wrote {result.figure}")
