"""Verbs for other programs that run our models: ``lammps`` and ``export``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ase_mlcalc.cli.verbs import app


@app.command()
def lammps(
    input: Annotated[  # noqa: A002  (LAMMPS' word)
        Path, typer.Argument(metavar="IN.lmp", help="Input of LAMMPS with `pair_style ase_mlcalc MODEL`.")
    ],
    var: Annotated[
        list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="Variable of the input. Repeatable.")
    ] = None,
    log: Annotated[Path, typer.Option("--log", help="Where LAMMPS writes its log.")] = Path("log.lammps"),
) -> None:
    """Run an input of LAMMPS with a model in it, in one process or in those that mpirun has started.

    For example `mpirun -np 4 ase-mlcalc lammps in.lmp`.
    """
    import os

    import torch

    from ase_mlcalc.errors import ConfigError
    from ase_mlcalc.lammps import run_input

    if "OMP_NUM_THREADS" not in os.environ:  # as LAMMPS has it: processes are what uses cores
        torch.set_num_threads(1)
    variables = {}
    for each in var or ():
        name, equals, value = each.partition("=")
        if not (name and equals):
            raise ConfigError(f"--var takes NAME=VALUE, got {each!r}")
        variables[name] = value
    run_input(input, variables=variables, log=log)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Checkpoint of one potential.")],
    to: Annotated[
        Literal["lammps", "mliap"],
        typer.Option("--to", help="lammps: for `ase-mlcalc lammps`; mliap: for `pair_style mliap unified`."),
    ],
    structure: Annotated[
        Path | None, typer.Option("--structure", metavar="FILE", help="With lammps: where a simulation begins.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="lammps: a folder; mliap: a file. Default: beside the model.")
    ] = None,
) -> None:
    """Write what LAMMPS needs of a model: an input that runs, or an object for builds with ML-IAP."""
    from ase_mlcalc.errors import ConfigError

    if to == "mliap":
        if structure is not None:
            raise ConfigError("--structure goes with --to lammps; an object for ML-IAP holds the model alone")
        from ase_mlcalc.lammps.mliap import write_unified

        path = out or model.with_suffix(".mliap.pkl")
        unified = write_unified(model, path)
        typer.echo(f"wrote {path}: `pair_style mliap unified {path} 0`, elements {' '.join(unified.element_types)}")
        return
    from ase_mlcalc.data.read import read_structures
    from ase_mlcalc.lammps.export import export_input

    folder = out or model.with_name(f"{model.stem}-lammps")
    atoms = None if structure is None else read_structures(structure, index="0")[0]
    written = export_input(model, folder, atoms)
    typer.echo(f"wrote {written}; in its folder: mpirun -np 2 ase-mlcalc lammps {written.name}")
    if atoms is None:
        typer.echo("there is no structure.data yet; --structure FILE writes it")
