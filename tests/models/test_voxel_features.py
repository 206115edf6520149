"""Voxels have the features of the views that show them, in scenes of known colours."""

import numpy as np
import pytest
import torch
import trimesh
from scipy.ndimage import map_coordinates

from datagen.core.cameras import intrinsics_from_fov, look_at, project
from datagen.models.voxel_features import (
    ColorFeatures,
    FeatureView,
    average_features,
    on_black,
    read_map,
)
from datagen.views.visibility import RaycastingScene
from datagen.views.voxel_visibility import VoxelTable, surface_points
from datagen.voxels import view_centric_transform, voxelize_views

SIZE = 384
INTRINSICS = intrinsics_from_fov(0.8, SIZE, SIZE)
COLORS = np.array([[0, 0, 0, 0], [255, 0, 0, 255], [0, 255, 0, 255]], np.uint8)
"""Background, then the first box red and the second one green."""


def box(low, high):
    mesh = trimesh.creation.box(bounds=[low, high])
    return mesh.vertices, mesh.faces


BOXES = [box((-0.9, -0.3, 0.0), (-0.3, 0.3, 0.6)), box((0.25, -0.25, 0.0), (0.95, 0.25, 0.4))]
TOUCHING = [box((-0.7, -0.3, 0.0), (0.013, 0.3, 0.5)), box((0.013, -0.3, 0.0), (0.7, 0.3, 0.5))]


def view_from(azimuth, elevation, boxes=BOXES):
    horizontal = [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation)]
    camera = look_at(4 * np.array([*horizontal, np.sin(elevation)]), np.array([0, 0, 0.25]))
    seen = RaycastingScene(boxes).cast_view(camera, INTRINSICS, SIZE, SIZE)
    surface = surface_points(seen.depth_z, seen.instance_map, camera, INTRINSICS)
    return FeatureView(ColorFeatures()(COLORS[seen.instance_map]), surface)


def table_of(boxes, view):
    vertices = np.concatenate([mesh[0] for mesh in boxes])
    frame = view_centric_transform(view.surface.world_to_camera, vertices)
    return VoxelTable.of(voxelize_views(boxes, frame[None])[0], frame)


@pytest.fixture(scope="module")
def views():
    """Views from two sides and above; in none of them does one box hide the other."""
    return [view_from(azimuth, 0.6) for azimuth in (1.2, 1.6, 2.0, 4.3, 4.7, 5.1)]


@pytest.fixture(scope="module")
def voxels(views):
    return table_of(BOXES, views[0])


def side_m(voxels):
    return 1 / 64 / np.linalg.norm(voxels.world_to_canonical[:3, 0])


def box_index(voxels):
    return (voxels.centres_m[:, 0] > 0).astype(int)


def test_visible_voxels_have_their_boxs_own_colour(views, voxels):
    features, seen = average_features(views, voxels)
    visible = seen > 0
    own = box_index(voxels)[:, None] == np.arange(2)
    colors = features.numpy()[:, :2]
    # At an outline a cell is mixed with the black background, and with no other colour.
    assert (colors[visible][~own[visible]] == 0).all()
    assert (colors[visible][own[visible]] > 0.25).all()
    assert np.mean(colors[visible][own[visible]] > 0.999) > 0.8
    assert (features.numpy()[:, 2] == 0).all()


def test_undersides_are_hidden_and_tops_are_seen_from_above(views, voxels):
    _, seen = average_features(views, voxels)
    side = side_m(voxels)
    for index, (vertices, _) in enumerate(BOXES):
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        off_centre = np.abs(voxels.centres_m - (low + high) / 2)
        inner = (off_centre < (high - low) / 2 - 2 * side)[:, :2].all(axis=1)
        inner &= box_index(voxels) == index
        assert (seen[inner & (voxels.centres_m[:, 2] < low[2] + side)] == 0).all()
        tops = inner & (voxels.centres_m[:, 2] > high[2] - side)
        assert tops.sum() > 100
        assert (seen[tops] > 0).all() and seen[tops].mean() > 0.9 * len(views)


