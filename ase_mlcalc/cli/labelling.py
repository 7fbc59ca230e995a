"""Verbs that make training data: ``label`` and ``sample``."""

from pathlib import Path
from typing import Annotated

import typer

from ase_mlcalc.cli.verbs import Format, Index, app


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
    timeout_s: Annotated[
        float | None, typer.Option("--timeout-s", min=0.0, help="Longest that one structure may take.")
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

    result = run(
        [atoms for path in structures for atoms in read_structures(path, format=format, index=index)],
        calculator,
        out,
        arguments=apply_overrides({}, argument or ()),
        properties=None if properties is None else [name.strip() for name in properties.split(",")],
        level=level,
        workers=workers,
        timeout_s=timeout_s,
        retry=retry,
    )
    failures = f"{result.n_failed} structures failed; {result.failed} says why, --retry tries them again"
    if not result.n_labelled:
        raise MLCalcError(failures)
    typer.echo(f"wrote {result.out}: {result.n_labelled} structures at {result.level}")
    if result.n_failed:
        typer.echo(failures)
