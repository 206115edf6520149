"""Protects the penetration test of two meshes: boxes and balls with known overlaps."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.core.seeding import rng_for
from datagen.layouts.collision import Surface, penetrates


def surface(mesh, move=(0, 0, 0)):
    return Surface(np.asarray(mesh.vertices) + move, np.asarray(mesh.faces, np.int32))


BOX = trimesh.creation.box((1, 1, 1))
BALL = trimesh.creation.icosphere(4, 0.5)


@pytest.mark.parametrize(
    "overlap_m, deeper", [(-0.1, False), (0.0, False), (8e-4, False), (1.2e-3, True), (0.3, True)]
)
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("side", [-1, 1])
def test_boxes_penetrate_deeper_than_a_millimetre_from_that_overlap_on(
    overlap_m, deeper, axis, side
):
    move = np.zeros(3)
    move[axis] = side * (1 - overlap_m)
    move[(axis + 1) % 3] = 0.2
    assert penetrates(surface(BOX), surface(BOX, move), 1e-3) is deeper


@pytest.mark.parametrize("distance, deeper", [(1.001, False), (0.99, True)])
def test_balls_that_meet_diagonally_are_separated_along_their_centres(distance, deeper):
    way = np.array([1, 2, 3]) / np.sqrt(14)
    assert penetrates(surface(BALL), surface(BALL, distance * way), 1e-3) is deeper
    assert penetrates(surface(BALL), surface(BALL, 0.95 * way), 0.06) is False


def test_ring_around_a_post_does_not_penetrate_it():
    ring = trimesh.creation.annulus(0.4, 0.5, 0.2)
    post = trimesh.creation.cylinder(0.3, 2.0)
    assert not penetrates(surface(ring), surface(post), 1e-3)
    assert penetrates(surface(ring), surface(post, (0.15, 0, 0)), 1e-3)


@settings(max_examples=30, deadline=None)
@given(
    move=st.tuples(*[st.floats(-1.3, 1.3)] * 3),
    depth=st.floats(1e-3, 0.1),
)
def test_boxes_penetrate_by_their_smallest_overlap(move, depth):
    overlap = (1 - np.abs(move)).min()
    if abs(overlap - depth) > 1e-6 and overlap < 0.5:
        assert penetrates(surface(BOX), surface(BOX, move), depth) == (overlap > depth)


def test_triangles_near_a_box_are_those_whose_own_boxes_meet_it():
    rng = rng_for(0, "triangles")
    corners = rng.uniform(-1, 1, (200, 1, 3)) + rng.uniform(-0.3, 0.3, (200, 3, 3))
    triangles = Surface(corners.reshape(-1, 3), np.arange(600).reshape(-1, 3))
    box = np.array([[-0.2, 0.1, -0.6], [0.4, 0.5, 0.2]])

    near = triangles.within(box)

    expected = [
        face
        for face in triangles.faces
        if all(
            min(triangles.vertices[face, axis]) <= box[1, axis]
            and max(triangles.vertices[face, axis]) >= box[0, axis]
            for axis in range(3)
        )
    ]
    assert 0 < len(expected) < 100
    np.testing.assert_array_equal(near.faces, expected)


def test_triangle_that_touches_a_box_is_near_it():
    flat = Surface(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]]), np.array([[0, 1, 2]]))
    for box in ([[0, 0, -1], [1, 1, 0]], [[0, 0, 0], [1, 1, 1]], [[1, 0, 0], [2, 1, 0]]):
        assert len(flat.within(np.array(box, float)).faces) == 1
    assert len(flat.within(np.array([[0, 0, 1e-9], [1, 1, 1]])).faces) == 0


WAY = np.array([2, 2, 3]) / np.sqrt(17)


@pytest.mark.parametrize("size", [1.0, 10.0])
@pytest.mark.parametrize("place", [(0, 0, 0), (3.0, -1.0, 0.5)])
@pytest.mark.parametrize(
    ("distance", "depth", "deeper"),
    [(0.95, 0.055, False), (0.95, 0.04, True), (0.5, 0.2, True), (0.5, 0.51, False)],
)
def test_balls_are_parted_along_the_line_of_their_middles_wherever_they_are(
    size, place, distance, depth, deeper
):
    ball = BALL.copy().apply_scale(size)
    one, other = (
        surface(ball, size * np.array(place)),
        surface(ball, size * (np.array(place) + distance * WAY)),
    )
    assert penetrates(one, other, size * depth) is deeper
    assert penetrates(other, one, size * depth) is deeper


def test_one_wholly_inside_another_touches_it_nowhere():
    small = surface(trimesh.creation.box((0.2, 0.2, 0.2)), (0.1, 0, 0))
    assert penetrates(surface(BOX), small, 1e-3) is False
    assert penetrates(small, surface(BOX), 1e-3) is False
