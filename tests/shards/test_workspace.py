"""A workspace opens finished datasets, joins their rows and puts assets where layouts say."""

import pickle
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

from datagen.errors import DatasetError, RowError
from datagen.shards import open_dataset
from datagen.shards.declared import LATENTS
from datagen.shards.workspace import Workspace
from tests.shards.tiny import BOX, FACES, NUM_LAYOUTS, NUM_VIEWS, write

DROPPED = NUM_VIEWS - 1


@pytest.fixture
def damaged(tiny, tmp_path) -> Path:
    """A workspace that a test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "damaged"))


def placement(asset_id: str, position_m: list[float], yaw_rad: float, scale: float) -> dict:
    return {"asset_id": asset_id, "position_m": position_m, "yaw_rad": yaw_rad, "scale": scale}


def test_missing_and_unfinished_datasets_are_none_and_have_no_rows(tmp_path):
    (tmp_path / "renders").mkdir()
    workspace = Workspace.at(tmp_path)
    assert workspace.dataset("layouts") is None and workspace.dataset("renders") is None
    assert workspace.layout(0) is None
    assert workspace.view(0, 0) is None and workspace.latent(0, 0) is None
    assert workspace.assets == {}


def test_dataset_that_is_finished_later_is_found(tiny, tmp_path):
    workspace = Workspace.at(tmp_path)
    assert workspace.dataset("layouts") is None
    shutil.copytree(tiny / "layouts", tmp_path / "layouts")
    assert len(workspace.dataset("layouts")) == NUM_LAYOUTS


@pytest.mark.parametrize(
    ("folder", "command", "named"),
    [
        ("latents", None, "datagen encode"),
        ("renders", None, "datagen render"),
        ("assets", "datagen assets --source front3d", "datagen assets --source front3d"),
    ],
)
def test_required_dataset_that_is_missing_names_who_needs_it_and_what_makes_it(
    tmp_path, folder, command, named
):
    with pytest.raises(DatasetError) as raised:
        Workspace.at(tmp_path).require(folder, "report", command)
    assert str(raised.value) == (
        f"report: {tmp_path}/{folder} is missing or unfinished, and it is needed here. "
        f"Run `{named} --root {tmp_path}` first."
    )


def test_rows_are_found_by_scene_and_view(tiny):
    workspace = Workspace.at(tiny)
    assert workspace.layout(2)["layout_id"] == 2
    for row in (workspace.view(2, 1), workspace.latent(2, 1)):
        assert (row["layout_id"], row["view_index"]) == (2, 1)
    assert workspace.view(2, DROPPED)["kept"] is False
    assert workspace.latent(2, DROPPED) is None
    assert workspace.layout(99) is None
    assert workspace.view(2, 99) is None and workspace.view(99, 0) is None
    few = workspace.view(2, 1, ["width"])
    assert few.keys() == {"layout_id", "view_index", "width"}


def test_kept_and_encoded_views_are_joined_in_order(tiny):
    workspace = Workspace.at(tiny)
    kept = [view["view_index"] for view in workspace.kept_views(1)]
    assert kept == list(range(DROPPED))
    pairs = list(workspace.encoded_views(1))
    assert [view["view_index"] for view, _ in pairs] == kept
    for view, latent in pairs:
        assert view["rgb"] is not None
        assert (latent["layout_id"], latent["view_index"]) == (1, view["view_index"])


def test_kept_view_that_was_not_encoded_is_no_encoded_view(damaged):
    latents = [row for row in open_dataset(damaged / "latents") if row["view_index"] == 1]
    shutil.rmtree(damaged / "latents")
    write(damaged, "encode", "latents", LATENTS.schema, latents, {}, scenes_per_shard=2)
    workspace = Workspace.at(damaged)
    assert [view["view_index"] for view, _ in workspace.encoded_views(1)] == [1]
    assert [view["view_index"] for view in workspace.kept_views(1)] == [0, 1]


def test_meshes_stand_where_the_placements_put_them(tiny):
    workspace = Workspace.at(tiny)
    first, second = workspace.assets
    placements = [
        placement(first, [1.0, -2.0, 0.5], 0.7, 2.0),
        placement(second, [0.0, 3.0, 0.0], -2.0, 0.25),
    ]
    scene = workspace.scene_meshes({"layout_id": 0, "placements": placements})
    assert len(scene.meshes) == len(scene.asset_to_world) == 2
    for (vertices, faces), p in zip(scene.meshes, placements, strict=True):
        c, s = np.cos(p["yaw_rad"]), np.sin(p["yaw_rad"])
        rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        expected = [np.array(p["position_m"]) + rotation @ (p["scale"] * v) for v in BOX]
        np.testing.assert_allclose(vertices, expected, atol=1e-12)
        np.testing.assert_array_equal(faces, FACES)
        assert vertices.dtype == np.float64
    assert scene.prepared_paths == []
    np.testing.assert_array_equal(scene.vertices, np.concatenate([v for v, _ in scene.meshes]))


def test_prepared_files_are_named_in_the_order_of_the_placements_if_asked_for(tiny):
    workspace = Workspace.at(tiny)
    paths = workspace.scene_meshes(workspace.layout(0), prepared=True).prepared_paths
    assert [path.stem for path in paths] == list(workspace.assets)
    assert all(path.read_bytes() == b"BLENDER" for path in paths)


def test_scene_in_a_views_frame_fills_the_canonical_cube(tiny):
    workspace = Workspace.at(tiny)
    transform = workspace.latent(0, 0)["world_to_canonical"]
    meshes = workspace.scene_meshes(workspace.layout(0)).transformed(transform)
    corners = np.concatenate([vertices for vertices, _ in meshes])
    assert np.ptp(corners, axis=0).max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(corners.max(axis=0), -corners.min(axis=0), atol=1e-9)


def test_assets_mesh_is_in_its_own_frame_and_is_read_once(damaged):
    workspace = Workspace.at(damaged)
    [asset_id, *_] = workspace.assets
    vertices, faces = workspace.mesh(asset_id)
    np.testing.assert_array_equal(vertices, BOX.astype(np.float32))
    np.testing.assert_array_equal(faces, FACES)
    shutil.rmtree(damaged / "assets" / "geometry")
    np.testing.assert_array_equal(workspace.mesh(asset_id)[0], vertices)


def test_placed_asset_that_cannot_be_used_fails_the_scene_and_says_why(damaged):
    workspace = Workspace.at(damaged)
    unknown = {"layout_id": 0, "placements": [placement("f" * 64, [0, 0, 0], 0, 1)]}
    with pytest.raises(RowError, match=r"assets: asset ffff.* is placed, but there is no such"):
        workspace.scene_meshes(unknown)
    shutil.rmtree(damaged / "assets" / "geometry")
    with pytest.raises(RowError, match=r"geometry/.*npz: no such file, .*--overwrite"):
        workspace.scene_meshes(workspace.layout(0))


def test_workspace_sent_to_another_process_opens_its_datasets_there(tiny):
    workspace = Workspace.at(tiny)
    workspace.scene_meshes(workspace.layout(0))  # fills what is kept
    sent = pickle.loads(pickle.dumps(workspace))
    assert sent.root == workspace.root
    np.testing.assert_array_equal(
        sent.scene_meshes(sent.layout(1)).vertices,
        workspace.scene_meshes(workspace.layout(1)).vertices,
    )


def test_workspace_in_remote_storage_gives_the_same_rows_and_meshes(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("DATAGEN_CACHE", str(tmp_path / "cache"))
    url = "memory://workspace-of-this-test"
    storage = fsspec.filesystem("memory")
    storage.put(str(tiny), url, recursive=True)
    local, remote = Workspace.at(tiny), Workspace.at(url)
    try:
        assert remote.layout(1) == local.layout(1)
        assert remote.view(1, 0)["rgb"] == local.view(1, 0)["rgb"]
        scenes = [w.scene_meshes(w.layout(1), prepared=True) for w in (local, remote)]
        np.testing.assert_array_equal(scenes[0].vertices, scenes[1].vertices)
        assert [path.read_bytes() for path in scenes[1].prepared_paths] == [b"BLENDER"] * 2
        assert remote.dataset("scores") is None
        with pytest.raises(DatasetError, match=rf"{url}/scores is missing.*--root {url}`"):
            remote.require("scores", "report")
    finally:
        storage.rm(url, recursive=True)
