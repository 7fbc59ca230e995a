"""What verbs about the errors of potentials share: which file is meant, and whether its data are a test."""

from collections.abc import Sequence
from pathlib import Path

from ase_mlcalc.data.frames import Frame
from ase_mlcalc.training.seen import n_seen
from ase_mlcalc.training.side_by_side import checkpoint_of, short_names


def file_of(source: Path | str) -> Path:
    """The checkpoint in a folder that training wrote, or else the path as it is."""
    inside = checkpoint_of(source)
    return inside if inside.is_file() else Path(source)


def notes_on_seen(models: Sequence[Path | str], frames: Sequence[Frame]) -> list[str]:
    """A line for each potential that was trained or validated on some of the structures; with names if several."""
    files = [file_of(path) for path in models]
    names = [""] if len(files) == 1 else [f" by {name}" for name in short_names(files)]
    counts = [n_seen(file, frames) for file in files]
    return [note_on_seen(count, name) for count, name in zip(counts, names, strict=True) if count]


def note_on_seen(count: int, by: str = "") -> str:
    """What is to be said of errors on structures of which a potential has seen some."""
    return f"note: {count} of the structures were trained or validated on{by}; errors on them are no test"
