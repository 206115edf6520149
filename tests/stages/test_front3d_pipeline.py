"""3D-FRONT from the command line: its rooms pass through every stage that makes data."""

import json
from pathlib import Path

import numpy as np
import pytest

from datagen.cli import main
from datagen.shards import open_dataset
from datagen.stages.pipeline import load_pipeline
from datagen.voxels import unpack_occupancy
from tests.stages.rooms import write_rooms

NUM_TEST_ROOMS = 1000


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training rooms, and 1000 test rooms that are only listed, without files."""
    folder = write_rooms(tmp_path_factory.mktemp("front"))
    more = {
        "midi_room_ids": [f"house-9/Test-{index}" for index in range(NUM_TEST_ROOMS)],
        "midi_furniture_ids": [["Bed_aa_0"]] * NUM_TEST_ROOMS,
    }
    for name, entries in more.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) + entries))
    return folder


def datagen(root: Path, *words: object) -> int:
    return main([*(str(word) for word in words), "--root", str(root)])


@pytest.mark.blender
def test_training_rooms_become_views_and_voxels_of_every_object(rooms, tmp_path):
    source = ("--source", "front3d", "--source-path", rooms)
    assert datagen(tmp_path, "assets", *source) == 0
    taken = ("--split", "train", "--leave-out-unusable")
    assert datagen(tmp_path, "layouts", *source, *taken) == 0
    small = ("--views", 2, "--resolution-px", 32, "--samples", 1)
    assert datagen(tmp_path, "render", *small) == 0
    assert datagen(tmp_path, "encode") == 0

    layouts = {row["layout_id"]: row for row in open_dataset(tmp_path / "layouts")}
    assert sorted(layouts) == [0, 1], "the listed test rooms are left alone"
    latents = list(open_dataset(tmp_path / "latents"))
    assert {row["layout_id"] for row in latents} == {0, 1}
    for row in latents:
        placements = layouts[row["layout_id"]]["placements"]
        scene, *instances = unpack_occupancy(np.asarray(row["occupancy"]).tobytes())
        assert len(instances) == row["num_instances"] == len(placements)
        assert all(grid.any() for grid in instances)
        assert np.array_equal(scene, np.any(instances, axis=0))
    assert "CC-BY-NC-4.0" in (tmp_path / "ATTRIBUTION.md").read_text()


@pytest.mark.blender
def test_pipeline_takes_the_training_rooms_with_its_own_assets(rooms, tmp_path, capsys):
    pipeline = ("--pipeline", "iscene_3dfront_15k", "--source-path", rooms)
    assert datagen(tmp_path, "assets", *pipeline) == 0
    assert datagen(tmp_path, "layouts", *pipeline, "--max-failed-fraction", 0.5) == 0
    layouts = open_dataset(tmp_path / "layouts")
    assert [row["layout_id"] for row in layouts] == [0]
    assert [failure["unit"] for failure in layouts.manifest["failed"]] == [1], "its rug is flat"
    assert layouts.manifest["fields"]["split"] == load_pipeline("iscene_3dfront_15k").layouts.split


def test_rooms_without_assets_name_the_command_that_makes_theirs(rooms, tmp_path, capsys):
    assert datagen(tmp_path, "layouts", "--source", "front3d", "--source-path", rooms) == 2
    wanted = f"datagen assets --source front3d --source-path {rooms} --root {tmp_path}"
    assert wanted in capsys.readouterr().err
