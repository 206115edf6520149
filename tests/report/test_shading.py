"""Shaded meshes are where the camera projects them; nearer ones hide others."""

import numpy as np
import pytest
import trimesh

from datagen.core.cameras import intrinsics_from_fov, look_at, project
from datagen.report.shading import portrait, shade


def triangles_of(mesh: trimesh.Trimesh) -> np.ndarray:
    return np.asarray(mesh.triangles, np.float64)


@pytest.mark.parametrize("position", [(0.0, 0.0, 0.0), (0.4, 0.2, -0.3), (-0.3, 0.5, 0.4)])
def test_small_ball_appears_where_project_says(position):
    ball = trimesh.creation.icosphere(2, radius=0.05)
    ball.apply_translation(position)
    world_to_camera = look_at(np.array([1.0, -3.0, 1.5]), np.zeros(3))
    intrinsics = intrinsics_from_fov(0.7, 120, 80)
    color = np.tile([200.0, 100, 50], (len(ball.faces), 1))
    shaded = shade(triangles_of(ball), color, world_to_camera, intrinsics, (120, 80))
    assert shaded.shape == (80, 120, 4)
    weights = shaded[..., 3].astype(float)
    rows, columns = np.indices(weights.shape) + 0.5
    center = np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()
    expected = project(np.array([position]), world_to_camera, intrinsics)[0, :2]
    np.testing.assert_allclose(center, expected, atol=0.3)


def test_nearer_triangle_is_seen_and_has_its_own_colour():
    near = np.array([[[-1.0, -1, -1], [1, -1, -1], [0, -1, 2]]])
    far = near + np.array([0, 2.0, 0])
    colors = np.array([[255.0, 0, 0], [0, 0, 255]])
    shaded = shade(
        np.concatenate([near, far]),
        colors,
        look_at(np.array([0.0, -6, 0]), np.zeros(3)),
        intrinsics_from_fov(0.7, 32, 32),
        (32, 32),
    )
    red, green, blue, alpha = shaded[16, 16]
    assert (red > 100, green, blue, alpha) == (True, 0, 0, 255)


def test_reversed_winding_changes_nothing():
    cube = triangles_of(trimesh.creation.box())
    back = cube[:, ::-1]
    first, second = (portrait(t, (200, 100, 50), 48) for t in (cube, back))
    assert np.abs(first.astype(int) - second).max() <= 1


def test_portrait_fills_the_image_and_touches_no_border():
    shaded = portrait(triangles_of(trimesh.creation.box((3.0, 1.0, 2.0))), (200, 100, 50), 64)
    seen = shaded[..., 3] > 0
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) > 40
    assert not (seen[0].any() or seen[-1].any() or seen[:, 0].any() or seen[:, -1].any())


def test_three_visible_sides_of_a_box_have_three_shades():
    shaded = portrait(triangles_of(trimesh.creation.box()), (200, 100, 50), 96)
    values, counts = np.unique(shaded[shaded[..., 3] == 255][:, 0], return_counts=True)
    assert (counts > 200).sum() == 3, (values, counts)
