"""What the studies have in common: their command line, stages that are left out for a reason, tables, pictures.

A study is a list of stages.  Each is made of the package's own commands, which go on where they were stopped, and ends
by writing tables.  In full mode a table also replaces the one between the markers of its name in the pages, the README
of the study and docs/results.md::

    <!-- table: water16/scan -->
    <!-- end of table -->

so that every number in a page was printed by a run.  Stages take hours and can be made one by one, on machines that do
not have what was made before: where rows stand for themselves, those that a run does not have stay.  Pictures go into
the README in the same way, with the words that describe them::

    <!-- picture: rdf.png: radial distribution functions at 300 K -->
    <!-- end of picture -->
"""

import argparse
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ase.units import kcal, mol
from rich.console import Console
from rich.table import Table

from ase_mlcalc.campaigns import run_trainings
from ase_mlcalc.campaigns.summaries import markdown
from ase_mlcalc.campaigns.trainings import Trained
from ase_mlcalc.config import Section, read_toml, validate
from ase_mlcalc.files import write_text
from ase_mlcalc.model import MODULES_VARIABLE
from ase_mlcalc.training.config import TrainJob

ROOT = Path(__file__).resolve().parents[1]
KCAL_EV = kcal / mol
"""1 kcal/mol in eV."""
TINY: dict[str, dict[str, Any]] = {
    "equivariant": {"features": 4, "edge_features": 2, "l_max": 1},
    "schnet": {"features": 8, "n_interactions": 1},
    "tensor_field": {"layers": [4, 4], "l_max": 1},
    "behler_parrinello": {"n_radial": 3, "angular_zeta": [1.0], "angular_cutoff": 3.0, "hidden": [4, 4]},
    "sgdml": {"sigma": [10.0]},
}
"""Models of quick mode."""
DATA_VARIABLE = "ASE_MLCALC_DATA"
Cell = str | float | int | None
Job = TypeVar("Job", bound=Section)


class LeftOut(Exception):  # noqa: N818
    """A stage cannot be made here; the message says what is missing and how to get it."""


class Study(NamedTuple):
    """One invocation of a study."""

    name: str
    """Of its folder below examples/."""
    out: Path
    """Everything is written below it; the same command goes on there."""
    quick: bool
    """Small, to see that it works; pages are not touched."""
    workers: int

    @property
    def pages(self) -> list[Path]:
        """What tables go into."""
        return [ROOT / "examples" / self.name / "README.md", ROOT / "docs" / "results.md"]

    def job(self, kind: type[Job], file: str, changes: Mapping[str, Any]) -> Job:
        """A job from a TOML file in the folder of the study, with some of its keys, as ``train.seed``, changed."""
        raw = read_toml(ROOT / "examples" / self.name / file)
        for key, value in changes.items():
            *sections, last = key.split(".")
            table = raw
            for section in sections:
                table = table.setdefault(section, {})
            table[last] = value
        return validate(kind, raw, file)

    def model(self, name: str, **changes: Any) -> dict[str, Any]:
        """``[model]`` of a training; a quick one is small."""
        return {"name": name, **changes, **(TINY[name] if self.quick else {})}

    def train(self, stage: str, jobs: Mapping[str, Mapping[str, Any]], threads: int = 1) -> dict[str, Trained]:
        """Train several potentials side by side, each in ``STAGE/NAME``; jobs are tables without ``output``."""
        folder = self.out / stage
        made = [validate(TrainJob, {**raw, "output": folder / name}, name) for name, raw in jobs.items()]
        return dict(zip(jobs, run_trainings(made, folder, workers=self.workers, threads=threads), strict=True))

    def checkpoint(self, stage: str, name: str) -> Path:
        """Of a training of a stage before.

        Raises
        ------
        LeftOut
            It is not there yet.
        """
        path = self.out / stage / name / "model.safetensors"
        if not path.exists():
            raise LeftOut(f"{path} is not there; make the stage {stage} first")
        return path

    def forces(self, checkpoint: Path) -> dict[str, Any]:
        """A potential as studies of runs name it, compiled in full mode: that takes a minute."""
        return {"model": str(checkpoint), "compile": not self.quick}

    def keep(self, stage: str, found: Mapping[str, Any]) -> None:
        """Keep the numbers of a stage for others."""
        write_text(self.out / f"{stage}.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")

    def kept(self, stage: str) -> dict[str, Any]:
        """What a stage kept; empty before it is made."""
        path = self.out / f"{stage}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def table(
        self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], keys: int = 0, fill: bool = False
    ) -> None:
        """Print a table, keep it as JSON and Markdown below ``tables/``, and put it into the pages.

        Parameters
        ----------
        name : str
            Of the table.
        columns : sequence of str
            Their headings.
        rows : sequence of sequences
            Texts, numbers, or ``None`` for what is not known.
        keys : int, optional
            How many cells at the beginning of a row tell it from others.  Rows of a page that are not among `rows`
            stay.  Without, the table of the page is replaced as a whole.
        fill : bool, optional
            What is not known here stays as well: a row is put together from several stages.
        """
        cells = [[shown(cell) for cell in row] for row in rows]
        printed = Table(*columns, title=f"{self.name}: {name}")
        for row in cells:
            printed.add_row(*row)
        Console(width=160).print(printed)
        text = markdown(columns, cells)
        folder = self.out / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        raw = {"columns": list(columns), "rows": [list(row) for row in rows]}
        write_text(folder / f"{name}.json", json.dumps(raw, indent=1, ensure_ascii=False) + "\n")
        write_text(folder / f"{name}.md", text)
        if not self.quick:
            for page in self.pages:
                put_into_page(
                    page,
                    f"{self.name}/{name}",
                    lambda old: markdown(columns, merged(old, columns, cells, keys, fill)),
                )

    def picture(self, path: Path, name: str | None = None) -> None:
        """Show a picture in the README, in full mode: copy it into ``images/`` beside that, and link it."""
        if not self.quick:
            readme = ROOT / "examples" / self.name / "README.md"
            (readme.parent / "images").mkdir(exist_ok=True)
            shutil.copy(path, readme.parent / "images" / (name or path.name))
            link_picture(readme, name or path.name)

    def data(self, *files: str) -> list[Path]:
        """Public reference data below ``$ASE_MLCALC_DATA``.

        Raises
        ------
        LeftOut
            Some are not there.
        """
        folder = os.environ.get(DATA_VARIABLE)
        if not folder:
            raise LeftOut(f"set {DATA_VARIABLE} to the folder of public data, see docs/data.md")
        paths = [Path(folder) / file for file in files]
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            raise LeftOut(f"{', '.join(missing)} not found; docs/data.md says which public files go there")
        return paths


