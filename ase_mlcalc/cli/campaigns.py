"""Verbs for many trainings: ``learning-curve`` and ``scan``."""

from pathlib import Path
from typing import Annotated

import typer

from ase_mlcalc.cli.verbs import Overrides, app

Out = Annotated[str | None, typer.Option("--out", help="Folder for everything that is written; short for output.")]
Seeds = Annotated[str | None, typer.Option("--seeds", help="How many, 3, or a list of them, 3,4,5.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Trainings side by side; default: one for each core.")
]


@app.command("learning-curve")
def learning_curve(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="`ase-mlcalc template learning-curve` prints one.")
    ],
    sizes: Annotated[
        str | None, typer.Option("--sizes", help="Numbers of training structures, 200,400,600,800,1000.")
    ] = None,
    seeds: Seeds = None,
    workers: Workers = None,
    out: Out = None,
    overrides: Overrides = None,
) -> None:
    """Train on more and more structures, and say how fast errors fall; the same command goes on after a kill.

    The file is that of a training; its table learning_curve says the rest.  Larger sets contain the smaller ones;
    validation and test structures stay the same.  Writes tables and a picture; fails if trainings failed.
    """
    from ase_mlcalc.campaigns import run_learning_curve
    from ase_mlcalc.cli import campaign_tables

    found = run_learning_curve(campaign_tables.curve_job(config, sizes, seeds, workers, out, overrides or ()))
    campaign_tables.show_curve(found)
    campaign_tables.require_success(found.failed, len(found.trainings))


@app.command()
def scan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="`ase-mlcalc template scan` prints one.")],
    seeds: Seeds = None,
    workers: Workers = None,
    out: Out = None,
    overrides: Overrides = None,
) -> None:
    """Train with all combinations of hyper-parameters, or search for good ones, and sort them by error and cost.

    The file is that of a training; its table scan says what is varied.  The same command goes on after a kill.  Writes
    tables and a picture; fails if trainings failed.
    """
    from ase_mlcalc.campaigns import run_scan
    from ase_mlcalc.cli import campaign_tables

    found = run_scan(campaign_tables.scan_job(config, seeds, workers, out, overrides or ()))
    campaign_tables.show_scan(found)
    campaign_tables.require_success(found.failed, sum(len(point.trainings) for point in found.points))
