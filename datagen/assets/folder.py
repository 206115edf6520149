"""Source ``folder``: model files of any format, optionally described by an ``assets.csv``."""

import csv
import hashlib
import logging
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from datagen.assets.formats import FORMATS, model_files
from datagen.assets.licenses import SPDX_PATTERN, UNKNOWN_LICENSE
from datagen.assets.objects import (
    Fault,
    FetchedModel,
    SourceObject,
    file_asset_id,
    listing_fingerprint,
)
from datagen.errors import DatasetError, RowError

logger = logging.getLogger(__name__)

TABLE = "assets.csv"
TABLE_COLUMNS = ("path", "name", "category", "license", "author", "up_axis", "unit")
UNITS_M = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
UNKNOWN_UNIT = "unknown"


@dataclass(frozen=True)
class Description:
    """One row of ``assets.csv``; None for an empty cell."""

    name: str | None = None
    category: str | None = None
    license: str | None = None
    author: str | None = None
    up_axis: str | None = None
    unit: str | None = None
    """A key of UNITS_M, metres as a number, or "unknown"."""


class FolderSource:
    """Every model file in a folder and its subfolders, sorted by path.

    Args:
        path: the folder.

    Raises:
        DatasetError: there is no such folder.
    """

    name = "folder"

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise DatasetError(
                f"{path}: no such folder. Expected one with model files "
                f"({', '.join(FORMATS)}); correct --source-path."
            )
        self.path = path

    def fingerprint(self) -> str:
        """Return the sha256 over the models' bytes and their rows in ``assets.csv``."""
        return listing_fingerprint(self.list_objects())

    def list_objects(self) -> list[SourceObject]:
        """Return one object per model file. A file with the bytes of another one is set aside."""
        return self._objects

    def fetch(self, obj: SourceObject, folder: Path) -> FetchedModel:
        """Return the file in its place; nothing is copied. RowError if it no longer exists."""
        path = self.path / obj.uid
        if not path.is_file():
            raise RowError(f"{path} no longer exists")
        return FetchedModel(path, obj.options)

    @cached_property
    def _objects(self) -> list[SourceObject]:
        files = find_models(self.path)
        described = read_table(self.path / TABLE, files)
        first: dict[str, str] = {}
        objects = []
        for uid in files:
            obj = describe_file(self.path / uid, uid, described.get(uid, Description()))
            original = first.setdefault(obj.asset_id, uid)
            objects.append(obj if original == uid else as_duplicate(obj, original))
        return objects


def find_models(folder: Path) -> list[str]:
    """Return the relative paths of the model files below a folder, sorted, and log the others.

    Raises:
        DatasetError: there is no model file.
    """
    files = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    models = [name for name in files if PurePosixPath(name).suffix.lower() in FORMATS]
    if not models:
        raise DatasetError(
            f"{folder}: none of its {len(files)} files is a model. Expected files ending in "
            f"{', '.join(FORMATS)}; correct --source-path."
        )
    others = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in files)
    others -= Counter(PurePosixPath(name).suffix.lower() for name in models)
    words = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
    if words:
        logger.info(f"assets: {folder}: {len(models)} models; other files are ignored: {words}")
    return models


def describe_file(path: Path, uid: str, known: Description) -> SourceObject:
    """Return the object of one model file.

    Its category is the name of its first folder, unless the description gives one.

    Args:
        path: the file.
        uid: its path relative to the source's folder.
        known: its row of ``assets.csv``.
    """
    form = FORMATS[path.suffix.lower()]
    options = form.options(known.up_axis, unit_m(known.unit) if known.unit else form.unit_m)
    files = [(name, file.read_bytes()) for name, file in model_files(path).items()]
    folders = PurePosixPath(uid).parts[:-1]
    return SourceObject(
        uid=uid,
        name=known.name or path.stem,
        category=known.category or (folders[0] if folders else ""),
        license=known.license or UNKNOWN_LICENSE,
        author=known.author or "",
        asset_id=file_asset_id(files, options),
        options=options,
    )


def as_duplicate(obj: SourceObject, original: str) -> SourceObject:
    """Return an object set aside as a copy of ``original``, with an asset_id of its own.

    Each asset_id belongs to one row only.
    """
    own_id = hashlib.sha256(f"{obj.asset_id}\0{obj.uid}".encode()).hexdigest()
    return replace(obj, asset_id=own_id, fault=Fault("duplicate", f"same bytes as {original}"))


def unit_m(unit: str) -> float | None:
    """Return the metres per unit; None for "unknown".

    Args:
        unit: a key of UNITS_M, "unknown", or a positive number of metres.

    Raises:
        ValueError: it is none of these.
    """
    if unit == UNKNOWN_UNIT:
        return None
    metres = UNITS_M[unit] if unit in UNITS_M else float(unit)
    if not 0 < metres < float("inf"):
        raise ValueError(unit)
    return metres


def read_table(path: Path, files: list[str]) -> dict[str, Description]:
    """Return the rows of ``assets.csv`` by model file; empty if there is no such table.

    Args:
        path: the table.
        files: the model files, relative to the folder.

    Raises:
        DatasetError: the table has an unknown column or value, or names a file that is missing.
    """
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            columns = list(reader.fieldnames or ())
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path}: cannot be read ({error}). Expected comma-separated values in UTF-8; "
            "save it again as such."
        ) from error
    unknown = [name for name in columns if name not in TABLE_COLUMNS]
    if unknown or "path" not in columns:
        raise DatasetError(
            f"{path}: its columns are {', '.join(columns) or 'none'}. Expected path and any of "
            f"{', '.join(TABLE_COLUMNS[1:])}; "
            + (f"rename or remove {', '.join(map(repr, unknown))}." if unknown else "add path.")
        )
    known = set(files)
    described: dict[str, Description] = {}
    for line, row in enumerate(rows, start=2):
        name = check_row(path, line, row, known)
        if name in described:
            raise DatasetError(
                f"{path}: line {line} describes {name} a second time. Expected one row per file; "
                "remove one of them."
            )
        given = {key: value for key, value in row.items() if value and key != "path"}
        described[name] = Description(**given)
    return described


def check_row(path: Path, line: int, row: dict[str, str | None], files: set[str]) -> str:
    """Return the model file that a row describes.

    Args:
        path: the table, for the error.
        line: the row's line in it.
        row: the row by column.
        files: the model files.

    Raises:
        DatasetError: the row has a wrong value.
    """
    name = PurePosixPath((row["path"] or "").replace("\\", "/")).as_posix()
    if None in row:
        raise row_error(path, line, "more values than columns", "values with commas in quotes")
    if name not in files:
        raise row_error(
            path, line, f"{name!r} is no model file here", "a path relative to the table"
        )
    if row.get("up_axis") not in (None, "", "Y", "Z"):
        raise row_error(path, line, f"up_axis {row['up_axis']!r}", "Y or Z, or leave it empty")
    if row.get("license") and not SPDX_PATTERN.fullmatch(row["license"] or ""):
        raise row_error(
            path, line, f"license {row['license']!r}", "an SPDX identifier such as CC-BY-4.0"
        )
    try:
        unit_m(row.get("unit") or UNKNOWN_UNIT)
    except ValueError:
        words = ", ".join([*UNITS_M, UNKNOWN_UNIT])
        raise row_error(
            path, line, f"unit {row['unit']!r}", f"{words}, or metres per unit as a number"
        ) from None
    return name


def row_error(path: Path, line: int, what: str, expected: str) -> DatasetError:
    """Return the error for one row of the table."""
    return DatasetError(f"{path}: line {line}: {what}. Expected {expected}; correct the line.")
