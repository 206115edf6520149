"""The support of an object: the surface on which a person would put a cup.

It is rarely the highest one: a desk may have a shelf above its worktop, a tray has a rim, and the
seat of a chair is flat but carries nothing. The search has three steps:

1. Candidate levels are heights at which much of the surface is horizontal.
2. The mesh is sliced just below each level. The flat surface inside the slice, without what
   stands on it, is free.
3. The free surface must be large, wide and open enough.

Thresholds are ratios, so the result does not depend on the unit, except for the slice's depth.
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
"""Depth of the slice below the level: a share of the level's height, and at most this many metres.
"""

FLAT_COS = float(np.cos(np.radians(10.0)))
LEVEL_SHARE = 0.0015
"""Faces within this share of the object's height belong to one level, so an object on the highest
of them is at most a millimetre or two above the others."""

MIN_AREA_SHARE = 0.3
"""Least free area, as a share of the bounding box's ground area. Bottle caps have less."""

MIN_CLEARANCE_SHARE = 0.085
"""Least clearance, as a share of the level's height. Tops of fences and flat screens have less."""

SEAT_SHARE, LOWEST_SHARE = 0.65, 0.35
"""A level below the first share of the object's height is a seat or a tray, unless a shelf covers
a part of it. Below the second share it is an inside or a foot."""

MIN_SHELF_SHARE, MAX_COVER_SHARE = 0.15, 0.75
"""A shelf covers at least the first share of the surface below. A surface that is covered by more
than the second share is the inside of something."""

NEARLY_LARGEST = 0.6
"""The highest support wins among those with at least this share of the largest free area."""

REACH_SHARE = 0.5
"""Everything up to this share of the surface's inner radius above the level is an obstacle."""

MIN_ANCHOR_SHARE = 0.6
"""The centroid is the anchor if its distance to the edges is at least this share of the largest
possible one."""

MAX_LEVELS = 8


@dataclass(frozen=True)
class Support:
    """A flat surface that can carry another object; metres, the object's own frame."""

    height_m: float
    polygon: Polygon
    """The free surface, seen from above."""

    anchor_xy_m: tuple[float, float]
    """Where one object is placed."""

    clearance_m: float
    """Distance from the anchor to the nearest edge or obstacle."""

    headroom_m: float
    """Free height above the polygon; inf if nothing is above it."""


@dataclass(frozen=True)
class MeasuredMesh:
    """Triangles and the measures of them that are used several times."""

    triangles: Floats
    """(F, 3, 3)."""

    low: Floats
    """(F,): z of each face's lowest point."""

    high: Floats
    """(F,): z of each face's highest point."""

    is_flat: NDArray[np.bool_]
    """(F,): whether a face is horizontal within ten degrees. Its winding does not matter, because
    furniture packs contain both."""

    area: Floats
    """(F,): area of each face seen from above."""

    height: float
    """Height of the bounding box."""

    footprint: float
    """Ground area of the bounding box."""


