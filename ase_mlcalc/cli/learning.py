"""The verb for active learning: ``learn``."""

from pathlib import Path
from typing import Annotated

import typer

from ase_mlcalc.cli.verbs import Overrides, app


@app.command()
def learn(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="`ase-mlcalc template learn` prints one.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for everything that is written.")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes side by side; default: one for each core.")
    ] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Most rounds.")] = None,
    max_labels: Annotated[
        int | None, typer.Option("--max-labels", min=1, help="Most reference calculations in all.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Learn actively: a committee drives molecular dynamics, and what it is unsure about is labelled and learned.

    Ends when a study of all runs survives, or with the budget.  The same command goes on after any kill, repeats no
    reference calculation, and takes larger budgets.
    """
    from ase_mlcalc.active import LearnJob
    from ase_mlcalc.active import learn as run
    from ase_mlcalc.config import apply_overrides, read_toml, validate

    given = {
        "output": None if out is None else str(out),
        "workers": workers,
        "rounds": rounds,
        "max_labels": max_labels,
    }
    raw = read_toml(config)
    raw["learn"] = {**raw.get("learn", {}), **{key: value for key, value in given.items() if value is not None}}
    job = validate(LearnJob, apply_overrides(raw, overrides or ()), str(config))
    found = run(job)
    folder = job.learn.output
    typer.echo(f"wrote {folder / 'model.safetensors'}; {folder / 'report.html'} says how it went")
    typer.echo(found.verdict)
