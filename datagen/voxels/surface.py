"""Exact surface voxels of a triangle mesh: every voxel that a triangle touches.

The rule is that of Open3D's ``VoxelGrid.create_from_triangle_mesh_within_bounds``, which TRELLIS
uses. A triangle marks the voxels whose closed box it touches, among those between ``floor`` of its
lowest and ``floor`` of its highest corner. A plane on a voxel border marks only the upper voxel.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from datagen.errors import DatasetError


def voxelize_surface(
    vertices: NDArray[np.floating[Any]], faces: NDArray[np.integer[Any]], resolution: int = 64
) -> NDArray[np.bool_]:
    """Return the surface voxels of a mesh inside the box [-0.5, 0.5]³.

    Geometry outside the box is left out; nothing is moved or clamped.

    Args:
        vertices: (V, 3), canonical.
        faces: (F, 3), vertex indices; degenerate triangles mark what they touch, too.
        resolution: voxels along a side, R.

    Returns:
        (R, R, R) bool, index order x, y, z; voxel = floor((p + 0.5) · R).

    Raises:
        DatasetError: a vertex is not finite, or a face has an index without a vertex.
    """
    grids = np.zeros((1, 1, resolution, resolution, resolution), np.bool_)
    mark_views(vertices, faces, np.eye(4)[None], grids, 0)
    grid: NDArray[np.bool_] = grids[0, 0]
    return grid


def mark_views(
    vertices: NDArray[np.floating[Any]],
    faces: NDArray[np.integer[Any]],
    transforms: NDArray[np.float64],
    grids: NDArray[np.bool_],
    column: int,
) -> None:
    """Mark the surface voxels of one mesh in many frames.

    Args:
        vertices: (V, 3), in any frame.
        faces: (F, 3), vertex indices.
        transforms: (K, 4, 4), from that frame to each of K canonical frames.
        grids: (K, G, R, R, R) bool, C order; grids[k, column] is changed in place for frame k.
        column: index of the mesh's grid among the G grids of each frame.

    Raises:
        DatasetError: a vertex is not finite, or a face has an index without a vertex.
    """
    vertices = np.ascontiguousarray(vertices)
    faces = np.ascontiguousarray(faces)
    check_mesh(vertices, faces)
    if len(faces):
        transforms = np.ascontiguousarray(transforms, np.float64)
        _mark_views(vertices, faces.astype(np.uint32), transforms, grids, column)


def check_mesh(vertices: NDArray[np.floating[Any]], faces: NDArray[np.integer[Any]]) -> None:
    """Check that vertices are (V, 3) and finite, and that faces are (F, 3) with indices below V.

    Raises:
        DatasetError: they are not.
    """
    for name, array in (("vertices", vertices), ("faces", faces)):
        if array.ndim != 2 or array.shape[1] != 3:
            raise DatasetError(
                f"mesh: {name} have shape {array.shape}. Expected (N, 3); "
                "triangulate the mesh first."
            )
    finite = np.isfinite(vertices).all(axis=1)
    if not finite.all():
        first = int(np.argmin(finite))
        raise DatasetError(
            f"mesh: {np.count_nonzero(~finite)} of {len(vertices)} vertices are not "
            f"finite (first: vertex {first} = {vertices[first].tolist()}). Expected finite "
            "coordinates; clean the mesh or leave the asset out."
        )
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise DatasetError(
            f"mesh: faces have indices {faces.min()} to {faces.max()} for {len(vertices)} "
            f"vertices. Expected 0 to {len(vertices) - 1}; export the mesh again."
        )


@njit(cache=True, nogil=True)
def _mark_triangles(vertices, units, faces, grid):  # type: ignore[no-untyped-def]
    """Mark every triangle; vertices (V, 3) canonical, units (V, 3) in voxels, faces (F, 3)."""
    resolution = grid.shape[0]
    corners = np.empty((2, 3, 3))
    low = np.empty(3, np.int64)
    high = np.empty(3, np.int64)
    tests = np.empty((10, 8))
    for face in range(faces.shape[0]):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        thick_axes, flat_axis = 0, 0
        is_inside = True
        for axis in range(3):
            p, q, r = units[i, axis], units[j, axis], units[k, axis]
            first, last = np.floor(min(p, q, r)), np.floor(max(p, q, r))
            is_inside &= last >= 0 and first < resolution
            low[axis] = max(first, 0.0)
            high[axis] = min(last, resolution - 1.0)
            if last > first:
                thick_axes += 1
            else:
                flat_axis = axis
        # In fine meshes most triangles have only voxels that are marked already.
        if not is_inside or _is_marked(low, high, grid):
            continue
        if thick_axes <= 1:  # a triangle is connected, so it touches all voxels of a single row
            _mark_range(low, high, grid)
            continue
        for axis in range(3):
            corners[0, 0, axis], corners[1, 0, axis] = vertices[i, axis], units[i, axis]
            corners[0, 1, axis], corners[1, 1, axis] = vertices[j, axis], units[j, axis]
            corners[0, 2, axis], corners[1, 2, axis] = vertices[k, axis], units[k, axis]
        if thick_axes == 2:
            _mark_flat(corners, low, high, flat_axis, tests, grid)
        else:
            _mark_thick(corners, low, high, tests, grid)


@njit(cache=True, nogil=True)
def _mark_views(vertices, faces, transforms, grids, column):  # type: ignore[no-untyped-def]
    """Mark a mesh in grids[k, column] of each frame k."""
    resolution = grids.shape[-1]
    canonical = np.empty((vertices.shape[0], 3))
    units = np.empty((vertices.shape[0], 3))
    for frame in range(transforms.shape[0]):
        m = transforms[frame]
        for index in range(vertices.shape[0]):
            x, y, z = vertices[index, 0], vertices[index, 1], vertices[index, 2]
            for axis in range(3):
                moved = m[axis, 0] * x + m[axis, 1] * y + m[axis, 2] * z + m[axis, 3]
                canonical[index, axis] = moved
                units[index, axis] = (moved + 0.5) * resolution
        _mark_triangles(canonical, units, faces, grids[frame, column])


@njit(cache=True, nogil=True)
def _mark_range(low, high, grid):  # type: ignore[no-untyped-def]
    for x in range(low[0], high[0] + 1):
        for y in range(low[1], high[1] + 1):
            for z in range(low[2], high[2] + 1):
                grid[x, y, z] = True


@njit(cache=True, nogil=True)
def _is_marked(low, high, grid):  # type: ignore[no-untyped-def]
    for x in range(low[0], high[0] + 1):
        for y in range(low[1], high[1] + 1):
            for z in range(low[2], high[2] + 1):
                if not grid[x, y, z]:
                    return False
    return True


@njit(cache=True, nogil=True)
def _mark_flat(corners, low, high, w, tests, grid):  # type: ignore[no-untyped-def]
    """Mark a triangle that lies in one layer of voxels across axis w; its edges decide.

    Here and below, ``corners`` (2, 3, 3) is the triangle in canonical coordinates and in voxels.
    """
    u, v = (w + 1) % 3, (w + 2) % 3
    unsure = _uncertainty(corners[1])
    _fill_edge_tests(corners[1], u, tests)
    if _is_few(low, high):
        _mark_few(corners, low, high, tests, 3 * u, 3 * u + 3, unsure, grid)
        return
    _invert(tests, 3 * u, 3 * u + 3)
    centre = np.zeros(3)
    voxel = low.copy()
    for place in range(low[u], high[u] + 1):
        voxel[u], centre[u] = place, place + 0.5
        _mark_run(corners, tests, 3 * u, 3 * u + 3, centre, voxel, v, low[v], high[v], unsure, grid)


@njit(cache=True, nogil=True)
def _mark_thick(corners, low, high, tests, grid):  # type: ignore[no-untyped-def]
    """Mark a triangle that spans several voxels along every axis, in runs along one axis."""
    unsure = _uncertainty(corners[1])
    _fill_plane_test(corners[1], tests)
    is_few = _is_few(low, high)
    if is_few and not _is_any_left(low, high, tests, unsure, grid):
        return
    for plane in range(3):
        _fill_edge_tests(corners[1], plane, tests)
    if is_few:
        _mark_few(corners, low, high, tests, 0, 10, unsure, grid)
        return
    _invert(tests, 0, 10)
    normal = np.abs(tests[9, :3])
    w = np.argmin(normal)  # the axis closest to the triangle's plane gives few, long runs
    u, v = (w + 1) % 3, (w + 2) % 3
    centre = np.zeros(3)
    voxel = np.empty(3, np.int64)
    for place in range(low[u], high[u] + 1):
        voxel[u], centre[u], centre[v] = place, place + 0.5, 0.0
        first, _, _, end = _interval(tests, 3 * u, 3 * u + 3, centre, v, unsure)
        for place_v in range(max(low[v], first), min(high[v] + 1, end)):
            voxel[v], centre[v] = place_v, place_v + 0.5
            _mark_run(corners, tests, 0, 10, centre, voxel, w, low[w], high[w], unsure, grid)


@njit(cache=True, nogil=True)
def _is_few(low, high):  # type: ignore[no-untyped-def]
    """Return whether a range is so small that testing its voxels one by one is faster."""
    return (high[0] - low[0] + 1) * (high[1] - low[1] + 1) * (high[2] - low[2] + 1) <= 18


@njit(cache=True, nogil=True)
def _is_any_left(low, high, tests, unsure, grid):  # type: ignore[no-untyped-def]
    """Return whether the triangle's plane (row 9) meets an unmarked voxel."""
    for x in range(low[0], high[0] + 1):
        for y in range(low[1], high[1] + 1):
            for z in range(low[2], high[2] + 1):
                if not grid[x, y, z]:
                    side = tests[9, 0] * (x + 0.5) + tests[9, 1] * (y + 0.5)
                    side += tests[9, 2] * (z + 0.5)
                    if tests[9, 3] - unsure <= side <= tests[9, 4] + unsure:
                        return True
    return False


