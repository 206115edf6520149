"""The blocks of a chapter, as data. ``blocks.html`` has a macro for each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from markupsafe import Markup


@dataclass(frozen=True)
class Key:
    """A colour of a legend and its meaning."""

    color: str
    """CSS."""
    text: str


@dataclass(frozen=True)
class Heading:
    """A heading inside a chapter."""

    macro: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    macro: ClassVar[str] = "text"
    text: str
    kind: Literal["", "note", "soft"] = ""
    """A note names what is missing; soft text is grey."""
    legend: Sequence[Key] = ()
    """Before the text."""


@dataclass(frozen=True)
class Link:
    """A paragraph that is a link."""

    macro: ClassVar[str] = "link"
    text: str
    address: str


@dataclass(frozen=True)
class Details:
    """Preformatted text that the reader unfolds."""

    macro: ClassVar[str] = "details"
    summary: str
    text: str


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than one line of plain text."""

    lines: Sequence[str]
    look: Literal["", "best", "code", "soft"] = ""


@dataclass(frozen=True)
class TextTable:
    """A table; the columns from ``numbers_from`` on are numbers."""

    macro: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    numbers_from: int


@dataclass(frozen=True)
class Figure:
    """Images or charts side by side, and a caption."""

    images: Sequence[Markup]
    """Made by ``image`` or in ``charts.py``."""
    title: str = ""
    """The start of the caption, bold."""
    details: str = ""
    """On the line of the title."""
    lines: Sequence[str] = ()
    """Below it."""
    legend: Sequence[Key] = ()
    """Below the lines."""


@dataclass(frozen=True)
class Grid:
    """Figures in as many columns as fit."""

    macro: ClassVar[str] = "grid"
    figures: Sequence[Figure]
    min_width_px: int


@dataclass(frozen=True)
class Chart:
    """One wide chart."""

    macro: ClassVar[str] = "chart"
    chart: Markup


Block = Heading | Text | Link | Details | TextTable | Grid | Chart
