"""A dataset while it is written: whose folder it is, what failed, and what is still to make."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import DatasetError
from datagen.shards import Folder, Identity, Output, open_dataset
from datagen.shards.output import Failure
from datagen.shards.tensors import tensor_field

SCHEMA = pa.schema([("layout_id", pa.int64()), ("value", pa.int64())])
IMAGES = pa.schema([("layout_id", pa.int64()), ("value", pa.int64()), ("rgb", pa.binary())])
OURS = Identity("stage", 1, {"seed": 0}, {})
OTHERS = Identity("stage", 1, {"seed": 1}, {})
BAD = Failure(4, "four is bad", "Traceback")


def output_in(folder, identity: Identity = OURS, schema: pa.Schema = SCHEMA) -> Output:
    return Output(Folder.at(folder), identity, schema, 3)


def rows_of(*units: int) -> list[dict]:
    """Return two rows a unit."""
    return [{"layout_id": unit, "value": 10 * unit + i} for unit in units for i in range(2)]


def test_shard_written_whole_keeps_its_rows_and_its_failures(tmp_path):
    output = output_in(tmp_path)
    output.write_shard(1, rows_of(3, 5), [BAD])
    sealed = output.seal({})
    assert sealed.manifest["failed"] == [{"unit": 4, "reason": "four is bad"}]
    assert [row["value"] for row in open_dataset(tmp_path)] == [30, 31, 50, 51]


def test_parts_are_merged_in_the_order_of_their_units(tmp_path):
    output = output_in(tmp_path)
    output.begin()
    for unit in (5, 3):
        output.write_part(unit, rows_of(unit))
    output.write_part(4, [], BAD)
    output.merge_parts(1, [3, 4, 5])
    sealed = output.seal({})
    assert [row["layout_id"] for row in sealed] == [3, 3, 5, 5]
    assert sealed.manifest["failed"] == [{"unit": 4, "reason": "four is bad"}]
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "manifest.json",
        "shard-00001.parquet",
    ]


def test_missing_units_are_those_without_a_part_or_a_shard(tmp_path):
    output = output_in(tmp_path)
    output.begin()
    output.write_shard(0, rows_of(0, 1, 2), [])
    output.write_part(4, rows_of(4))
    assert output.missing_units(range(9)) == {1: [3, 5], 2: [6, 7, 8]}
    assert output.missing_units([4]) == {1: []}
    assert output.shard_names() == ["shard-00000.parquet"]
    assert list(output.rows(["value"])) == [{"value": row["value"]} for row in rows_of(0, 1, 2)]


@pytest.mark.parametrize(
    ("again", "missing", "kept"),
    [(None, {0: [1], 1: [4]}, []), ({4}, {1: [4]}, [1]), ({9}, {}, [1, 4])],
)
def test_failed_units_that_are_asked_for_are_made_again_and_no_others(
    tmp_path, again, missing, kept
):
    output = output_in(tmp_path)
    output.write_shard(0, rows_of(0, 2), [Failure(1, "one is bad")])
    output.write_shard(1, rows_of(3, 5), [BAD])
    output.write_shard(2, rows_of(6, 7, 8), [])
    whole = (tmp_path / "shard-00002.parquet").read_bytes()
    output.reopen_failed(output.seal({}), again)
    assert not (tmp_path / "manifest.json").exists()
    assert output.missing_units(range(9)) == missing
    for shard, units in missing.items():
        for unit in units:
            output.write_part(unit, rows_of(unit))
        output.merge_parts(shard, range(3 * shard, 3 * shard + 3))
    sealed = output.seal({})
    assert [failure["unit"] for failure in sealed.manifest["failed"]] == kept
    made = [unit for unit in range(9) if unit not in kept]
    assert [(row["layout_id"], row["value"]) for row in sealed] == [
        (row["layout_id"], row["value"]) for row in rows_of(*made)
    ]
    assert (tmp_path / "shard-00002.parquet").read_bytes() == whole


def test_forgotten_failure_is_made_again_and_what_was_made_stays(tmp_path):
    output = output_in(tmp_path)
    output.begin()
    output.write_part(3, rows_of(3))
    output.write_part(4, [], BAD)
    output.forget_failed([3, 4, 5])
    assert output.missing_units([3, 4, 5]) == {1: [4, 5]}


@pytest.mark.parametrize("also", [(), ("logs/stage.jsonl",)])
def test_folder_in_which_nothing_was_made_is_free_for_other_settings(tmp_path, also):
    output_in(tmp_path, OTHERS).begin()
    for name in also:
        Folder.at(tmp_path).write_bytes(name, b"words")
    assert output_in(tmp_path).sealed() is None


def test_folder_of_other_settings_is_refused_once_it_holds_a_part_or_a_shard(tmp_path):
    for name, write in (
        ("part", lambda output: output.write_part(4, rows_of(4))),
        ("shard", lambda output: output.write_shard(1, rows_of(3, 4, 5), [])),
        ("sealed", lambda output: output.seal({})),
    ):
        output = output_in(tmp_path / name, OTHERS)
        output.begin()
        write(output)
        with pytest.raises(DatasetError, match="seed = 1 there, 0 now"):
            output_in(tmp_path / name).sealed()
        output_in(tmp_path / name, OTHERS).sealed()


def test_half_written_files_of_a_killed_run_are_cleared_and_no_others(tmp_path):
    folder = Folder.at(tmp_path)
    for name in (".shard-00000.parquet.x1", ".manifest.json.x1", ".mine", "mine"):
        folder.write_bytes(name, b"")
    output_in(tmp_path).begin()
    assert folder.names() == [".mine", ".parts", "mine"]


@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_rows_with_images_are_cut_at_every_unit_and_light_rows_are_not(tmp_path_factory, counts):
    folder = tmp_path_factory.mktemp("cut")
    units = [unit for unit, count in enumerate(counts) for _ in range(count)]
    rows = [
        {"layout_id": unit, "value": index, "rgb": b"image"} for index, unit in enumerate(units)
    ]
    heavy = [min(16, count - start) for count in counts for start in range(0, count, 16)]
    for schema, expected in ((IMAGES, heavy), (SCHEMA, [len(rows)])):
        output_in(folder, schema=schema).write_shard(0, rows, [])
        file = pq.ParquetFile(folder / "shard-00000.parquet")
        assert file.read()["value"].to_pylist() == list(range(len(rows)))
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        assert [size for size in groups if size] == [size for size in expected if size]


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(2, 3), (-1, 3), (-1,)])
def test_arrays_come_back_with_their_values_type_and_shape(tmp_path, dtype, shape):
    schema = pa.schema([("layout_id", pa.int64()), tensor_field("x", np.dtype(dtype), shape)])
    arrays = [
        (np.arange(np.prod(sides)).reshape(sides) % 2 + unit).astype(dtype)
        for unit, sides in enumerate([tuple(4 if side == -1 else side for side in shape)] * 2)
    ]
    rows = [{"layout_id": unit, "x": array} for unit, array in enumerate(arrays)]
    output = output_in(tmp_path, schema=schema)
    output.write_shard(0, [*rows, {"layout_id": 2, "x": None}], [])
    read = list(output.seal({}))
    for row, array in zip(read, arrays, strict=False):
        assert row["x"].dtype == array.dtype
        np.testing.assert_array_equal(row["x"], array)
    assert read[2]["x"] is None
