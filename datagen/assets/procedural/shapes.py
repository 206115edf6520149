"""Shapes from which procedural objects are built: boxes, cushions, lathed profiles, tubes.

Every shape is a Part, Z up, metres. Triangles are counter-clockwise seen from outside and share
no vertex across a sharp edge, so averaged vertex normals look right.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datagen.assets.procedural.materials import Material
from datagen.core.frames import Floats

SHARP_RAD = np.radians(35.0)
CORNER_SIGNS = ((-1, -1), (1, -1), (1, 1), (-1, 1))
"""Signs of x and y in the four corners of a rectangle about the origin, counter-clockwise."""


@dataclass(frozen=True)
class Part:
    """A surface of one material."""

    vertices: Floats
    """(V, 3), metres, z_up."""

    faces: NDArray[np.int64]
    """(F, 3)."""

    uv: Floats
    """(V, 2), texture coordinates, metres along the surface."""

    material: Material

    def moved(self, offset: ArrayLike) -> "Part":
        """Return the part moved by ``offset`` (3,), metres."""
        return replace(self, vertices=self.vertices + np.asarray(offset, np.float64))

    def rotated(self, rotation: Floats) -> "Part":
        """Return the part after a rotation (3, 3) about the origin."""
        return replace(self, vertices=self.vertices @ rotation.T)


def box(size: Sequence[float], center: Sequence[float], material: Material) -> Part:
    """Return a box; the texture's u runs along the longer edge of each side.

    Args:
        size: (3,), metres along x, y and z.
        center: (3,), metres.
        material: of the whole surface.
    """
    half = np.asarray(size, np.float64) / 2
    corners: list[Floats] = []
    uvs: list[Floats] = []
    faces: list[NDArray[np.int64]] = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u_axis, v_axis = (axis + 1) % 3, (axis + 2) % 3
            uv = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half[[u_axis, v_axis]]
            quad = np.empty((4, 3))
            quad[:, axis], quad[:, u_axis], quad[:, v_axis] = sign * half[axis], uv[:, 0], uv[:, 1]
            start = 4 * len(corners)
            corners.append(quad)
            uvs.append(uv if half[u_axis] >= half[v_axis] else uv[:, ::-1])
            winding = [[0, 1, 2], [0, 2, 3]] if sign > 0 else [[0, 2, 1], [0, 3, 2]]
            faces.append(start + np.array(winding))
    vertices = np.concatenate(corners) + np.asarray(center, np.float64)
    return Part(vertices, np.concatenate(faces), np.concatenate(uvs), material)


def cushion(
    size: Sequence[float],
    center: Sequence[float],
    radius: float,
    material: Material,
    steps: int = 6,
) -> Part:
    """Return a box with rounded edges and corners.

    Args:
        size: (3,), metres along x, y and z.
        center: (3,), metres.
        radius: of the edges and corners, metres.
        material: of the whole surface.
        steps: vertices along each side; even.
    """
    half = np.asarray(size, np.float64) / 2
    radius = min(radius, float(half.min()) * 0.999)
    # A cube sphere with an even number of points along a side has no point on an axis plane, so
    # the signs of a point's coordinates name the box corner to which it is moved.
    ticks = np.tan(np.linspace(-np.pi / 4, np.pi / 4, steps))
    a, b = (grid.ravel() for grid in np.meshgrid(ticks, ticks, indexing="ij"))
    index = np.arange(steps * steps).reshape(steps, steps)
    quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], -1)
    quads = quads.reshape(-1, 4)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    vertices: list[Floats] = []
    uvs: list[Floats] = []
    faces: list[NDArray[np.int64]] = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            cube = np.empty((steps * steps, 3))
            cube[:, axis], cube[:, (axis + 1) % 3], cube[:, (axis + 2) % 3] = sign, a, b
            normal = cube / np.linalg.norm(cube, axis=1, keepdims=True)
            points: Floats = np.sign(cube) * (half - radius) + radius * normal
            faces.append(
                steps * steps * len(vertices) + (triangles if sign > 0 else triangles[:, ::-1])
            )
            vertices.append(points)
            uvs.append(points[:, [(axis + 1) % 3, (axis + 2) % 3]])
    # The six patches share their borders; welding the vertices there avoids a seam in the shading.
    rims, first, inverse = np.unique(
        np.concatenate(vertices).round(9), axis=0, return_index=True, return_inverse=True
    )
    moved = rims + np.asarray(center, np.float64)
    welded = inverse.reshape(-1)[np.concatenate(faces)]
    return Part(moved, welded, np.concatenate(uvs)[first], material)


def lathe(
    profile: ArrayLike, center: Sequence[float], material: Material, segments: int = 32
) -> Part:
    """Return the surface of revolution of a profile about the vertical axis.

    Args:
        profile: (P, 2), metres: radius and height. Along the profile the solid is on the left:
            from the axis outwards along the bottom, up the outside, and back to the axis.
        center: (3,), metres: where the profile has radius and height 0.
        material: of the whole surface.
        segments: number of segments around the axis.
    """
    points = np.asarray(profile, np.float64)
    steps = np.diff(points, axis=0)
    points = points[np.r_[True, np.linalg.norm(steps, axis=1) > 0]]
    chains = np.split(points, sharp_corners(points)) if len(points) > 2 else [points]
    starts = np.r_[0, sharp_corners(points)]
    parts = [
        revolve(points[start : start + len(chain) + 1], segments, material)
        for start, chain in zip(starts, chains, strict=True)
        if len(points[start : start + len(chain) + 1]) > 1
    ]
    return merge(parts).moved(center)


def sharp_corners(points: Floats) -> NDArray[np.int64]:
    """Return the indices of a polyline's (P, 2) corners whose angle exceeds SHARP_RAD."""
    steps = np.diff(points, axis=0)
    direction = np.arctan2(steps[:, 1], steps[:, 0])
    angle = np.abs((np.diff(direction) + np.pi) % (2 * np.pi) - np.pi)
    return np.flatnonzero(angle > SHARP_RAD) + 1


