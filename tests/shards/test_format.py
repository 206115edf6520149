"""What is in a shard, how little of it one view costs, and what damage reads like."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.core.seeding import rng_for
from datagen.errors import DatasetError
from datagen.shards import Folder, Identity, Output, open_dataset
from datagen.shards.dataset import SCHEMA_VERSION, VERSION_KEY
from datagen.shards.tensors import tensor_field

SHARD = "renders/shard-00001.parquet"


@pytest.fixture
def workspace(tiny, tmp_path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "workspace"))


class CountingFile(io.FileIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_one_view_costs_its_row_group_and_no_other_columns(tmp_path):
    schema = pa.schema(
        [("layout_id", pa.int64()), ("view_index", pa.int32()), ("rgb", pa.binary())]
        + [tensor_field("depth", np.float32, (-1,))]
    )
    output = Output(Folder.at(tmp_path), Identity("big", 1, {}, {}), schema, 8)
    rng = rng_for(0, "test")
    rows = [
        {
            "layout_id": layout,
            "view_index": view,
            "rgb": rng.bytes(20_000),
            "depth": rng.random(5_000).astype(np.float32),
        }
        for layout in range(8)
        for view in range(9)
    ]
    output.write_shard(0, rows, [])
    path = tmp_path / "shard-00000.parquet"
    file = CountingFile(path)
    filters = [("layout_id", "=", 5), ("view_index", "=", 3)]
    table = pq.read_table(file, filters=filters, columns=["layout_id", "rgb"], use_threads=False)
    assert table.num_rows == 1
    assert 20_000 < file.count < 9 * 20_000 + 128_000  # a scene's nine views, and the footer
    assert path.stat().st_size > 8 * 9 * 35_000


def test_shard_has_zstd_page_index_checksums_and_version(tiny):
    file = pq.ParquetFile(tiny / SHARD)
    column = file.metadata.row_group(0).column(10)
    assert column.compression == "ZSTD"
    assert column.has_offset_index and column.has_column_index
    assert file.schema_arrow.metadata[VERSION_KEY] == str(SCHEMA_VERSION).encode()


def test_rows_of_one_view_are_its_own(tiny):
    renders = open_dataset(tiny / "renders")
    [row] = renders.rows_of(3, ["rgb"], view_index=1)
    assert (row["layout_id"], row["view_index"]) == (3, 1)
    [whole] = [row for row in renders.rows_of(3) if row["view_index"] == 1]
    assert row["rgb"] == whole["rgb"]


def test_truncated_shard_is_named_in_one_line(workspace):
    path = workspace / SHARD
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=f"{SHARD} cannot be read: it is truncated") as caught:
        list(open_dataset(workspace / "renders"))
    assert "\n" not in str(caught.value)


def test_flipped_byte_in_a_page_is_named_when_read(workspace):
    path = workspace / SHARD
    data = bytearray(path.read_bytes())
    data[data.index(b"\x89PNG") + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=f"{SHARD} cannot be read.*checksum"):
        list(open_dataset(workspace / "renders"))


def test_shard_of_newer_schema_version_is_refused_in_one_line(workspace):
    table = pq.read_table(workspace / SHARD)
    metadata = {**table.schema.metadata, VERSION_KEY: str(SCHEMA_VERSION + 1).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), workspace / SHARD)
    with pytest.raises(DatasetError, match=rf"{SHARD} was written with schema version 2.*Update"):
        list(open_dataset(workspace / "renders"))


def test_manifest_of_newer_schema_version_is_refused(workspace):
    path = workspace / "renders/manifest.json"
    path.write_text(re.sub(r'"schema_version": \d+', '"schema_version": 99', path.read_text()))
    with pytest.raises(
        DatasetError, match=r"schema version 99. This datagen reads versions up to 1"
    ):
        open_dataset(workspace / "renders")
