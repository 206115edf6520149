"""``--only`` makes the given units, retries failed ones, and leaves the rest to a later run."""

from pathlib import Path

import pytest

from datagen.engine.stage import RunOptions
from datagen.errors import ConfigError
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder, open_dataset
from tests.engine.toy import Toy, shard_hashes

LENIENT = RunOptions(max_failed_fraction=1.0)


def run_only(stage: Toy, root: Path, *units: int) -> list[str]:
    return stage.run_only(Folder.at(root), LocalExecutor(), RunOptions(only=units))[0]


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("reference")
    Toy().run(Folder.at(root), LocalExecutor(), RunOptions())
    return shard_hashes(root / "toy")


def test_only_makes_these_units_and_leaves_the_rest_to_a_later_run(tmp_path, reference):
    journal = tmp_path / "journal"
    toy = Toy(journal=journal)
    assert [word.partition(" in")[0] for word in run_only(toy, tmp_path, 4, 7)] == [
        "4: made",
        "7: made",
    ]
    assert run_only(toy, tmp_path, 4) == ["4: there already"]
    assert not (tmp_path / "toy/manifest.json").exists()
    toy.run(Folder.at(tmp_path), LocalExecutor(), RunOptions())
    assert sorted(map(int, journal.read_text().split())) == list(range(10))
    assert shard_hashes(tmp_path / "toy") == reference


def test_only_seals_when_it_makes_the_last_ones(tmp_path, reference):
    run_only(Toy(), tmp_path, *range(9))
    run_only(Toy(), tmp_path, 9)
    assert open_dataset(tmp_path / "toy").manifest["rows"] == 15
    assert shard_hashes(tmp_path / "toy") == reference


def test_only_replays_one_failure_of_a_sealed_dataset_and_keeps_the_others(tmp_path):
    Toy(fail_on=(3, 4)).run(Folder.at(tmp_path), LocalExecutor(), LENIENT)
    [line] = run_only(Toy(fail_on=(3, 4)), tmp_path, 3)
    assert line == "3: failed: unit 3 cannot be made"
    assert [f["unit"] for f in open_dataset(tmp_path / "toy").manifest["failed"]] == [3, 4]
    run_only(Toy(), tmp_path, 3)
    sealed = open_dataset(tmp_path / "toy")
    assert [f["unit"] for f in sealed.manifest["failed"]] == [4]
    assert len(sealed.rows_of(3)) == 2 and len(sealed.rows_of(5)) == 2


def test_only_makes_a_failed_unit_of_an_unfinished_dataset_again(tmp_path):
    assert run_only(Toy(fail_on=(3,)), tmp_path, 3) == ["3: failed: unit 3 cannot be made"]
    assert run_only(Toy(), tmp_path, 3)[0].startswith("3: made")


def test_only_refuses_a_unit_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"--only 10: no such layout_id.*10 from 0 to 9"):
        run_only(Toy(), tmp_path, 10)
