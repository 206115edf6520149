"""Assets and given layouts as stages: every object has a row, rooms keep their positions."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import trimesh

from datagen.core.frames import Y_UP_TO_Z_UP
from datagen.engine.stage import RunOptions, Stage, open_inputs
from datagen.errors import ConfigError, DatasetError, StageError
from datagen.executors.local import LocalExecutor
from datagen.exports.attribution import write_attribution
from datagen.shards import Dataset, Folder
from datagen.shards.declared import ASSETS, LAYOUTS
from datagen.shards.output import Identity, Output
from datagen.shards.scenes import SceneReader
from datagen.stages.assets import PrepareAssets
from datagen.stages.given_layouts import TakeLayouts
from tests.assets.reviewed_lists import write_list
from tests.stages.rooms import ROOM, write_rooms


def run(stage: Stage, root: Path, **options: float) -> Dataset:
    return stage.run(Folder.at(root), LocalExecutor(threads=1), RunOptions(**options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The rooms' folder, and a workspace with their assets."""
    rooms = write_rooms(tmp_path_factory.mktemp("front"))
    root = tmp_path_factory.mktemp("root")
    run(PrepareAssets(source="front3d", source_path=rooms), root)
    return rooms, root


@pytest.mark.blender
def test_room_becomes_a_layout_with_every_object_where_it_stood(front):
    rooms, root = front
    stage = TakeLayouts(source_path=rooms, leave_out_unusable=True)
    layouts = run(stage, root, overwrite=True)
    first, second = list(layouts)
    assert (first["layout_id"], second["layout_id"]) == (0, 1)
    assert [len(first["placements"]), len(second["placements"])] == [2, 1]
    nulls = ("seed", "gap_scale", "gap_m", "region_half_m", "expansions")
    assert all(first[name] is None for name in nulls)
    reader = SceneReader(open_inputs(stage, Folder.at(root))["assets"])
    scene = reader.read(first, prepared=True)
    for name, (vertices, _) in zip(["Lamp_bb_1", "Bed_aa_0"], scene.meshes, strict=True):
        mesh = trimesh.load(rooms / "3D-FRONT-SCENE" / ROOM / f"{name}.glb", force="mesh")
        truth = mesh.vertices @ Y_UP_TO_Z_UP[:3, :3].T
        np.testing.assert_allclose(vertices.min(axis=0), truth.min(axis=0), atol=1e-6)
        np.testing.assert_allclose(vertices.max(axis=0), truth.max(axis=0), atol=1e-6)


@pytest.mark.blender
def test_room_with_an_unusable_object_fails_alone_and_says_why(front):
    rooms, root = front
    options = {"overwrite": True, "max_failed_fraction": 0.5}
    layouts = run(TakeLayouts(source_path=rooms), root, **options)
    assert len(layouts) == 1
    [failed] = layouts.manifest["failed"]
    assert failed["unit"] == 1
    assert "Rug_cc_0 is quarantined (flat)" in failed["reason"]
    assert "--leave-out-unusable" in failed["reason"]


@pytest.mark.blender
def test_rooms_need_their_own_assets(tmp_path):
    rooms = write_rooms(tmp_path / "rooms")
    write_assets(tmp_path / "root", ["CC0-1.0"])
    with pytest.raises(StageError, match="datagen assets --source front3d"):
        run(TakeLayouts(source_path=rooms), tmp_path / "root")


def test_rooms_need_a_path(tmp_path):
    write_assets(tmp_path, ["CC0-1.0"])
    with pytest.raises(ConfigError, match="--source-path"):
        run(TakeLayouts(), tmp_path)


def write_mixed_folder(folder: Path) -> Path:
    """Write a box, its copy, a broken file, a flat mesh, and a mesh without a license."""
    folder.mkdir()
    box = trimesh.creation.box((1, 2, 3))
    box.export(folder / "box.glb")
    box.export(folder / "copy of box.glb")
    trimesh.creation.box((1, 2, 4)).export(folder / "closed.ply")
    (folder / "broken.glb").write_bytes(b"glTF")
    trimesh.creation.box((1, 1, 0)).export(folder / "flat.stl")
    table = [f"{name},CC0-1.0" for name in ("box.glb", "copy of box.glb", "broken.glb", "flat.stl")]
    (folder / "assets.csv").write_text("\n".join(["path,license", *table]))
    return folder


