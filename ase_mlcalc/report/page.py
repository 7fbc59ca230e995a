"""What a page is made of, and how it becomes one self-contained HTML file.

A page is verdicts, which come first, and sections, which are lists of blocks.  Sections are made elsewhere, one module
each; nothing but this module and its templates knows HTML.
"""

import base64
import io
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from ase_mlcalc.files import atomic_path, write_text

REPORT_FILE = "report.html"
NUMBERS_FILE = "report.json"
PICTURES_FOLDER = "report"
"""Folder for the pictures of a page, each in a file of its own."""

PANEL = (5.0, 2.9)
"""Width and height of a panel in inches.  One fills a phone, two stand side by side on a desk, three on a wide page."""

_DPI = 200

State = Literal["good", "note", "bad", "open", "advice"]
"""Of a verdict: all is well; something to know; failed; not finished; what to do."""


class Verdict(NamedTuple):
    """What something amounts to, in a sentence."""

    state: State
    text: str
    name: str = ""


class Picture(NamedTuple):
    """One panel, as PNG."""

    name: str
    """Of its file, without the end."""
    alt: str
    """What is to be seen, for readers who cannot see it."""
    caption: str
    """How what is drawn is defined."""
    png: bytes

    @property
    def data_uri(self) -> str:
        """The picture as an address that needs no file."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


class Link(NamedTuple):
    """A word that leads to a file or folder near the page."""

    text: str
    target: str


Cell = str | Link


class Gallery(NamedTuple):
    """Pictures side by side where there is room, one below the other where there is none."""

    pictures: Sequence[Picture]
    caption: str = ""
    """What is true of all of them."""
    size: Literal["half", "third", "quarter"] = "half"
    """Of the width of a desk, for each; quarters stand side by side even on a phone."""
    kind: Literal["gallery"] = "gallery"


class Table(NamedTuple):
    """Rows of cells; columns that are not words are aligned at the right.

    On a narrow screen each row becomes a card, in which every cell stands beside the name of its column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    words: Sequence[str] = ()
    """Columns that hold words; the first always does."""
    kind: Literal["table"] = "table"


class Facts(NamedTuple):
    """Names and what they are."""

    rows: Sequence[tuple[str, str]]
    kind: Literal["facts"] = "facts"


class Words(NamedTuple):
    """A paragraph."""

    text: str
    kind: Literal["words"] = "words"


class Code(NamedTuple):
    """Text to be copied, with the name of what it is."""

    title: str
    text: str
    kind: Literal["code"] = "code"


class Remark(NamedTuple):
    """A verdict inside a section."""

    verdict: Verdict
    kind: Literal["remark"] = "remark"


Block = Gallery | Table | Facts | Words | Code | Remark


class Section(NamedTuple):
    """A part of a page with a heading."""

    title: str
    blocks: Sequence[Block]


class Page(NamedTuple):
    """All that a reader gets to see."""

    title: str
    subtitle: str
    verdicts: Sequence[Verdict]
    sections: Sequence[Section]
    footer: str = ""

    @property
    def pictures(self) -> list[Picture]:
        """All pictures in order."""
        galleries = [block for section in self.sections for block in section.blocks if isinstance(block, Gallery)]
        return [picture for gallery in galleries for picture in gallery.pictures]


def picture(figure: Figure, name: str, *, alt: str, caption: str = "") -> Picture:
    """A figure as a picture of a page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return Picture(name, alt, caption, _few_colors(buffer.getvalue()))


def write_page(page: Page, folder: Path) -> Path:
    """Write a page with everything that it shows inside it, and its pictures as files in a folder beside it."""
    for each in page.pictures:
        with atomic_path(folder / PICTURES_FOLDER / f"{each.name}.png") as part:
            part.write_bytes(each.png)
    write_text(folder / REPORT_FILE, render(page))
    return folder / REPORT_FILE


def render(page: Page) -> str:
    """The HTML of a page."""
    return _environment().get_template("page.jinja").render(page=page)


@cache
def _environment() -> Environment:
    folder = files("ase_mlcalc.report")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    return environment


def _prose(text: str) -> Markup:
    """Words in back ticks become code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  (escaped first)


def _few_colors(png: bytes) -> bytes:
    """The same picture from a palette of 256 colours, a third of the size; line drawings have no more."""
    from PIL import Image

    small = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        palette = np.array(few.getpalette()).reshape(-1, 3)
        palette[np.asarray(few)[0, 0]] = 255  # paper: a mean over nearly white pixels would show on a white page
        few.putpalette(palette.ravel().tolist())
        few.save(small, format="PNG")
    return min(png, small.getvalue(), key=len)
