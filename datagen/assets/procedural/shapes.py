"""Surfaces that the procedural objects are made of: boxes, cushions, turned profiles, tubes.

Every shape is a Part: triangles with their own corners where an edge is sharp, so that averaged
vertex normals look right, with texture coordinates in metres. Z up; outside is counter-clockwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datagen.assets.procedural.materials import Material
from datagen.core.frames import Floats

SHARP_RAD = np.radians(35.0)


@dataclass(frozen=True)
class Part:
    """A surface of one material."""

    vertices: Floats
    """(V, 3), metres, z_up."""

    faces: NDArray[np.int64]
    """(F, 3)."""

    uv: Floats
    """(V, 2), metres along the surface."""

    material: Material

    def moved(self, offset: ArrayLike) -> "Part":
        """Return the part shifted by (3,) metres."""
        return replace(self, vertices=self.vertices + np.asarray(offset, np.float64))

    def turned(self, rotation: Floats) -> "Part":
        """Return the part after a (3, 3) rotation about the origin."""
        return replace(self, vertices=self.vertices @ rotation.T)


def box(size: Sequence[float], center: Sequence[float], material: Material) -> Part:
    """Return a box with flat sides; the texture's u runs along each side's longer edge."""
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
    """Return a box with round edges and corners of a radius, as upholstery and toys have."""
    half = np.asarray(size, np.float64) / 2
    radius = min(radius, float(half.min()) * 0.999)
    # A cube sphere with an even number of points a side never has a point on an axis plane, so
    # the sign of each coordinate says which corner of the box its ball belongs to.
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
    # The six patches share their rims; one vertex there keeps the shading without a seam.
    rims, first, inverse = np.unique(
        np.concatenate(vertices).round(9), axis=0, return_index=True, return_inverse=True
    )
    moved = rims + np.asarray(center, np.float64)
    welded = inverse.reshape(-1)[np.concatenate(faces)]
    return Part(moved, welded, np.concatenate(uvs)[first], material)


def lathe(
    profile: ArrayLike, center: Sequence[float], material: Material, segments: int = 32
) -> Part:
    """Return the surface that a profile sweeps about the vertical axis.

    Args:
        profile: (P, 2), metres: radius and height, with the solid on the left of the walk, that
            is from the bottom's middle outwards, up the outside and back to the middle.
        center: where the axis stands and height zero is.
        material: of the whole surface.
        segments: around the axis.
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
    """Return the indices of a polyline's corners that turn by more than SHARP_RAD."""
    steps = np.diff(points, axis=0)
    angle = np.arctan2(steps[:, 1], steps[:, 0])
    turn = np.abs((np.diff(angle) + np.pi) % (2 * np.pi) - np.pi)
    return np.flatnonzero(turn > SHARP_RAD) + 1


def revolve(points: Floats, segments: int, material: Material) -> Part:
    """Return one smooth piece of a turned surface, (P, 2) radius and height."""
    angles = np.linspace(0, 2 * np.pi, segments + 1)
    angles[-1] = 0.0  # The seam's two columns are the same points to the last bit.
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
    """Return a closed cylinder or cone frustum standing on a point."""
    top = radius if top_radius is None else top_radius
    return lathe([(0, 0), (radius, 0), (top, height), (0, height)], base, material, segments)


def tube(path: ArrayLike, radius: float, material: Material, segments: int = 12) -> Part:
    """Return a round bar along a (P, 3) path, closed by flat ends and mitred at its corners."""
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
        side = side - tangent * (side @ tangent)  # Carried along, so that the tube never twists.
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
    """Return the (3, 3) stretch along a corner's bend that keeps a bar as thick as before it.

    The bend is the difference of the unit directions after and before, of length 2 sin(angle / 2).
    """
    half_sin = float(np.linalg.norm(bend)) / 2
    if half_sin == 0.0:
        return np.eye(3)
    along = bend / (2 * half_sin)
    stretch: Floats = np.eye(3) + (1 / np.sqrt(1 - half_sin**2) - 1) * np.outer(along, along)
    return stretch


def disk(ring: Floats, material: Material) -> Part:
    """Return the flat fan over a ring whose last point repeats the first, facing its axis."""
    corners = ring[:-1]
    count = len(corners)
    faces = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], -1)
    return Part(corners, faces, corners[:, :2].copy(), material)


def prism(outline: ArrayLike, depth: float, center: Sequence[float], material: Material) -> Part:
    """Return a convex (P, 2) outline in x and z, counter-clockwise seen from -Y, made deep in y."""
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
    """Return parts of one material as one part; vertices are not welded."""
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    return Part(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + o for part, o in zip(parts, offsets, strict=False)]),
        np.concatenate([part.uv for part in parts]),
        parts[0].material,
    )


def leaning(angle_rad: float) -> Floats:
    """Return the (3, 3) rotation about +X: positive leans an upright thing towards -Y."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
