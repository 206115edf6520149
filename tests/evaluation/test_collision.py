"""Collisions of predicted instances against meshes whose overlap is known."""

import math

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from datagen.errors import ConfigError, RowError
from datagen.evaluation.collision import TOLERANCES, collision_rates, scene_collisions
from datagen.evaluation.winding import winding_numbers


def mesh_of(shape: trimesh.Trimesh, center=(0.0, 0.0, 0.0)):
    return np.asarray(shape.vertices) + center, np.asarray(shape.faces)


def cube(center, side: float = 1.0):
    return mesh_of(trimesh.creation.box((side,) * 3), center)


FAR = cube((9.5, 0, 0))
"""With a cube at the origin it makes a scene of extent 10: 0.5 % of it is 0.05."""


@pytest.mark.parametrize(
    ("overlap", "depth"),
    [(-0.1, None), (0.005, 0.001), (0.04, 0.005), (0.09, 0.01), (0.9, math.inf)],
)
def test_two_boxes_are_as_deep_as_they_overlap(overlap, depth):
    found = scene_collisions([cube((0, 0, 0)), cube((1 - overlap, 0, 0)), FAR])
    assert found.depths == ({} if depth is None else {(0, 1): depth})
    assert found.num_objects == 3


def test_thing_on_a_table_is_no_collision_and_one_sunk_in_is():
    table, sunk = cube((0, 0, -0.5)), 0.2
    standing = scene_collisions([table, cube((0, 0, 0.5)), FAR])
    assert standing.colliding() == ()
    assert scene_collisions([table, cube((0, 0, 0.5 - sunk)), FAR]).colliding() == (0, 1)


def test_sideways_graze_of_two_long_walls_is_as_shallow_as_it_is():
    # FCL's own contact depths read such an overlap tens of times too deep.
    wall = trimesh.creation.box((0.1, 10.0, 2.0))
    found = scene_collisions([mesh_of(wall), mesh_of(wall, (0.0995, 0.3, 0.2))])
    assert found.depths == {(0, 1): 0.001}


def test_small_one_inside_a_large_one_counts_without_crossing_it():
    found = scene_collisions([cube((0, 0, 0), 4.0), cube((0.2, 0.1, 0), 1.0)])
    assert found.depths == {(0, 1): math.inf}
    assert found.colliding() == (0, 1)


def test_small_one_that_pokes_out_is_not_parted_by_pushing_it_in():
    found = scene_collisions([cube((0, 0, 0), 4.0), cube((1.51, 0, 0), 1.0)])
    assert found.colliding() == (0, 1)


def test_thing_inside_an_open_box_is_free():
    box = trimesh.creation.box((4.0, 4.0, 4.0))
    walls = trimesh.util.concatenate(
        [trimesh.creation.box((4.0, 0.1, 4.0)).apply_translation((0, y, 0)) for y in (-2, 2)]
        + [trimesh.creation.box((4.0, 4.0, 0.1)).apply_translation((0, 0, -2))]
    )
    assert box.volume > 0
    assert scene_collisions([mesh_of(walls), cube((0, 0, 0))]).depths == {}


def test_sphere_with_a_hole_still_contains():
    sphere = trimesh.creation.icosphere(3, radius=2.0)
    open_sphere = sphere.vertices, sphere.faces[sphere.triangles_center[:, 2] < 1.8]
    assert scene_collisions([open_sphere, cube((0, 0, 0), 0.5)]).depths == {(0, 1): math.inf}


