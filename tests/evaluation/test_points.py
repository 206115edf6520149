"""Points sampled on a surface lie on it, evenly, and depend on the seed alone."""

import numpy as np
import pytest
import trimesh

from datagen.core.seeding import rng_for
from datagen.errors import RowError
from datagen.evaluation.points import sample_surface

SQUARE = (
    np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]),
    np.array([[0, 1, 2], [0, 2, 3]]),
)


def test_points_of_square_lie_on_it_evenly():
    points = sample_surface(SQUARE, 20_000, rng_for(0, "square"))
    assert np.all(points[:, 2] == 0)
    cells, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=5, range=[[0, 1], [0, 1]])
    assert cells.sum() == 20_000  # none outside
    # 25 cells of mean 800: chi-squared with 24 degrees of freedom is above 60 once in 10^4.
    assert ((cells - 800) ** 2 / 800).sum() < 60


def test_points_fall_on_faces_in_proportion_to_their_area():
    vertices = np.array([[0.0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 5], [1, 0, 5], [0, 2, 5]])
    points = sample_surface((vertices, np.array([[0, 1, 2], [3, 4, 5]])), 40_000, rng_for(1, "two"))
    assert abs(np.mean(points[:, 2] == 0) - 0.75) < 0.01  # areas 3 and 1


def test_points_of_sphere_are_on_its_triangles():
    sphere = trimesh.creation.icosphere(2)
    points = sample_surface((sphere.vertices, sphere.faces), 500, rng_for(0, "sphere"))
    _, distance, _ = trimesh.proximity.closest_point_naive(sphere, points)
    assert distance.max() < 1e-9


def test_points_are_the_same_for_the_same_seed_and_others_for_another():
    first, again, other = (sample_surface(SQUARE, 64, rng_for(seed, "a")) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_faces_without_area_get_no_points():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9]])
    faces = np.array([[3, 3, 3], [0, 1, 2], [3, 3, 3]])
    assert sample_surface((vertices, faces), 1000, rng_for(0, "x")).max() <= 1.0


@pytest.mark.parametrize(
    ("vertices", "faces", "words"),
    [
        (np.zeros((3, 3)), np.array([[0, 1, 2]]), "area 0.0"),
        (np.eye(3), np.zeros((0, 3), int), "0 faces"),
        (np.eye(3), np.array([[0, 1, 3]]), "name the vertices 0 to 3"),
        (np.full((3, 3), np.nan), np.array([[0, 1, 2]]), "not finite"),
    ],
)
def test_mesh_without_a_surface_is_refused_in_words(vertices, faces, words):
    with pytest.raises(RowError, match=words):
        sample_surface((vertices, faces), 10, rng_for(0, "bad"))
