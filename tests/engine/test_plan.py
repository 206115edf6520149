"""What ``datagen plan`` says of a stage before it is run."""

import pytest

from datagen.cli import main
from datagen.engine.plan import plan_stage
from datagen.engine.stage import RunOptions
from datagen.errors import ConfigError
from datagen.executors.job import WorkerSettings
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder
from datagen.stages.layouts import SampleLayouts
from datagen.stages.train import TrainFlow
from tests.engine.toy import Toy


def plan(stage, root, **options):
    return plan_stage(
        stage, Folder.at(root), num_workers=1, settings=WorkerSettings(device="cpu"), **options
    )


def test_plan_foretells_rows_and_bytes_and_writes_nothing_into_the_workspace(tmp_path):
    stage = Toy(count=40, length=5000, scenes_per_shard=4)
    planned = plan(stage, tmp_path, num_samples=20)
    assert not any(tmp_path.iterdir())
    dataset = stage.run(Folder.at(tmp_path), LocalExecutor(), RunOptions())
    assert planned.num_units == 40
    assert planned.num_units * planned.rows_per_unit == pytest.approx(len(dataset), rel=0.2)
    written = sum(path.stat().st_size for path in (tmp_path / "toy").glob("shard-*.parquet"))
    assert planned.num_units * planned.bytes_per_unit == pytest.approx(written, rel=0.2)


def test_plan_takes_its_units_from_all_over_and_measures_the_time_of_each(tmp_path):
    journal = tmp_path / "journal"
    planned = plan(Toy(count=100, journal=journal, slow_s=0.05), tmp_path / "root")
    assert journal.read_text().split() == ["0", "25", "50", "74", "99"]
    assert planned.seconds_per_unit >= 0.05
    assert planned.start_s >= 0.05


def test_plan_counts_units_that_fail(tmp_path):
    planned = plan(Toy(count=100, fail_on=(50,)), tmp_path)
    assert planned.num_failed == 1
    assert "1 of them failed" in str(planned)


@pytest.mark.parametrize("stage", [SampleLayouts(), TrainFlow()])
def test_stage_that_is_not_made_by_the_unit_is_refused(stage, tmp_path):
    with pytest.raises(ConfigError, match="not made unit by unit"):
        plan(stage, tmp_path)


def test_plan_without_its_inputs_names_the_command(tmp_path, capsys):
    assert main(["plan", "encode", "--root", str(tmp_path)]) == 2
    assert "Run `datagen assets" in capsys.readouterr().err


def test_plan_of_no_verb_says_what_is_expected(capsys):
    assert main(["plan", "--root", "x"]) == 2
    assert "datagen plan VERB" in capsys.readouterr().err
