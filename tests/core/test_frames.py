"""Protects the conversions between frames and the pinhole cameras: known points, round trips."""

import numpy as np
import pytest

from datagen.core import cameras, frames

SIZE = (640, 480)
INTRINSICS = cameras.intrinsics_from_fov(np.radians(40), *SIZE)


def test_z_up_point_becomes_the_known_y_up_point_and_returns():
    assert np.allclose(frames.transform_points(frames.Z_UP_TO_Y_UP, [[1, 2, 3]]), [[1, 3, -2]])
    assert np.allclose(frames.Y_UP_TO_Z_UP @ frames.Z_UP_TO_Y_UP, np.eye(4))


def test_placement_matrix_scales_then_rotates_then_moves_a_vertex():
    matrix = frames.placement_matrix(np.array([1.0, 2.0, 3.0]), np.pi / 2, 2.0)
    assert np.allclose(frames.transform_points(matrix, [[1, 0, 5]]), [[1, 4, 13]])


def test_blender_camera_returns_to_the_camera_it_was_made_from():
    world_to_camera = cameras.look_at(np.array([3.0, -2.0, 1.0]), np.zeros(3))
    back = np.linalg.inv(frames.camera_to_world_gl(world_to_camera) @ frames.GL_TO_CV)
    assert np.allclose(back, world_to_camera)


def test_blender_camera_looks_along_minus_z_with_y_up():
    gl = frames.camera_to_world_gl(cameras.look_at(np.array([0.0, -5.0, 0.0]), np.zeros(3)))
    assert np.allclose(gl[:3, 0], [1, 0, 0])
    assert np.allclose(gl[:3, 1], [0, 0, 1])
    assert np.allclose(-gl[:3, 2], [0, 1, 0])


@pytest.mark.parametrize("eye", [(4, 1, 2), (-3, 0.5, -1), (0, 0, 5), (0, 0, -5)])
def test_target_is_seen_at_the_image_centre_and_the_rotation_is_proper(eye):
    target = np.zeros(3) if eye[0] == 0 else np.array([0.3, 0.2, 0.1])
    world_to_camera = cameras.look_at(np.array(eye, float), target)
    seen = cameras.project(target[None], world_to_camera, INTRINSICS)[0]
    assert np.allclose(seen[:2], [320, 240])
    assert seen[2] == pytest.approx(np.linalg.norm(np.array(eye) - target))
    assert np.linalg.det(world_to_camera[:3, :3]) == pytest.approx(1)
    assert world_to_camera[0, 2] == pytest.approx(0), "the right axis is level: no roll"
    assert np.allclose(cameras.camera_position(world_to_camera), eye)


def test_camera_straight_above_has_world_x_to_its_right():
    assert np.allclose(cameras.look_at(np.array([0, 0, 3.0]), np.zeros(3))[0, :3], [1, 0, 0])


def test_higher_points_are_higher_in_the_image():
    world_to_camera = cameras.look_at(np.array([0.0, -4.0, 0.0]), np.zeros(3))
    left, up = cameras.project(np.array([[-1.0, 0, 0], [0, 0, 1.0]]), world_to_camera, INTRINSICS)
    assert left[0] < 320 and up[1] < 240


def test_point_on_a_pixel_ray_projects_onto_that_pixel():
    world_to_camera = cameras.look_at(np.array([2.0, -3.0, 1.5]), np.zeros(3))
    columns, rows = np.array([0, 100, 639]), np.array([0, 300, 479])
    origin, directions = cameras.pixel_rays(world_to_camera, INTRINSICS, columns, rows)
    seen = cameras.project(origin + 2.5 * directions, world_to_camera, INTRINSICS)
    assert np.allclose(seen[:, 0], columns + 0.5) and np.allclose(seen[:, 1], rows + 0.5)


def test_bounding_sphere_just_fits_the_frame():
    fov = np.radians(40)
    distance = cameras.distance_to_frame(1.0, fov)
    intrinsics = cameras.intrinsics_from_fov(fov, 100, 100)
    world_to_camera = cameras.look_at(np.array([0.0, -distance, 0.0]), np.zeros(3))
    angle = np.linspace(0, 2 * np.pi, 3600)
    circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    u = cameras.project(circle, world_to_camera, intrinsics)[:, 0]
    assert u.min() == pytest.approx(0, abs=1e-3) and u.max() == pytest.approx(100, abs=1e-3)
