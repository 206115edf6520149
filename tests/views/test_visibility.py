"""Protects ray-cast visibility: cubes with known answers, and a brute-force ray caster."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.core.cameras import look_at, pixel_rays
from datagen.core.frames import transform_points
from datagen.core.seeding import rng_for
from datagen.views.cameras import bounding_sphere, scene_views
from datagen.views.visibility import RaycastingScene

SIZE = 100
INTRINSICS = np.array([[100.0, 0, 50], [0, 100.0, 50], [0, 0, 1]])
CAMERA = look_at(np.array([0.0, -10, 0]), np.zeros(3))  # looks along +Y


def cube(edge_m, front_face_center):
    """A cube whose face toward the camera has its centre there."""
    box = trimesh.creation.box((edge_m, edge_m, edge_m))
    offset = np.add(front_face_center, (0, edge_m / 2, 0))
    return box.vertices + offset, box.faces


def cast(placements, transparent=None, **wanted):
    return RaycastingScene(placements, transparent).cast_view(
        CAMERA, INTRINSICS, SIZE, SIZE, **wanted
    )


def test_cube_alone_covers_the_pixels_of_its_front_face():
    view = cast([cube(1.04, (0, -6, 0))])  # 4 m away, 100 px focal length: ±13 px

    rows, columns = np.nonzero(view.instance_map)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (37, 62, 37, 62)
    assert view.visible_px.tolist() == view.amodal_px.tolist() == [26 * 26]
    np.testing.assert_allclose(view.depth_z[rows, columns], 4, rtol=1e-6)
    assert np.isinf(view.depth_z[view.instance_map == 0]).all()


def test_window_has_a_margin_around_visible_pixels_and_stays_in_the_image():
    assert cast([cube(1.04, (0, -6, 0))]).window_px == (31, 31, 69, 69)
    assert cast([cube(1.04, (-1.6, -6, 0))]).window_px == (0, 31, 35, 69)  # and its side


def test_cube_behind_a_cube_is_invisible_and_keeps_its_amodal_pixels():
    view = cast([cube(1.0, (0, -2, 0)), cube(1.04, (0, -6, 0))])  # 8 m away: ±6.25 px

    assert view.visible_px.tolist() == [0, 26 * 26]
    assert view.amodal_px.tolist() == [12 * 12, 26 * 26]
    assert set(np.unique(view.instance_map)) == {0, 2}


def test_cube_half_behind_a_cube_shows_the_rest():
    front, rear = cube(1.04, (0, -6, 0)), cube(1.0, (1.04, -2, 0))  # rear: 13 ± 6.25 px

    view = cast([rear, front])

    # Of its front face's columns 57..68 the front cube hides 57..62, and column 56 of its side.
    assert view.amodal_px[0] == 12 * 12 + 12
    assert view.visible_px[0] == 12 * 6
    assert view.visible_px[1] == 26 * 26


def test_amodal_mask_of_a_cube_is_its_instance_map_when_it_stands_there_alone():
    front, rear = cube(1.04, (0, -6, 0)), cube(1.0, (1.04, -2, 0))

    masks = unpacked(cast([rear, front], amodal_masks=True))

    np.testing.assert_array_equal(masks[0], cast([rear]).instance_map > 0)
    np.testing.assert_array_equal(masks[1], cast([front]).instance_map > 0)
    assert cast([rear, front]).amodal_masks is None


def unpacked(view):
    """Return amodal masks (N, H, W) bool."""
    bits = np.unpackbits(view.amodal_masks, axis=1, count=view.depth_z.size, bitorder="little")
    return bits.reshape(-1, *view.depth_z.shape).astype(bool)


def test_normal_of_a_front_face_points_at_the_camera_whichever_way_it_winds():
    vertices, faces = cube(1.04, (0, -6, 0))

    for winding in (faces, faces[:, ::-1]):
        view = cast([(vertices, winding)], normals=True)
        expected = np.where(view.instance_map[..., None] == 1, (0, 0, -1), 0)
        np.testing.assert_allclose(view.normal, expected, atol=1e-6)
    assert cast([(vertices, faces)]).normal is None


def test_normals_of_a_ball_are_its_radii_in_the_camera_frame():
    center = np.array([0.5, -5, 0.3])
    ball = trimesh.creation.icosphere(5, 1.0)

    view = cast([(ball.vertices + center, ball.faces)], normals=True)

    rows, columns = np.nonzero(view.instance_map)
    origin, ways = pixel_rays(CAMERA, INTRINSICS, columns, rows)
    along = view.depth_z[rows, columns] / (ways @ CAMERA[2, :3])
    radii = (origin + along[:, None] * ways - center) @ CAMERA[:3, :3].T
    normals = view.normal[rows, columns]
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-5)
    # The ball is made of triangles 0.03 long, whose normals are 0.03 / 2 off its radii at most.
    assert np.abs(normals - radii).max() < 0.03


def test_nearest_of_three_is_visible_in_any_order():
    cubes = [cube(1.04, (0, y, 0)) for y in (-6, -4, -2)]

    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        view = cast([cubes[index] for index in order])
        assert view.visible_px.tolist() == [676 if index == 0 else 0 for index in order]


def test_scene_far_from_the_origin_gives_the_same_map():
    """In float32, 10 km away, a centimetre is lost unless the scene is centred first."""
    away = np.array([10_000.0, -20_000.0, 300.0])
    placements = [cube(1.04, (0, -6, 0)), cube(1.0, (1.04, -2, 0))]
    moved = [(vertices + away, faces) for vertices, faces in placements]
    camera = look_at(np.array([0.0, -10, 0]) + away, away)

    view = RaycastingScene(moved).cast_view(camera, INTRINSICS, SIZE, SIZE)

    np.testing.assert_array_equal(view.instance_map, cast(placements).instance_map)


def test_transparent_map_marks_first_hits_on_marked_faces_only():
    glass, wall = cube(1.04, (0, -6, 0)), cube(3.0, (0, -2, 0))

    view = cast([wall, glass], [None, np.ones(12, bool)])

    np.testing.assert_array_equal(view.transparent_map, view.instance_map == 2)
    assert not cast([wall, glass]).transparent_map.any()


def test_transparent_face_behind_an_opaque_one_is_not_marked():
    view = cast([cube(1.0, (0, -2, 0)), cube(1.04, (0, -6, 0))], [np.ones(12, bool), None])

    assert not view.transparent_map.any()


def test_more_than_255_placements_get_a_wider_map():
    grid = [cube(0.05, (x / 10, -6, z / 10)) for x in range(-8, 9) for z in range(-8, 9)]

    view = cast(grid)

    assert view.instance_map.dtype == np.uint16
    assert view.instance_map.max() == len(grid) == 289
    assert cast(grid[:255]).instance_map.dtype == np.uint8


def test_camera_inside_a_box_sees_it_everywhere():
    room = trimesh.creation.box((30, 30, 30))

    view = cast([(room.vertices, room.faces)])

    assert view.visible_px.tolist() == [SIZE * SIZE]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_views_equal_brute_force_over_all_triangles(seed):
    placements = random_placements(seed)
    center, radius = bounding_sphere(np.concatenate([vertices for vertices, _ in placements]))
    (camera, intrinsics), *_ = scene_views(
        center,
        radius,
        1,
        fov_rad=0.7,
        width=40,
        height=28,
        offset=tuple(rng_for(seed, "offset").uniform(size=2)),
    )

    geometry = RaycastingScene(placements)
    view = geometry.cast_view(camera, intrinsics, 40, 28, amodal_masks=True)

    depths = np.stack([brute_depth(mesh, camera, intrinsics, 40, 28) for mesh in placements])
    nearest = np.where(np.isfinite(depths).any(axis=0), depths.argmin(axis=0) + 1, 0)
    # A ray that grazes an edge may fall to either side in float32: at most 1 of 1120.
    assert (nearest != view.instance_map).sum() <= 1
    amodal_px = np.isfinite(depths).sum(axis=(1, 2))
    assert np.abs(amodal_px - view.amodal_px).max() <= 1
    same = nearest == view.instance_map
    np.testing.assert_allclose(view.depth_z[same], depths.min(axis=0)[same], rtol=1e-4)
    assert (view.visible_px <= view.amodal_px).all()
    masks = unpacked(view)
    assert masks.sum(axis=(1, 2)).tolist() == view.amodal_px.tolist()
    assert (masks != np.isfinite(depths)).sum(axis=(1, 2)).max() <= 1


def random_placements(seed):
    rng = rng_for(seed, "placements")
    shapes = [trimesh.creation.box((1, 1, 1)), trimesh.creation.icosphere(1, 0.6)]
    shapes += [trimesh.creation.torus(0.5, 0.15, 12, 8), trimesh.creation.cone(0.5, 1, sections=9)]
    rotations = [
        trimesh.transformations.random_rotation_matrix(rng.uniform(size=3)) for _ in shapes
    ]
    return [
        (transform_points(rotation, shape.vertices) + rng.uniform(-1, 1, 3), shape.faces)
        for shape, rotation in zip(shapes, rotations, strict=True)
    ]


def brute_depth(mesh, camera, intrinsics, width, height):
    """Möller-Trumbore of every pixel against every triangle, float64: planar depth (H, W)."""
    rows, columns = np.mgrid[:height, :width].reshape(2, -1)
    origin, directions = pixel_rays(camera, intrinsics, columns, rows)
    a, b, c = mesh[0][mesh[1]].transpose(1, 0, 2)
    p = np.cross(directions[:, None], (c - a)[None])
    determinant = (p * (b - a)).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = ((origin - a) * p).sum(-1) / determinant
        q = np.cross(origin - a, b - a)
        v = (directions[:, None] * q).sum(-1) / determinant
        t = ((c - a) * q).sum(-1) / determinant
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
    distance = np.where(hit, t, np.inf).min(axis=1)
    along_view = directions @ camera[2, :3]
    return (distance * along_view).reshape(height, width)


def test_brute_force_caster_gives_the_depth_of_a_known_face():
    depth_z = brute_depth(cube(1.04, (0, -6, 0)), CAMERA, INTRINSICS, SIZE, SIZE)

    assert np.isfinite(depth_z).sum() == 26 * 26
    assert depth_z[50, 50] == pytest.approx(4)
