"""Which objects of a source are used: those with allowed licenses, those on a reviewed list."""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datagen.assets.objects import Fault, SourceObject
from datagen.errors import DatasetError

LIST_COLUMNS = ("asset_id", "license", "source", "source_uid", "name", "author")
NUM_NAMED = 5
"""Most objects that an error message names."""


@dataclass(frozen=True)
class Reviewed:
    """One row of a reviewed list."""

    asset_id: str
    license: str
    source: str
    source_uid: str
    name: str
    author: str


def set_aside_unlicensed(
    objects: Iterable[SourceObject], allowed: Sequence[str]
) -> list[SourceObject]:
    """Return all objects; those whose license is not allowed are set aside.

    Args:
        objects: of a source.
        allowed: SPDX identifiers; empty allows every license.
    """
    fault = "license"
    return [
        replace(obj, fault=Fault(fault, f"{obj.license} is none of {', '.join(allowed)}"))
        if allowed and obj.license not in allowed
        else obj
        for obj in objects
    ]


def restrict_to_list(
    objects: Sequence[SourceObject], source: str, path: Path
) -> list[SourceObject]:
    """Return the objects on a reviewed list, with the list's license, name and author.

    Args:
        objects: all objects of the source.
        source: name of the source.
        path: the list, a CSV file with LIST_COLUMNS.

    Raises:
        DatasetError: the list is missing or broken, or the source lacks one of its objects or has
            other bytes for it.
    """
    reviewed = [row for row in read_list(path) if row.source == source]
    if not reviewed:
        raise DatasetError(
            f"{path}: names no object of source {source}. Expected at least one; choose another "
            "--source or --list."
        )
    found = {obj.uid: obj for obj in objects}
    absent = [row.source_uid for row in reviewed if row.source_uid not in found]
    if absent:
        raise DatasetError(
            f"{path}: {named(absent)} of its {len(reviewed)} objects are not in the source. "
            "Expected all of them; correct --source-path, or remove the rows."
        )
    changed = [row.source_uid for row in reviewed if found[row.source_uid].asset_id != row.asset_id]
    if changed:
        raise DatasetError(
            f"{path}: {named(changed)} of its {len(reviewed)} objects have other bytes, size or "
            "axes in the source than when reviewed. Expected the same asset_id; use the reviewed "
            "version of the source, or review them again."
        )
    return [
        replace(found[row.source_uid], license=row.license, name=row.name, author=row.author)
        for row in reviewed
    ]


def read_list(path: Path) -> Iterator[Reviewed]:
    """Yield the rows of a reviewed list; DatasetError if it is missing or broken."""
    if not path.is_file():
        raise DatasetError(
            f"{path}: no such file. Expected a reviewed list of assets; correct --list."
        )
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != LIST_COLUMNS:
            raise DatasetError(
                f"{path}: its columns are {', '.join(reader.fieldnames or ['none'])}. Expected "
                f"{', '.join(LIST_COLUMNS)}; correct its first line."
            )
        for row in reader:
            if None in row or None in row.values():
                raise DatasetError(
                    f"{path}: line {reader.line_num} has not {len(LIST_COLUMNS)} values. "
                    "Expected one per column; correct the line."
                )
            yield Reviewed(**row)


def list_fingerprint(path: Path) -> str:
    """Return the sha256 of a list's bytes; "" if there is no such file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def named(uids: Sequence[str]) -> str:
    """Return the number of uids and the first few of them."""
    more = ", …" if len(uids) > NUM_NAMED else ""
    return f"{len(uids)} ({', '.join(uids[:NUM_NAMED])}{more})"