def test_hidden_voxels_have_the_mean_of_all_views_wherever_they_fall(views, voxels):
    features, seen = average_features(views, voxels)
    hidden = seen == 0
    expected = np.zeros((hidden.sum(), 2))
    for view in views:
        camera = (view.surface.world_to_camera, view.surface.intrinsics)
        u, v, _ = project(voxels.centres_m[hidden], *camera).T
        for channel in range(2):
            plane = view.features[channel].float().numpy()
            place = np.stack([v - 0.5, u - 0.5])
            expected[:, channel] += map_coordinates(plane, place, order=1, mode="nearest")
    assert hidden.sum() > 500
    np.testing.assert_allclose(features.numpy()[hidden, :2], expected / len(views), atol=1e-3)


def test_box_behind_another_is_hidden():
    # Along x, 0.25 m above the ground: the second box hides the lower part of the first.
    view = view_from(0.0, np.arcsin(0.25 / 4))
    voxels = table_of(BOXES, view)
    _, seen = average_features([view], voxels)
    x, y, z = voxels.centres_m.T
    front = (voxels.slots == 1) & (np.abs(x + 0.3) < side_m(voxels)) & (np.abs(y) < 0.2)
    assert (seen[front & (z < 0.38)] == 0).all() and (front & (z < 0.38)).sum() > 50
    assert (seen[front & (z > 0.5) & (z < 0.56)] == 1).all()
    ahead = (voxels.slots == 2) & (x > 0.95 - side_m(voxels)) & (np.abs(y) < 0.2) & (z > 0.05)
    assert (seen[ahead & (z < 0.35)] == 1).all()


def test_voxel_that_two_boxes_share_has_for_each_its_own_colour():
    views = [view_from(angle, 0.6, TOUCHING) for angle in (1.2, 1.6, 2.0)]
    voxels = table_of(TOUCHING, views[0])
    features, seen = average_features(views, voxels)
    cells = [voxels.coords[(voxels.slots == slot) & (seen > 0)] for slot in (1, 2)]
    shared = set(map(tuple, cells[0])) & set(map(tuple, cells[1]))
    assert len(shared) > 10
    is_shared = np.array([tuple(cell) in shared for cell in voxels.coords]) & (seen > 0)
    red, green, _ = features.numpy().T
    assert (red > green)[is_shared & (voxels.slots == 1)].all()
    assert (green > red)[is_shared & (voxels.slots == 2)].all()


def test_voxel_behind_the_camera_or_outside_the_image_has_no_features(views):
    to_world = np.linalg.inv(views[0].surface.world_to_camera)
    behind, beside = to_world @ [0, 0, -1, 1], to_world @ [9, 0, 1, 1]
    for point in (behind, beside):
        frame = np.eye(4)
        frame[:3, 3] = -point[:3]
        grid = np.zeros((3, 64, 64, 64), bool)
        grid[0, 32, 32, 32] = True
        features, seen = average_features(views[:1], VoxelTable.of(grid, frame))
        assert seen.tolist() == [0] and (features == 0).all()


def test_map_is_interpolated_between_its_cells():
    plane = torch.arange(12.0).reshape(1, 3, 4)
    uv = torch.tensor([[0.5 / 4, 0.5 / 3], [1.0 / 4, 0.5 / 3], [1.5 / 4, 2.0 / 3], [1.0, 1.0]])
    assert read_map(plane, uv)[:, 0].tolist() == pytest.approx([0.0, 0.5, 7.0, 11.0], abs=1e-5)


def test_transparent_pixels_become_black():
    rgba = np.array([[[255, 0, 0, 0], [255, 102, 0, 255]]], np.uint8)
    np.testing.assert_allclose(on_black(rgba), [[[0, 0, 0], [1, 0.4, 0]]], atol=1e-6)