@njit(cache=True, nogil=True)
def _mark_few(corners, low, high, tests, first, last, unsure, grid):  # type: ignore[no-untyped-def]
    """Mark the voxels of a small range that pass tests first to last - 1, one by one."""
    for x in range(low[0], high[0] + 1):
        for y in range(low[1], high[1] + 1):
            for z in range(low[2], high[2] + 1):
                if grid[x, y, z]:
                    continue
                margin = 1e9
                for row in range(last - 1, first - 1, -1):  # the plane's test rejects most voxels
                    side = tests[row, 0] * (x + 0.5) + tests[row, 1] * (y + 0.5)
                    side += tests[row, 2] * (z + 0.5)
                    margin = min(margin, side - tests[row, 3], tests[row, 4] - side)
                    if margin < -unsure:
                        break
                if margin > unsure or (
                    margin >= -unsure and _touches(corners[0], x, y, z, grid.shape[0])
                ):
                    grid[x, y, z] = True


@njit(cache=True, nogil=True)
def _mark_run(  # type: ignore[no-untyped-def]
    corners, tests, first_test, last_test, centre, voxel, axis, low, high, unsure, grid
):
    """Mark the voxels of a run along an axis that pass the tests.

    ``voxel`` (3,) has the run's position along the other axes. Where float64 cannot decide, at
    the ends of the run, ``_touches`` decides, which rounds as Open3D does.
    """
    first, sure, sure_end, end = _interval(tests, first_test, last_test, centre, axis, unsure)
    for place in range(max(low, first), min(high + 1, end)):
        voxel[axis] = place
        x, y, z = voxel[0], voxel[1], voxel[2]
        if not grid[x, y, z]:
            grid[x, y, z] = sure <= place < sure_end or _touches(corners[0], x, y, z, grid.shape[0])