def find_support(vertices: AnyFloats, faces: AnyIntegers) -> Support | None:
    """Return the surface of an object on which other objects can stand, or None if it has none.

    Of several with similar areas it is the highest one.

    Args:
        vertices: (V, 3), metres, z_up; the object stands on z = 0.
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
    """Return the triangles and their measures.

    Args:
        triangles: (F, 3, 3), metres, z_up.
    """
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
    """Yield height, metres, and face indices (M,) of the levels, the largest area first."""
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
    """Return the support at a level, or None if it has too little free space.

    Args:
        mesh: the object.
        level: height, metres.
        members: (M,), indices of the level's faces.
    """
    if level < LOWEST_SHARE * mesh.height:
        return None
    gap = 0.01 * float(np.sqrt(mesh.footprint))
    surface = shapely.union_all(projections(mesh.triangles[members]))
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
    headroom, shelf, cover = space_above(mesh, level, reach, free.buffer(-gap), gap)
    if cover > MAX_COVER_SHARE or (level < SEAT_SHARE * mesh.height and shelf < MIN_SHELF_SHARE):
        return None
    return Support(level, free, anchor, clearance, headroom)


def flat_surface(
    mesh: MeasuredMesh, level: float, surface: BaseGeometry, gap: float
) -> BaseGeometry:
    """Return a level's surface seen from above: cracks closed, inside the slice below it.

    Args:
        mesh: the object.
        level: height, metres.
        surface: the level's faces seen from above.
        gap: width of the widest crack that is closed, metres.
    """
    top = surface.buffer(gap, join_style="mitre").buffer(-gap, join_style="mitre")
    solid = slice_mesh(mesh, level - min(SLICE_SHARE * level, SLICE_MAX_M))
    inside = top.intersection(solid.buffer(gap, join_style="mitre"))
    # A sheet thinner than the slice's depth, such as glass or paper, is not in the slice.
    return inside if inside.area > 0.5 * top.area else top


def slice_mesh(mesh: MeasuredMesh, height: float) -> BaseGeometry:
    """Return the filled outline of the mesh at a height, metres."""
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
    """Return the area, seen from above, of everything from the level up to ``reach`` above it.

    Args:
        mesh: the object.
        level: height, metres.
        reach: metres.
        flat: the level's surface; obstacles that do not touch it are left out.
        gap: width of the narrowest thing that counts, metres.
    """
    bottom, top = level + 1e-4 * mesh.height, level + reach
    band = (mesh.high > bottom) & (mesh.low < top)
    pieces = clip_heights(mesh.triangles[band], bottom, top)
    shapes = coarse_projections(pieces, gap)
    near = shapes[shapely.intersects(shapes, flat)]
    return shapely.union_all(shapely.buffer(near, 0.1 * gap, quad_segs=1))


def clip_heights(triangles: Floats, bottom: float, top: float) -> Floats:
    """Return the parts between two heights of triangles (F, 3, 3), again as triangles."""
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
    """Return the free height above an area, and the shares of it under shelves and under anything.

    A shelf is a horizontal surface.

    Args:
        mesh: the object.
        level: the area's height, metres.
        reach: height, metres, up to which everything is an obstacle and not counted here.
        inner: the area.
        gap: width of the narrowest thing that counts, metres.
    """
    above = np.flatnonzero(mesh.high > level + reach)
    shapes = projections(mesh.triangles[above])
    hits = shapely.intersects(shapes, inner)
    if not hits.any():
        return np.inf, 0.0, 0.0
    # What reaches down into the obstacles' band was removed there; only the part above counts.
    headroom = max(float(mesh.low[above[hits]].min()) - level, reach)
    covers = (
        shapely.union_all(coarse_projections(mesh.triangles[above[chosen]], gap))
        .intersection(inner)
        .area
        / inner.area
        for chosen in (hits & mesh.is_flat[above], hits)
    )
    shelf, cover = covers
    return headroom, shelf, cover


def projections(triangles: Floats) -> NDArray[np.object_]:
    """Return triangles (F, 3, 3) seen from above, (F,) polygons; upright ones become lines."""
    owner = np.repeat(np.arange(len(triangles)), 3)
    points = shapely.multipoints(triangles[:, :, :2].reshape(-1, 2), indices=owner)
    hulls: NDArray[np.object_] = np.atleast_1d(shapely.convex_hull(points))
    return hulls


def coarse_projections(triangles: Floats, gap: float) -> NDArray[np.object_]:
    """Return triangles (F, 3, 3) seen from above, small ones enlarged to boxes on a coarse grid.

    Boxes of thousands of small triangles are equal and count once, so their union is fast.

    Args:
        triangles: (F, 3, 3).
        gap: triangles below this size are small; the grid's cells are a quarter of it.
    """
    low, high = triangles[:, :, :2].min(axis=1), triangles[:, :, :2].max(axis=1)
    is_small = (high - low).max(axis=1) < gap
    step = gap / 4
    cells = np.concatenate([np.floor(low / step), np.ceil(high / step)], axis=1)[is_small]
    boxes = shapely.box(*(np.unique(cells, axis=0) * step).T)
    return np.concatenate([projections(triangles[~is_small]), boxes])


def largest_part(area: BaseGeometry, gap: float) -> Polygon:
    """Return the largest connected part after removing slivers narrower than two gaps."""
    opened = area.buffer(-gap, join_style="mitre").buffer(gap, join_style="mitre")
    parts = opened.geoms if isinstance(opened, MultiPolygon) else [opened]
    return max((part for part in parts if isinstance(part, Polygon)), key=lambda part: part.area)


def find_anchor(
    polygon: Polygon, surface: BaseGeometry, gap: float
) -> tuple[tuple[float, float], float]:
    """Return the point where one object is placed, and its distance to the nearest edge.

    It is the centroid, or the point farthest from all edges if the centroid is too near to one.

    Args:
        polygon: the free surface, cracks closed.
        surface: the faces themselves. A point in a crack, such as between two slats of a bench,
            moves onto the nearest face.
        gap: width of the narrowest thing that counts, metres.
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
    """Return the distance to the nearest edge of a polygon or of its holes."""
    return float(polygon.boundary.distance(point))


def inscribed_circle(polygon: BaseGeometry) -> tuple[Point, float]:
    """Return the centre and radius of the largest circle inside an area."""
    radius = shapely.maximum_inscribed_circle(polygon, tolerance=0.01 * np.sqrt(polygon.area))
    return Point(radius.coords[0]), float(radius.length)


def inner_radius(area: BaseGeometry) -> float:
    """Return the radius of the largest circle inside an area."""
    return inscribed_circle(area)[1]
