"""Which of a source's objects are used: licenses that are allowed, and reviewed lists."""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datagen.assets.objects import Fault, SourceObject
from datagen.errors import DatasetError

LIST_COLUMNS = ("asset_id", "license", "source", "source_uid", "name", "author")
NUM_NAMED = 5
"""Objects that an error message names."""


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
    """Return all objects, those of other licenses set aside; an empty list allows every one."""
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
    """Return the objects that a reviewed list names, with its license, name and author.

    Raises:
        DatasetError: the source lacks one, or has other bytes under its name.
    """
    reviewed = [row for row in read_list(path) if row.source == source]
    if not reviewed:
        raise DatasetError(
            f"{path}: names no object of source {source}. Expected some; choose another --source "
            "or --list."
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
            f"{path}: {named(changed)} of its {len(reviewed)} objects have other bytes (or another "
            "size or axis) in the source than those that were reviewed. Expected the same sha256; "
            "get that version of the source, or review them again."
        )
    return [
        replace(found[row.source_uid], license=row.license, name=row.name, author=row.author)
        for row in reviewed
    ]


def read_list(path: Path) -> Iterator[Reviewed]:
    """Yield the rows of a reviewed list; DatasetError when it is none."""
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
                    "Expected one a column; correct the line."
                )
            yield Reviewed(**row)


def write_list(path: Path, objects: Iterable[SourceObject], source: str) -> None:
    """Write a list of objects, to be reviewed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LIST_COLUMNS)
        for obj in objects:
            writer.writerow([obj.asset_id, obj.license, source, obj.uid, obj.name, obj.author])


def list_fingerprint(path: Path) -> str:
    """Return the sha256 of a list's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def named(uids: Sequence[str]) -> str:
    """Return how many there are and the first few."""
    more = ", …" if len(uids) > NUM_NAMED else ""
    return f"{len(uids)} ({', '.join(uids[:NUM_NAMED])}{more})"
