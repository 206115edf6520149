"""Protects the cameras of a scene: they look at its centre and see all of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.core.cameras import camera_position, project
from datagen.core.seeding import rng_for
from datagen.errors import ConfigError
from datagen.views.cameras import bounding_sphere, scene_views


def random_scene(seed):
    rng = rng_for(seed, "scene")
    return rng.normal(size=(50, 3)) * rng.uniform(0.1, 5, 3) + rng.uniform(-10, 10, 3)


@given(
    seed=st.integers(0, 1000),
    fov_deg=st.floats(15, 90),
    size=st.sampled_from([(256, 256), (320, 200), (120, 300)]),
)
def test_every_point_of_the_scene_is_in_frame(seed, fov_deg, size):
    points = random_scene(seed)
    center, radius = bounding_sphere(points)

    views = scene_views(
        center, radius, 12, fov_rad=np.radians(fov_deg), width=size[0], height=size[1]
    )

    for world_to_camera, intrinsics in views:
        u, v, depth_z = project(points, world_to_camera, intrinsics).T
        assert depth_z.min() > 0
        assert u.min() >= 0 and u.max() <= size[0]
        assert v.min() >= 0 and v.max() <= size[1]


@pytest.mark.parametrize("size", [(256, 256), (320, 200), (120, 300)])
def test_bounding_sphere_touches_the_shorter_sides(size):
    sphere = rng_for(0, "sphere").normal(size=(200_000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    views = scene_views(np.zeros(3), 1.0, 3, fov_rad=0.7, width=size[0], height=size[1])

    for world_to_camera, intrinsics in views:
        uv = project(sphere, world_to_camera, intrinsics)[:, :2]
        margin = np.minimum(uv.min(axis=0), np.array(size) - uv.max(axis=0))
        assert margin.min() == pytest.approx(0, abs=0.05)


def test_scene_centre_projects_to_the_image_centre_from_every_view():
    center = np.array([3.0, -2.0, 0.5])
    views = scene_views(center, 2.0, 20, fov_rad=0.7, width=64, height=48)

    uv = [project(center[None], *view)[0, :2] for view in views]

    np.testing.assert_allclose(uv, np.tile([32, 24], (20, 1)), atol=1e-9)


def test_elevation_band_holds_every_camera_and_equal_areas_equal_numbers():
    band = (np.radians(5), np.radians(60))
    views = scene_views(
        np.zeros(3), 1.0, 120, fov_rad=0.7, width=64, height=64, elevation_range_rad=band
    )
    positions = np.array([camera_position(world_to_camera) for world_to_camera, _ in views])

    heights = positions[:, 2] / np.linalg.norm(positions, axis=1)

    counts, _ = np.histogram(heights, bins=np.linspace(*np.sin(band), 7))
    assert counts.sum() == 120
    np.testing.assert_allclose(counts, 20, atol=1)


def test_elevation_range_in_the_wrong_order_is_a_config_error():
    with pytest.raises(ConfigError, match="lowest < highest"):
        scene_views(
            np.zeros(3), 1.0, 4, fov_rad=0.7, width=8, height=8, elevation_range_rad=(1.0, 0.5)
        )


def test_bounding_sphere_holds_every_point_and_is_centred_on_the_box():
    points = random_scene(3)

    center, radius = bounding_sphere(points)

    assert np.linalg.norm(points - center, axis=1).max() == pytest.approx(radius)
    np.testing.assert_allclose(center, (points.min(axis=0) + points.max(axis=0)) / 2)
