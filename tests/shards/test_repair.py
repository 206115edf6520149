"""A damaged shard is mended by deleting it and the manifest: the rest is kept."""

import pyarrow.parquet as pq
import pytest

from datagen.engine.stage import RunOptions
from datagen.errors import DatasetError
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder
from tests.engine.toy import Toy


def run(root, toy: Toy):
    return toy.run(Folder.at(root), LocalExecutor(), RunOptions())


def test_rerun_without_manifest_and_one_shard_makes_that_shard_alone(tmp_path):
    journal = tmp_path / "journal"
    sealed = run(tmp_path, Toy())
    damaged = tmp_path / "toy/shard-00001.parquet"
    good = damaged.read_bytes()
    damaged.unlink()
    (tmp_path / "toy/manifest.json").unlink()
    again = run(tmp_path, Toy(journal=journal))
    assert damaged.read_bytes() == good
    assert journal.read_text().split() == ["3", "4", "5"]
    assert again.manifest["shards"] == sealed.manifest["shards"]


def test_rerun_without_manifest_refuses_shards_of_other_fields(tmp_path):
    run(tmp_path, Toy(seed=1))
    (tmp_path / "toy/manifest.json").unlink()
    with pytest.raises(DatasetError, match="seed = 1 there, 0 now"):
        run(tmp_path, Toy())


def test_run_refuses_a_folder_of_foreign_parquet(tmp_path):
    run(tmp_path, Toy())
    path = tmp_path / "toy/shard-00000.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    (tmp_path / "toy/manifest.json").unlink()
    with pytest.raises(DatasetError, match=r"does not say which stage wrote it.*--overwrite"):
        run(tmp_path, Toy())
