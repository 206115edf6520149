"""A folder of model files of any format, with an optional ``assets.csv`` that describes them."""

import csv
import hashlib
import logging
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from datagen.assets.formats import FORMATS, model_files
from datagen.assets.objects import (
    Fault,
    FetchedModel,
    SourceObject,
    file_asset_id,
    listing_fingerprint,
)
from datagen.assets.sweethome3d import UNKNOWN_LICENSE
from datagen.errors import DatasetError, RowError

logger = logging.getLogger(__name__)

TABLE = "assets.csv"
COLUMNS = ("path", "name", "category", "license", "author", "up_axis", "unit")
UNITS_M = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
UNKNOWN_UNIT = "unknown"
SPDX = re.compile(r"[A-Za-z0-9.+-]+")


@dataclass(frozen=True)
class Description:
    """What one row of ``assets.csv`` says; None where it says nothing."""

    name: str | None = None
    category: str | None = None
    license: str | None = None
    author: str | None = None
    up_axis: str | None = None
    unit: str | None = None
    """A key of UNITS_M, metres as a number, or "unknown"."""


class FolderSource:
    """Every model file below a folder, in the order of their paths."""

    name = "folder"

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise DatasetError(
                f"{path}: no such folder. Expected one with model files "
                f"({', '.join(FORMATS)}); correct --source-path."
            )
        self.path = path

    def fingerprint(self) -> str:
        """Return the sha256 over the models' bytes and what ``assets.csv`` says of them."""
        return listing_fingerprint(self.list_objects())

    def list_objects(self) -> list[SourceObject]:
        """Return one object a model file; a second file of the same bytes is set aside."""
        return self._objects

    def fetch(self, obj: SourceObject, folder: Path) -> FetchedModel:
        """Return the file where it lies; nothing is copied."""
        path = self.path / obj.uid
        if not path.is_file():
            raise RowError(f"{path} is gone since it was listed")
        return FetchedModel(path, obj.options)

    @cached_property
    def _objects(self) -> list[SourceObject]:
        files = find_models(self.path)
        described = read_table(self.path / TABLE, files)
        first: dict[str, str] = {}
        objects = []
        for uid in files:
            obj = describe(self.path / uid, uid, described.get(uid, Description()))
            original = first.setdefault(obj.asset_id, uid)
            objects.append(obj if original == uid else duplicate(obj, original))
        return objects


def find_models(folder: Path) -> list[str]:
    """Return the model files below a folder by relative path, sorted; says what else is there."""
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
        logger.info(f"assets: {folder}: {len(models)} models; not read as models: {words}")
    return models


def describe(path: Path, uid: str, known: Description) -> SourceObject:
    """Return the entry of one model file; its first folder is its category, unless described."""
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


def duplicate(obj: SourceObject, original: str) -> SourceObject:
    """Return an object set aside as a copy; its id differs, since ids name one row each."""
    own_id = hashlib.sha256(f"{obj.asset_id}\0{obj.uid}".encode()).hexdigest()
    return replace(obj, asset_id=own_id, fault=Fault("duplicate", f"same bytes as {original}"))


def unit_m(unit: str) -> float | None:
    """Return the metres of a unit; None for an unknown one. ValueError when it is none."""
    if unit == UNKNOWN_UNIT:
        return None
    metres = UNITS_M[unit] if unit in UNITS_M else float(unit)
    if not 0 < metres < float("inf"):
        raise ValueError(unit)
    return metres


def read_table(path: Path, files: list[str]) -> dict[str, Description]:
    """Return what ``assets.csv`` says, by path; nothing if there is no such file.

    Raises:
        DatasetError: the table has an unknown column or value, or names a file that is not there.
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
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or "path" not in columns:
        raise DatasetError(
            f"{path}: its columns are {', '.join(columns) or 'none'}. Expected path and any of "
            f"{', '.join(COLUMNS[1:])}; rename or remove "
            f"{', '.join(repr(name) for name in unknown) or 'nothing, but add path'}."
        )
    known = set(files)
    described: dict[str, Description] = {}
    for line, row in enumerate(rows, start=2):
        name = check_row(path, line, row, known)
        if name in described:
            raise DatasetError(
                f"{path}: line {line} describes {name} a second time. Expected one row a file; "
                "remove one of them."
            )
        given = {key: value for key, value in row.items() if value and key != "path"}
        described[name] = Description(**given)
    return described


def check_row(path: Path, line: int, row: dict[str, str | None], files: set[str]) -> str:
    """Return the path that a row describes, after a look at all of its values."""
    name = PurePosixPath((row["path"] or "").replace("\\", "/")).as_posix()
    if None in row:
        raise complaint(path, line, "more values than columns", "values with commas in quotes")
    if name not in files:
        raise complaint(
            path, line, f"{name!r} is no model file here", "a path relative to the table"
        )
    if row.get("up_axis") not in (None, "", "Y", "Z"):
        raise complaint(path, line, f"up_axis {row['up_axis']!r}", "Y or Z, or leave it empty")
    if row.get("license") and not SPDX.fullmatch(row["license"] or ""):
        raise complaint(
            path, line, f"license {row['license']!r}", "an SPDX identifier such as CC-BY-4.0"
        )
    try:
        unit_m(row.get("unit") or UNKNOWN_UNIT)
    except ValueError:
        words = ", ".join([*UNITS_M, UNKNOWN_UNIT])
        raise complaint(
            path, line, f"unit {row['unit']!r}", f"{words}, or metres per unit as a number"
        ) from None
    return name


def complaint(path: Path, line: int, what: str, wanted: str) -> DatasetError:
    """Return the error about one row."""
    return DatasetError(f"{path}: line {line}: {what}. Expected {wanted}; correct the line.")
