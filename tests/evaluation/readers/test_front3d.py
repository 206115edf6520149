"""MIDI's 3D-FRONT as truth, in its published layout; pickles are never run."""

import json
import os

import numpy as np
import pytest

from datagen.errors import DatasetError, RowError
from datagen.evaluation.points import sample_surface
from datagen.evaluation.readers import TRUE
from datagen.evaluation.readers.front3d import read_surface, surfels
from tests.evaluation.readers.files import box, sizes, write

ROOM = "house-1/Bedroom-12"


def write_split(root, names):
    (root / "midi_room_ids.json").write_text(json.dumps([ROOM]))
    (root / "midi_furniture_ids.json").write_text(json.dumps([names]))


def write_surface(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"surface_points": points, "surface_normals": np.zeros_like(points)}
    np.save(path, np.array(content), allow_pickle=True)


def test_room_is_read_in_the_order_of_the_published_list(tmp_path):
    rng = np.random.default_rng(0)
    write_split(tmp_path, ["Chair_b_1", "Bed_a_0"])
    folder = tmp_path / "3D-FRONT-SURFACE" / ROOM
    write_surface(folder / "Bed_a_0.npy", rng.uniform(-0.4, 0.4, (5000, 3)).astype(np.float32))
    write_surface(folder / "Chair_b_1.npy", rng.uniform(-0.1, 0.1, (5000, 3)).astype(np.float32))
    [(scene_id, where)] = TRUE["3dfront"].find(tmp_path).items()
    assert scene_id == "house-1-Bedroom-12"
    assert sizes(TRUE["3dfront"].read(where)) == pytest.approx([0.2, 0.8], abs=0.01)


def test_glb_stands_in_where_there_is_no_surface(tmp_path):
    write_split(tmp_path, ["Bed_a_0"])
    write(tmp_path / "3D-FRONT-SCENE" / ROOM / "Bed_a_0.glb", box(0.5))
    [where] = TRUE["3dfront"].find(tmp_path).values()
    assert sizes(TRUE["3dfront"].read(where)) == [0.5]


def test_samples_of_surfels_are_the_points():
    points = np.random.default_rng(1).uniform(-1, 1, (50, 3))
    samples = sample_surface(surfels(points), 2000, np.random.default_rng(2))
    distances = np.linalg.norm(samples[:, None] - points, axis=2)
    assert distances.min(axis=1).max() < 2e-5
    assert len(np.unique(distances.argmin(axis=1))) == 50


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("content", [{"surface_points": Attack()}, Attack()])
def test_pickle_that_calls_a_function_is_refused_and_not_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "a.npy", np.array(content, dtype=object), allow_pickle=True)
    with pytest.raises(RowError, match=r"a\.npy: refused \(it calls .*mkdir\)"):
        read_surface(tmp_path / "a.npy")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00\x04\x00{'a'"])
def test_file_that_is_no_array_is_refused(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(RowError, match=r"a\.npy: refused"):
        read_surface(tmp_path / "a.npy")


def test_missing_lists_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"midi_room_ids\.json"):
        TRUE["3dfront"].find(tmp_path)
