"""Runs of a stage give the same bytes, lose no rows, and never mix two datasets."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datagen.engine.stage import RunOptions, Stage
from datagen.errors import DatasetError, StageError
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder, open_dataset
from tests.engine.toy import Toy, ToySum, shard_hashes

OPTIONS = RunOptions()
LENIENT = RunOptions(max_failed_fraction=0.5)


def run(stage: Stage, root: Path, options: RunOptions = OPTIONS, executor=None):
    return stage.run(Folder.at(root), executor or LocalExecutor(), options)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("reference")
    run(Toy(), root)
    return shard_hashes(root / "toy")


def test_run_seals_shards_cut_by_layout_id(tmp_path):
    dataset = run(Toy(), tmp_path)
    assert len(dataset) == len(list(dataset)) == 15
    assert sorted(p.name for p in (tmp_path / "toy").iterdir()) == [
        "manifest.json",
        *(f"shard-{i:05d}.parquet" for i in range(4)),
    ]
    assert [row["layout_id"] for row in dataset.rows_of(4)] == [4]
    assert [row["layout_id"] for row in dataset.rows_of(5)] == [5, 5]
    hashes = {shard["path"]: shard["sha256"] for shard in dataset.manifest["shards"]}
    assert hashes == shard_hashes(tmp_path / "toy")
    assert dataset.units() == list(range(10))


def test_rerun_of_complete_dataset_makes_nothing(tmp_path):
    journal = tmp_path / "journal"
    run(Toy(journal=journal), tmp_path)
    made = journal.read_text()
    manifest = (tmp_path / "toy/manifest.json").read_bytes()
    run(Toy(journal=journal), tmp_path)
    assert journal.read_text() == made
    assert (tmp_path / "toy/manifest.json").read_bytes() == manifest


def test_changed_field_is_refused_on_sealed_folder_and_named(tmp_path):
    run(Toy(), tmp_path)
    with pytest.raises(DatasetError, match=r"length = 4 there, 5 now.*--overwrite"):
        run(Toy(length=5), tmp_path)
    assert len(run(Toy(length=5), tmp_path, replace(OPTIONS, overwrite=True)).schema) == 2


def test_changed_field_is_refused_on_unfinished_folder(tmp_path):
    class Stop(Exception):
        pass

    class StopAfterFour(LocalExecutor):
        def run(self, job, tasks):
            for count, done in enumerate(super().run(job, tasks)):
                if count == 4:
                    raise Stop
                yield done

    with pytest.raises(Stop):
        run(Toy(), tmp_path, executor=StopAfterFour())
    with pytest.raises(DatasetError, match="seed = 0 there, 1 now"):
        run(Toy(seed=1), tmp_path)


def test_changed_input_is_refused(tmp_path):
    run(Toy(), tmp_path)
    run(ToySum(), tmp_path)
    run(Toy(seed=1), tmp_path, replace(OPTIONS, overwrite=True))
    with pytest.raises(DatasetError, match=r"other toy \(its input\)"):
        run(ToySum(), tmp_path)


def test_missing_input_names_the_folder_and_the_verb(tmp_path):
    with pytest.raises(DatasetError, match=r"/toy is missing.*Run `datagen play"):
        run(ToySum(), tmp_path)


@pytest.mark.ray
def test_ray_gives_the_same_bytes_as_local(tmp_path, reference):
    from datagen.executors.ray import RayExecutor

    with closing(RayExecutor(num_workers=2)) as executor:
        run(Toy(), tmp_path, executor=executor)
    assert shard_hashes(tmp_path / "toy") == reference


@pytest.mark.ray
def test_ray_worker_that_dies_costs_its_own_unit_alone(tmp_path):
    from datagen.executors.ray import RayExecutor

    stage = Toy(die_on=(4,))
    with closing(RayExecutor(num_workers=2)) as executor:
        dataset = run(stage, tmp_path, LENIENT, executor)
    assert [failure["unit"] for failure in dataset.manifest["failed"]] == [4]
    assert sorted(dataset.units()) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_bad_row_is_reported_not_lost_and_retried_on_demand(tmp_path, reference):
    dataset = run(Toy(fail_on=(4,)), tmp_path, LENIENT)
    assert dataset.manifest["failed"] == [{"unit": 4, "reason": "unit 4 cannot be made"}]
    assert dataset.rows_of(4) == []
    again = run(Toy(), tmp_path, LENIENT)
    assert again.manifest["failed"] == dataset.manifest["failed"], "kept until asked for"
    healed = run(Toy(), tmp_path, replace(LENIENT, retry_failed=True))
    assert healed.manifest["failed"] == []
    assert shard_hashes(tmp_path / "toy") == reference


def test_too_many_failed_rows_end_the_run_with_an_error(tmp_path):
    with pytest.raises(StageError, match=r"2 of 10 scenes failed.*unit 3 cannot be made"):
        run(Toy(fail_on=(3, 4)), tmp_path)
    assert open_dataset(tmp_path / "toy").manifest["rows"] == 12


@pytest.mark.parametrize("failed", [(4,), (3, 4), (1, 3, 4)])
def test_exactly_the_failed_fraction_that_is_allowed_passes_and_less_does_not(tmp_path, failed):
    share = len(failed) / 10
    dataset = run(Toy(fail_on=failed), tmp_path / "at", RunOptions(max_failed_fraction=share))
    assert len(dataset.manifest["failed"]) == len(failed)
    below = RunOptions(max_failed_fraction=np.nextafter(share, 0))
    with pytest.raises(StageError, match=rf"{len(failed)} of 10 scenes failed"):
        run(Toy(fail_on=failed), tmp_path / "below", below)


def test_tensors_come_back_as_arrays_and_schema_says_their_shape(tmp_path):
    dataset = run(Toy(), tmp_path)
    row = next(iter(dataset))
    assert row["vector"].dtype == np.float32 and row["vector"].shape == (4,)
    assert json.loads(dataset.schema.field("vector").metadata[b"shape"]) == [-1]


def test_workspace_behind_a_url_holds_the_same_bytes(tmp_path, reference):
    """file:// URLs use the same code as s3://: no local paths, no renames."""
    root = Folder.at(f"file://{tmp_path}")
    assert not root.is_local
    Toy().run(root, LocalExecutor(), OPTIONS)
    assert shard_hashes(tmp_path / "toy") == reference
    assert len(ToySum().run(root, LocalExecutor(), OPTIONS)) == 10


def test_workspace_behind_fsspec_holds_the_same_bytes(tmp_path, reference):
    """local:// URLs are opened by fsspec, not by pyarrow."""
    root = Folder.at(f"local://{tmp_path}")
    assert not root.is_local
    Toy().run(root, LocalExecutor(), RunOptions())
    assert shard_hashes(tmp_path / "toy") == reference
    assert len(ToySum().run(root, LocalExecutor(), RunOptions())) == 10
    assert not list(tmp_path.glob("**/.*new"))


def test_every_unit_is_a_json_line_in_the_workspace(tmp_path):
    Toy(fail_on=(3,)).run(Folder.at(tmp_path), LocalExecutor(), LENIENT)
    lines = (tmp_path / "logs/toy.jsonl").read_text().splitlines()
    *done, end = [json.loads(line) for line in lines]
    assert [line["units"] for line in done] == [[unit] for unit in range(10)]
    assert done[3]["failed"] == {"3": "unit 3 cannot be made"}
    assert end["event"] == "end" and end["complete"] and end["done"] == 10 and end["failed"] == 1
    assert all(line["memory_mb"] > 10 for line in done)
