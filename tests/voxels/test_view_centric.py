"""Protects the view-centric frame at cameras with known answers, and the packed grids."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.core.cameras import look_at
from datagen.core.frames import transform_points, yaw_rotation
from datagen.core.seeding import rng_for
from datagen.errors import ConfigError, DatasetError
from datagen.views.visibility import RaycastingScene
from datagen.voxels import (
    pack_occupancy,
    unpack_occupancy,
    view_centric_transform,
    voxelize_surface,
    voxelize_views,
)

BOX = np.array([[-1.0, -2.0, 0.0], [3.0, 0.0, 1.0]])
"""Two corners of a scene: 4 m along x, 2 m along y, 1 m high; its centre is (1, -1, 0.5)."""
SCALE = (1 - 2e-6) / 4


def test_camera_on_minus_y_only_moves_and_scales():
    to_canonical = view_centric_transform(look_at([1.0, -9.0, 4.0], [1.0, -1.0, 0.5]), BOX)
    expected = np.diag([SCALE, SCALE, SCALE, 1.0])
    expected[:3, 3] = [-SCALE, SCALE, -0.5 * SCALE]
    np.testing.assert_allclose(to_canonical, expected, atol=1e-12)


def test_camera_on_plus_x_rotates_the_world_by_90_degrees():
    to_canonical = view_centric_transform(look_at([9.0, -1.0, 3.0], [1.0, -1.0, 0.5]), BOX)
    # From +X, world +Y is to the right and world -X is away.
    np.testing.assert_allclose(to_canonical[:3, :3] @ [0, 1, 0], [SCALE, 0, 0], atol=1e-12)
    np.testing.assert_allclose(to_canonical[:3, :3] @ [-1, 0, 0], [0, SCALE, 0], atol=1e-12)
    np.testing.assert_allclose(to_canonical[:3, :3] @ [0, 0, 1], [0, 0, SCALE], atol=1e-12)


@pytest.mark.parametrize("height", [5.0, -5.0])
def test_camera_straight_above_or_below_keeps_the_worlds_right(height):
    to_canonical = view_centric_transform(look_at([1.0, -1.0, height], [1.0, -1.0, 0.5]), BOX)
    np.testing.assert_allclose(to_canonical[:3, :3], SCALE * np.eye(3), atol=1e-12)


def test_scene_is_normalised_after_the_rotation():
    # Rotated by 45°, the square's diagonal lies along x: its side is √2 times longer.
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    to_canonical = view_centric_transform(look_at([-5.0, -5.0, 1.0], [0.5, 0.5, 0.0]), square)
    assert np.linalg.norm(to_canonical[:3, 0]) == pytest.approx((1 - 2e-6) / np.sqrt(2), abs=1e-12)
    rotated = transform_points(to_canonical, square)
    np.testing.assert_allclose(np.ptp(rotated, axis=0), [1 - 2e-6, 1 - 2e-6, 0], atol=1e-12)


def test_world_frame_is_the_same_for_every_camera_and_only_moves_and_scales():
    frames = [
        view_centric_transform(look_at(place, [1.0, -1.0, 0.5]), BOX, frame="world")
        for place in ([1.0, -9.0, 4.0], [9.0, -1.0, 3.0])
    ]
    np.testing.assert_array_equal(*frames)
    np.testing.assert_allclose(frames[0][:3, :3], SCALE * np.eye(3), atol=1e-12)


def test_camera_frame_has_right_forward_and_up_of_the_image():
    world_to_camera = look_at([1.0, -5.0, 4.5], [1.0, -1.0, 0.5])  # 45° down
    rotation = view_centric_transform(world_to_camera, BOX, frame="camera")[:3, :3]
    rotation = rotation / np.linalg.norm(rotation[0])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rotation, [[1, 0, 0], [0, half, -half], [0, half, half]], atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["yaw", "camera"]))
def test_any_view_fills_the_box_from_the_minus_y_side(seed, frame):
    rng = rng_for(seed, "view")
    points = rng.uniform(-3, 3, (20, 3))
    world_to_camera = look_at(rng.uniform(-9, 9, 3), points.mean(axis=0))
    to_canonical = view_centric_transform(world_to_camera, points, frame=frame)
    inside = transform_points(to_canonical, points)
    np.testing.assert_allclose(inside.max(axis=0), -inside.min(axis=0), atol=1e-9)
    assert np.abs(inside).max() == pytest.approx(0.5 - 1e-6, abs=1e-9)
    directions = to_canonical[:3, :3] @ world_to_camera[:3, :3].T
    right, forward = directions[:, 0], directions[:, 2]
    assert right[0] > 0
    np.testing.assert_allclose(right[1:], 0, atol=1e-9)
    assert forward[1] > 0
    assert np.linalg.det(to_canonical[:3, :3]) > 0


def test_scene_and_camera_rotated_together_give_the_same_voxels():
    rng = rng_for(3, "turn")
    points, faces = rng.uniform(-1, 1, (30, 3)), rng.integers(0, 30, (20, 3))
    eye = np.array([3.0, 2.0, 2.0])
    rotation = yaw_rotation(0.5 * np.pi)
    grids = [
        voxelize_surface(
            transform_points(
                view_centric_transform(look_at(r @ eye, np.zeros(3)), points @ r.T), points @ r.T
            ),
            faces,
        )
        for r in (np.eye(3), rotation)
    ]
    assert np.count_nonzero(grids[0] != grids[1]) <= 2  # rounding on a border, at most


def test_border_faces_fall_into_the_first_and_last_voxel():
    corners = np.array([[x, y, z] for x in (0.0, 4) for y in (0.0, 4) for z in (0.0, 4)])
    to_canonical = view_centric_transform(look_at([2.0, -9.0, 2.0], [2.0, 2.0, 2.0]), corners)
    bottom = voxelize_surface(transform_points(to_canonical, corners), np.array([[0, 2, 6]]))
    top = voxelize_surface(transform_points(to_canonical, corners), np.array([[1, 3, 7]]))
    assert np.unique(np.nonzero(bottom)[2]).tolist() == [0]
    assert np.unique(np.nonzero(top)[2]).tolist() == [63]


@pytest.mark.parametrize(
    "vertices", [np.zeros((0, 3)), np.ones((4, 3)), np.full((4, 3), np.nan)], ids=str
)
def test_scene_without_extent_is_refused(vertices):
    with pytest.raises(DatasetError, match="span no finite box"):
        view_centric_transform(look_at([0.0, -5.0, 1.0], np.zeros(3)), vertices)


def test_unknown_frame_and_rolled_camera_are_refused():
    camera = look_at([0.0, -5.0, 1.0], np.zeros(3))
    with pytest.raises(ConfigError, match="'sideways'"):
        view_centric_transform(camera, BOX, frame="sideways")
    on_its_side = camera.copy()
    on_its_side[:3, :3] = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    with pytest.raises(ConfigError, match="without roll"):
        view_centric_transform(on_its_side, BOX)


def test_view_holds_the_union_first_then_each_instance_in_the_scenes_frame():
    left = np.array([[0.0, 0, 0], [0.9, 0, 0], [0, 0, 1]])
    right = left + np.array([3.0, 0, 0])
    face = np.array([[0, 1, 2]])
    everything = np.concatenate([left, right])
    to_canonical = view_centric_transform(look_at([2.0, -9.0, 0.5], [2.0, 0.0, 0.5]), everything)
    # 3.9 m are 64 voxels: 0.9 m end in voxel 14, 3 m begin in voxel 49.
    scene, first, second = voxelize_views([(left, face), (right, face)], to_canonical[None])[0]
    np.testing.assert_array_equal(scene, first | second)
    assert np.nonzero(first)[0].max() == 14
    assert np.nonzero(second)[0].min() == 49
    union = voxelize_surface(
        transform_points(to_canonical, everything), np.array([[0, 1, 2], [3, 4, 5]])
    )
    np.testing.assert_array_equal(scene, union)


def ball(center, radius):
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return np.asarray(sphere.vertices) + center, np.asarray(sphere.faces)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([np.float32, np.float64]))
def test_many_views_at_once_equal_one_view_at_a_time(seed, dtype):
    rng = rng_for(seed, "views")
    meshes = [ball(rng.uniform(-1, 1, 3), rng.uniform(0.1, 0.6)) for _ in range(3)]
    meshes = [(vertices.astype(dtype), faces) for vertices, faces in meshes]
    everything = np.concatenate([vertices for vertices, _ in meshes])
    views = np.stack(
        [
            view_centric_transform(look_at(rng.uniform(3, 5, 3), [0.0, 0.0, 0.0]), everything)
            for _ in range(4)
        ]
    )
    together = voxelize_views(meshes, views)
    for grids, matrix in zip(together, views, strict=True):
        np.testing.assert_array_equal(grids, voxelize_views(meshes, matrix[None])[0])
        np.testing.assert_array_equal(grids[0], grids[1:].any(axis=0))
        for grid, (vertices, faces) in zip(grids[1:], meshes, strict=True):
            alone = voxelize_surface(transform_points(matrix, vertices), faces)
            # Moved by another order of sums, a vertex may fall to the other side of a border.
            assert (grid != alone).sum() <= 2


def test_solid_fills_a_closed_surface_and_leaves_an_open_one():
    box = trimesh.creation.box(extents=[0.5, 0.5, 0.5])
    vertices, faces = np.asarray(box.vertices), np.asarray(box.faces)
    without_lid = faces[box.face_normals[:, 2] < 0.5]
    half = np.eye(4)[None]
    half[0, :3, 3] = 0.003  # off the voxels' borders: 0.5 m then touch 33 voxels
    closed = voxelize_views([(vertices, faces)], half, solid=True)
    assert closed[0, 1].sum() == closed[0, 0].sum() == 33**3
    surface = voxelize_views([(vertices, faces)], half)
    assert surface[0, 1].sum() == 33**3 - 31**3
    opened = voxelize_views([(vertices, without_lid)], half, solid=True)
    assert opened[0, 1].sum() == 33**3 - 31**3 - 31**2


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), frame=st.sampled_from(["yaw", "camera"]))
def test_surface_point_of_a_pixel_lies_in_an_occupied_voxel_of_its_instance(seed, frame):
    rng = rng_for(seed, "depth")
    meshes = [ball(rng.uniform(-1, 1, 3), rng.uniform(0.1, 0.6)) for _ in range(3)]
    everything = np.concatenate([vertices for vertices, _ in meshes])
    world_to_camera = look_at(rng.uniform(3, 5, 3), [0.0, 0.0, 0.0])
    intrinsics = np.array([[90.0, 0, 32], [0, 90, 32], [0, 0, 1]])
    to_canonical = view_centric_transform(world_to_camera, everything, frame=frame)
    grids = voxelize_views(meshes, to_canonical[None])[0]
    seen = RaycastingScene(meshes).cast_view(world_to_camera, intrinsics, 64, 64)
    row, column = np.nonzero(seen.instance_map)
    depth_z = seen.depth_z[row, column][:, None]
    assert len(depth_z) > 20
    pixels = np.column_stack([column + 0.5, row + 0.5, np.ones(len(row))])
    in_camera = depth_z * (pixels @ np.linalg.inv(intrinsics).T)
    in_world = transform_points(np.linalg.inv(world_to_camera), in_camera)
    points = transform_points(to_canonical, in_world)
    # Rays are float32: a point within 1e-4 voxels of a border may lie in the neighbour.
    around = 1e-4 / 64 * np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 1, 3)
    index = np.clip(np.floor((points + around + 0.5) * 64).astype(int), 0, 63)
    placement = seen.instance_map[row, column].astype(int)
    assert grids[placement, index[..., 0], index[..., 1], index[..., 2]].any(axis=0).all()
    assert grids[0, index[..., 0], index[..., 1], index[..., 2]].any(axis=0).all()


def test_packed_voxel_is_the_bit_of_its_place_in_c_order():
    grid = np.zeros((64, 64, 64), bool)
    grid[1, 2, 3] = True
    packed = pack_occupancy(grid)
    place = (1 * 64 + 2) * 64 + 3
    assert len(packed) == 64**3 // 8
    assert packed[place // 8] == 1 << (place % 8)
    assert sum(packed) == 1 << (place % 8)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_unpacking_returns_the_packed_grids(seed, count):
    grids = rng_for(seed, "pack").random((count, 8, 8, 8)) < 0.3
    np.testing.assert_array_equal(unpack_occupancy(pack_occupancy(grids), 8), grids)


def test_damaged_occupancy_is_refused():
    with pytest.raises(DatasetError, match="32767 bytes"):
        unpack_occupancy(b"\0" * 32767)
