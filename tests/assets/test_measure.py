"""Protects the measured columns of assets: known solids have known values and faults."""

import numpy as np
import pytest
import shapely
import trimesh

from datagen.assets.measure import REASONS, find_fault, measure


def write(path, vertices, faces):
    np.savez(path, vertices=np.asarray(vertices, np.float32), faces=np.asarray(faces, np.int32))
    return path


def slab(thickness):
    box = trimesh.creation.box((1, 1, thickness))
    return box.vertices, box.faces


def test_bodies_are_pieces_that_share_no_vertex(tmp_path):
    box = trimesh.creation.box((1, 1, 1))
    two = trimesh.util.concatenate([box, box.copy().apply_translation([3, 0, 0])])
    assert measure(write(tmp_path / "one.npz", box.vertices, box.faces))["num_bodies"] == 1
    assert measure(write(tmp_path / "two.npz", two.vertices, two.faces))["num_bodies"] == 2


def test_box_has_its_extent_corner_radius_and_top_as_support(tmp_path):
    box = trimesh.creation.box((0.6, 0.8, 0.5)).apply_translation([0, 0, 0.25])
    measures = measure(write(tmp_path / "box.npz", box.vertices, box.faces))
    assert measures["extent_m"] == pytest.approx([0.6, 0.8, 0.5])
    assert measures["radius_m"] == pytest.approx(0.5)
    assert measures["watertight"] is True
    assert measures["support"]["height_m"] == pytest.approx(0.5)
    polygon = shapely.from_wkb(measures["support"]["polygon_wkb"])
    assert polygon.area == pytest.approx(0.48, rel=1e-3)


def test_radius_is_taken_from_the_axis_and_not_from_the_box(tmp_path):
    cylinder = trimesh.creation.cylinder(0.3, 1.0, sections=90).apply_translation([0, 0, 0.5])
    measures = measure(write(tmp_path / "c.npz", cylinder.vertices, cylinder.faces))
    assert measures["radius_m"] == pytest.approx(0.3, abs=1e-6)


def test_split_seam_is_closed_and_a_missing_face_is_not(tmp_path):
    box = trimesh.creation.box((1, 1, 1))
    split = box.vertices[box.faces].reshape(-1, 3)
    faces = np.arange(36).reshape(-1, 3)
    assert measure(write(tmp_path / "split.npz", split, faces))["watertight"] is True
    assert measure(write(tmp_path / "open.npz", split, faces[1:]))["watertight"] is False


@pytest.mark.parametrize(
    ("vertices", "faces", "reason"),
    [
        (np.eye(3), np.zeros((0, 3)), "no_triangles"),
        ([[0, 0, 0], [1, 0, 0], [0, np.nan, 1]], [[0, 1, 2]], "not_finite"),
        ([[0, 0, 0], [1, 0, 0], [0, np.inf, 1]], [[0, 1, 2]], "not_finite"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], "flat"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 1]], [[0, 1, 2]], "flat"),
        (*slab(0.0009), "flat"),
        (*slab(0.0011), None),
    ],
    ids=["empty", "nan", "inf", "sheet", "sheet askew", "paper", "card"],
)
def test_fault_is_named(tmp_path, vertices, faces, reason):
    path = write(tmp_path / "it.npz", vertices, faces)
    assert measure(path)["reason"] == reason
    assert reason in (None, *REASONS)
    assert find_fault(np.float32(vertices), np.int32(faces)) == reason
