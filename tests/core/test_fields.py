"""Protects the identity of stages: how each mark on a field decides it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from datagen.core.fields import (
    ABSENT,
    content,
    content_fingerprints,
    deciding_fields,
    how,
    resolved,
)
from datagen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Part:
    depth: int = 2
    weights: str | None = content(lambda part: part.weights and f"sha of {part.weights}", None)


@dataclass(frozen=True, kw_only=True)
class Settings:
    count: int = 3
    names: tuple[str, ...] = ("a", "b")
    workers: int = how(1)
    folder: Path | None = content(lambda one: one.folder and "sha", default=None, name="files")
    model: str = content(lambda one: {"first": "1", "second": "2"}, "small", with_value=True)
    quality: str = how("fine")
    samples: int | None = resolved(
        lambda one: one.samples or {"fine": 8, "draft": 4}[one.quality], default=None
    )
    part: Part = resolved(lambda one: one.part if one.count > 1 else ABSENT, default_factory=Part)


def test_plain_fields_decide_by_value_and_how_never_does():
    assert deciding_fields(Settings()) == deciding_fields(Settings(workers=8)) == {
        "count": 3, "names": ["a", "b"], "model": "small", "samples": 8, "depth": 2,
    }  # fmt: skip


def test_content_is_known_by_its_fingerprint_under_its_name_wherever_it_lies():
    here, there = Settings(folder=Path("here")), Settings(folder=Path("there"))
    assert deciding_fields(here) == deciding_fields(there) == deciding_fields(Settings())
    assert content_fingerprints(here) == {"files": "sha", "first": "1", "second": "2"}
    assert content_fingerprints(Settings()) == {"first": "1", "second": "2"}


def test_resolved_field_decides_by_what_it_comes_to():
    assert deciding_fields(Settings(quality="draft")) == deciding_fields(Settings(samples=4))
    assert deciding_fields(Settings(quality="draft")) != deciding_fields(Settings())


def test_nested_settings_take_part_with_their_contents_only_where_they_are_used():
    part = Part(depth=5, weights="w")
    used, unused = Settings(part=part), Settings(part=part, count=1)
    assert deciding_fields(used)["depth"] == 5
    assert content_fingerprints(used)["weights"] == "sha of w"
    assert "depth" not in deciding_fields(unused)
    assert "weights" not in content_fingerprints(unused)


def test_value_without_a_stable_spelling_is_refused_by_name():
    @dataclass(frozen=True)
    class Odd:
        tags: set[str] = field(default_factory=set)

    with pytest.raises(ConfigError, match=r"cannot fingerprint a set .*no stable spelling"):
        deciding_fields(Odd())


def test_changing_a_field_that_decides_changes_what_is_decided():
    for name, value in {"count": 4, "names": ("a",), "model": "large", "samples": 16}.items():
        assert deciding_fields(replace(Settings(), **{name: value})) != deciding_fields(Settings())