def revolve(points: Floats, segments: int, material: Material) -> Part:
    """Return the smooth surface of revolution of points (P, 2): radius and height, metres."""
    angles = np.linspace(0, 2 * np.pi, segments + 1)
    angles[-1] = 0.0  # The two columns at the seam must be equal to the last bit.
    ring = np.stack([np.cos(angles), np.sin(angles)], -1)
    vertices = np.concatenate(
        [np.column_stack([radius * ring, np.full(segments + 1, z)]) for radius, z in points]
    )
    arc = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    around = np.linspace(0, 2 * np.pi * points[:, 0].max(), segments + 1)
    uv = np.stack(np.broadcast_arrays(around[None, :], arc[:, None]), -1).reshape(-1, 2)
    row, column = np.meshgrid(np.arange(len(points) - 1), np.arange(segments), indexing="ij")
    low = (row * (segments + 1) + column).ravel()
    high = low + segments + 1
    lower = np.stack([low, low + 1, high + 1], -1)[np.repeat(points[:-1, 0] > 0, segments)]
    upper = np.stack([low, high + 1, high], -1)[np.repeat(points[1:, 0] > 0, segments)]
    return Part(vertices, np.concatenate([lower, upper]), uv, material)


def cylinder(
    radius: float,
    height: float,
    base: Sequence[float],
    material: Material,
    *,
    top_radius: float | None = None,
    segments: int = 24,
) -> Part:
    """Return a closed upright cylinder, or a cone frustum if the top has another radius.

    Args:
        radius: metres.
        height: metres.
        base: (3,), metres: the centre of the bottom.
        material: of the whole surface.
        top_radius: metres; None: as the bottom.
        segments: number of segments around the axis.
    """
    top = radius if top_radius is None else top_radius
    return lathe([(0, 0), (radius, 0), (top, height), (0, height)], base, material, segments)


