"""Blocks of a chapter as the page shows them."""

from collections.abc import Sequence

from datagen.report.blocks import Block
from datagen.report.template import Chapter, render_page


def html_of(blocks: Sequence[Block]) -> str:
    """Return the HTML of a page with one chapter."""
    return render_page("page", [Chapter("chapter", "Chapter", blocks)])
