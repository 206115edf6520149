"""Exact surface voxels of a triangle mesh: every voxel of the grid that a triangle touches.

The rule is that of Open3D's ``VoxelGrid.create_from_triangle_mesh_within_bounds``, which TRELLIS
uses: of the voxels between ``floor`` of a triangle's lowest and ``floor`` of its highest corner, a
triangle marks those whose closed box it meets. A plane on a voxel border belongs to the upper
voxel alone.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from datagen.errors import DatasetError

def voxelize_surface(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], resolution: int = 64
) -> NDArray[np.bool_]:
    """Return the surface voxels of a mesh inside the box [-0.5, 0.5]³.

    Geometry outside the box is left out; nothing is moved or clamped.

    Args:
        vertices: (V, 3), canonical.
        faces: (F, 3), integer, corners of each triangle; a degenerate one marks what it touches.
        resolution: voxels along a side, R.

    Returns:
        (R, R, R) bool, index order x, y, z; voxel = floor((p + 0.5) · R).

    Raises:
        DatasetError: The mesh has a vertex that is not finite or a face without its vertex.
    """
    grid = np.zeros((resolution, resolution, resolution), np.bool_)
    mark_surface(vertices, faces, grid)
    return grid


def mark_surface(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], grid: NDArray[np.bool_]
) -> None:
    """Set the surface voxels of a mesh in a grid that exists, as ``voxelize_surface`` does.

    Args:
        vertices: (V, 3), canonical.
        faces: (F, 3), integer.
        grid: (R, R, R) bool, C order, changed in place.
    """
    vertices = np.ascontiguousarray(vertices, np.float64)
    faces = np.ascontiguousarray(faces)
    check_mesh(vertices, faces)
    if len(faces):
        _mark_triangles(vertices, faces, grid)


def check_mesh(vertices: NDArray[np.float64], faces: NDArray[np.integer]) -> None:
    """Raise a DatasetError unless the mesh is (V, 3) finite and (F, 3) within V."""
    for name, array in (("vertices", vertices), ("faces", faces)):
        if array.ndim != 2 or array.shape[1] != 3:
            raise DatasetError(
                f"voxelize_surface: {name} have shape {array.shape}. Expected (N, 3); "
                "triangulate the mesh first."
            )
    finite = np.isfinite(vertices).all(axis=1)
    if not finite.all():
        first = int(np.argmin(finite))
        raise DatasetError(
            f"voxelize_surface: {np.count_nonzero(~finite)} of {len(vertices)} vertices are not "
            f"finite (first: vertex {first} = {vertices[first].tolist()}). Every coordinate must "
            "be a number; clean the mesh or leave the asset out."
        )
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise DatasetError(
            f"voxelize_surface: faces name vertices {faces.min()} to {faces.max()}, the mesh has "
            f"{len(vertices)}. Expected 0 to {len(vertices) - 1}; export the mesh again."
        )


@njit(cache=True, nogil=True)
def _mark_triangles(vertices, faces, grid):  # type: ignore[no-untyped-def]
    """Mark every triangle; vertices (V, 3) float64, faces (F, 3), grid (R, R, R) bool."""
    resolution = grid.shape[0]
    voxel = 1.0 / resolution
    corners = np.empty((3, 3))
    low = np.empty(3, np.int64)
    high = np.empty(3, np.int64)
    tests = np.empty((10, 6))
    for face in range(faces.shape[0]):
        for corner in range(3):
            for axis in range(3):
                corners[corner, axis] = vertices[faces[face, corner], axis]
        thick_axes = 0
        is_inside = True
        for axis in range(3):
            p, q, r = corners[0, axis], corners[1, axis], corners[2, axis]
            first = np.floor((min(p, q, r) + 0.5) / voxel)
            last = np.floor((max(p, q, r) + 0.5) / voxel)
            thick_axes += last > first
            is_inside &= last >= 0 and first < resolution
            low[axis] = max(first, 0.0)
            high[axis] = min(last, resolution - 1.0)
        if not is_inside:
            continue
        if thick_axes > 1:
            _mark_triangle(corners, low, high, tests, grid)
            continue
        for x in range(low[0], high[0] + 1):  # a row of voxels, and a triangle is connected:
            for y in range(low[1], high[1] + 1):  # it meets them all
                for z in range(low[2], high[2] + 1):
                    grid[x, y, z] = True


@njit(cache=True, nogil=True)
def _mark_triangle(corners, low, high, tests, grid):  # type: ignore[no-untyped-def]
    """Mark the voxels in the range low..high whose box meets one triangle (3, 3).

    Every separating axis bounds c·p for a voxel centre p, so for one x it leaves an interval of y,
    and for one (x, y) an interval of z. A voxel too close to an interval's end to call in float64
    is left to ``_touches``, which rounds as Open3D does. ``tests`` (10, 6) is scratch space.
    """
    if _is_marked(low, high, grid):
        return
    resolution = grid.shape[0]
    unsure = _fill_tests(corners, resolution, tests)
    for x in range(low[0], high[0] + 1):
        y_first, y_sure, y_sure_end, y_end = _interval(tests, 0, 3, 1, x + 0.5, 0.0, unsure)
        for y in range(max(low[1], y_first), min(high[1] + 1, y_end)):
            z_first, z_sure, z_sure_end, z_end = _interval(
                tests, 3, 10, 2, x + 0.5, y + 0.5, unsure
            )
            is_sure = y_sure <= y < y_sure_end
            for z in range(max(low[2], z_first), min(high[2] + 1, z_end)):
                if not grid[x, y, z]:
                    grid[x, y, z] = (is_sure and z_sure <= z < z_sure_end) or _touches(
                        corners, x, y, z, resolution
                    )


@njit(cache=True, nogil=True)
def _is_marked(low, high, grid):  # type: ignore[no-untyped-def]
    """Return whether all voxels of a range are marked (fine meshes: most of the time)."""
    for x in range(low[0], high[0] + 1):
        for y in range(low[1], high[1] + 1):
            for z in range(low[2], high[2] + 1):
                if not grid[x, y, z]:
                    return False
    return True


@njit(cache=True, nogil=True)
def _fill_tests(corners, resolution, tests):  # type: ignore[no-untyped-def]
    """Fill the separating axes of a triangle (3, 3), in voxel units; return their uncertainty.

    A row is c (3), lower, upper, 1 / slope: a box is kept if lower <= c·centre <= upper; slope is
    c's y in rows 0-2, its z in the rest. Rows 0-2 are the edges seen along z, 3-5 along x, 6-8
    along y, 9 is the triangle's plane.
    """
    biggest = 0.0
    for row in range(9):
        u, v = (row // 3) % 3, (row // 3 + 1) % 3
        p, q, r = row % 3, (row + 1) % 3, (row + 2) % 3
        du = (corners[q, u] - corners[p, u]) * resolution
        dv = (corners[q, v] - corners[p, v]) * resolution
        pu, pv = (corners[p, u] + 0.5) * resolution, (corners[p, v] + 0.5) * resolution
        ru, rv = (corners[r, u] + 0.5) * resolution, (corners[r, v] + 0.5) * resolution
        on_edge, opposite = du * pv - dv * pu, du * rv - dv * ru
        reach = 0.5 * (abs(du) + abs(dv))
        tests[row, 3 - u - v] = 0.0
        tests[row, u], tests[row, v] = -dv, du
        tests[row, 3] = min(on_edge, opposite) - reach
        tests[row, 4] = max(on_edge, opposite) + reach
        biggest = max(biggest, abs(pu), abs(pv))
    middle, reach = 0.0, 0.0
    for axis in range(3):
        # A part of the normal is the cross product of two edges seen along that axis.
        row, u, v = 3 * ((axis + 1) % 3), (axis + 1) % 3, (axis + 2) % 3
        part = tests[row + 1, u] * tests[row, v] - tests[row, u] * tests[row + 1, v]
        part = -part
        tests[9, axis] = part
        middle += part * (corners[0, axis] + 0.5) * resolution
        reach += 0.5 * abs(part)
    tests[9, 3], tests[9, 4] = middle - reach, middle + reach
    for row in range(10):
        slope = tests[row, 1 if row < 3 else 2]
        tests[row, 5] = 1.0 / slope if abs(slope) > 1e-9 else 0.0
    return 1e-13 * (1.0 + biggest) ** 3


@njit(cache=True, nogil=True)
def _interval(tests, first, last, axis, x, y, unsure):  # type: ignore[no-untyped-def]
    """Return the voxels of a row that may pass tests first..last, and those that surely do.

    Returns:
        first voxel that may pass, first that surely passes, end of the sure ones, end (excluded).
    """
    may_low, may_high, sure_low, sure_high = 0.0, 1e9, 0.0, 1e9
    for row in range(first, last):
        fixed = tests[row, 0] * x + (tests[row, 1] * y if axis == 2 else 0.0)
        low, high = tests[row, 3] - fixed, tests[row, 4] - fixed
        inverse = tests[row, 5]
        if inverse == 0.0:  # the test does not see this axis
            if low > unsure or high < -unsure:
                return 0, 0, 0, 0
            if low > -unsure or high < unsure:
                sure_high = -1.0
            continue
        slack = unsure * abs(inverse)
        low, high = low * inverse, high * inverse
        if low > high:
            low, high = high, low
        may_low, may_high = max(may_low, low - slack), min(may_high, high + slack)
        sure_low, sure_high = max(sure_low, low + slack), min(sure_high, high - slack)
    return (
        int(np.ceil(may_low - 0.5)),
        int(np.ceil(sure_low - 0.5)),
        int(np.floor(sure_high + 0.5)),
        int(np.floor(may_high + 0.5)),
    )


@njit(cache=True, nogil=True)
def _touches(corners, x, y, z, resolution):  # type: ignore[no-untyped-def]
    """Return whether a closed voxel meets a triangle: separating axes about the voxel's centre.

    T. Akenine-Möller, "Fast 3D triangle-box overlap testing" (2001), in metres, so that a triangle
    that only just touches is rounded to the same side as in Open3D.
    """
    voxel = 1.0 / resolution
    half = voxel / 2
    centre = np.array([-0.5 + half + x * voxel, -0.5 + half + y * voxel, -0.5 + half + z * voxel])
    p = corners - centre
    e = np.empty((3, 3))
    for corner in range(3):
        e[corner] = p[(corner + 1) % 3] - p[corner]
    for corner in range(3):
        opposite = (corner + 2) % 3
        for u in range(3):
            v = (u + 1) % 3
            s = e[corner, v] * p[corner, u] - e[corner, u] * p[corner, v]
            t = e[corner, v] * p[opposite, u] - e[corner, u] * p[opposite, v]
            reach = abs(e[corner, v]) * half + abs(e[corner, u]) * half
            if min(s, t) > reach or max(s, t) < -reach:
                return False
    normal = np.cross(e[0], e[1])
    nearest, farthest = 0.0, 0.0
    for axis in range(3):
        side = half if normal[axis] > 0 else -half
        nearest += normal[axis] * (-side - p[0, axis])
        farthest += normal[axis] * (side - p[0, axis])
    return nearest <= 0 <= farthest
