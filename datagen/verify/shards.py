"""Checks of one dataset against its manifest: each shard's bytes, keys and tensors."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datagen.errors import DatasetError
from datagen.shards.dataset import MANIFEST, Dataset, open_dataset, open_shard
from datagen.shards.output import IDENTITY_KEY, PARTS
from datagen.shards.storage import Folder
from datagen.shards.tables import Table
from datagen.shards.tensors import is_tensor, tensor_spec

MANIFEST_KEYS = (
    *("name", "revision", "fields", "inputs", "fingerprint", "rows", "failed", "shards"),
    *("unit_column", "units_per_shard"),
)
IDENTITY_KEYS = ("name", "revision", "fields", "inputs", "schema_version")


MORE_THAN_INSTANCES = {"instance_latents": 0, "occupancy": 1}
"""Entries of a tensor in addition to one per instance: 1 if the scene stands before them."""


@dataclass(frozen=True)
class Finding:
    """One problem, and where it is."""

    file: str
    """Path relative to the workspace."""
    problem: str
    """What is wrong."""
    row: int | None = None
    """Row within the file, from 0."""

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file}, row {self.row}"
        return f"{where}: {self.problem}"


@dataclass
class FolderCheck:
    """The result of checking one dataset's folder."""

    name: str
    """Its folder in the workspace."""
    table: Table
    """Declares its columns."""
    dataset: Dataset | None = None
    """None: there is no readable manifest."""
    findings: list[Finding] = field(default_factory=list)
    readable: list[str] = field(default_factory=list)
    """Shards whose rows can be read."""
    num_bytes: int = 0
    """Size of all shards."""

    def add(self, file: str, problem: str, row: int | None = None) -> None:
        """Add a finding; ``file`` is relative to the dataset's folder."""
        self.findings.append(Finding(f"{self.name}/{file}", problem, row))


def check_folder(folder: Folder, name: str, table: Table, threads: int) -> FolderCheck:
    """Check a dataset's folder against its manifest.

    Args:
        folder: the dataset's folder.
        name: its name in findings.
        table: declares its columns.
        threads: number of shards that are read at once.
    """
    check = FolderCheck(name, table)
    check.dataset = _read_manifest(folder, check)
    _find_leftovers(folder, check)
    if check.dataset is None:
        return check
    manifest = check.dataset.manifest
    sizes = folder.sizes(".parquet")
    check.num_bytes = sum(sizes.values())
    listed = [record["path"] for record in manifest["shards"]]
    for foreign in sorted(sizes.keys() - set(listed)):
        check.add(foreign, "the manifest does not list it; expected no other shard here")
    _check_totals(check, manifest)
    with ThreadPoolExecutor(threads) as pool:
        expected = _expected_columns(check.dataset, table)
        look = partial(_check_shard, check.dataset, table, expected)
        for path, problems in zip(listed, pool.map(look, manifest["shards"]), strict=True):
            for problem, row in problems:
                check.add(path, problem, row)
            if not any(problem.startswith(UNREADABLE) for problem, _ in problems):
                check.readable.append(path)
    return check


Problem = tuple[str, int | None]

UNREADABLE = ("missing", "cannot be read", "was written with", "column ", "tensor ")
"""First words of the problems that make a shard's rows unreadable."""


def _read_manifest(folder: Folder, check: FolderCheck) -> Dataset | None:
    if not folder.exists(MANIFEST):
        check.add(MANIFEST, "missing: the dataset is unfinished; run its stage again, it resumes")
        return None
    try:
        dataset = open_dataset(folder)
    except DatasetError as error:
        check.add(MANIFEST, _without_path(error, folder, MANIFEST))
        return None
    absent = [key for key in MANIFEST_KEYS if key not in dataset.manifest]
    if absent:
        check.add(MANIFEST, f"lacks {', '.join(absent)}; expected a manifest that a stage wrote")
        return None
    return dataset


def _find_leftovers(folder: Folder, check: FolderCheck) -> None:
    if (folder / PARTS).exists() and check.dataset is not None:
        check.add(PARTS, "part files left over beside a finished dataset; delete the folder")
    for name in folder.names():
        if name.startswith(".") and name != PARTS:
            check.add(name, "left over by a run that was killed; delete it")


def _check_totals(check: FolderCheck, manifest: dict[str, Any]) -> None:
    identity = {key: manifest[key] for key in IDENTITY_KEYS if key in manifest}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    if hashlib.sha256(text.encode()).hexdigest() != manifest["fingerprint"]:
        check.add(MANIFEST, "the fingerprint is not that of its name, revision, fields and inputs")
    total = sum(record["rows"] for record in manifest["shards"])
    if total != manifest["rows"]:
        check.add(MANIFEST, f"says {manifest['rows']} rows, its shards have {total}")
    for name, digest in manifest.get("files", {}).items():
        assert check.dataset is not None
        folder = check.dataset.folder
        if not folder.exists(name):
            check.add(name, "missing although the manifest lists it")
        elif (found := folder.sha256(name)) != digest:
            check.add(name, _other_digest(found, digest))


