"""What decides a dataset's bytes, marked once on each field of a stage or of its settings.

A plain field decides the bytes by its value. A field made with ``how`` never does. A field made
with ``content`` names files, and their content decides. A field made with ``resolved`` decides by
a value that is computed from the whole stage.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from datagen.errors import ConfigError

Contents = str | Mapping[str, str] | None
"""A fingerprint, several by name, or None where the field has no part in the bytes."""

ABSENT = object()
"""What ``resolved`` returns where the field has no part in the bytes."""

_HOW, _CONTENT, _RESOLVED = "how", "content", "resolved"


def how(default: Any = dataclasses.MISSING, **options: Any) -> Any:
    """Declare a field that says how a stage runs, and never what it makes.

    Args:
        default: of the field.
        options: as of ``dataclasses.field`` (``default_factory``).
    """
    return field(default=default, metadata={_HOW: True}, **options)


def content(
    fingerprint: Callable[[Any], Contents],
    default: Any = dataclasses.MISSING,
    *,
    name: str | None = None,
    with_value: bool = False,
) -> Any:
    """Declare a field whose path or hub id is known by the content that it names.

    Args:
        fingerprint: from the stage (or the settings that hold the field) to the content's sha256.
        default: of the field.
        name: what the fingerprint is called among the inputs; by default the field's name.
        with_value: whether the value itself decides too, and stands in the manifest.
    """
    return field(
        default=default, metadata={_CONTENT: (fingerprint, name), "with_value": with_value}
    )


def resolved(
    value: Callable[[Any], Any],
    default: Any = dataclasses.MISSING,
    *,
    name: str | None = None,
    **options: Any,
) -> Any:
    """Declare a field that decides by what it comes to, not by how it was given.

    Args:
        value: from the stage to the value that decides; ``ABSENT`` where none does.
        default: of the field.
        name: what the value is called in the manifest; by default the field's name.
        options: as of ``dataclasses.field`` (``default_factory``).
    """
    return field(default=default, metadata={_RESOLVED: (value, name)}, **options)


def deciding_fields(config: Any) -> dict[str, Any]:
    """Return the fields that decide the bytes, nested dataclasses' among them, as JSON data.

    Raises:
        ConfigError: a value has no stable spelling.
    """
    found: dict[str, Any] = {}
    for name, value in _deciding(config):
        nested = dataclasses.is_dataclass(value)
        new = deciding_fields(value) if nested else {name: stable_value(value)}
        assert not found.keys() & new.keys(), (found.keys(), new.keys())
        found |= new
    return found


def content_fingerprints(config: Any) -> dict[str, str]:
    """Return the fingerprints of all that ``content`` fields name, nested dataclasses' too."""
    found: dict[str, str] = {}
    for f in dataclasses.fields(config):
        if _CONTENT in f.metadata:
            fingerprint, name = f.metadata[_CONTENT]
            contents = fingerprint(config)
            if isinstance(contents, str):
                contents = {name or f.name: contents}
            found |= contents or {}
    for _, value in _deciding(config):
        if dataclasses.is_dataclass(value):
            found |= content_fingerprints(value)
    return found


def _deciding(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each field that decides by a value."""
    for f in dataclasses.fields(config):
        if _HOW in f.metadata or (_CONTENT in f.metadata and not f.metadata["with_value"]):
            continue
        if _RESOLVED not in f.metadata:
            yield f.name, getattr(config, f.name)
            continue
        resolve, name = f.metadata[_RESOLVED]
        if (value := resolve(config)) is not ABSENT:
            yield name or f.name, value


def stable_value(value: Any) -> Any:
    """Return a field's value as JSON data with one stable spelling.

    Raises:
        ConfigError: the value has none.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [stable_value(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    raise ConfigError(
        f"cannot fingerprint a {type(value).__qualname__} ({value!r}): it has no stable spelling. "
        "Use a number, string, tuple, Path, Enum, or frozen dataclass in stage fields."
    )
