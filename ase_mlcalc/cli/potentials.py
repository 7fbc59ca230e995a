"""What verbs about the errors of potentials share: which file is meant, and whether its data are a test."""

from pathlib import Path

import typer

from ase_mlcalc.training.side_by_side import checkpoint_of


def file_of(source: Path | str) -> Path:
    """The checkpoint in a folder that training wrote, or else the path as it is."""
    inside = checkpoint_of(source)
    return inside if inside.is_file() else Path(source)


def say_if_seen(count: int | None, by: str = "") -> None:
    """Print that errors are those on structures of which a potential has seen some, if it has."""
    if count:
        typer.echo(f"note: {count} of the structures were trained or validated on{by}; errors on them are no test")
