"""The user's four commands, typed in order into an empty folder, are a complete run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datagen.cli import main
from datagen.shards import open_dataset
from datagen.shards.declared import LATENTS, LAYOUTS, PREDICTIONS, RENDERS
from datagen.shards.scenes import SceneReader
from datagen.voxels import unpack_occupancy, voxelize_surface

FLOW = str(Path(__file__).parent / "golden" / "small_ss_flow")

pytestmark = [pytest.mark.blender, pytest.mark.slow]


def datagen(folder: Path, *words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "datagen.cli", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )
    assert result.returncode == expect, result.stderr
    return result


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    made = datagen(folder, "layouts", "--n", "3", "--max-objects", "4")
    assert made.stderr.count("making it first (datagen assets)") == 1
    datagen(folder, "render", "--views", "4", "--resolution-px", "64", "--samples", "2")
    made = datagen(folder, "train", "--max-steps", "2", "--val-fraction", "0.3")
    assert made.stderr.count("making it first (datagen encode)") == 1
    datagen(folder, "infer", "--steps", "2")
    return folder / "dataset"


def test_four_commands_make_every_dataset(workspace):
    for name in ("assets", "layouts", "renders", "latents", "model", "predictions"):
        assert open_dataset(workspace / name).manifest["failed"] == []
        assert not (workspace / name / ".parts").exists()
    for table in (LAYOUTS, RENDERS, LATENTS, PREDICTIONS):
        assert open_dataset(workspace / table.folder).schema.names == table.schema.names


def test_infer_without_arguments_takes_one_view_of_each_validation_scene(workspace):
    predictions = list(open_dataset(workspace / "predictions"))
    assert predictions and all(row["split"] == "val" for row in predictions)
    folder = workspace / "predictions" / predictions[0]["path"]
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["layout_id"] == predictions[0]["layout_id"]
    assert {"scene.glb", "occupancy.npz", "preview.png"} <= {p.name for p in folder.iterdir()}


def test_latents_hold_the_voxels_of_the_scene_in_its_view(workspace):
    latents = open_dataset(workspace / "latents")
    layouts = open_dataset(workspace / "layouts")
    reader = SceneReader(open_dataset(workspace / "assets"))
    row = next(iter(latents))
    scene = reader.read(layouts.rows_of(row["layout_id"])[0])
    grids = unpack_occupancy(row["occupancy"].tobytes())
    assert len(grids) == row["num_instances"] + 1 == len(scene.meshes) + 1
    turn = row["world_to_canonical"]
    for grid, (vertices, faces) in zip(grids[1:], scene.meshes, strict=True):
        canonical = vertices @ turn[:3, :3].T + turn[:3, 3]
        assert np.array_equal(grid, voxelize_surface(canonical, faces))
    assert np.array_equal(grids[0], grids[1:].any(axis=0))
    assert row["instance_latents"].shape == (row["num_instances"], 8, 16, 16, 16)


def test_kept_views_show_every_object_and_dropped_ones_say_why(workspace):
    for row in open_dataset(workspace / "renders"):
        visible = np.array(row["visible_px"])
        assert row["kept"] == bool((visible > 0).all())
        assert (row["rgb"] is not None) == (row["instance_map"] is not None) == row["kept"]
        assert (row["drop_reason"] is None) == row["kept"]
        assert np.all(np.array(row["amodal_px"]) >= visible)


def test_evaluate_scores_the_model_beside_two_baselines_and_report_is_written(workspace):
    folder = workspace.parent
    datagen(folder, "evaluate", "--points-per-object", "500")
    summary = open_dataset(workspace / "scores").manifest["summary"]
    assert {entry["method"] for entry in summary} == {"model", "untrained", "constant"}
    page = datagen(folder, "report").stdout.split()[-1]
    assert "</html>" in (folder / page).read_text()


def test_what_was_made_is_sound_and_described(workspace):
    checked = datagen(workspace.parent, "verify", "--deep").stdout
    assert checked.splitlines()[-1].startswith("verify: sound in")
    assert {"README.md", "croissant.json", "ATTRIBUTION.md"} <= {
        p.name for p in workspace.iterdir()
    }


def test_rerun_does_nothing(workspace):
    before = (workspace / "renders/manifest.json").read_bytes()
    words = ("render", "--views", "4", "--resolution-px", "64", "--samples", "2")
    assert "complete, reusing" in datagen(workspace.parent, *words).stderr
    assert (workspace / "renders/manifest.json").read_bytes() == before


@pytest.mark.ray
def test_rendering_on_ray_gives_the_same_cameras_masks_and_visibility(workspace, tmp_path):
    for name in ("assets", "layouts"):
        (tmp_path / name).symlink_to(workspace / name)
    words = ("--views", "4", "--resolution-px", "64", "--samples", "2")
    datagen(tmp_path, "render", *words, "--root", str(tmp_path), "--workers", "2")
    local, ray = open_dataset(workspace / "renders"), open_dataset(tmp_path / "renders")
    for ours, theirs in zip(local, ray, strict=True):
        for name in set(RENDERS.schema.names) - {"rgb"}:
            assert np.array_equal(ours[name], theirs[name]), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["layouts", "--n", "0"], "num_layouts .* must be at least 1, got 0"),
        (["layouts", "--n", "7"], "num_layouts = 3 there, 7 now.*--overwrite"),
        (["render", "--root", "nowhere"], "nowhere/assets is missing.*datagen assets"),
        (["train", "--root", "nowhere"], "is missing.*Run `datagen"),
        (["assets", "--source", "sweethome3d", "--root", "w"], "--source-path"),
        (
            ["assets", "--source", "sweethome3d", "--source-path", "no-such", "--root", "w"],
            "no-such",
        ),
        (["assets", "--source", "sweethome3d", "--source-path", ".", "--root", "w"], "sh3f"),
        (["encode", "--encoder", "no/such/encoder", "--overwrite"], "no/such"),
        (["encode", "--encoder", FLOW, "--overwrite"], "SparseStructureFlowModel, expected a sp"),
        (["render", "--fov-deg", "0"], "fov_deg"),
        (["run", "nothing"], "unknown pipeline 'nothing'.*demo"),
        (["fly"], "unknown command 'fly'"),
        (["show", "nowhere"], "nowhere does not exist"),
    ],
)
def test_bad_input_is_one_line_with_the_way_out(workspace, words, message, capsys, monkeypatch):
    monkeypatch.chdir(workspace.parent)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert open_dataset(workspace / "latents").manifest, "--overwrite must not delete for nothing"
    assert re.search(message, error.strip().splitlines()[-1]), error