@njit(cache=True, nogil=True)
def _uncertainty(corners):  # type: ignore[no-untyped-def]
    """Return the largest rounding error of a test's value, for corners (3, 3) in voxels."""
    biggest = 1.0
    for corner in range(3):
        for axis in range(3):
            biggest = max(biggest, abs(corners[corner, axis]))
    return 1e-12 * biggest**3


@njit(cache=True, nogil=True)
def _fill_edge_tests(corners, u, tests):  # type: ignore[no-untyped-def]
    """Fill rows 3u to 3u + 2: a triangle's (3, 3) edges, voxels, projected to plane (u, u + 1).

    A row is c (3), lower, upper. A voxel can only be touched if lower <= c·centre <= upper.
    """
    v, w = (u + 1) % 3, (u + 2) % 3
    for p in range(3):
        q, r = (p + 1) % 3, (p + 2) % 3
        pu, pv, ru, rv = corners[p, u], corners[p, v], corners[r, u], corners[r, v]
        du, dv = corners[q, u] - pu, corners[q, v] - pv
        row = tests[3 * u + p]
        row[u], row[v], row[w] = -dv, du, 0.0
        on_edge, opposite = du * pv - dv * pu, du * rv - dv * ru
        _bound(row, min(on_edge, opposite), max(on_edge, opposite))