@pytest.mark.blender
def test_every_file_of_a_folder_has_a_row_and_a_second_run_opens_none(tmp_path):
    folder, root = write_mixed_folder(tmp_path / "in"), tmp_path / "root"
    stage = PrepareAssets(source="folder", source_path=folder, license_allow=("CC0-1.0", "MIT"))
    dataset = run(stage, root)
    assert dataset.manifest["counts"] == {
        "ok": 1,
        "quarantined_duplicate": 1,
        "quarantined_flat": 1,
        "quarantined_import_failed": 1,
        "quarantined_license": 1,
    }
    log = next((root / "assets/logs").iterdir())
    before = log.stat().st_size
    again = run(PrepareAssets(**vars_of(stage)), root)
    assert again.manifest == dataset.manifest
    assert log.stat().st_size == before


def vars_of(stage: PrepareAssets) -> dict[str, object]:
    return {name: getattr(stage, name) for name in ("source", "source_path", "license_allow")}


@pytest.mark.blender
def test_list_restricts_the_source_and_refuses_other_bytes(tmp_path):
    folder = write_mixed_folder(tmp_path / "in")
    every = PrepareAssets(source="folder", source_path=folder).objects
    reviewed = [obj for obj in every if obj.uid == "box.glb"]
    write_list(tmp_path / "list.csv", reviewed, "folder")
    stage = PrepareAssets(source="folder", source_path=folder, asset_list=tmp_path / "list.csv")
    assert [row["source_uid"] for row in run(stage, tmp_path / "root")] == ["box.glb"]
    trimesh.creation.box((1, 2, 3.5)).export(folder / "box.glb")
    changed = PrepareAssets(source="folder", source_path=folder, asset_list=tmp_path / "list.csv")
    with pytest.raises(DatasetError, match=r"1 \(box\.glb\) of its 1 objects have other bytes"):
        run(changed, tmp_path / "other")


def test_license_that_is_no_spdx_identifier_is_refused():
    with pytest.raises(ConfigError, match="'free for all'"):
        PrepareAssets(license_allow=("free for all",))


def write_assets(root: Path, licenses: list[str]) -> None:
    output = Output(
        Folder.at(root) / "assets",
        Identity("assets", 1, {}, {}),
        ASSETS.schema,
        256,
        "object_index",
    )
    rows = [
        dict.fromkeys(ASSETS.schema.names)
        | {
            "object_index": index,
            "asset_id": f"id{index}",
            "source": "folder",
            "source_uid": f"{index}.glb",
            "name": f"Thing | {index}",
            "license": license_id,
            "author": "Zoë" if index else "",
            "status": "ok",
        }
        for index, license_id in enumerate(licenses)
    ]
    output.write_shard(0, rows, [])
    output.seal({"counts": {}})


def write_layouts(root: Path, scenes: list[list[str]]) -> None:
    output = Output(
        Folder.at(root) / "layouts", Identity("layouts", 1, {}, {}), LAYOUTS.schema, 1000
    )
    rows = [
        dict.fromkeys(LAYOUTS.schema.names)
        | {"layout_id": index, "placements": [{"asset_id": asset_id} for asset_id in scene]}
        for index, scene in enumerate(scenes)
    ]
    output.write_shard(0, rows, [])
    output.seal({"counts": {}})


def test_attribution_names_exactly_what_the_layouts_use(tmp_path):
    write_assets(tmp_path, ["CC0-1.0", "CC-BY-4.0", "CC-BY-4.0", "LicenseRef-unknown"])
    write_layouts(tmp_path, [["id1", "id1", "id0"], ["id1", "id3"]])
    path = Path(write_attribution(Folder.at(tmp_path)))
    text = path.read_text()
    assert path == tmp_path / "ATTRIBUTION.md"
    sections = [line for line in text.splitlines() if line.startswith("## ")]
    assert sections == ["## CC-BY-4.0", "## CC0-1.0", "## LicenseRef-unknown"]
    rows = [line for line in text.splitlines() if "folder: " in line]
    assert Counter(row.split("folder: ")[1] for row in rows) == Counter(
        ["1.glb | 2 |", "0.glb | 1 |", "3.glb | 1 |"]
    )
    assert "| Thing \\| 0 | not stated |" in text
    assert "https://spdx.org/licenses/CC-BY-4.0.html" in text
    write_attribution(Folder.at(tmp_path))
    assert path.read_text() == text


def test_attribution_needs_finished_layouts(tmp_path):
    write_assets(tmp_path, ["CC0-1.0"])
    with pytest.raises(DatasetError, match="layouts"):
        write_attribution(Folder.at(tmp_path))
