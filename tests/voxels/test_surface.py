"""Protects surface voxels: known answers, exact clipping in rational numbers, and Open3D."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.core.seeding import rng_for
from datagen.errors import DatagenError
from datagen.voxels import voxelize_surface

ONE_FACE = np.array([[0, 1, 2]])


def layers(grid, axis):
    """Return the indices along an axis that hold a voxel."""
    return np.unique(np.nonzero(grid)[axis]).tolist()


def open3d_surface(vertices, faces):
    """Return Open3D's voxels inside the box; it also lists those outside."""
    o3d = pytest.importorskip("open3d")
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(np.asarray(vertices, np.float64)),
        o3d.utility.Vector3iVector(np.asarray(faces, np.int32)),
    )
    voxels = o3d.geometry.VoxelGrid.create_from_triangle_mesh_within_bounds(
        mesh, voxel_size=1 / 64, min_bound=(-0.5,) * 3, max_bound=(0.5,) * 3
    ).get_voxels()
    index = np.array([voxel.grid_index for voxel in voxels]).reshape(-1, 3)
    grid = np.zeros((64, 64, 64), bool)
    grid[tuple(index[((index >= 0) & (index < 64)).all(axis=1)].T)] = True
    return grid


def exactly_touches(triangle, voxel, resolution):
    """Clip a triangle of fractions by the six faces of a closed voxel: is anything left?"""
    polygon = [tuple(Fraction(c) for c in corner) for corner in triangle]
    for axis, sign in product(range(3), (1, -1)):
        face = Fraction(voxel[axis] + (sign < 0), resolution) - Fraction(1, 2)
        kept = []
        for start, end in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            a, b = sign * (start[axis] - face), sign * (end[axis] - face)
            if a >= 0:
                kept.append(start)
            if (a < 0 < b) or (b < 0 < a):
                t = a / (a - b)
                kept.append(tuple(s + t * (e - s) for s, e in zip(start, end, strict=True)))
        polygon = kept
    return bool(polygon)