def tube(path: ArrayLike, radius: float, material: Material, segments: int = 12) -> Part:
    """Return a round bar with flat ends along a path, mitred at its corners.

    Args:
        path: (P, 3), metres.
        radius: metres.
        material: of the whole surface.
        segments: number of segments around the bar.
    """
    points = np.asarray(path, np.float64)
    steps = np.diff(points, axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    tangents = np.concatenate([steps[:1], steps[:-1] + steps[1:], steps[-1:]])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    bends = np.concatenate([np.zeros((1, 3)), steps[1:] - steps[:-1], np.zeros((1, 3))])
    side = np.cross(tangents[0], np.eye(3)[np.abs(tangents[0]).argmin()])
    angles = np.linspace(0, 2 * np.pi, segments + 1)
    angles[-1] = 0.0
    rings = []
    for point, tangent, bend in zip(points, tangents, bends, strict=True):
        side = side - tangent * (side @ tangent)  # carried along, so that the tube does not twist
        side /= np.linalg.norm(side)
        up = np.cross(tangent, side)
        ring = radius * (np.outer(np.cos(angles), side) + np.outer(np.sin(angles), up))
        rings.append(point + ring @ mitre(bend))
    arc = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    around = radius * np.linspace(0, 2 * np.pi, segments + 1)
    uv = np.stack(np.broadcast_arrays(arc[:, None], around[None, :]), -1).reshape(-1, 2)
    row, column = np.meshgrid(np.arange(len(points) - 1), np.arange(segments), indexing="ij")
    low = (row * (segments + 1) + column).ravel()
    high = low + segments + 1
    faces = np.concatenate(
        [np.stack([low, low + 1, high + 1], -1), np.stack([low, high + 1, high], -1)]
    )
    wall = Part(np.concatenate(rings), faces, uv, material)
    return merge([wall, disk(rings[0][::-1], material), disk(rings[-1], material)])


def mitre(bend: Floats) -> Floats:
    """Return the (3, 3) stretch of a ring at a corner that keeps the bar's thickness.

    Args:
        bend: (3,), unit direction after the corner minus unit direction before it. Its length is
            2 sin(angle / 2).
    """
    half_sin = float(np.linalg.norm(bend)) / 2
    if half_sin == 0.0:
        return np.eye(3)
    along = bend / (2 * half_sin)
    stretch: Floats = np.eye(3) + (1 / np.sqrt(1 - half_sin**2) - 1) * np.outer(along, along)
    return stretch


def disk(ring: Floats, material: Material) -> Part:
    """Return the flat disk inside a convex ring (P, 3) whose last point repeats the first."""
    corners = ring[:-1]
    count = len(corners)
    faces = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], -1)
    return Part(corners, faces, corners[:, :2].copy(), material)


def prism(outline: ArrayLike, depth: float, center: Sequence[float], material: Material) -> Part:
    """Return a prism: an outline in the xz plane, extruded along y.

    Args:
        outline: (P, 2), metres, x and z: convex, counter-clockwise seen from -Y.
        depth: metres along y.
        center: (3,), metres: where the outline's origin is, at half the depth.
        material: of the whole surface.
    """
    flat = np.asarray(outline, np.float64)
    front = np.column_stack([flat[:, 0], np.full(len(flat), -depth / 2), flat[:, 1]])
    back = front + np.array([0.0, depth, 0.0])
    caps = [
        replace(disk(np.vstack([front, front[:1]]), material), uv=flat),
        replace(disk(np.vstack([back, back[:1]])[::-1], material), uv=flat[::-1]),
    ]
    sides = []
    for i in range(len(flat)):
        j = (i + 1) % len(flat)
        quad = np.array([front[j], front[i], back[i], back[j]])
        length = float(np.linalg.norm(flat[j] - flat[i]))
        uv = np.array([[0, 0], [length, 0], [length, depth], [0, depth]])
        sides.append(Part(quad, np.array([[0, 1, 2], [0, 2, 3]]), uv, material))
    return merge([*caps, *sides]).moved(center)


def merge(parts: Sequence[Part]) -> Part:
    """Return parts as one part with the first one's material; vertices are not welded."""
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    return Part(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + o for part, o in zip(parts, offsets, strict=False)]),
        np.concatenate([part.uv for part in parts]),
        parts[0].material,
    )


def leaning(angle_rad: float) -> Floats:
    """Return the rotation (3, 3) about +X; a positive angle tilts an upright thing towards -Y."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
