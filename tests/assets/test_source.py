"""Protects opening a source by its name: what it needs, and what it refuses."""

from pathlib import Path
from typing import get_args

import pytest

from datagen.assets.source import SOURCES, SourceName, SourceOptions, open_source
from datagen.errors import ConfigError, DatasetError


def test_every_source_has_its_name_on_the_command_line():
    assert tuple(SOURCES) == get_args(SourceName)


def test_procedural_source_opens_with_as_many_objects_as_asked():
    source = open_source("procedural", SourceOptions(num_objects=5, seed=9))
    assert source.name == "procedural"
    assert len(source.list_objects()) == 5


@pytest.mark.parametrize(
    ("name", "path", "error", "words"),
    [
        ("shapenet", None, ConfigError, ", ".join(SOURCES)),
        ("procedural", Path("here"), ConfigError, "does not use it"),
        ("folder", None, ConfigError, "--source-path"),
        ("folder", Path("nowhere at all"), DatasetError, "nowhere at all"),
        ("front3d", None, ConfigError, "3D-FRONT"),
        ("front3d", Path("nowhere at all"), DatasetError, "nowhere at all"),
        ("objaverse", Path("here"), ConfigError, "does not use it"),
        ("objaverse", None, ConfigError, "--num-objects"),
        ("sweethome3d", None, ConfigError, "--source-path"),
        ("sweethome3d", Path("nowhere at all"), DatasetError, "nowhere at all"),
    ],
)
def test_source_that_cannot_be_opened_says_what_to_do(name, path, error, words):
    with pytest.raises(error, match=words):
        open_source(name, SourceOptions(path=path))