def shown(value: Cell) -> str:
    """Three digits of a number, a dash for what is not known."""
    if value is None or value != value:  # noqa: PLR0124  (NaN)
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def merged(
    page: str, columns: Sequence[str], rows: Sequence[Sequence[str]], keys: int, fill: bool
) -> list[Sequence[str]]:
    """Rows, and those of the table on a page that they do not replace; see `Study.table`."""
    before = [_cells(line) for line in page.strip().splitlines()]
    if not keys or not before or before[0] != [column.strip() for column in columns]:
        return list(rows)
    found: dict[tuple[str, ...], Sequence[str]] = {tuple(row[:keys]): row for row in before[2:]}
    for row in rows:
        old = found.get(tuple(row[:keys]))
        keep = fill and old is not None
        found[tuple(row[:keys])] = [o if n == "-" else n for n, o in zip(row, old or row, strict=True)] if keep else row
    return list(found.values())


def _cells(line: str) -> list[str]:
    """Of a line of Markdown; an escaped bar is no end of one."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def put_into_page(page: Path, name: str, text: Callable[[str], str]) -> None:
    """Replace what stands between the markers of a table by what is made of it; a page without them stays as it is."""
    start, end = rf"<!-- table: {re.escape(name)} -->\n", "<!-- end of table -->"
    _replace(page, rf"({start})(.*?)({end})", lambda found: f"{found[1]}\n{text(found[2])}\n{found[3]}")


def link_picture(page: Path, name: str) -> None:
    """Put a picture of ``images/`` between its markers, which hold its description."""
    start, end = rf"<!-- picture: {re.escape(name)}: ([^\n]*) -->\n", "<!-- end of picture -->"
    _replace(page, rf"({start}).*?({end})", lambda found: f"{found[1]}\n![{found[2]}](images/{name})\n\n{found[3]}")


def _replace(page: Path, pattern: str, by: Callable[[re.Match[str]], str]) -> None:
    if not page.exists():
        return
    before = page.read_text(encoding="utf-8")
    after = re.sub(pattern, by, before, flags=re.DOTALL)
    if after != before:
        write_text(page, after)


def bring_models(module: str) -> None:
    """Let this process and its workers know the models of a module in the folder of the study."""
    os.environ[MODULES_VARIABLE] = module


def needs(module: str, what: str) -> None:
    """Leave a stage out where a package is not installed.

    Raises
    ------
    LeftOut
        With `what`, how to install it.
    """
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise LeftOut(f"{module} is not installed: {what}")


def main(
    file: str,
    text: str | None,
    stages: Mapping[str, Callable[[Study], Any]],
    arguments: Sequence[str] | None = None,
) -> dict[str, str]:
    """The command line of a study: make all stages, or some, in their order.

    Parameters
    ----------
    file : str
        Of the script, which lies in the folder of the study.
    text : str or None
        Its docstring.
    stages : mapping
        Name to function.
    arguments : sequence of str, optional
        In place of those of the command line.

    Returns
    -------
    dict
        Stages that were left out, and why.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    name = Path(file).resolve().parent.name
    parser.add_argument("--quick", action="store_true", help="a minute or two, to see that it works")
    parser.add_argument("--only", nargs="+", metavar="STAGE", choices=[*stages], help=f"of {', '.join(stages)}")
    parser.add_argument("--out", type=Path, help="folder of all results; default runs/studies/NAME, with -quick")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes side by side")
    options = parser.parse_args(arguments)
    out = options.out or Path("runs/studies") / (f"{name}-quick" if options.quick else name)
    study = Study(name, out, options.quick, options.workers)
    out.mkdir(parents=True, exist_ok=True)
    console, left_out = Console(width=110), {}
    for stage, make in stages.items():
        if options.only is None or stage in options.only:
            console.rule(stage)
            try:
                make(study)
            except LeftOut as reason:
                left_out[stage] = str(reason)
                console.print(f"left out: {reason}")
    return left_out
