"""Where on an object a person would put a cup.

That is seldom the highest triangle: a desk has a shelf above its worktop, a tray has a rim, and a
chair's seat is no table although it is flat. Candidate levels are the heights at which much of the
surface is horizontal. For each, the mesh is sliced just below the level and the flat part of that
slice, less everything that stands on it, is measured. Every threshold is a ratio; an object in
millimetres gives the same answer as in metres, but for the depth of the slice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
import trimesh
from numpy.typing import NDArray
from shapely import MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry

from datagen.core.frames import AnyFloats, AnyIntegers, Floats

SLICE_SHARE, SLICE_MAX_M = 0.02, 0.01
"""The slice lies below the level by this share of its height, but at most so deep."""

FLAT_COS = float(np.cos(np.radians(10.0)))
LEVEL_SHARE = 0.0015
"""Faces within this share of the object's height belong to one level: what stands on the highest
of them is nowhere more than a millimetre or two above the others."""

MIN_AREA_SHARE = 0.3
"""Of the box's ground area; a bottle's cap or a lamp's finial is less."""

MIN_CLEARANCE_SHARE = 0.085
"""Distance to the nearest edge by height: less is the top of a fence or of a flat screen."""

SEAT_SHARE, LOWEST_SHARE = 0.65, 0.35
"""A level below the first share of the object's height is a seat or a tray, unless something
hovers over it, as a shelf over a worktop; below the second it is an inside or a foot."""

MIN_HOVER_SHARE, MAX_ROOF_SHARE = 0.15, 0.75
"""A shelf covers a part of a worktop; what is covered almost whole is the inside of something."""

NEARLY_LARGEST = 0.6
"""The highest level wins among those with this share of the largest usable area."""

REACH_SHARE = 0.5
"""What is lower above the level than this share of its inner radius stands in the way."""

MIN_ANCHOR_SHARE = 0.6
"""The centroid is the anchor unless it is nearer to an edge than this share of the best point."""

MAX_LEVELS = 8


@dataclass(frozen=True)
class Support:
    """A flat place that can carry another object. Frame and units are the object's own."""

    height_m: float
    polygon: Polygon
    """The free flat surface, seen from above."""

    anchor_xy_m: tuple[float, float]
    """Where to stand things."""

    clearance_m: float
    """Distance from the anchor to the nearest edge or obstacle."""

    headroom_m: float
    """Free height above the polygon; inf when open."""


@dataclass(frozen=True)
class MeasuredMesh:
    """Triangles and what is asked of them again and again."""

    triangles: Floats
    """(F, 3, 3)."""

    low: Floats
    """(F,), z of each face's lowest point."""

    high: Floats
    """(F,)."""

    is_flat: NDArray[np.bool_]
    """(F,), horizontal within ten degrees, whichever way it faces: packs wind faces both ways."""

    area: Floats
    """(F,), seen from above."""

    height: float
    footprint: float
    """Ground area of the box."""


def find_support(vertices: AnyFloats, faces: AnyIntegers) -> Support | None:
    """Return the place for a cup, or None where nobody would put one.

    Args:
        vertices: (V, 3), metres, z_up, standing on z = 0.
        faces: (F, 3).
    """
    if len(faces) == 0:
        return None
    mesh = measure_mesh(np.asarray(vertices, np.float64)[faces])
    if mesh.height <= 0 or mesh.footprint <= 0:
        return None
    found = [
        support
        for level, members in find_levels(mesh)
        if (support := fit_support(mesh, level, members)) is not None
    ]
    if not found:
        return None
    largest = max(support.polygon.area for support in found)
    wide = [support for support in found if support.polygon.area >= NEARLY_LARGEST * largest]
    return max(wide, key=lambda support: support.height_m)


def measure_mesh(triangles: Floats) -> MeasuredMesh:
    """Return the triangles (F, 3, 3) with their measures."""
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    length = np.linalg.norm(normal, axis=1)
    extent = np.ptp(triangles.reshape(-1, 3), axis=0)
    return MeasuredMesh(
        triangles=triangles,
        low=triangles[:, :, 2].min(axis=1),
        high=triangles[:, :, 2].max(axis=1),
        is_flat=np.abs(normal[:, 2]) > FLAT_COS * np.maximum(length, np.finfo(float).tiny),
        area=np.abs(normal[:, 2]) / 2,
        height=float(extent[2]),
        footprint=float(extent[0] * extent[1]),
    )


