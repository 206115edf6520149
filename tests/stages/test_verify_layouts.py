"""``--verify`` on sampled layouts, and on one that somebody moved by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh

from datagen.assets.measure import measure
from datagen.errors import StageError
from datagen.executors.local import LocalExecutor
from datagen.shards import Folder, Identity, Output, open_dataset
from datagen.shards.schemas import ASSETS, LAYOUTS
from datagen.stages.layouts import SampleLayouts
from datagen.stages.stage import RunOptions
from datagen.stages.verify_layouts import VERIFICATION, verify_layouts

pytest.importorskip("fcl", reason="the extra `evaluate` is not installed")


def box(size, center):
    return trimesh.creation.box(size).apply_translation(center)


def desk():
    legs = [box((0.05, 0.05, 0.7), (x, y, 0.35)) for x in (-0.6, 0.6) for y in (-0.3, 0.3)]
    shelf = box((1.4, 0.2, 0.02), (0, 0.25, 1.1))
    ends = [box((0.02, 0.2, 0.4), (x, 0.25, 0.9)) for x in (-0.69, 0.69)]
    return trimesh.util.concatenate([box((1.4, 0.7, 0.04), (0, 0, 0.72)), shelf, *ends, *legs])


SHAPES = {
    "desk": desk(),
    "block": box((0.5, 0.3, 0.2), (0, 0, 0.1)),
    "ball": trimesh.creation.icosphere(3, 0.2).apply_translation([0, 0, 0.2]),
}


def write_assets(root: Path) -> None:
    """Write an assets dataset of the shapes, measured as the stage measures."""
    rows = []
    for index, (name, mesh) in enumerate(SHAPES.items()):
        path = root / "assets" / "geometry" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, vertices=mesh.vertices.astype("f4"), faces=mesh.faces.astype("i4"))
        rows.append(
            dict.fromkeys(ASSETS.names)
            | {"object_index": index, "asset_id": name, "status": "ok", "category": name}
            | {key: value for key, value in measure(path).items() if key in ASSETS.names}
            | {"geometry_path": f"geometry/{name}.npz"}
        )
    output = Output(
        Folder.at(root / "assets"), Identity("assets", 1, {}, {}), ASSETS, 256, "object_index"
    )
    output.begin()
    output.write_shard(0, rows, [])
    output.seal({"counts": {}})


def sample(root: Path, **fields):
    return SampleLayouts(**fields).run(Folder.at(root), LocalExecutor(), RunOptions())


def rewrite(root: Path, change) -> None:
    """Write the layouts again after changing their rows."""
    rows = list(open_dataset(root / "layouts"))
    change(rows)
    identity = Identity("moved", 1, {}, {})
    output = Output(Folder.at(root / "layouts"), identity, LAYOUTS, 1000)
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
    from datagen.stages.verify_layouts import verify_and_record

    write_assets(tmp_path)
    sample(tmp_path, num_layouts=3, stack_probability=0.0)

    def push(rows):
        rows[1]["placements"][1]["position_m"] = rows[1]["placements"][0]["position_m"]

    rewrite(tmp_path, push)
    with pytest.raises(StageError, match=r"1 of 3 layouts break .*layout 1: spacing"):
        verify_and_record(open_dataset(tmp_path / "assets"), open_dataset(tmp_path / "layouts"))
    record = json.loads((tmp_path / "layouts" / VERIFICATION).read_bytes())
    assert {fault["layout_id"] for fault in record["violations"]} == {1}
