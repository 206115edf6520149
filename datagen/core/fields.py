"""Marks on the fields of a stage or of its settings: how each field decides a dataset's bytes.

- A plain field decides by its value.
- A ``how`` field takes no part by itself: another field may depend on it.
- A ``content`` field names files, and the content of the files decides.
- A ``resolved`` field decides by a value that is computed from the whole stage.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from datagen.errors import ConfigError

Contents = str | Mapping[str, str] | None
"""One fingerprint, several by name, or None if the field does not decide the bytes."""

ABSENT = object()
"""Value of a ``resolved`` field that does not decide the bytes."""

_HOW, _CONTENT, _RESOLVED = "how", "content", "resolved"


def how(default: Any = dataclasses.MISSING, **options: Any) -> Any:
    """Return a field that takes no part in the identity by itself.

    It says how a stage runs, or a ``content`` or ``resolved`` field depends on it.

    Args:
        default: the field's default.
        options: more options of ``dataclasses.field``, such as ``default_factory``.
    """
    return field(default=default, metadata={_HOW: True}, **options)


def content(
    fingerprint: Callable[[Any], Contents],
    default: Any = dataclasses.MISSING,
    *,
    name: str | None = None,
    with_value: bool = False,
) -> Any:
    """Return a field that holds a path or hub id and decides by the content found there.

    Args:
        fingerprint: takes the stage (or the settings that hold the field) and returns the
            content's sha256.
        default: the field's default.
        name: key of the fingerprint in the manifest's inputs; by default the field's name.
        with_value: whether the value decides too and is written to the manifest.
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
    """Return a field that decides by a value computed from the whole stage.

    Args:
        value: takes the stage and returns the value that decides, or ``ABSENT``.
        default: the field's default.
        name: key of the value in the manifest; by default the field's name.
        options: more options of ``dataclasses.field``, such as ``default_factory``.
    """
    return field(default=default, metadata={_RESOLVED: (value, name)}, **options)


def deciding_fields(config: Any) -> dict[str, Any]:
    """Return the fields that decide the bytes as JSON data, those of nested dataclasses included.

    Raises:
        ConfigError: a value has a type with no stable JSON form.
    """
    found: dict[str, Any] = {}
    for name, value in _deciding(config):
        nested = dataclasses.is_dataclass(value)
        new = deciding_fields(value) if nested else {name: stable_value(value)}
        assert not found.keys() & new.keys(), (found.keys(), new.keys())
        found |= new
    return found


def content_fingerprints(config: Any) -> dict[str, str]:
    """Return the sha256 of each ``content`` field by name, also of nested dataclasses."""
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
    """Yield the name and the deciding value of each plain, valued ``content`` or resolved field."""
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
    """Return a field's value in a JSON form that stays the same from run to run.

    Raises:
        ConfigError: the value has a type with no such form.
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
