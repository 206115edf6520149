"""Protects the penetration test of two meshes: boxes and balls with known overlaps."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

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