@njit(cache=True, nogil=True)
def _fill_plane_test(corners, tests):  # type: ignore[no-untyped-def]
    """Fill row 9: the plane of a triangle (3, 3), voxels."""
    row = tests[9]
    middle = 0.0
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        row[axis] = (corners[1, u] - corners[0, u]) * (corners[2, v] - corners[0, v])
        row[axis] -= (corners[1, v] - corners[0, v]) * (corners[2, u] - corners[0, u])
        middle += row[axis] * corners[0, axis]
    _bound(row, middle, middle)


@njit(cache=True, nogil=True)
def _bound(row, least, most):  # type: ignore[no-untyped-def]
    """Write a row's bounds, widened by half a voxel in every direction."""
    reach = 0.0
    for axis in range(3):
        reach += 0.5 * abs(row[axis])
    row[3], row[4] = least - reach, most + reach


@njit(cache=True, nogil=True)
def _invert(tests, first, last):  # type: ignore[no-untyped-def]
    """Append 1 / c to rows first to last - 1; 0 if a test does not depend on the axis."""
    for index in range(first, last):
        for axis in range(3):
            slope = tests[index, axis]
            tests[index, 5 + axis] = 1.0 / slope if abs(slope) > 1e-15 else 0.0


@njit(cache=True, nogil=True)
def _interval(tests, first, last, centre, axis, unsure):  # type: ignore[no-untyped-def]
    """Return which voxels of a run along an axis may pass tests first to last - 1, and surely do.

    ``centre`` (3,) is the run's position, voxels, 0 along the axis.

    Returns:
        First voxel that may pass, first that surely passes, end (exclusive) of those that surely
        pass, end (exclusive) of those that may pass.
    """
    may_low, may_high, sure_low, sure_high = 0.0, 1e9, 0.0, 1e9
    for index in range(first, last):
        row = tests[index]
        fixed = row[0] * centre[0] + row[1] * centre[1] + row[2] * centre[2]
        low, high, inverse = row[3] - fixed, row[4] - fixed, row[5 + axis]
        if inverse == 0.0:
            if low > unsure or high < -unsure:
                return 0, 0, 0, 0
            if low > -unsure or high < unsure:
                sure_high = 0.0
            continue
        slack = unsure * abs(inverse)
        low, high = low * inverse, high * inverse
        if low > high:
            low, high = high, low
        may_low, may_high = max(may_low, low - slack), min(may_high, high + slack)
        sure_low, sure_high = max(sure_low, low + slack), min(sure_high, high - slack)
    if may_low > may_high:
        return 0, 0, 0, 0
    return (
        int(np.ceil(may_low - 0.5)),
        int(np.ceil(sure_low - 0.5)),
        int(np.floor(max(sure_high, 0.0) + 0.5)),
        int(np.floor(may_high + 0.5)),
    )


@njit(cache=True, nogil=True)
def _touches(corners, x, y, z, resolution):  # type: ignore[no-untyped-def]
    """Return whether a closed voxel touches a triangle, by separating axes.

    T. Akenine-Möller, "Fast 3D triangle-box overlap testing" (2001). It is computed in canonical
    coordinates, so a triangle on the limit is rounded to the same side as in Open3D.
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