def _check_shard(
    dataset: Dataset, table: Table, expected: pa.Schema, record: dict[str, Any]
) -> list[Problem]:
    folder, name = dataset.folder, record["path"]
    if not folder.exists(name):
        return [("missing although the manifest lists it; restore it or make it again", None)]
    problems: list[Problem] = []
    if (found := folder.sha256(name)) != record["sha256"]:
        problems.append((_other_digest(found, record["sha256"]), None))
    try:
        with open_shard(folder, name) as file:
            problems += _check_content(file, dataset, table, expected, record)
    except DatasetError as error:
        problems.append((_without_path(error, folder, name), None))
    return problems


def _check_content(
    file: pq.ParquetFile,
    dataset: Dataset,
    table: Table,
    expected: pa.Schema,
    record: dict[str, Any],
) -> Iterator[Problem]:
    identity = (file.schema_arrow.metadata or {}).get(IDENTITY_KEY, b"")
    if hashlib.sha256(identity).hexdigest() != dataset.fingerprint:
        yield "belongs to another dataset: its fingerprint is not the manifest's", None
    if file.metadata.num_rows != record["rows"]:
        yield f"has {file.metadata.num_rows} rows, the manifest says {record['rows']}", None
    unlike = list(_unlike_columns(file.schema_arrow, expected))
    yield from unlike
    if not unlike:
        yield from _check_rows(file, dataset, table, record["path"])


def _expected_columns(dataset: Dataset, table: Table) -> pa.Schema:
    """Return the columns of the first readable shard, with the types that ``table`` declares.

    A column that no shard has is not reported: it may be newer than the dataset.
    """
    for record in dataset.manifest["shards"]:
        try:
            with open_shard(dataset.folder, record["path"]) as file:
                found = file.schema_arrow
        except DatasetError:
            continue  # reported when that shard is checked
        known = {column.name: column for column in table.full_schema}
        return pa.schema([known.get(column.name, column) for column in found])
    return pa.schema([])


def _unlike_columns(found: pa.Schema, expected: pa.Schema) -> Iterator[Problem]:
    for column in expected:
        index = found.get_field_index(column.name)
        if index < 0:
            yield f"column {column.name} is missing, the first shard has it", None
        elif not found.field(index).equals(column, check_metadata=is_tensor(column)):
            there = found.field(index)
            yield f"column {column.name} is {_kind(there)}, expected {_kind(column)}", None


def _kind(column: pa.Field) -> str:
    return str(tensor_spec(column) if is_tensor(column) else column.type)


def _check_rows(
    file: pq.ParquetFile, dataset: Dataset, table: Table, path: str
) -> Iterator[Problem]:
    """Yield problems of all rows' keys and tensors; reading all columns checks every page."""
    unit = dataset.manifest["unit_column"]
    is_sorted = table.key[:1] == (unit,)
    names = table.key if is_sorted else (unit,)
    first = 0
    last: tuple[int, ...] | None = None
    for batch in file.iter_batches(batch_size=64, use_threads=False):
        for column in batch.schema:
            if is_tensor(column):
                yield from _check_tensors(column, batch, first)
        keys = zip(*(batch[name].to_pylist() for name in names), strict=True)
        for row, key in enumerate(keys, first):
            expected = f"shard-{key[0] // dataset.manifest['units_per_shard']:05d}.parquet"
            if expected != path:
                yield f"{_words(names, key)} belongs in {expected}", row
            if is_sorted and last is not None and key <= last:
                yield f"{_words(names, key)} is there twice or out of order", row
            last = key
        first += batch.num_rows


def _words(names: Sequence[str], key: tuple[int, ...]) -> str:
    """Return a key in words: "layout 3, view 1"."""
    nouns = [name.removesuffix("_id").removesuffix("_index") for name in names]
    return ", ".join(f"{noun} {value}" for noun, value in zip(nouns, key, strict=True))


def _check_tensors(column: pa.Field, batch: pa.RecordBatch, first: int) -> Iterator[Problem]:
    dtype, shape = tensor_spec(column)
    sizes = pc.binary_length(batch[column.name]).to_pylist()
    entry = int(np.prod([side for side in shape if side != -1])) * dtype.itemsize
    extra = MORE_THAN_INSTANCES.get(column.name)
    instances = None if extra is None else batch["num_instances"].to_pylist()
    for row, size in enumerate(sizes):
        if size is None:
            continue
        if size != entry and (shape[0] != -1 or size % entry):
            words = "a multiple of " if shape[0] == -1 else ""
            yield f"tensor {column.name} has {size} bytes, expected {words}{entry}", first + row
        elif instances is not None and extra is not None:
            found, expected = size // entry, instances[row] + extra
            if found != expected:
                yield f"{column.name} has {found} entries, expected {expected}", first + row


def _other_digest(found: str, expected: str) -> str:
    return f"was changed: its sha256 is {found[:12]}…, the manifest says {expected[:12]}…"


def _without_path(error: DatasetError, folder: Folder, name: str) -> str:
    return str(error).removeprefix(f"{folder}/{name} ")
