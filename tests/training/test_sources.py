"""Views are joined with their own renders, and little more is read than they need."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.errors import DatasetError
from datagen.shards import Dataset, Folder, open_dataset
from datagen.training import SceneSource
from datagen.training.data.sources import read_layout_ids
from tests.training.scenes import source_of, write_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), {0: 25, 1: 20, 2: 3, 5: 1})


def keys(views) -> list[tuple[int, int]]:
    return [(view.latents.layout_id, view.latents.view_index) for view in views.values()]


def test_blocks_cover_all_views_in_order_and_never_cross_a_shard(scenes):
    source = source_of(scenes)
    found = [source.read_block(block) for block in range(source.block[-1] + 1)]
    assert [len(views) for views in found] == [45, 3, 1]
    assert [index for views in found for index in views] == list(range(len(source)))
    expected = [(i, v + 1) for i, count in {0: 25, 1: 20, 2: 3, 5: 1}.items() for v in range(count)]
    assert [key for views in found for key in keys(views)] == expected


def test_long_scenes_are_cut_from_their_first_rows_so_no_row_group_is_read_twice(
    tmp_path, monkeypatch
):
    from datagen.training.data import sources

    read = []
    real = sources._read_group
    write_scenes(tmp_path, {0: 70, 1: 40, 2: 5})
    monkeypatch.setattr(sources, "_read_group", lambda *args: read.append(args) or real(*args))
    source = source_of(tmp_path)
    read.clear()
    found = [keys(source.read_block(block)) for block in range(source.block[-1] + 1)]
    assert [len(views) for views in found] == [32, 32, 38, 8, 5]
    assert found[2][0] == (0, 65) and found[2][-1] == (1, 32) and found[3][0] == (1, 33)
    groups = [(args[1], args[3]) for args in read if args[0].folder == source.latents.folder]
    assert len(groups) == len(set(groups)) == 5 + 3 + 1


def test_view_is_joined_with_its_own_render(scenes):
    source = source_of(scenes)
    renders = {
        (row["layout_id"], row["view_index"]): row for row in open_dataset(scenes / "renders")
    }
    for view in source.read_block(0).values():
        key = view.latents.layout_id, view.latents.view_index
        assert view.instance_map == renders[key]["instance_map"]


def test_renders_cut_into_other_shards_join_all_the_same(tmp_path, scenes):
    write_scenes(tmp_path, {0: 25, 1: 20, 2: 3, 5: 1}, scenes_per_shard=1)
    source = SceneSource.open(open_dataset(scenes / "latents"), open_dataset(tmp_path / "renders"))
    assert keys(source.read_block(0))[-1] == (1, 20)


def test_renders_are_read_only_where_the_views_may_be(scenes, monkeypatch):
    from datagen.training.data import sources

    read = []
    real = sources._read_group
    monkeypatch.setattr(sources, "_read_group", lambda *args: read.append(args[3]) or real(*args))
    renders = open_dataset(scenes / "renders")
    found = sources.read_renders(renders, "shard-00000.parquet", {(1, 18), (1, 19)})
    assert found.keys() == {(1, 18), (1, 19)}
    assert read == [3]  # layout 0 has groups of 16 and 10 rows, layout 1 of 16 and 5
    assert found[1, 18][0].endswith("shard-00000.parquet, row 44")


def test_selection_reads_only_what_was_chosen(scenes):
    source = source_of(scenes)
    part = source.select(source.layout_id != 1)
    assert len(part) == 29
    blocks = [part.read_block(block) for block in range(part.block[-1] + 1)]
    assert [len(views) for views in blocks] == [25, 3, 1]
    assert {layout for views in blocks for layout, _ in keys(views)} == {0, 2, 5}


def test_order_of_samples_does_not_depend_on_row_groups(tmp_path, scenes):
    whole = source_of(scenes)
    write_scenes(tmp_path, {0: 25, 1: 20, 2: 3, 5: 1})
    for path in [
        *(tmp_path / "latents").glob("*.parquet"),
        *(tmp_path / "renders").glob("*.parquet"),
    ]:
        pq.write_table(pq.read_table(path), path, row_group_size=5)
    cut = source_of(tmp_path)
    assert np.array_equal(cut.block, whole.block)
    assert keys(cut.read_block(0)) == keys(whole.read_block(0))


def test_source_is_read_through_a_filesystem_by_url(scenes):
    latents, renders = (
        open_dataset(Folder(f"file://{scenes}") / name) for name in ("latents", "renders")
    )
    assert not latents.folder.is_local
    assert len(SceneSource.open(latents, renders).read_block(0)) == 45


def test_latents_of_other_renders_are_refused(tmp_path, scenes):
    write_scenes(tmp_path, {0: 1}, scenes_per_shard=3)
    renders = open_dataset(tmp_path / "renders")
    renders.manifest["fingerprint"] = "0" * 64
    with pytest.raises(DatasetError, match=r"was encoded from renders .* is 000000000000…"):
        SceneSource.open(open_dataset(scenes / "latents"), renders)


def test_view_without_its_render_is_named(tmp_path):
    write_scenes(tmp_path, {0: 2, 1: 2})
    path = tmp_path / "renders" / "shard-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.compute.field("view_index") != 2), path)
    with pytest.raises(DatasetError, match=r"layout 0, view 2 has latents but no kept render"):
        source_of(tmp_path).read_block(0)


def test_missing_shard_is_named(tmp_path):
    write_scenes(tmp_path, {0: 2, 2: 2})
    (tmp_path / "renders" / "shard-00001.parquet").unlink()
    source = source_of(tmp_path)
    source.read_block(0)
    with pytest.raises(DatasetError, match=r"renders/shard-00001\.parquet is missing"):
        source.read_block(1)
    (tmp_path / "latents" / "shard-00001.parquet").unlink()
    with pytest.raises(DatasetError, match=r"latents/shard-00001\.parquet is missing"):
        source_of(tmp_path)


def test_dataset_that_shrank_since_it_was_indexed_is_an_error(tmp_path):
    source = source_of(write_scenes(tmp_path, {0: 3}))
    path = tmp_path / "latents" / "shard-00000.parquet"
    pq.write_table(pq.read_table(path).slice(0, 1), path)
    with pytest.raises(DatasetError, match=r"row 2: the shard now has 1 rows"):
        source.read_block(0)


@pytest.mark.parametrize("where", [0.2, 0.5, 0.8])
def test_flipped_byte_is_found_and_its_rows_named(tmp_path, where):
    write_scenes(tmp_path, {0: 40}, noise=True)
    path = tmp_path / "latents" / "shard-00000.parquet"
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(5)
    assert chunk.path_in_schema == "instance_latents"
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start + int(chunk.total_compressed_size * where)] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"shard-00000\.parquet, rows 16 to 31: cannot be read"):
        source_of(tmp_path).read_block(0)


def test_column_that_was_not_stored_is_named(tmp_path):
    write_scenes(tmp_path, {0: 2})
    path = tmp_path / "latents" / "shard-00000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["scene_latent"]), path)
    with pytest.raises(DatasetError, match="has no column scene_latent"):
        source_of(tmp_path).read_block(0)


def test_index_is_read_from_footers_where_row_groups_hold_one_scene(scenes, tmp_path, monkeypatch):
    from datagen.training.data import sources

    renders = open_dataset(scenes / "renders")
    path = tmp_path / "shard-00000.parquet"
    pq.write_table(pq.read_table(scenes / "renders" / path.name), path, row_group_size=20)
    read = []
    real = sources._read_group
    monkeypatch.setattr(sources, "_read_group", lambda *args: read.append(args[3]) or real(*args))
    expected = [0] * 26 + [1] * 21
    assert read_layout_ids(renders, path.name).tolist() == expected and read == []
    cut = Dataset(Folder.at(tmp_path), renders.manifest)
    assert read_layout_ids(cut, path.name).tolist() == expected
    assert read == [1]  # rows 20 to 39: the second scene begins with row 26


def test_statistics_use_views_from_evenly_spaced_shards(tmp_path):
    source = source_of(write_scenes(tmp_path, dict.fromkeys(range(10), 4), scenes_per_shard=1))
    assert len(list(source.sample_latents(10**6))) == 40
    some = [-float(latents[0].flat[0]) for latents in source.sample_latents(12)]
    assert sorted({int(value) for value in some}) == [0, 4, 9]