def find_levels(mesh: MeasuredMesh) -> Iterator[tuple[float, NDArray[np.int64]]]:
    """Yield height and faces of the levels with enough horizontal surface, the largest first."""
    width = LEVEL_SHARE * mesh.height
    left = np.flatnonzero(mesh.is_flat & (mesh.high - mesh.low <= width))
    left = left[np.argsort(mesh.high[left], kind="stable")]
    for _ in range(MAX_LEVELS):
        heights = mesh.high[left]
        total = np.r_[0.0, np.cumsum(mesh.area[left])]
        start = np.searchsorted(heights, heights - width, side="left")
        window = total[1:] - total[start]
        if len(window) == 0 or window.max() < MIN_AREA_SHARE * mesh.footprint:
            return
        end = int(window.argmax())
        members = left[start[end] : end + 1]
        yield float(heights[end]), members
        left = np.delete(left, slice(start[end], end + 1))


def fit_support(mesh: MeasuredMesh, level: float, members: NDArray[np.int64]) -> Support | None:
    """Return what a level offers, or None if that is too little."""
    if level < LOWEST_SHARE * mesh.height:
        return None
    gap = 0.01 * float(np.sqrt(mesh.footprint))
    surface = shapely.union_all(shadows(mesh.triangles[members]))
    flat = flat_surface(mesh, level, surface, gap)
    if flat.area < MIN_AREA_SHARE * mesh.footprint:
        return None
    reach = REACH_SHARE * inner_radius(flat)
    free = largest_part(flat.difference(obstacles(mesh, level, reach, flat, gap)), gap)
    if free.area < MIN_AREA_SHARE * mesh.footprint:
        return None
    anchor, clearance = find_anchor(free, surface, gap)
    if clearance < MIN_CLEARANCE_SHARE * level:
        return None
    headroom, hover, roof = space_above(mesh, level, reach, free.buffer(-gap), gap)
    if roof > MAX_ROOF_SHARE or (level < SEAT_SHARE * mesh.height and hover < MIN_HOVER_SHARE):
        return None
    return Support(level, free, anchor, clearance, headroom)


def flat_surface(
    mesh: MeasuredMesh, level: float, surface: BaseGeometry, gap: float
) -> BaseGeometry:
    """Return a level's faces seen from above, cracks closed, within the slice just below them."""
    top = surface.buffer(gap, join_style="mitre").buffer(-gap, join_style="mitre")
    solid = slice_mesh(mesh, level - min(SLICE_SHARE * level, SLICE_MAX_M))
    inside = top.intersection(solid.buffer(gap, join_style="mitre"))
    # A sheet of glass or paper thinner than the slice is deep leaves no slice worth the name.
    return inside if inside.area > 0.5 * top.area else top


def slice_mesh(mesh: MeasuredMesh, height: float) -> BaseGeometry:
    """Return the filled outline of the mesh at a height."""
    crossing = mesh.triangles[(mesh.low < height) & (mesh.high > height)]
    if len(crossing) == 0:
        return Polygon()
    solid = trimesh.Trimesh(**trimesh.triangles.to_kwargs(crossing), process=True)
    section = solid.section(plane_normal=[0, 0, 1], plane_origin=[0, 0, height])
    if section is None:
        return Polygon()
    down = np.eye(4)
    down[2, 3] = -height
    outline, _ = section.to_2D(to_2D=down)
    return shapely.union_all([shape for shape in outline.polygons_closed if shape is not None])


def obstacles(
    mesh: MeasuredMesh, level: float, reach: float, flat: BaseGeometry, gap: float
) -> BaseGeometry:
    """Return the ground area of all that stands on the level or hangs close above it."""
    bottom, top = level + 1e-4 * mesh.height, level + reach
    band = (mesh.high > bottom) & (mesh.low < top)
    pieces = clip_heights(mesh.triangles[band], bottom, top)
    shapes = coarse_shadows(pieces, gap)
    near = shapes[shapely.intersects(shapes, flat)]
    return shapely.union_all(shapely.buffer(near, 0.1 * gap, quad_segs=1))


