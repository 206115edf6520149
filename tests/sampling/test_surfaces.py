"""Surfaces lie at their voxels, and a scene's GLB is read back as it was written."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from datagen.errors import DatasetError
from datagen.sampling.surfaces import (
    read_scene_glb,
    surface_from_logits,
    surface_from_occupancy,
    write_instance_glbs,
    write_scene_glb,
)
from datagen.voxels.drawing import instance_color


def ball(center: tuple[float, float, float], radius: float, resolution: int = 32) -> np.ndarray:
    """Return logits (R, R, R): signed distance to a sphere, in voxels, positive inside."""
    axis = (np.arange(resolution) + 0.5) / resolution - 0.5
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    offset = np.sqrt((x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2)
    return (radius - offset) * resolution


def glb_json(path: Path) -> dict:
    """Return the JSON of a GLB, read by its specification without a library."""
    data = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack("<I4s", data[12:20])
    assert kind == b"JSON"
    return json.loads(data[20 : 20 + size])


def test_surface_of_ball_lies_at_its_radius_about_its_centre():
    center, radius = np.array([0.1, -0.05, 0.2]), 0.22
    vertices, faces = surface_from_logits(ball(tuple(center), radius))
    distance = np.linalg.norm(vertices - center, axis=1)
    # Linear interpolation of a distance: a hundredth of a voxel; smoothing shrinks a little more.
    np.testing.assert_allclose(distance, radius, atol=0.15 / 32)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)  # outwards, too


def test_surface_of_one_voxel_stands_in_that_voxel():
    grid = np.zeros((64, 64, 64), bool)
    grid[10, 20, 30] = True
    vertices, _ = surface_from_occupancy(grid, smoothing_steps=0)
    center = (np.array([10, 20, 30]) + 0.5) / 64 - 0.5
    np.testing.assert_allclose(vertices.mean(axis=0), center, atol=1e-6)
    np.testing.assert_allclose(np.abs(vertices - center).max(axis=0), 0.5 / 64, atol=1e-6)


def test_surface_at_the_border_of_the_cube_closes_on_the_border():
    vertices, faces = surface_from_occupancy(np.ones((8, 8, 8), bool), smoothing_steps=0)
    assert trimesh.Trimesh(vertices, faces, process=False).is_watertight
    np.testing.assert_allclose(
        [vertices.min(axis=0), vertices.max(axis=0)], [[-0.5] * 3, [0.5] * 3]
    )


@given(arrays(np.float32, (5, 5, 5), elements=st.floats(-30, 30, width=32)))
@settings(max_examples=40, deadline=None)
def test_surface_of_any_logits_stays_inside_the_cube_and_is_none_only_if_empty(logits):
    surface = surface_from_logits(logits)
    assert (surface is None) == (not (logits > 0).any())
    if surface is not None:
        assert np.abs(surface[0]).max() <= 0.5
        assert np.isfinite(surface[0]).all()


def test_smoothing_takes_off_stairs_and_keeps_the_volume():
    occupied = ball((0.0, 0.0, 0.0), 0.35) > 0
    rough = trimesh.Trimesh(*surface_from_occupancy(occupied, smoothing_steps=0), process=False)
    smooth = trimesh.Trimesh(*surface_from_occupancy(occupied), process=False)
    assert smooth.volume == pytest.approx(rough.volume, rel=0.02)
    roughness = [np.linalg.norm(mesh.vertices, axis=1).std() for mesh in (rough, smooth)]
    assert roughness[1] < 0.7 * roughness[0]


def test_scene_glb_has_a_node_an_instance_named_by_placement(tmp_path):
    mesh = surface_from_occupancy(np.ones((4, 4, 4), bool))
    left_out = write_scene_glb(tmp_path / "scene.glb", {0: mesh, 3: mesh, 11: mesh, 5: None})
    content = glb_json(tmp_path / "scene.glb")
    names = [node["name"] for node in content["nodes"] if "mesh" in node]
    assert sorted(names) == ["instance_00", "instance_03", "instance_11"]
    assert left_out == [5]
    factors = {
        m["name"]: m["pbrMetallicRoughness"]["baseColorFactor"] for m in content["materials"]
    }
    np.testing.assert_allclose(
        factors["instance_03"][:3], np.array(instance_color(3)) / 255, atol=1e-6
    )


def test_scene_glb_is_y_up(tmp_path):
    # A triangle that reaches +z (up) and −y (towards the camera).
    vertices = np.array([[0.0, 0, 0.4], [0.1, -0.3, 0], [0, 0, 0]], np.float32)
    write_scene_glb(tmp_path / "scene.glb", {0: (vertices, np.array([[0, 1, 2]]))})
    content = glb_json(tmp_path / "scene.glb")
    positions = content["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    accessor = content["accessors"][positions]
    np.testing.assert_allclose(accessor["max"], [0.1, 0.4, 0.3], atol=1e-7)
    np.testing.assert_allclose(accessor["min"], [0.0, 0.0, 0.0], atol=1e-7)


def test_scene_glb_read_back_is_what_was_written(tmp_path):
    instances = {
        1: surface_from_logits(ball((0.1, 0.2, -0.1), 0.15)),
        0: surface_from_logits(ball((-0.2, 0.0, 0.3), 0.1)),
    }
    write_scene_glb(tmp_path / "scene.glb", instances)
    back = read_scene_glb(tmp_path / "scene.glb")
    assert list(back) == [0, 1]
    for index, (vertices, faces) in back.items():
        np.testing.assert_allclose(vertices, instances[index][0], atol=1e-6)
        np.testing.assert_array_equal(faces, instances[index][1])


def test_scene_glb_without_instances_is_valid_and_reads_back_empty(tmp_path):
    assert write_scene_glb(tmp_path / "scene.glb", {0: None, 1: None}) == [0, 1]
    assert glb_json(tmp_path / "scene.glb")["asset"]["version"] == "2.0"
    assert read_scene_glb(tmp_path / "scene.glb") == {}


def test_instance_glbs_keep_their_place_in_the_scene(tmp_path):
    mesh = surface_from_logits(ball((0.2, -0.1, 0.15), 0.1))
    paths = write_instance_glbs(tmp_path, {2: mesh, 3: None})
    assert [path.name for path in paths] == ["instance_02.glb"]
    np.testing.assert_allclose(read_scene_glb(paths[0])[2][0], mesh[0], atol=1e-6)


def test_missing_damaged_and_foreign_glbs_are_refused_with_the_reason(tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        read_scene_glb(tmp_path / "scene.glb")
    (tmp_path / "text.glb").write_bytes(b"this is no GLB, but a text that is long enough")
    with pytest.raises(DatasetError, match="not a readable GLB"):
        read_scene_glb(tmp_path / "text.glb")
    trimesh.Scene({"chair": trimesh.creation.box()}).export(tmp_path / "chair.glb")
    with pytest.raises(DatasetError, match="instance_XX"):
        read_scene_glb(tmp_path / "chair.glb")
