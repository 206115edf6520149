"""Files and pages that the docs name are there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FOLDERS = "blender_scripts|pipelines|benchmarks|examples|manifests|tests"
PACKAGES = (REPOSITORY / "datagen").glob("*/__init__.py")
ROOMS = "|".join(sorted(path.parent.name for path in PACKAGES))
PLACE = re.compile(rf"`((?:datagen|{FOLDERS})/[\w/.]+|(?:{ROOMS})/[\w/]+\.py)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_are_there(page):
    for place in PLACE.findall(page.read_text()):
        found = [REPOSITORY / place, REPOSITORY / "datagen" / place]
        found += [path.with_suffix(".json") for path in found]  # a model, by its name
        assert any(path.exists() for path in found), place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_pages_are_there(page):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link
