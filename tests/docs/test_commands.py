"""Every command that the docs show is one that the command line understands."""

import re
import shlex
from pathlib import Path

import pytest

from datagen import cli

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "benchmarks/README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "datagen/models/weights/README.md",
    REPOSITORY / "pipelines/pretrain.sh",
]
STANDS_FOR_SOMETHING = re.compile(r"\b[A-Z]{3,}\b|…|\$")
"""``datagen VERB``, ``datagen export KIND``, shell variables: no whole command."""


def shown_commands(text: str) -> list[str]:
    """Return the whole ``datagen`` commands of a page's code, without comments."""
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^\s*(?:\$ )?(datagen [^#\n]*)", joined, re.MULTILINE)
    spans = re.findall(r"`(datagen\s[^`]+)`", joined)
    commands = [" ".join(command.split()) for command in [*lines, *spans] if "`" not in command]
    return [c for c in dict.fromkeys(commands) if not STANDS_FOR_SOMETHING.search(c)]


COMMANDS = sorted({command for page in PAGES for command in shown_commands(page.read_text())})


@pytest.mark.parametrize("command", COMMANDS)
def test_shown_command_parses(command):
    try:
        cli.parse(shlex.split(command)[1:])
    except SystemExit as end:
        assert end.code == 0, command  # --help


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 30


def test_comments_and_placeholders_are_no_commands():
    page = "    datagen train --root a  # why\n\n`datagen VERB --help` and `datagen\nshow a`\n"
    assert shown_commands(page) == ["datagen train --root a", "datagen show a"]
