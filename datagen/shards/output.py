"""Writing of a dataset: parts of unfinished shards, then shards, and the manifest last.

All files are written atomically: after a kill a file is complete or missing. Every shard and part
holds the identity of the stage that wrote it, so rows of different settings are never mixed.
"""

import hashlib
import io
import itertools
import json
import logging
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.core.version import package_version
from datagen.errors import DatasetError
from datagen.shards.dataset import (
    MANIFEST,
    SCHEMA_VERSION,
    VERSION_KEY,
    Dataset,
    Row,
    open_shard,
    shard_name,
)
from datagen.shards.storage import Folder
from datagen.shards.tensors import is_tensor, tensor_bytes

logger = logging.getLogger(__name__)

IDENTITY_KEY = b"datagen.identity"
FAILURES_KEY = b"datagen.failures"
PARTS = ".parts"
IDENTITY = "identity.json"
ROWS_PER_GROUP = 16
"""Rows with images or tensors in a row group. A view takes about a megabyte, so a reader of one
view reads a few megabytes."""

LIGHT_ROWS_PER_GROUP = 4096
"""Rows without images and tensors in a row group."""


@dataclass(frozen=True)
class Identity:
    """Everything that decides a dataset's bytes."""

    name: str
    """Name of the stage."""
    revision: int
    """Revision of the stage's code; it is raised when the code makes other bytes."""
    fields: dict[str, Any]
    """Fields of the stage that decide the bytes."""
    inputs: dict[str, str]
    """Fingerprints of the inputs, by name."""

    @property
    def fingerprint(self) -> str:
        """The sha256 of ``json``, as hexadecimal digits."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    @property
    def json(self) -> str:
        """The identity and the schema version, as JSON with sorted keys."""
        content = {
            "name": self.name,
            "revision": self.revision,
            "fields": self.fields,
            "inputs": self.inputs,
            "schema_version": SCHEMA_VERSION,
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Return what differs from another identity, in words, one entry per difference.

        Args:
            other: as read from JSON.
        """
        words = []
        if (there := other.get("schema_version", 0)) != SCHEMA_VERSION:
            words.append(f"schema version {there} there, {SCHEMA_VERSION} now")
        if other["revision"] != self.revision:
            words.append(f"revision {other['revision']} there, {self.revision} now")
        for key in sorted({*other["fields"], *self.fields}):
            there, now = other["fields"].get(key, "absent"), self.fields.get(key, "absent")
            if there != now:
                words.append(f"{key} = {there} there, {now} now")
        words += [
            f"other {key} (its input)"
            for key in sorted({*other["inputs"], *self.inputs})
            if other["inputs"].get(key) != self.inputs.get(key)
        ]
        return words


@dataclass(frozen=True)
class Failure:
    """One unit that could not be made."""

    unit: int
    """Id of the unit."""
    reason: str
    """One line."""
    traceback: str = ""


