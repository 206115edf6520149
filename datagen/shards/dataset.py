"""Reading of a dataset: a folder of Parquet shards sealed by ``manifest.json``."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.errors import DatasetError, first_line
from datagen.shards.storage import Folder
from datagen.shards.tensors import is_tensor, read_tensor

Row = dict[str, Any]

MANIFEST = "manifest.json"

SCHEMA_VERSION = 1
"""Version of the files that stages write. It is raised when older readers would misread them."""

VERSION_KEY = b"datagen.schema_version"
"""Key of the version in the Parquet metadata of every shard."""


@dataclass(frozen=True)
class Dataset:
    """A sealed dataset. Iterating gives rows as dicts, tensors as read-only arrays."""

    folder: Folder
    """Where it is."""
    manifest: dict[str, Any]
    """The content of ``manifest.json``."""

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    def __iter__(self) -> Iterator[Row]:
        """Iterate over all rows in order."""
        return self.rows()

    @property
    def fingerprint(self) -> str:
        """The sha256 of the identity of the stage that wrote it."""
        return str(self.manifest["fingerprint"])

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the stage that wrote it."""
        return dict(self.manifest["fields"])

    @property
    def schema(self) -> pa.Schema:
        """The schema of the rows, equal in all shards.

        Raises:
            DatasetError: there are no shards, or the first one cannot be read.
        """
        shards = self.manifest["shards"]
        if not shards:
            raise DatasetError(
                f"{self.folder}: has no shards, so no schema. Expected at least one shard; make "
                "the dataset again with --overwrite."
            )
        with open_shard(self.folder, shards[0]["path"]) as file:
            return file.schema_arrow.remove_metadata()

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """Iterate over all rows in order.

        Args:
            columns: those to read; None: all.

        Raises:
            DatasetError: a shard is missing or damaged, or of a newer schema version.
        """
        for shard in self.manifest["shards"]:
            yield from self.shard_rows(shard["path"], columns)

    def shard_rows(self, name: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """Iterate over the rows of one shard in order.

        Args:
            name: of the shard's file.
            columns: those to read; None: all.

        Raises:
            DatasetError: the shard is missing or damaged, or of a newer schema version.
        """
        yield from table_rows(self._read(name, columns))

    def rows_of(
        self, unit: int, columns: Sequence[str] | None = None, *, view_index: int | None = None
    ) -> list[Row]:
        """Return the rows of one unit, or of one of its views; [] if there are none.

        Only the row groups of its shard that may hold them are read.

        Args:
            unit: its id, for most datasets a ``layout_id``.
            columns: those to read; None: all. The columns of the keys are always read.
            view_index: the view; None: all rows of the unit.

        Raises:
            DatasetError: the shard is missing or damaged, or of a newer schema version.
        """
        key = self.manifest["unit_column"]
        name = shard_name(unit // int(self.manifest["units_per_shard"]))
        if not any(shard["path"] == name for shard in self.manifest["shards"]):
            return []
        filters = [(key, "=", unit)]
        if view_index is not None:
            filters.append(("view_index", "=", view_index))
        needed = [column for column, _, _ in filters]
        wanted = None if columns is None else list(dict.fromkeys([*needed, *columns]))
        return list(table_rows(self._read(name, wanted, filters=filters)))

    def units(self) -> list[int]:
        """Return the ids of the units (``layout_id``) that have rows, in order."""
        key = self.manifest["unit_column"]
        found = dict.fromkeys(row[key] for row in self.rows([key]))
        return list(found)

    def units_by_shard(self) -> dict[int, list[int]]:
        """Return the units that have rows, by the index of their shard; all in order."""
        return units_by_shard(self.units(), int(self.manifest["units_per_shard"]))

    def _read(self, name: str, columns: Sequence[str] | None, **options: Any) -> pa.Table:
        wanted = None if columns is None else list(columns)
        with _readable(self.folder, name), self.folder.open_file(name) as file:
            # The executor decides the number of threads, and a scene is small.
            table = pq.read_table(
                file, columns=wanted, use_threads=False, page_checksum_verification=True, **options
            )
        _refuse_newer(f"{self.folder}/{name}", int(table.schema.metadata.get(VERSION_KEY, 0)))
        return table


@contextmanager
def open_shard(folder: Folder, name: str) -> Iterator[pq.ParquetFile]:
    """Open one shard for reading by row groups; the checksum of each page is checked on reading.

    Raises:
        DatasetError: the shard is missing, truncated or damaged, or of a newer schema version.
    """
    with _readable(folder, name), folder.open_file(name) as source:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        metadata = file.schema_arrow.metadata or {}
        _refuse_newer(f"{folder}/{name}", int(metadata.get(VERSION_KEY, 0)))
        yield file


@contextmanager
def _readable(folder: Folder, name: str) -> Iterator[None]:
    """Turn errors of reading a shard into one line that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(
            f"{folder}/{name} is missing, but the manifest lists it. "
            "Restore the file, or make the dataset again with --overwrite."
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(
            f"{folder}/{name} cannot be read: it is truncated or damaged ({first_line(error)}). "
            "Expected an intact Parquet file; delete it together with manifest.json and run the "
            "stage again, which makes only this shard."
        ) from error


def _refuse_newer(name: str, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise DatasetError(
            f"{name} was written with schema version {version}. This datagen reads versions up to "
            f"{SCHEMA_VERSION}. Update datagen to read it."
        )


def open_dataset(path_or_url: str | Path | Folder) -> Dataset:
    """Return the sealed dataset in a folder.

    Raises:
        DatasetError: the folder is missing, the dataset is unfinished or of a newer schema
            version, or the manifest is damaged.
    """
    folder = path_or_url if isinstance(path_or_url, Folder) else Folder.at(path_or_url)
    if not folder.exists():
        raise DatasetError(f"{folder} does not exist. Expected a dataset's folder.")
    if not folder.exists(MANIFEST):
        raise DatasetError(
            f"{folder} has no {MANIFEST}. Expected a finished dataset; run its stage again, which "
            "resumes where it stopped."
        )
    try:
        manifest = json.loads(folder.read_bytes(MANIFEST))
    except ValueError as error:
        raise DatasetError(
            f"{folder}/{MANIFEST} is not JSON ({error}). Delete it and run the stage again."
        ) from error
    if not isinstance(manifest, dict):
        raise DatasetError(
            f"{folder}/{MANIFEST} is not a JSON object. Delete it and run the stage again."
        )
    _refuse_newer(f"{folder}/{MANIFEST}", manifest.get("schema_version", 0))
    return Dataset(folder, manifest)


def table_rows(table: pa.Table) -> Iterator[Row]:
    """Iterate over a table's rows as dicts, tensor columns as arrays."""
    tensors = [field for field in table.schema if is_tensor(field)]
    for batch in table.to_batches(max_chunksize=64):
        for row in batch.to_pylist():
            for field in tensors:
                if row[field.name] is not None:
                    row[field.name] = read_tensor(field, row[field.name])
            yield row


def shard_name(index: int) -> str:
    """Return the file name of shard ``index``."""
    return f"shard-{index:05d}.parquet"


def units_by_shard(units: Sequence[int], shard_size: int) -> dict[int, list[int]]:
    """Return the units of each shard by the index of the shard, in order."""
    members: dict[int, list[int]] = {}
    for unit in units:
        members.setdefault(unit // shard_size, []).append(unit)
    return members
