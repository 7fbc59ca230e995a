"""Files of results: JSON for programs, CSV for spreadsheets, Markdown for people."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from ase_mlcalc.config import Section
from ase_mlcalc.errors import DataError
from ase_mlcalc.files import write_text

Summary = TypeVar("Summary", bound=Section)
Cell = str | int | float | None


def write_summary(path: Path, summary: Section) -> None:
    """Write a summary as JSON."""
    text = json.dumps(summary.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_summary(kind: type[Summary], path: Path) -> Summary:
    """Read what `write_summary` wrote.

    Raises
    ------
    DataError
        No such file, or it is damaged or of another version.
    """
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"no {path.name} in {path.parent}; give the folder that a campaign was written to") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{path} is damaged or of another version ({where}: {first['msg']}); run the campaign again, which repeats "
            "no training"
        ) from error


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Write a table with all digits; empty where something is not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
