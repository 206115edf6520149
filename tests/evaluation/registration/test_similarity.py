"""Similarities: fitted, projected and composed against known rotations and scales."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from datagen.core.frames import transform_points
from datagen.evaluation.registration.similarity import (
    about,
    axis_rotations,
    evenly_spaced_rotations,
    fit_similarity,
    own_box_to_unit,
    project_rotation,
    project_similarity,
    range_to_unit,
    scale_of,
    similarity,
)


def random_similarity(seed: int, scale: float):
    rng = np.random.default_rng(seed)
    return similarity(scale, Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 10))
def test_fitted_similarity_is_the_one_that_moved_the_points(seed, scale):
    true = random_similarity(seed, scale)
    points = np.random.default_rng(seed).normal(size=(20, 3))
    fitted = fit_similarity(points, transform_points(true, points))
    np.testing.assert_allclose(fitted, true, atol=1e-9 * scale)


def test_fit_of_mirrored_points_is_a_rotation_all_the_same():
    points = np.random.default_rng(0).normal(size=(50, 3))
    fitted = fit_similarity(points, points * [-1, 1, 1], with_scale=False)
    assert np.linalg.det(fitted[:3, :3]) == pytest.approx(1.0)


def test_projection_of_a_rotation_is_itself_and_mirrors_only_if_allowed():
    rotation = Rotation.random(random_state=3).as_matrix()
    np.testing.assert_allclose(project_rotation(rotation), rotation, atol=1e-12)
    mirror = np.diag([1.0, 1.0, -1.0])
    assert np.linalg.det(project_rotation(mirror)) == pytest.approx(1.0)
    np.testing.assert_allclose(project_rotation(mirror, allow_reflection=True), mirror)


def test_projected_similarity_keeps_volume_and_translation_and_loses_shear():
    sheared = np.eye(4)
    sheared[0, 1], sheared[:3, 3] = 0.1, (1, 2, 3)
    projected = project_similarity(sheared)
    linear = projected[:3, :3] / scale_of(projected)
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-12)
    assert scale_of(projected) == pytest.approx(1.0)
    np.testing.assert_allclose(projected[:3, 3], (1, 2, 3))


def test_turn_about_a_pivot_moves_the_pivot_where_it_should():
    turn = about(axis_rotations("y", 4)[1], np.array([1.0, 2, 3]), np.array([4.0, 5, 6]))
    np.testing.assert_allclose(transform_points(turn, np.array([[1, 2, 3.0]])), [[4, 5, 6]])


@pytest.mark.parametrize(("axis", "fixed"), [("x", 0), ("y", 1), ("z", 2)])
def test_axis_rotations_leave_their_axis_alone_and_start_with_none(axis, fixed):
    rotations = axis_rotations(axis, 8)
    np.testing.assert_allclose(rotations[0], np.eye(3))
    np.testing.assert_allclose(
        rotations[:, :, fixed], np.tile(np.eye(3)[fixed], (8, 1)), atol=1e-15
    )


def test_evenly_spaced_rotations_leave_no_rotation_farther_than_their_spacing():
    placed = Rotation.from_matrix(evenly_spaced_rotations(200))
    anywhere = Rotation.random(500, random_state=0)
    nearest = [min((turn * placed.inv()).magnitude()) for turn in anywhere]
    # 200 balls of this radius would have to overlap 2.4 times to cover SO(3); a random choice
    # leaves gaps above 60°.
    assert np.degrees(max(nearest)) < 50
    np.testing.assert_allclose(evenly_spaced_rotations(200)[0], np.eye(3), atol=1e-12)


def test_declared_range_becomes_minus_one_to_one():
    corners = np.array([[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5], [0, 0, 0]])
    moved = transform_points(range_to_unit(-0.5, 0.5), corners)
    np.testing.assert_allclose(moved, 2 * corners)
    np.testing.assert_allclose(
        transform_points(range_to_unit(0, 4), np.array([[0, 4, 2.0]])), [[-1, 1, 0]]
    )


def test_own_box_keeps_proportions_unless_asked_axis_by_axis():
    points = np.array([[0, 0, 5.0], [4, 2, 5.0]])
    np.testing.assert_allclose(
        transform_points(own_box_to_unit(points), points), [[-1, -0.5, 0], [1, 0.5, 0]]
    )
    np.testing.assert_allclose(
        transform_points(own_box_to_unit(points, per_axis=True), points), [[-1, -1, 0], [1, 1, 0]]
    )
