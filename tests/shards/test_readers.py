"""Readers that know nothing of datagen open its shards and find the same numbers."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datagen.shards import open_dataset
from tests.shards.tiny import NUM_LAYOUTS, NUM_VIEWS, SIZE_PX

NUM_KEPT = NUM_LAYOUTS * (NUM_VIEWS - 1)


def first_latents(tiny) -> dict:
    return next(iter(open_dataset(tiny / "latents")))


def check_latents(tiny, rows: list[dict]) -> None:
    """Compare rows of plain bytes with what datagen reads."""
    ours = first_latents(tiny)
    [row] = [row for row in rows if (row["layout_id"], row["view_index"]) == (0, 0)]
    assert len(rows) == NUM_KEPT
    scene = np.frombuffer(row["scene_latent"], "<f2").reshape(8, 16, 16, 16)
    assert np.array_equal(scene, ours["scene_latent"])
    instances = np.frombuffer(row["instance_latents"], "<f2").reshape(-1, 8, 16, 16, 16)
    assert np.array_equal(instances, ours["instance_latents"])


def check_image(data: bytes) -> None:
    assert Image.open(io.BytesIO(data)).size == (SIZE_PX, SIZE_PX)


def test_pyarrow_finds_dtype_and_shape_in_the_field(tiny):
    table = pq.read_table(tiny / "latents" / "shard-00000.parquet")
    spec = table.schema.field("instance_latents").metadata
    assert (spec[b"dtype"], json.loads(spec[b"shape"])) == (b"<f2", [-1, 8, 16, 16, 16])
    paths = sorted(tiny.glob("latents/*.parquet"))
    check_latents(tiny, [row for path in paths for row in pq.read_table(path).to_pylist()])


def test_duckdb_joins_renders_and_latents(tiny):
    import duckdb

    rows = duckdb.sql(
        f"select l.*, r.rgb from '{tiny}/latents/*.parquet' l "
        f"join '{tiny}/renders/*.parquet' r using (layout_id, view_index) where r.kept"
    )
    dicts = [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]
    check_latents(tiny, dicts)
    check_image(dicts[0]["rgb"])


def test_duckdb_unnests_placements(tiny):
    import duckdb

    [(count,)] = duckdb.sql(
        f"select count(*) from (select unnest(placements) p from '{tiny}/layouts/*.parquet') "
        f"join '{tiny}/assets/*.parquet' a on a.asset_id = p.asset_id where a.status = 'ok'"
    ).fetchall()
    assert count == 2 * NUM_LAYOUTS


def test_polars_scans_lazily(tiny):
    import polars

    check_latents(tiny, polars.scan_parquet(tiny / "latents/*.parquet").collect().to_dicts())
    views = polars.scan_parquet(tiny / "renders/*.parquet").filter(polars.col("kept"))
    check_image(views.select("rgb").collect().to_dicts()[0]["rgb"])
    assert polars.scan_parquet(tiny / "assets/*.parquet").collect().height == 2


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_datasets_loads(tiny, tmp_path, streaming):
    import datasets

    loaded = datasets.load_dataset(
        "parquet",
        data_files=str(tiny / "latents/*.parquet"),
        split="train",
        streaming=streaming,
        cache_dir=str(tmp_path),
    )
    check_latents(tiny, list(loaded))


@pytest.mark.ray
def test_ray_data_reads(tiny):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR")
    try:
        # One path a call: without aiohttp Ray's threads race in an import that fails.
        paths = sorted(tiny.glob("latents/*.parquet"))
        tables = [ray.data.read_parquet(str(path)) for path in paths]
        check_latents(tiny, [row for table in tables for row in table.take_all()])
    finally:
        ray.shutdown()