def exact_voxels(triangle, resolution):
    """Return the voxels, in the triangle's floor-to-floor range, that it touches."""
    placed = [[(Fraction(c) + Fraction(1, 2)) * resolution for c in p] for p in triangle]
    ranges = [
        range(max(0, int(min(axis) // 1)), min(resolution - 1, int(max(axis) // 1)) + 1)
        for axis in zip(*placed, strict=True)
    ]
    return {v for v in product(*ranges) if exactly_touches(triangle, v, resolution)}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_plane_on_a_voxel_border_marks_the_upper_layer_alone(axis):
    corners = np.array([[0.01, 0.01, 0.25], [0.11, 0.01, 0.25], [0.01, 0.11, 0.25]])
    grid = voxelize_surface(np.roll(corners, axis + 1, axis=1), ONE_FACE)
    assert layers(grid, axis) == [48]
    assert layers(grid, (axis + 1) % 3) == list(range(32, 40))


def test_point_segment_and_row_are_marked_from_end_to_end():
    point = voxelize_surface(np.full((3, 3), 0.25), ONE_FACE)
    assert np.argwhere(point).tolist() == [[48, 48, 48]]
    row = np.array([[-0.5, 0.001, 0.001], [0.49, 0.002, 0.002], [0.0, 0.003, 0.001]])
    assert np.argwhere(voxelize_surface(row, ONE_FACE)).tolist() == [[x, 32, 32] for x in range(64)]


def test_full_square_marks_one_whole_layer():
    square = np.array(
        [[-0.5, -0.5, 0.1], [0.4999, -0.5, 0.1], [0.4999, 0.4999, 0.1], [-0.5, 0.4999, 0.1]]
    )
    grid = voxelize_surface(square, np.array([[0, 1, 2], [0, 2, 3]]))
    assert grid[:, :, 38].all()
    assert grid.sum() == 64 * 64


def test_geometry_outside_the_box_is_left_out():
    up = np.array([[0.01, 0.01, 0.45], [0.01, 0.02, 0.9], [0.02, 0.01, 0.9]])
    inside = voxelize_surface(up, ONE_FACE)
    assert layers(inside, 2) == [60, 61, 62, 63]
    assert layers(inside, 0) == [32]
    assert not voxelize_surface(up + np.array([0, 0, 0.05]), ONE_FACE).any()
    assert not voxelize_surface(up - [0, 0, 2], ONE_FACE).any()


def test_geometry_at_astronomic_distance_is_left_out():
    assert not voxelize_surface(np.full((3, 3), 1e30), ONE_FACE).any()
    assert not voxelize_surface(np.full((3, 3), -1e30), ONE_FACE).any()


def test_resolution_changes_the_grid_and_keeps_the_position():
    grid = voxelize_surface(np.full((3, 3), 0.24), ONE_FACE, resolution=8)
    assert grid.shape == (8, 8, 8)
    assert np.argwhere(grid).tolist() == [[5, 5, 5]]


def test_mesh_without_faces_is_empty():
    assert not voxelize_surface(np.zeros((0, 3)), np.zeros((0, 3), int)).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vertex_that_is_not_finite_is_refused(bad):
    vertices = np.zeros((4, 3))
    vertices[2, 1] = bad
    with pytest.raises(DatagenError, match=r"1 of 4 vertices.*vertex 2.*clean the mesh"):
        voxelize_surface(vertices, ONE_FACE)


def test_face_without_its_vertex_is_refused():
    with pytest.raises(DatagenError, match=r"0 to 3.*for 3 vertices"):
        voxelize_surface(np.zeros((3, 3)), np.array([[0, 1, 3]]))
    with pytest.raises(DatagenError, match="-1"):
        voxelize_surface(np.zeros((3, 3)), np.array([[0, 1, -1]]))


def test_quads_are_refused():
    with pytest.raises(DatagenError, match="triangulate"):
        voxelize_surface(np.zeros((4, 3)), np.array([[0, 1, 2, 3]]))


coordinates = st.integers(-40, 40).map(lambda n: n / 64)  # many exactly on the borders of 8³


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(coordinates, coordinates, coordinates), min_size=3, max_size=3))
def test_any_triangle_marks_exactly_the_voxels_rational_clipping_finds(triangle):
    grid = voxelize_surface(np.array(triangle), ONE_FACE, resolution=8)
    assert set(map(tuple, np.argwhere(grid).tolist())) == exact_voxels(triangle, 8)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32), st.sampled_from([0.05, 0.3, 1.5]), st.sampled_from([None, 16, 64, 128])
)
def test_triangle_soup_gives_open3ds_voxels(seed, size, snap):
    rng = rng_for(seed, "soup")
    first = rng.uniform(-0.6, 0.6, (20, 1, 3))
    vertices = (first + rng.uniform(-0.5, 0.5, (20, 3, 3)) * size).reshape(-1, 3)
    if snap:
        vertices = np.round(vertices * snap) / snap
    faces = np.arange(60).reshape(-1, 3)
    np.testing.assert_array_equal(
        voxelize_surface(vertices, faces), open3d_surface(vertices, faces)
    )


def test_degenerate_faces_give_open3ds_voxels():
    rng = rng_for(0, "degenerate")
    vertices = np.round(rng.uniform(-0.5, 0.5, (40, 3)) * 64) / 64
    faces = rng.integers(0, 40, (60, 3))
    faces[::2, 2] = faces[::2, 1]  # every other one a segment
    np.testing.assert_array_equal(
        voxelize_surface(vertices, faces), open3d_surface(vertices, faces)
    )


@pytest.mark.parametrize(
    "mesh",
    [
        trimesh.creation.icosphere(3, radius=0.45),
        trimesh.creation.torus(0.35, 0.1),
        trimesh.creation.box((0.5, 0.25, 0.75)),
        trimesh.creation.cylinder(
            0.02, 0.9, transform=trimesh.transformations.euler_matrix(1, 2, 3)
        ),
        trimesh.creation.box((2.0, 0.5, 0.01)),
    ],
    ids=["sphere", "torus", "box on borders", "thin rotated cylinder", "plate beyond the box"],
)
def test_solid_gives_open3ds_voxels(mesh):
    ours = voxelize_surface(mesh.vertices, mesh.faces)
    assert ours.any()
    np.testing.assert_array_equal(ours, open3d_surface(mesh.vertices, mesh.faces))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_order_of_faces_and_corners_does_not_matter(seed):
    rng = rng_for(seed, "order")
    vertices = rng.uniform(-0.5, 0.5, (30, 3))
    faces = rng.integers(0, 30, (40, 3))
    shuffled = np.roll(rng.permutation(faces), 1, axis=1)
    np.testing.assert_array_equal(
        voxelize_surface(vertices, faces), voxelize_surface(vertices, shuffled)
    )