@dataclass(frozen=True)
class Output:
    """The folder that a stage writes, before and after it is sealed."""

    folder: Folder
    """Where it is."""
    identity: Identity
    """Of the stage that writes it."""
    schema: pa.Schema
    """Columns of its rows."""
    units_per_shard: int
    """Units in each shard; unit u belongs to shard u // units_per_shard."""
    unit_column: str = "layout_id"
    """Column with the id of a row's unit."""

    def sealed(self) -> Dataset | None:
        """Return the finished dataset; None if it is missing or unfinished.

        Raises:
            DatasetError: the folder holds rows made by another stage, or with other fields or
                inputs.
        """
        if self.folder.exists(MANIFEST):
            manifest = json.loads(self.folder.read_bytes(MANIFEST))
            self._refuse_other(manifest)
            return Dataset(self.folder, manifest)
        if self._parts_folder.exists(IDENTITY) and self._has_content():
            self._refuse_other(json.loads(self._parts_folder.read_bytes(IDENTITY)))
        else:  # for a repair, the manifest was deleted together with a damaged shard
            for name in self.shard_names():
                self._refuse_foreign(name)
        return None

    def begin(self) -> None:
        """Write the identity, before anything else; delete partial files of killed runs."""
        self._parts_folder.write_bytes(IDENTITY, self.identity.json.encode())
        for name in self.folder.names():
            if name.startswith((".shard-", f".{MANIFEST}.")):  # half-written by a killed run
                self.folder.delete(name)

    def missing_units(self, units: Iterable[int]) -> dict[int, list[int]]:
        """Return the units that are not made yet, by unfinished shard.

        A shard all of whose units are made, but not merged, has an empty list.
        """
        done = set(self.folder.names(".parquet"))
        parts: dict[int, set[str]] = {}
        missing: dict[int, list[int]] = {}
        for unit in units:
            shard = unit // self.units_per_shard
            if shard_name(shard) in done:
                continue
            if shard not in parts:
                parts[shard] = set(self._parts(shard).names(".parquet"))
            todo = missing.setdefault(shard, [])
            if _part_name(unit) not in parts[shard]:
                todo.append(unit)
        return missing

    def write_part(self, unit: int, rows: list[Row], failure: Failure | None = None) -> None:
        """Write the part of one unit, with its rows or its failure."""
        failures = [failure] if failure else []
        shard = unit // self.units_per_shard
        self._parts(shard).write_bytes(_part_name(unit), self._parquet(rows, failures))

    def write_shard(self, shard: int, rows: list[Row], failures: list[Failure]) -> None:
        """Write a shard directly, for stages whose units are too small for parts."""
        self._write_shard(shard_name(shard), self._parquet(rows, failures))

    def merge_parts(self, shard: int, units: Iterable[int]) -> None:
        """Write a shard from its parts, in the order of ``units``, and delete the parts."""
        parts = self._parts(shard)
        tables, failures = [], []
        for unit in units:
            table = pq.read_table(pa.BufferReader(parts.read_bytes(_part_name(unit))))
            failures += _failures(table.schema)
            tables.append(table.cast(self.schema))
        table = pa.concat_tables(tables) if tables else self.schema.empty_table()
        self._write_shard(shard_name(shard), self._table_bytes(table, failures))
        parts.delete_folder()

    def forget_failed(self, units: Iterable[int]) -> None:
        """Delete the parts of failed units, in an unfinished dataset."""
        for unit in units:
            parts, name = self._parts(unit // self.units_per_shard), _part_name(unit)
            if parts.exists(name):
                with parts.open_file(name) as file:
                    failed = _failures(pq.read_schema(file))
                if failed:
                    parts.delete(name)

    def reopen_failed(self, sealed: Dataset, units: Container[int] | None = None) -> None:
        """Delete the manifest, and split shards with failures into parts without the failed units.

        Args:
            sealed: the finished dataset.
            units: failed units to make again; other failures stay. None: all failed units.
        """
        self.begin()
        self.folder.delete(MANIFEST)
        for shard in sealed.manifest["shards"]:
            again = {f["unit"] for f in shard["failed"] if units is None or f["unit"] in units}
            if not again:
                continue
            index = _shard_index(shard["path"])
            table = pq.read_table(pa.BufferReader(self.folder.read_bytes(shard["path"])))
            numbers = table[self.unit_column].to_numpy()
            for unit in dict.fromkeys(numbers.tolist()):
                rows = table.filter(pa.array(numbers == unit)).cast(self.schema)
                self._parts(index).write_bytes(_part_name(unit), self._table_bytes(rows, []))
            for failure in _failures(table.schema):
                if failure.unit not in again:
                    self.write_part(failure.unit, [], failure)
            self.folder.delete(shard["path"])
            self._records.delete(f"{shard['path']}.json")

    def shard_names(self) -> list[str]:
        """Return the names of the finished shards, in order."""
        return self.folder.names(".parquet")

    def rows(self, columns: list[str]) -> Iterator[Row]:
        """Iterate over the rows of the finished shards, with some of their columns."""
        for name in self.shard_names():
            with self.folder.open_file(name) as file:
                yield from pq.read_table(file, columns=columns, use_threads=False).to_pylist()

    def seal(self, extra: dict[str, Any]) -> Dataset:
        """Write the manifest, delete the folder of parts, and return the finished dataset.

        Args:
            extra: entries to add to the manifest.
        """
        shards = [self._shard_record(name) for name in self.shard_names()]
        manifest = {
            **json.loads(self.identity.json),
            "fingerprint": self.identity.fingerprint,
            "rows": sum(shard["rows"] for shard in shards),
            "failed": [failure for shard in shards for failure in shard["failed"]],
            "unit_column": self.unit_column,
            "units_per_shard": self.units_per_shard,
            "shards": shards,
            **extra,
        }
        self.folder.write_bytes(MANIFEST, json.dumps(manifest, indent=1).encode())
        self._parts_folder.delete_folder()
        return Dataset(self.folder, manifest)

    @property
    def _records(self) -> Folder:
        return self._parts_folder / "records"

    def _write_shard(self, name: str, data: bytes) -> None:
        self.folder.write_bytes(name, data)
        self._records.write_bytes(f"{name}.json", json.dumps(self._record(name, data)).encode())

    def _shard_record(self, name: str) -> dict[str, Any]:
        """Return a shard's entry in the manifest, recorded when the shard was written."""
        if self._records.exists(f"{name}.json"):
            return dict(json.loads(self._records.read_bytes(f"{name}.json")))
        return self._record(name, self.folder.read_bytes(name))

    def _record(self, name: str, data: bytes) -> dict[str, Any]:
        file = pq.ParquetFile(pa.BufferReader(data))
        failures = _failures(file.schema_arrow)
        return {
            "path": name,
            "rows": file.metadata.num_rows,
            "sha256": hashlib.sha256(data).hexdigest(),
            "failed": [{"unit": f.unit, "reason": f.reason} for f in failures],
        }

    def _refuse_other(self, other: dict[str, Any]) -> None:
        differences = self.identity.differences(other)
        if other["name"] != self.identity.name:
            differences.insert(0, f"stage {other['name']} there, {self.identity.name} now")
        if differences:
            raise DatasetError(
                f"{self.folder} was made with other settings{_by_version(other)}: "
                f"{'; '.join(differences)}. Give the same values, make it again with --overwrite, "
                "or use another --root."
            )

    def _refuse_foreign(self, name: str) -> None:
        with open_shard(self.folder, name) as file:
            identity = (file.schema_arrow.metadata or {}).get(IDENTITY_KEY)
        if identity is None:
            raise DatasetError(
                f"{self.folder}/{name} does not say which stage wrote it. Expected a folder that "
                "only datagen writes; use --overwrite or another --root."
            )
        self._refuse_other(json.loads(identity))

    def _has_content(self) -> bool:
        """Return whether the folder holds more than the identity and logs of a failed run."""
        files = {*self.folder.names()} - {PARTS, "logs"}
        return bool(files or {*self._parts_folder.names()} - {IDENTITY})

    @property
    def _parts_folder(self) -> Folder:
        return self.folder / PARTS

    def _parts(self, shard: int) -> Folder:
        return self._parts_folder / f"{shard:05d}"

    def _parquet(self, rows: list[Row], failures: list[Failure]) -> bytes:
        return self._table_bytes(rows_table(rows, self.schema), failures)

    def _table_bytes(self, table: pa.Table, failures: list[Failure]) -> bytes:
        metadata = {IDENTITY_KEY: self.identity.json, VERSION_KEY: str(SCHEMA_VERSION)}
        if failures:
            metadata[FAILURES_KEY] = json.dumps([vars(failure) for failure in failures])
        table = table.replace_schema_metadata(metadata)
        buffer = io.BytesIO()
        options: dict[str, Any] = {
            "compression": "zstd",
            "write_page_index": True,
            "write_page_checksum": True,
            # Images and tensors do not repeat; dictionaries would make reading a quarter slower.
            "use_dictionary": not self._is_heavy,
        }
        with pq.ParquetWriter(buffer, table.schema, **options) as writer:
            for group in self._row_groups(table):
                writer.write_table(group, row_group_size=len(group))
        return buffer.getvalue()

    @property
    def _is_heavy(self) -> bool:
        return any(is_tensor(f) or pa.types.is_binary(f.type) for f in self.schema)

    def _row_groups(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield the row groups of a table; heavy ones hold rows of a single unit.

        So a reader finds the row group of a view by its statistics, and reads only that one.
        """
        if not self._is_heavy:
            for start in range(0, len(table), LIGHT_ROWS_PER_GROUP):
                yield table.slice(start, LIGHT_ROWS_PER_GROUP)
            return
        units = table[self.unit_column].to_numpy()
        cuts = [0, *(np.flatnonzero(units[1:] != units[:-1]) + 1).tolist(), len(units)]
        for first, last in itertools.pairwise(cuts):
            for start in range(first, last, ROWS_PER_GROUP):
                yield table.slice(start, min(ROWS_PER_GROUP, last - start))


def rows_table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Return rows (dicts, tensors as arrays) as a table of a schema.

    Raises:
        ValueError: a tensor has another shape than its column.
    """
    columns = []
    for column in schema:
        values = [row[column.name] for row in rows]
        if is_tensor(column):
            values = [v if v is None else tensor_bytes(column, np.asarray(v)) for v in values]
        columns.append(pa.array(values, column.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _by_version(manifest: dict[str, Any]) -> str:
    """Return " by datagen VERSION" for a dataset of another version, whose fields may differ."""
    made_by = manifest.get("provenance", {}).get("versions", {}).get("datagen")
    here = package_version()
    return "" if None in (made_by, here) or made_by == here else f" by datagen {made_by}"


def _failures(schema: pa.Schema) -> list[Failure]:
    metadata = schema.metadata or {}
    return [Failure(**item) for item in json.loads(metadata.get(FAILURES_KEY, b"[]"))]


def _part_name(unit: int) -> str:
    return f"{unit:09d}.parquet"


def _shard_index(name: str) -> int:
    return int(name.removeprefix("shard-").removesuffix(".parquet"))
