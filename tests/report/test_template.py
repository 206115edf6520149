"""Every block is on the page, and its text is escaped."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from jinja2 import UndefinedError

import datagen.report
from datagen.report.blocks import (
    Block,
    Cell,
    Chart,
    Details,
    Figure,
    Grid,
    Heading,
    Key,
    Link,
    Text,
    TextTable,
)
from datagen.report.charts import direction_map, histogram, line_chart, scatter
from datagen.report.images import image
from tests.report.pages import html_of

BAD = "<i>&\"'"
ESCAPED = "&lt;i&gt;&amp;&#34;&#39;"
ONE = np.array([0.5])

BLACK = np.zeros((1, 1, 3), np.uint8)
LOOKS = ("", "best", "code", "soft")

BLOCKS: dict[type, tuple[Block, int]] = {
    Heading: (Heading(BAD), 1),
    Text: (Text(BAD, "note", [Key("red", BAD)]), 2),
    Link: (Link(BAD, "other.html"), 1),
    Details: (Details(BAD, BAD), 2),
    TextTable: (TextTable([BAD], [[BAD], *([Cell([BAD, BAD], look)] for look in LOOKS)], 0), 10),
    Grid: (Grid([Figure([image(BLACK, BAD)], BAD, BAD, [BAD], [Key("red", BAD)])], 9), 5),
    Chart: (Chart(histogram([1.0, 2.0], BAD)), 2),
}
"""A block of each class, and how many texts it has."""


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_text_of_a_block_is_on_the_page_and_escaped(kind):
    block, num_texts = BLOCKS[kind]
    html = html_of([block])
    assert html.count(ESCAPED) == num_texts
    assert "<i>" not in html


def test_every_class_of_blocks_is_tried_here():
    assert set(BLOCKS) == set(get_args(Block))


@pytest.mark.parametrize(
    "chart",
    [
        histogram([1.0, 2.0], BAD),
        line_chart([(BAD, "stroke: red", ONE, ONE)], BAD),
        scatter([(BAD, "red", ONE, ONE)], BAD),
        direction_map(np.array([[0.0, 0.0, 1.0]]), [BAD], {BAD: "red"}),
    ],
)
def test_text_of_every_chart_is_escaped_once(chart):
    html = html_of([Chart(chart)])
    assert ESCAPED in html and "<i>" not in html and "&amp;lt;" not in html


def test_lines_of_a_cell_and_of_a_caption_are_lines_of_the_page():
    html = html_of(
        [TextTable(["h"], [[Cell(["a", "b"])]], 1), Grid([Figure([], "c", lines=["d"])], 9)]
    )
    assert "<tr><td>a<br>b</td></tr>" in html
    assert "<b>c</b><br>d" in html


def test_block_without_a_macro_is_an_error():
    class Unknown:
        macro = "unknown"

    with pytest.raises(UndefinedError):
        html_of([Unknown()])


def test_templates_are_installed_with_the_package():
    folder = Path(datagen.report.__file__).parent
    project = tomllib.loads((folder.parents[1] / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["package-data"]["datagen.report"]
    templates = [path.name for path in folder.iterdir() if path.suffix not in (".py", "")]
    assert {"page.html", "blocks.html"} <= set(templates)
    assert all(any(fnmatch(name, pattern) for pattern in listed) for name in templates)
