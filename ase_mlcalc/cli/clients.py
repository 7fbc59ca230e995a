"""The verb that serves another program: ``ipi-client``."""

from pathlib import Path
from typing import Annotated

import typer

from ase_mlcalc.cli.verbs import app


@app.command("ipi-client")
def ipi_client(
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint, or any ASE calculator as package.module:Factory.")
    ],
    structure: Annotated[
        Path, typer.Argument(metavar="STRUCTURE", help="Elements in i-PI's order, and which directions are periodic.")
    ],
    unix: Annotated[
        str | None, typer.Option("--unix", metavar="NAME", help="The <address> of an <ffsocket mode='unix'>.")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Where i-pi runs: the <address> of an <ffsocket mode='inet'>.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Its <port>.")] = 31415,
    wait: Annotated[float, typer.Option("--wait", metavar="SECONDS", help="For i-pi to begin.")] = 60.0,
    argument: Annotated[
        list[str] | None,
        typer.Option("--argument", metavar="KEY=VALUE", help="Of the calculator's factory, as in TOML. Repeatable."),
    ] = None,
) -> None:
    """Compute the forces of a simulation by i-PI; start as many clients as there are cores, on any nodes.

    It waits for i-pi to begin, and ends with it.  With batch_size in the <ffsocket>, a client takes several beads at
    once.
    """
    from ase_mlcalc.cli.checks import calculator_of
    from ase_mlcalc.errors import ConfigError
    from ase_mlcalc.ipi import Server, serve
    from ase_mlcalc.md.config import JobFiles
    from ase_mlcalc.md.job import read_structure

    if (unix is None) == (host is None):
        raise ConfigError("give --unix NAME for a socket of this machine, or --host (and --port) for i-pi on another")
    atoms = read_structure(JobFiles(structure=str(structure), model=source))
    atoms.calc = calculator_of(source, argument or (), None, None)
    server = Server(unix=unix) if host is None else Server(host=host, port=port)
    count = serve(atoms, server, wait_s=wait)
    typer.echo(f"i-PI ended; {count} structures were evaluated")
