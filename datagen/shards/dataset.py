"""Reading a dataset: a folder of Parquet shards sealed by ``manifest.json``."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.errors import DatasetError
from datagen.shards.schemas import is_tensor, read_tensor
from datagen.shards.storage import Folder

Row = dict[str, Any]

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Dataset:
    """A sealed dataset. Iterating gives rows as dicts, tensors as read-only arrays."""

    folder: Folder
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    def __iter__(self) -> Iterator[Row]:
        return self.rows()

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the stage that wrote it."""
        return dict(self.manifest["fields"])

    @property
    def schema(self) -> pa.Schema:
        """The schema of the rows; shards agree in it."""
        shards = self.manifest["shards"]
        if not shards:
            raise DatasetError(f"{self.folder} has no rows, so no schema. Make it again.")
        with self.folder.open_file(shards[0]["path"]) as file:
            return pq.read_schema(file).remove_metadata()

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """Iterate over all rows in order, or only some of their columns."""
        for shard in self.manifest["shards"]:
            yield from table_rows(self._read(shard["path"], columns))

    def rows_of(self, unit: int, columns: Sequence[str] | None = None) -> list[Row]:
        """Return the rows of one unit (its ``layout_id``), reading its shard alone."""
        key = self.manifest["unit_column"]
        name = shard_name(unit // int(self.manifest["units_per_shard"]))
        if not any(shard["path"] == name for shard in self.manifest["shards"]):
            return []
        wanted = None if columns is None else list(dict.fromkeys([key, *columns]))
        table = self._read(name, wanted, filters=[(key, "=", unit)])
        return list(table_rows(table))

    def units(self) -> list[int]:
        """Return the ids of the units (``layout_id``) that have rows, in order."""
        key = self.manifest["unit_column"]
        found = dict.fromkeys(row[key] for row in self.rows([key]))
        return list(found)

    def _read(self, name: str, columns: Sequence[str] | None, **options: Any) -> pa.Table:
        wanted = None if columns is None else list(columns)
        try:
            # Threads are the executor's to give, and a scene is small.
            with self.folder.open_file(name) as file:
                return pq.read_table(file, columns=wanted, use_threads=False, **options)
        except FileNotFoundError:
            raise DatasetError(
                f"{self.folder}/{name} is missing although the manifest lists it. "
                "Restore the file, or make the dataset again with --overwrite."
            ) from None
        except (pa.ArrowInvalid, OSError) as error:
            raise DatasetError(
                f"{self.folder}/{name} cannot be read ({error}). A shard is a whole Parquet file; "
                "delete it together with manifest.json and run the stage again."
            ) from error


def open_dataset(path_or_url: str | Path | Folder) -> Dataset:
    """Open a sealed dataset.

    Raises:
        DatasetError: the folder is missing, unfinished, or has a manifest that is none.
    """
    folder = path_or_url if isinstance(path_or_url, Folder) else Folder.at(path_or_url)
    if not folder.exists():
        raise DatasetError(f"{folder} does not exist. Expected a dataset's folder.")
    if not folder.exists(MANIFEST):
        raise DatasetError(
            f"{folder} has no {MANIFEST}: it is unfinished or no dataset. "
            "Run its stage again; it goes on where it stopped."
        )
    try:
        manifest = json.loads(folder.read_bytes(MANIFEST))
    except ValueError as error:
        raise DatasetError(
            f"{folder}/{MANIFEST} is not JSON ({error}). Delete it and run the stage again."
        ) from error
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