def test_same_object_twice_collides():
    turn = Rotation.from_rotvec([0.3, 0.2, 0.5]).as_matrix()
    vertices, faces = cube((0, 0, 0))
    duplicate = vertices @ turn.T, faces
    assert scene_collisions([duplicate, duplicate, FAR]).colliding() == (0, 1)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.floats(0.01, 100),
    shift=st.tuples(*[st.floats(-10, 10)] * 3),
)
def test_depths_do_not_depend_on_order_unit_or_place(seed, scale, shift):
    rng = np.random.default_rng(seed)
    meshes = [cube(rng.uniform(-1, 1, 3), rng.uniform(0.3, 1)) for _ in range(4)]
    expected = scene_collisions(meshes).depths
    moved = [(v * scale + shift, f) for v, f in meshes]
    assert scene_collisions(moved).depths == expected
    backwards = scene_collisions(meshes[::-1]).depths
    assert {(3 - j, 3 - i): depth for (i, j), depth in backwards.items()} == expected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_boxes_collide_where_their_corners_say_so(seed):
    rng = np.random.default_rng(seed)
    centers, sides = rng.uniform(-1, 1, (2, 3)), rng.uniform(0.2, 1.2, 2)
    found = scene_collisions([cube(c, s) for c, s in zip(centers, sides, strict=True)])
    gaps = np.abs(centers[0] - centers[1]) - sides.sum() / 2
    assert bool(found.colliding(0.0)) == bool((gaps < 0).all())


def test_rates_pool_objects_over_scenes_and_fall_with_the_tolerance():
    clean = scene_collisions([cube((0, 0, 0)), FAR, cube((0, 5, 0))])
    shallow = scene_collisions([cube((0, 0, 0)), cube((0.96, 0, 0)), FAR])
    deep = scene_collisions([cube((0, 0, 0)), cube((0.5, 0, 0)), FAR])
    rates = collision_rates([clean, shallow, deep])
    assert (rates.num_objects, rates.num_scenes, rates.tolerance) == (9, 3, 0.005)
    assert rates.col_o == pytest.approx(2 / 9)
    assert rates.col_s == pytest.approx(1 / 3)
    strict = collision_rates([clean, shallow, deep], 0.0)
    assert (strict.col_o, strict.col_s) == (pytest.approx(4 / 9), pytest.approx(2 / 3))
    curve = [collision_rates([clean, shallow, deep], t).col_o for t in TOLERANCES]
    assert curve == sorted(curve, reverse=True)


def test_missing_and_empty_objects_are_no_objects_and_one_triangle_is_one():
    triangle = np.array([[0.0, 0, -2], [0.2, 0, 2], [-0.2, 0.1, 2]]), np.array([[0, 1, 2]])
    empty = np.zeros((0, 3)), np.zeros((0, 3), int)
    found = scene_collisions([None, empty, cube((0, 0, 0)), triangle])
    assert found.num_objects == 2
    assert list(found.depths) == [(2, 3)]
    assert scene_collisions([None]).num_objects == 0


def test_point_like_object_inside_another_is_found():
    point = np.zeros((3, 3)), np.array([[0, 1, 2]])
    assert scene_collisions([cube((0.1, 0, 0)), point]).colliding() == (0, 1)


def test_geometry_that_is_not_finite_is_refused():
    vertices, faces = cube((0, 0, 0))
    with pytest.raises(RowError, match="not finite"):
        scene_collisions([(vertices * np.nan, faces)])


def test_rate_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="0 objects"):
        collision_rates([scene_collisions([None])])


def test_winding_number_is_one_inside_none_outside_and_minus_one_inside_out():
    vertices, faces = cube((0, 0, 0))
    points = np.array([[0, 0, 0], [0.4, 0.4, -0.4], [0.6, 0, 0], [5, 5, 5]])
    np.testing.assert_allclose(winding_numbers(points, (vertices, faces)), [1, 1, 0, 0], atol=1e-12)
    inverted = winding_numbers(points[:1], (vertices, faces[:, ::-1]))
    np.testing.assert_allclose(inverted, [-1], atol=1e-12)


def test_winding_number_at_half_a_closed_surface_is_a_half():
    sphere = trimesh.creation.icosphere(4)
    half = sphere.vertices, sphere.faces[sphere.triangles_center[:, 2] < 0]
    assert winding_numbers(np.zeros((1, 3)), half)[0] == pytest.approx(0.5, abs=0.02)
