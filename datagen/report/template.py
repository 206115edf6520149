"""Pages from chapters of blocks, by the templates beside this module; all text is escaped there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from datagen.report.blocks import Block

REPORT = "report.html"
"""Name of every page that is written beside data."""


@dataclass(frozen=True)
class Chapter:
    """A part of a page that the navigation points to."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def render_page(title: str, chapters: Sequence[Chapter]) -> str:
    """Return a whole HTML document that needs no other file."""
    return _environment().get_template("page.html").render(title=title, chapters=chapters)


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
