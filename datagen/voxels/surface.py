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
    edges = np.empty((9, 4))
    for face in range(faces.shape[0]):
        for corner in range(3):
            corners[corner] = vertices[faces[face, corner]]
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
        if thick_axes <= 1:  # a row of voxels, and a triangle is connected: it meets them all
            grid[low[0] : high[0] + 1, low[1] : high[1] + 1, low[2] : high[2] + 1] = True
        else:
            _mark_triangle(corners, low, high, edges, grid)


@njit(cache=True, nogil=True)
def _mark_triangle(corners, low, high, edges, grid):  # type: ignore[no-untyped-def]
    """Mark the voxels in the range low..high whose box meets one triangle (3, 3).

    Separating axes in voxel units, their triangle side computed once: 9 edge tests, each in a
    coordinate plane, and the triangle's plane. A verdict too close to call in float64 is left to
    ``_touches``, which rounds as Open3D does. ``edges`` (9, 4) is scratch space.
    """
    resolution = grid.shape[0]
    units = (corners + 0.5) * resolution
    _fill_edge_tests(units, edges)
    e, f = units[1] - units[0], units[2] - units[0]
    nx = e[1] * f[2] - e[2] * f[1]
    ny = e[2] * f[0] - e[0] * f[2]
    nz = e[0] * f[1] - e[1] * f[0]
    reach = 0.5 * (abs(nx) + abs(ny) + abs(nz))
    unsure = 1e-13 * (1.0 + np.abs(units).max()) ** 3
    for x in range(low[0], high[0] + 1):
        for y in range(low[1], high[1] + 1):
            column = _edge_margin(edges, 0, x + 0.5, y + 0.5)
            if column < -unsure:
                continue
            off = nx * (x + 0.5 - units[0, 0]) + ny * (y + 0.5 - units[0, 1])
            first, last = low[2], high[2]
            if abs(nz) > 1e-6 * reach:  # the plane leaves only part of the column
                middle, half = units[0, 2] - off / nz, reach / abs(nz) + 1.0
                first = max(first, int(max(middle - half, 0.0)))
                last = min(last, int(min(middle + half, resolution - 1.0)))
            for z in range(first, last + 1):
                if grid[x, y, z]:
                    continue
                plane = reach - abs(off + nz * (z + 0.5 - units[0, 2]))
                margin = min(column, plane, _edge_margin(edges, 3, y + 0.5, z + 0.5))
                margin = min(margin, _edge_margin(edges, 6, z + 0.5, x + 0.5))
                if margin > unsure or (margin >= -unsure and _touches(corners, x, y, z, resolution)):
                    grid[x, y, z] = True


@njit(cache=True, nogil=True)
def _fill_edge_tests(units, edges):  # type: ignore[no-untyped-def]
    """Fill rows (du, dv, lower, upper): a box is kept if lower <= du·v - dv·u <= upper.

    Rows 0-2 are the triangle's edges in the plane (u, v) = (x, y), 3-5 in (y, z), 6-8 in (z, x).
    """
    for plane in range(3):
        u, v = plane, (plane + 1) % 3
        for corner in range(3):
            p, q, r = units[corner], units[(corner + 1) % 3], units[(corner + 2) % 3]
            du, dv = q[u] - p[u], q[v] - p[v]
            on_edge = du * p[v] - dv * p[u]
            opposite = du * r[v] - dv * r[u]
            reach = 0.5 * (abs(du) + abs(dv))
            row = 3 * plane + corner
            edges[row, 0], edges[row, 1] = du, dv
            edges[row, 2] = min(on_edge, opposite) - reach
            edges[row, 3] = max(on_edge, opposite) + reach


@njit(cache=True, nogil=True)
def _edge_margin(edges, row, u, v):  # type: ignore[no-untyped-def]
    """Return how far inside all three edge tests from ``row`` a voxel centre (u, v) is."""
    margin = np.inf
    for index in range(row, row + 3):
        side = edges[index, 0] * v - edges[index, 1] * u
        margin = min(margin, side - edges[index, 2], edges[index, 3] - side)
    return margin


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
