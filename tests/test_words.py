"""One word a thing: words that were replaced stay away from code, docs and ``--help``.

``REPLACED`` says what is written instead; ``ALLOWED`` lists each line that may keep such a word.
"""

import contextlib
import io
import re
from pathlib import Path

import pytest

from datagen import cli

REPOSITORY = Path(__file__).resolve().parents[1]
SUFFIXES = {".py", ".md", ".sh", ".toml", ".css", ".html"}
FOLDERS = ("datagen", "blender_scripts", "pipelines", "benchmarks", "examples", "docs", "tests")
VERBS = (*cli.STAGE_VERBS, "report", "show", "export", "doctor", "verify")

REPLACED = {
    r"recipe": "pipeline",
    r"pictures?(?![a-z])": "image",
    r"spread": "standard deviation; evenly spaced; distributed",
    r"(?<![a-z])turn(ed|ing)(?![a-z])": "rotated; rotation",
    r"\bturns? (about|by|over|around|nothing|all)\b": "rotation",
    r"\b(its|a|half|quarter|right) turn\b": "rotation",
    r"(?<!take )\bturns\s*[:=]": "rotations",
    r"\blet(s|ting)? pass\b": "tolerance",
    r"\bsought\b": "computed",
    r"(?<!num_)superfluous": "unmatched predictions",
    r"\bby heart\b": "memorises the training views",
    r"attention that (does|do) not look": "fixed, content-independent attention",
    r"so many-?th|manieth": "every N-th; the index within its source",
    r"so many times fewer": "the last retry divides the samples by this",
    r"\bwho waits\b": "progress display",
    r"\bfar[ -]away\b": "remote",
    r"\b(go|goes|gone|going|went) on\b": "resume, continue",
    r"\b(is|are|was|were) said\b": "is reported",
    r"\bsays? whether\b": "return whether",
    r"_mourn|_bury|_hire\b": "_handle_death, _reap, _start_worker",
    r"(?<![a-z])climb|(?<![a-z])rungs?(?![a-z])": "retry, ATTEMPTS",
    r"second[ _]?stage": "structured-latent model",
    r"\bss,\s?slat\b|--stages\b": "--models structure latent",
    r"\b(fine|coarse) stages?\b": "phase",
    r"--method\b": "--format",
    r"\b(another tool|TRELLIS|I-Scene)('s)? layout\b|\b(whose|either) layout\b": "format",
    r"\bnobody would put\b": "largest usable support surface, None if there is none",
}
"""Pattern (upper and lower case alike) and what is written instead."""

ALLOWED: dict[str, dict[str, str]] = {
    "CHANGELOG.md": {
        "instead of recipes": "says what was renamed",
        "`--recipe` is gone": "the same",
        "instead of `--stages ss,slat`": "the same",
        "it was `--method`": "the same",
        "instead of `turns`": "the same",
    },
    "datagen/models/scene_model.py": {
        "self.spread": "published weights name the layer so (a key of the state dict)",
    },
    "tests/models/test_scene_model.py": {".spread.weight": "the same"},
}
"""File (or ``--help`` of a verb) and a part of the line that may stay: the reason."""


def written_files() -> list[Path]:
    """Return everything that a person of the project wrote and that others read."""
    found = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*")]
    found += [*REPOSITORY.glob("*.md"), REPOSITORY / "Makefile", REPOSITORY / "pyproject.toml"]
    return sorted(
        path
        for path in found
        if (path.suffix in SUFFIXES or path.name == "Makefile") and path != Path(__file__)
    )


def room_of(path: Path) -> str:
    """Return the folder that holds a file, two levels deep at most."""
    return "/".join(path.relative_to(REPOSITORY).parts[:-1][:2]) or "."


ROOMS = sorted({room_of(path) for path in written_files()})


def replaced_words(text: str, name: str) -> list[str]:
    """Return a line for every replaced word in a text; line 0 is the file's name."""
    found = []
    for number, line in enumerate(text.splitlines()):
        if any(part in line for part in ALLOWED.get(name, {})):
            continue
        for pattern, instead in REPLACED.items():
            if hit := re.search(pattern, line, re.IGNORECASE):
                found.append(f"{name}:{number}: {hit.group()!r}; write: {instead}")
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_no_replaced_word_in_files(room):
    found = []
    for path in written_files():
        if room_of(path) == room:
            name = path.relative_to(REPOSITORY).as_posix()
            found += replaced_words(f"{path.stem}\n{path.read_text()}", name)
    assert not found, "\n".join([f"{len(found)} replaced words", *found])


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_no_replaced_word_in_help(verb):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        cli.main([verb, "--help"] if verb else ["--help"])
    plain = " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text.getvalue()).split())
    assert len(plain) > 100
    assert not replaced_words(plain, f"datagen {verb} --help")


@pytest.mark.parametrize("file", ALLOWED)
def test_every_exception_is_still_needed(file):
    lines = (REPOSITORY / file).read_text().splitlines()
    for part in ALLOWED[file]:
        assert any(part in line for line in lines), part


@pytest.mark.parametrize(
    "text",
    [
        "a recipe",
        "the scene is turned",
        "a turn about the up axis",
        "Say whether it fits.",
        "second_stage",
        "goes on",
    ],
)
def test_replaced_words_are_found(text):
    assert replaced_words(text, "text")


@pytest.mark.parametrize("text", ["returned", "and so on", "in turn", "num_superfluous", "stages"])
def test_words_that_look_alike_are_not(text):
    assert not replaced_words(text, "text")
