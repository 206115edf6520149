"""The same shards whoever makes them; what a draw may come from."""

from pathlib import Path

import pytest

from datagen.engine.stage import RunOptions
from datagen.errors import ConfigError, StageError
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder, open_dataset
from datagen.shards.splits import asset_split
from datagen.stages.layouts import SampleLayouts
from tests.stages.shapes import write_assets

COUNT = 3500
STAGE = SampleLayouts(num_layouts=COUNT, max_stacked_per_table=3, stack_levels=2)


def make(root: Path, stage=STAGE, executor=None):
    return stage.run(Folder.at(root), executor or LocalExecutor(), RunOptions())


def shard_bytes(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((root / "layouts").glob("shard-*.parquet"))]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A workspace with layouts made by one process."""
    folder = tmp_path_factory.mktemp("serial")
    write_assets(folder)
    make(folder)
    return folder


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 64])
def test_ray_workers_write_the_bytes_of_one_process(workers, root, tmp_path):
    from datagen.executors.ray import RayExecutor

    write_assets(tmp_path)
    make(tmp_path, executor=RayExecutor(workers))
    assert shard_bytes(tmp_path) == shard_bytes(root)


def test_splits_draw_from_disjoint_assets_that_make_up_the_whole(tmp_path):
    write_assets(tmp_path, copies=20)
    drawn = {}
    for split in ("train", "val", "test", "all"):
        stage = SampleLayouts(num_layouts=150, split=split)
        rows = stage.run(Folder.at(tmp_path), LocalExecutor(), RunOptions(overwrite=True))
        drawn[split] = {p["asset_id"] for row in rows for p in row["placements"]}
        assert all(asset_split(a) == split or split == "all" for a in drawn[split])
    assert drawn["train"] | drawn["val"] | drawn["test"] == drawn["all"]
    assert len(drawn["all"]) == 60
    assert all(drawn.values())


def test_split_shares_are_eight_one_one():
    splits = [asset_split(f"asset {i}") for i in range(5000)]
    for name, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        deviation = (share * (1 - share) / 5000) ** 0.5
        assert abs(splits.count(name) / 5000 - share) < 4 * deviation


def test_split_without_assets_says_so(tmp_path):
    write_assets(tmp_path)
    there = {asset_split(row["asset_id"]) for row in open_dataset(tmp_path / "assets")}
    missing = next(name for name in ("val", "test", "train") if name not in there)
    with pytest.raises(
        StageError, match=rf"none of its 3 usable objects is in the split {missing}"
    ):
        make(tmp_path, SampleLayouts(num_layouts=3, split=missing))


def test_category_weighting_is_of_categories(tmp_path):
    write_assets(tmp_path)
    stage = SampleLayouts(num_layouts=200, asset_weighting="category", stack_levels=0)
    names = [p["asset_id"] for row in make(tmp_path, stage) for p in row["placements"]]
    assert all(0.25 < names.count(name) / len(names) < 0.42 for name in ("desk", "block", "ball"))


@pytest.mark.parametrize("fields", [{"max_stacked_per_table": 0}, {"stack_levels": -1}])
def test_impossible_stacking_is_refused(fields):
    with pytest.raises(ConfigError, match="max_stacked_per_table must be at least 1"):
        SampleLayouts(**fields)
