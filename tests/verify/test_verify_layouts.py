"""``--verify`` on sampled layouts, and on one that somebody moved by hand."""

import json
from pathlib import Path

import pytest

from datagen.errors import StageError
from datagen.run import run_stage
from datagen.shards import Folder, Identity, Output, open_dataset
from datagen.shards.declared import LAYOUTS
from datagen.stages.layouts import SampleLayouts
from datagen.verify.layouts import VERIFICATION, verify_and_record, verify_layouts
from tests.stages.shapes import write_assets

pytest.importorskip("fcl", reason="the extra `evaluate` is not installed")


def sample(root: Path, **fields):
    return run_stage(SampleLayouts(**fields), str(root))[0]


def rewrite(root: Path, change) -> None:
    """Write the layouts again after changing their rows."""
    rows = list(open_dataset(root / "layouts"))
    change(rows)
    identity = Identity("moved", 1, {}, {})
    output = Output(Folder.at(root / "layouts"), identity, LAYOUTS.schema, 1000)
    output.write_shard(0, rows, [])
    output.seal({"counts": {}})


def test_sampled_layouts_are_proven_and_the_proof_lies_beside_them(tmp_path):
    write_assets(tmp_path)
    dataset = sample(tmp_path, num_layouts=60, stack_probability=1.0, verify=True)
    record = json.loads(dataset.folder.read_bytes(VERIFICATION))
    assert record["violations"] == []
    assert record["layouts"] == 60
    assert record["stacked"] == sum(
        p["supported_by"] >= 0 for row in dataset for p in row["placements"]
    )
    assert record["stacked"] > 20
    assert record["layouts_fingerprint"] == dataset.fingerprint


def test_crowded_tables_and_towers_are_proven_pair_by_pair(tmp_path):
    write_assets(tmp_path)
    rules = {"stack_probability": 1.0, "max_stacked_per_table": 4, "stack_levels": 3}
    dataset = sample(tmp_path, num_layouts=40, **rules)
    result = verify_layouts(open_dataset(tmp_path / "assets"), dataset, exhaustive_every=1)
    assert result.violations == []
    assert result.stacked > 40


def test_verify_does_not_enter_the_fingerprint(tmp_path):
    write_assets(tmp_path)
    plain = sample(tmp_path, num_layouts=5)
    assert sample(tmp_path, num_layouts=5, verify=True).manifest == plain.manifest
    assert (tmp_path / "layouts" / VERIFICATION).exists()


def test_every_pair_mesh_against_mesh_finds_nothing_either(tmp_path):
    write_assets(tmp_path)
    sample(tmp_path, num_layouts=15, stack_probability=1.0, gap_scale_range=(0.01, 0.02))
    result = verify_layouts(
        open_dataset(tmp_path / "assets"), open_dataset(tmp_path / "layouts"), exhaustive_every=1
    )
    assert result.violations == []
    assert result.mesh_pairs == result.pairs > 100


def test_stacked_object_sunk_in_fails_the_proof_and_names_the_layout(tmp_path):
    write_assets(tmp_path)
    sample(tmp_path, num_layouts=20, stack_probability=1.0)
    touched = []

    def sink(rows):
        for row in rows:
            for placement in row["placements"]:
                if placement["supported_by"] >= 0 and not touched:
                    placement["position_m"][2] -= 0.01
                    touched.append(row["layout_id"])

    rewrite(tmp_path, sink)
    result = verify_layouts(open_dataset(tmp_path / "assets"), open_dataset(tmp_path / "layouts"))
    assert {violation.layout_id for violation in result.violations} == set(touched)
    assert {violation.rule for violation in result.violations} >= {"penetration"}


def test_objects_pushed_into_each_other_raise_with_the_record_written(tmp_path):
    write_assets(tmp_path)
    sample(tmp_path, num_layouts=3, stack_probability=0.0)

    def push(rows):
        rows[1]["placements"][1]["position_m"] = rows[1]["placements"][0]["position_m"]

    rewrite(tmp_path, push)
    with pytest.raises(StageError, match=r"1 of 3 layouts have .*layout 1: spacing"):
        verify_and_record(open_dataset(tmp_path / "assets"), open_dataset(tmp_path / "layouts"))
    record = json.loads((tmp_path / "layouts" / VERIFICATION).read_bytes())
    assert {fault["layout_id"] for fault in record["violations"]} == {1}
