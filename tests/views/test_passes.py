"""Protects the PNG columns of views: what is written is read back within its precision."""

import io

import numpy as np
import trimesh
from PIL import Image

from datagen.core.cameras import intrinsics_from_fov, look_at
from datagen.views.passes import (
    NO_PASSES,
    depth_png,
    normal_png,
    pass_columns,
    read_depth,
    read_mask,
    read_normal,
)
from datagen.views.visibility import RaycastingScene


def view_of_two_boxes():
    """The second box stands behind the first, seen along +y."""
    boxes = [trimesh.creation.box((1, 1, 1)), trimesh.creation.box((2, 1, 0.5))]
    boxes[1].apply_translation((0, 3, 0))
    camera = look_at(np.array([0.0, -5.0, 0.0]), np.zeros(3))
    geometry = RaycastingScene([(box.vertices, box.faces) for box in boxes])
    intrinsics = intrinsics_from_fov(0.7, 64, 48)
    return geometry.cast_view(camera, intrinsics, 64, 48, amodal_masks=True, normals=True)


def test_depth_is_read_back_to_half_a_step_and_background_stays_infinite():
    rng = np.random.default_rng(3)
    depth_z = rng.uniform(2.0, 4.0, (20, 30)).astype(np.float32)
    depth_z[rng.random((20, 30)) < 0.3] = np.inf

    data, unit_m = depth_png(depth_z)
    found = read_depth(data, unit_m)

    assert unit_m * 65535 == np.float32(depth_z[np.isfinite(depth_z)].max())
    np.testing.assert_array_equal(np.isinf(found), np.isinf(depth_z))
    hit = np.isfinite(depth_z)
    assert np.abs(found[hit] - depth_z[hit]).max() <= 0.5 * unit_m + 1e-6  # float32 of 4 m


def test_depth_of_an_empty_view_is_all_background():
    data, unit_m = depth_png(np.full((4, 5), np.inf, np.float32))

    assert np.isinf(read_depth(data, unit_m)).all()


def test_normals_are_read_back_to_half_a_degree_and_background_stays_zero():
    rng = np.random.default_rng(4)
    normal = rng.normal(size=(40, 30, 3))
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    normal[:5] = 0

    found = read_normal(normal_png(normal))

    np.testing.assert_array_equal(found[:5], 0)
    cosine = (found[5:] * normal[5:]).sum(axis=2) / np.linalg.norm(found[5:], axis=2)
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 0.5


def test_passes_of_a_known_scene_have_their_known_values():
    view = view_of_two_boxes()
    columns = pass_columns(view, ("depth", "normal", "amodal"))

    depth_z = read_depth(columns["depth_z"], columns["depth_unit_m"])
    normal = read_normal(columns["normal"])
    front, behind = (read_mask(mask) for mask in columns["amodal_masks"])

    assert abs(depth_z[24, 32] - 4.5) < 1e-4
    # The box's near face looks back at the camera, which looks along its own +z.
    np.testing.assert_allclose(normal[24, 32], (0, 0, -1), atol=1 / 127)
    covered = view.instance_map > 0
    np.testing.assert_array_equal(np.isfinite(depth_z), covered)
    np.testing.assert_array_equal(normal.any(axis=2), covered)
    np.testing.assert_array_equal(front | behind, covered)
    assert [int(front.sum()), int(behind.sum())] == view.amodal_px.tolist()
    assert (front & behind).sum() > 20  # the hidden part is there
    assert behind[view.instance_map == 2].all()


def test_passes_that_were_not_requested_are_none():
    columns = pass_columns(view_of_two_boxes(), ("depth",))

    assert columns.keys() == NO_PASSES.keys()
    assert columns["normal"] is None and columns["amodal_masks"] is None
    assert Image.open(io.BytesIO(columns["depth_z"])).size == (64, 48)