def clip_heights(triangles: Floats, bottom: float, top: float) -> Floats:
    """Return the parts of (F, 3, 3) triangles between two heights, as triangles."""
    for height, up in ((bottom, 1.0), (top, -1.0)):
        if len(triangles) == 0:
            return triangles
        vertices, faces, _ = trimesh.intersections.slice_faces_plane(
            triangles.reshape(-1, 3),
            np.arange(3 * len(triangles)).reshape(-1, 3),
            plane_normal=[0, 0, up],
            plane_origin=[0, 0, height],
        )
        triangles = np.asarray(vertices)[faces]
    return triangles


def space_above(
    mesh: MeasuredMesh, level: float, reach: float, inner: BaseGeometry, gap: float
) -> tuple[float, float, float]:
    """Return the free height above an area, its share under level surfaces, and under anything."""
    above = np.flatnonzero(mesh.high > level + reach)
    shapes = shadows(mesh.triangles[above])
    hits = shapely.intersects(shapes, inner)
    if not hits.any():
        return np.inf, 0.0, 0.0
    # What reaches down below the band was taken out as an obstacle; only its upper part is here.
    headroom = max(float(mesh.low[above[hits]].min()) - level, reach)
    covers = (
        shapely.union_all(coarse_shadows(mesh.triangles[above[chosen]], gap))
        .intersection(inner)
        .area
        / inner.area
        for chosen in (hits & mesh.is_flat[above], hits)
    )
    hover, roof = covers
    return headroom, hover, roof


def shadows(triangles: Floats) -> NDArray[np.object_]:
    """Return (F, 3, 3) triangles seen from above: polygons, or lines where they stand upright."""
    owner = np.repeat(np.arange(len(triangles)), 3)
    points = shapely.multipoints(triangles[:, :, :2].reshape(-1, 2), indices=owner)
    hulls: NDArray[np.object_] = np.atleast_1d(shapely.convex_hull(points))
    return hulls


def coarse_shadows(triangles: Floats, gap: float) -> NDArray[np.object_]:
    """Return shadows in which those smaller than a gap grow into boxes on a grid of gap / 4.

    Thousands of them then fall on each other, and their union costs little.
    """
    low, high = triangles[:, :, :2].min(axis=1), triangles[:, :, :2].max(axis=1)
    is_small = (high - low).max(axis=1) < gap
    step = gap / 4
    cells = np.concatenate([np.floor(low / step), np.ceil(high / step)], axis=1)[is_small]
    boxes = shapely.box(*(np.unique(cells, axis=0) * step).T)
    return np.concatenate([shadows(triangles[~is_small]), boxes])


def largest_part(area: BaseGeometry, gap: float) -> Polygon:
    """Return the largest connected part, slivers narrower than two gaps cut off."""
    opened = area.buffer(-gap, join_style="mitre").buffer(gap, join_style="mitre")
    parts = opened.geoms if isinstance(opened, MultiPolygon) else [opened]
    return max((part for part in parts if isinstance(part, Polygon)), key=lambda part: part.area)


def find_anchor(
    polygon: Polygon, surface: BaseGeometry, gap: float
) -> tuple[tuple[float, float], float]:
    """Return the centroid, or the point farthest from all edges, with its distance to them.

    Args:
        polygon: where things can stand.
        surface: what is really there; between two slats of a bench there is nothing, and the
            anchor moves onto the nearer one.
        gap: width of the narrowest thing that counts.
    """
    anchor, best = inscribed_circle(polygon)
    center = polygon.centroid
    is_inside = bool(polygon.contains(center))
    if is_inside and edge_distance(polygon, center) >= MIN_ANCHOR_SHARE * best:
        anchor = center
    if not surface.contains(anchor):
        solid = surface.intersection(polygon.buffer(-gap))
        inner = solid.buffer(-gap / 4)
        anchor = shapely.shortest_line(anchor, solid if inner.is_empty else inner).boundary.geoms[1]
    return (anchor.x, anchor.y), edge_distance(polygon, anchor)


def edge_distance(polygon: Polygon, point: Point) -> float:
    """Return the distance to the nearest edge, holes' edges among them."""
    return float(polygon.boundary.distance(point))


def inscribed_circle(polygon: BaseGeometry) -> tuple[Point, float]:
    """Return centre and radius of the largest circle inside."""
    radius = shapely.maximum_inscribed_circle(polygon, tolerance=0.01 * np.sqrt(polygon.area))
    return Point(radius.coords[0]), float(radius.length)


def inner_radius(area: BaseGeometry) -> float:
    """Return the radius of the largest circle inside an area."""
    return inscribed_circle(area)[1]
