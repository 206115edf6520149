"""Sources of samples: the views of a workspace that have latents, read block by block."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datagen.errors import DatasetError
from datagen.shards.dataset import Dataset, open_shard, shard_name
from datagen.training.data.image_tokens import TokenFile

ROWS_PER_BLOCK = 32
"""Neighbouring rows of a shard that are read together (some blocks have a few more). The number
is fixed, so that the order of samples does not depend on the row groups of the files."""
INDEX_THREADS = 16
KEYS = ("layout_id", "view_index")
RENDER_COLUMNS = (*KEYS, "kept", "rgb", "instance_map")


class RawRow(Protocol):
    """A stored row of ``latents``: what all objectives read of it."""

    @property
    def where(self) -> str:
        """Shard and row, for messages."""

    @property
    def layout_id(self) -> int:
        """The scene."""

    @property
    def view_index(self) -> int:
        """The view of the scene."""

    @property
    def num_instances(self) -> int:
        """Placements of the scene, N."""


Raw = TypeVar("Raw", bound=RawRow)


class RawView(NamedTuple, Generic[Raw]):
    """A stored view, not yet decoded."""

    latents: Raw
    """Its row of ``latents``."""
    where: str
    """Shard and row of the render."""
    rgb: bytes
    """PNG, RGBA."""
    instance_map: bytes
    """PNG: 0 is background, i + 1 is instance i."""
    tokens: TokenFile | None = None
    """The stored tokens of its images; None: tokens are computed while training."""


@dataclass(frozen=True, eq=False)
class ViewSource(ABC, Generic[Raw]):
    """The N views of one workspace that have latents, and where each is stored.

    A subclass declares the columns of ``latents`` that it reads, and decodes their values.
    """

    columns: ClassVar[tuple[str, ...]]
    """Columns of ``latents`` that are read; the first two are ``KEYS``."""

    latents: Dataset
    """The dataset of latents."""
    renders: Dataset
    """The dataset of renders that the latents were made from."""
    layout_id: NDArray[np.int64]
    """(N,), the scene of each view, in the order of the rows."""
    shard: NDArray[np.int64]
    """(N,), index of each view's shard in the manifest."""
    row: NDArray[np.int64]
    """(N,), row of each view in that shard."""
    use_tokens: bool = False
    """Whether views come with the files of their stored image tokens."""

    @classmethod
    def open(cls, latents: Dataset, renders: Dataset) -> Self:
        """Return the source of a workspace; the footer of every shard of ``latents`` is read.

        Raises:
            DatasetError: the latents were made from other renders, or a shard cannot be read.
        """
        made_from = latents.manifest["inputs"].get("renders")
        if made_from != renders.fingerprint:
            raise DatasetError(
                f"{latents.folder}: was encoded from renders {str(made_from)[:12]}…, but "
                f"{renders.folder} is {renders.fingerprint[:12]}…. Expected the same renders; run "
                "`datagen encode` again, or give both datasets of one workspace."
            )
        names = [shard["path"] for shard in latents.manifest["shards"]]
        with ThreadPoolExecutor(INDEX_THREADS) as pool:
            layout_ids = list(pool.map(lambda name: read_layout_ids(latents, name), names))
        sizes = [len(ids) for ids in layout_ids]
        return cls(
            latents=latents,
            renders=renders,
            layout_id=np.concatenate([*layout_ids, np.empty(0, np.int64)]),
            shard=np.repeat(np.arange(len(sizes)), sizes),
            row=np.concatenate([np.arange(size) for size in [*sizes, 0]]),
        )

    @abstractmethod
    def raw_row(self, where: str, *values: Any) -> Raw:
        """Return a row of ``latents`` from the values of its ``columns``."""

    @abstractmethod
    def decode_latents(self, raw: Raw) -> NDArray[np.float16]:
        """Return the values of a row that statistics are computed from.

        Returns:
            (G, 8, R, R, R) latents of the structure model, or (V, C) features of the latent model.

        Raises:
            DatasetError: they are corrupt; shard and row are named.
        """

    def __len__(self) -> int:
        return len(self.row)

    def select(self, chosen: NDArray[np.bool_]) -> Self:
        """Return a source of only the chosen views; ``chosen`` is (N,)."""
        return replace(
            self,
            layout_id=self.layout_id[chosen],
            shard=self.shard[chosen],
            row=self.row[chosen],
        )

    @cached_property
    def block(self) -> NDArray[np.int64]:
        """(N,), the block of each view: views of a block are read together. Ascending, no gaps.

        Each scene is cut into pieces from its own first row. Row groups are cut in the same way,
        so nearly every row group is read for one block only. Pieces that begin within the same
        ``ROWS_PER_BLOCK`` rows of a shard form one block.
        """
        scene = _runs(self.shard, self.layout_id)
        first_row = self.row[np.flatnonzero(np.diff(scene, prepend=-1))][scene]
        piece = first_row + (self.row - first_row) // ROWS_PER_BLOCK * ROWS_PER_BLOCK
        return _runs(self.shard, piece // ROWS_PER_BLOCK)

    def read_block(self, block: int) -> dict[int, RawView[Raw]]:
        """Return the views of a block, by their index in this source.

        Raises:
            DatasetError: a shard or row is missing or cannot be read; the message names it.
        """
        latents = self._read_latents(block)
        keys = [(raw.layout_id, raw.view_index) for raw in latents.values()]
        asked_by = next(iter(latents.values())).where
        renders = self._read_renders(keys, asked_by.rsplit(",", 1)[0])
        return {
            index: RawView(raw, *renders[key], self._tokens(*key))
            for (index, raw), key in zip(latents.items(), keys, strict=True)
        }

    def sample_latents(self, max_views: int) -> Iterator[NDArray[np.float16]]:
        """Yield ``decode_latents`` of about ``max_views`` views, in evenly spaced blocks.

        Yields:
            (G, 8, R, R, R) or (V, C), as ``decode_latents`` returns them.

        Raises:
            DatasetError: latents are missing or corrupt; shard and row are named.
        """
        num_blocks = int(self.block[-1]) + 1
        wanted = max(1, round(num_blocks * min(1, max_views / len(self))))
        for block in np.unique(np.linspace(0, num_blocks - 1, wanted).round().astype(int)):
            for raw in self._read_latents(int(block)).values():
                yield self.decode_latents(raw)

    def _read_latents(self, block: int) -> dict[int, Raw]:
        first, last = np.searchsorted(self.block, [block, block + 1])
        name = self.latents.manifest["shards"][self.shard[first]]["path"]
        columns = read_rows(self.latents, name, self.columns, self.row[first:last])
        rows = zip(*(columns[column] for column in self.columns), strict=True)
        return {
            index: self.raw_row(f"{self.latents.folder}/{name}, row {self.row[index]}", *row)
            for index, row in zip(range(int(first), int(last)), rows, strict=True)
        }

    def _tokens(self, layout_id: int, view_index: int) -> TokenFile | None:
        return TokenFile.of(self.latents.folder, layout_id, view_index) if self.use_tokens else None

    def _read_renders(
        self, keys: Sequence[tuple[int, int]], asked_by: str
    ) -> dict[tuple[int, int], tuple[str, bytes, bytes]]:
        """Return the views' shard and row, image and instance map, by layout and view."""
        found: dict[tuple[int, int], tuple[str, bytes, bytes]] = {}
        scenes_per_shard = int(self.renders.manifest["units_per_shard"])
        for shard in sorted({layout_id // scenes_per_shard for layout_id, _ in keys}):
            found |= read_renders(self.renders, shard_name(shard), set(keys))
        if missing := sorted(set(keys) - found.keys()):
            raise DatasetError(
                f"{asked_by}: layout {missing[0][0]}, view {missing[0][1]} has latents but no kept "
                f"render in {self.renders.folder} ({len(missing)} such here). Expected the renders "
                "that the latents were made from; give both datasets of one workspace."
            )
        return found


def corrupt(raw: RawRow, where: str, problem: str) -> DatasetError:
    """Return the error for a row that cannot be used.

    Args:
        raw: the row of ``latents``.
        where: shard and row that hold the problem.
        problem: what is wrong there.
    """
    return DatasetError(
        f"{where} (layout {raw.layout_id}, view {raw.view_index}): {problem}. Expected a row as "
        "its stage wrote it; delete the shard together with manifest.json and run the stage again."
    )


def read_layout_ids(dataset: Dataset, name: str) -> NDArray[np.int64]:
    """Return the scene of each row of a shard, (N,).

    The statistics in the footer give it for row groups of one scene. The column is read only for
    the other row groups.
    """
    with open_shard(dataset.folder, name) as file:
        _require(dataset, name, file, KEYS[:1])
        found = []
        for index in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(index)
            low, high = _range(group, KEYS[0]) or (0, 1)
            if low == high:
                found.append(np.full(group.num_rows, low, np.int64))
            else:
                table = _read_group(dataset, name, file, index, KEYS[:1])
                found.append(table[KEYS[0]].to_numpy())
        return np.concatenate([*found, np.empty(0, np.int64)])


def read_rows(
    dataset: Dataset, name: str, columns: Sequence[str], rows: NDArray[np.int64]
) -> dict[str, list[Any]]:
    """Return some columns of some rows of a shard, reading only the row groups that hold them.

    Args:
        dataset: a sealed dataset.
        name: the shard.
        columns: those to return.
        rows: (M,), indices within the shard, ascending.

    Returns:
        The M values of each column, by its name.

    Raises:
        DatasetError: the shard is damaged, or lacks a column or a row.
    """
    found: dict[str, list[Any]] = {column: [] for column in columns}
    with open_shard(dataset.folder, name) as file:
        _require(dataset, name, file, columns)
        sizes = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
        ends = np.cumsum(sizes)
        if len(rows) and rows[-1] >= ends[-1]:
            raise DatasetError(
                f"{dataset.folder}/{name}, row {rows[-1]}: the shard now has {ends[-1]} rows. "
                "Expected a dataset that does not change while it is read; start again."
            )
        group_of = np.searchsorted(ends, rows, side="right")
        for group in np.unique(group_of):
            table = _read_group(dataset, name, file, int(group), columns)
            inside = (rows[group_of == group] - (ends[group] - sizes[group])).tolist()
            for column in columns:
                values = table[column]
                found[column] += [values[i].as_py() for i in inside]  # copied: the rest is freed
    return found


def read_renders(
    renders: Dataset, name: str, keys: Set[tuple[int, int]]
) -> dict[tuple[int, int], tuple[str, bytes, bytes]]:
    """Return the shard and row, image and instance map of a shard's kept views among ``keys``.

    Only row groups that may hold one of them, by their statistics, are read.

    Args:
        renders: the dataset.
        name: the shard.
        keys: layout and view of each wanted view.

    Raises:
        DatasetError: the shard is damaged, or lacks a column.
    """
    found = {}
    with open_shard(renders.folder, name) as file:
        _require(renders, name, file, RENDER_COLUMNS)
        first = 0
        for group in range(file.metadata.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if _may_hold(file.metadata.row_group(group), keys):
                table = _read_group(renders, name, file, group, RENDER_COLUMNS)
                columns = [table[column].to_pylist() for column in (*KEYS, "kept")]
                for i, (layout_id, view_index, kept) in enumerate(zip(*columns, strict=True)):
                    key = (layout_id, view_index)
                    if kept and key in keys:
                        images = (table[column][i].as_py() for column in ("rgb", "instance_map"))
                        found[key] = (f"{renders.folder}/{name}, row {first + i}", *images)
            first += size
    return found


def _runs(*keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index (N,) of each element's run of equal keys (each (N,)), from 0."""
    begins = [np.diff(key, prepend=key[:1]) != 0 for key in keys]
    return np.cumsum(np.logical_or.reduce(begins))


def _may_hold(group: Any, keys: Set[tuple[int, int]]) -> bool:
    layouts, views = (_range(group, key) for key in KEYS)
    if layouts is None or views is None:
        return True
    (low, high), (first, last) = layouts, views
    return any(low <= layout <= high and first <= view <= last for layout, view in keys)


def _range(group: Any, name: str) -> tuple[int, int] | None:
    """Return a key's smallest and largest value in a row group; None without statistics."""
    for index in range(group.num_columns):
        column = group.column(index)
        if column.path_in_schema == name:
            statistics = column.statistics
            if statistics is None or not statistics.has_min_max or statistics.null_count != 0:
                return None
            return statistics.min, statistics.max
    return None


def _require(dataset: Dataset, name: str, file: pq.ParquetFile, columns: Sequence[str]) -> None:
    if absent := [column for column in columns if column not in file.schema_arrow.names]:
        raise DatasetError(
            f"{dataset.folder}/{name} has no column {absent[0]}, which training needs. Make the "
            "dataset again with --overwrite."
        )


def _read_group(
    dataset: Dataset, name: str, file: pq.ParquetFile, group: int, columns: Sequence[str]
) -> pa.Table:
    try:
        # The data loader decides the number of threads, and a row group is small.
        return file.read_row_group(group, columns=list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        sizes = [file.metadata.row_group(g).num_rows for g in range(group + 1)]
        raise DatasetError(
            f"{dataset.folder}/{name}, rows {sum(sizes[:-1])} to {sum(sizes) - 1}: cannot be read "
            f"({error}). Delete the shard together with manifest.json and run the stage again."
        ) from error
