"""Checks that a layout keeps its rules, from the meshes alone.

Most pairs have a short proof: two meshes are apart if their upright bounding cylinders are apart,
or if a horizontal plane lies between them. All other pairs are checked triangle by triangle. An
exhaustive check does this for every pair.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import shapely
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray
from shapely import MultiPoint, Point, Polygon

from datagen.core.frames import AnyIntegers, Floats, transform_points, yaw_rotation
from datagen.core.meshes import transform_mesh
from datagen.layouts.collision import Surface, penetrates
from datagen.shards import Row
from datagen.shards.scenes import asset_to_world

MAX_PENETRATION_M = 1e-3
"""Tolerated depth to which one mesh enters another."""
MAX_GAP_M = 2e-3
"""Tolerated distance between an object and the surface it stands on."""
SLACK_M = 1e-6
"""Tolerance for rounding: geometry is stored in float32."""


@dataclass(frozen=True)
class Solid:
    """An asset's triangles and its support surface; metres, the asset's own frame."""

    vertices: Floats
    """(V, 3)."""

    faces: AnyIntegers
    """(F, 3)."""

    support_height_m: float | None = None
    """Height of the support surface; None if there is none."""
    support_polygon: Polygon | None = None
    """Outline of the support surface seen from above; None if there is none."""

    @cached_property
    def radius_m(self) -> float:
        """Largest distance of a vertex from the vertical axis through the origin."""
        return float(np.hypot(self.vertices[:, 0], self.vertices[:, 1]).max())

    @cached_property
    def bottom_m(self) -> float:
        """Smallest z of a vertex."""
        return float(self.vertices[:, 2].min())

    @cached_property
    def top_m(self) -> float:
        """Largest z of a vertex."""
        return float(self.vertices[:, 2].max())

    @cached_property
    def footprint(self) -> Floats:
        """(H, 2), the corners of the convex hull seen from above."""
        hull = MultiPoint(self.vertices[:, :2]).convex_hull
        return np.asarray(shapely.get_coordinates(hull), np.float64)

    @cached_property
    def rays(self) -> EmbreeScene:
        """The triangles, ready for ray casting."""
        scene = EmbreeScene(robust=True)
        TriangleMesh(scene, np.ascontiguousarray(self.vertices, np.float32), self.faces)
        return scene


@dataclass(frozen=True)
class Violation:
    """One violation of a rule in a layout."""

    layout_id: int
    rule: str
    """One of radius, spacing, footprint, gap, penetration."""

    placement: int
    """Index of the placement in its layout."""
    other: int
    """Index of the other placement; of the same one if only one takes part."""

    value_m: float
    """The measured distance; for penetration, a depth that is certainly exceeded."""

    def __str__(self) -> str:
        return (
            f"layout {self.layout_id}: {self.rule} of placement {self.placement} "
            f"(with {self.other}): {self.value_m:.4g} m"
        )


class LayoutProof:
    """Checks layouts against their assets' meshes.

    Args:
        solid_of: returns the solid of an ``asset_id``.
    """

    def __init__(self, solid_of: Callable[[str], Solid]) -> None:
        self._solid_of = solid_of
        self.num_pairs = 0
        """Pairs of placements that were checked."""
        self.num_mesh_pairs = 0
        """Those of them that were checked triangle by triangle."""
        self.num_stacked = 0
        """Placements that stand on another placement."""

    def check(self, layout: Row, *, exhaustive: bool = False) -> list[Violation]:
        """Return the violations in a layout; [] if there are none.

        Args:
            layout: a row of ``layouts``. Imported ones have no gap; their disks are not checked.
            exhaustive: check every pair triangle by triangle.
        """
        placements = layout["placements"]
        solids = [self._solid_of(placement["asset_id"]) for placement in placements]
        found: list[tuple[str, int, int, float]] = []
        if layout["gap_m"] is not None:
            found += disk_faults(placements, solids, layout["gap_m"])
        for index, placement in enumerate(placements):
            if placement["supported_by"] >= 0:
                self.num_stacked += 1
                below = placement["supported_by"]
                pair = (placement, placements[below], solids[index], solids[below])
                found += [(rule, index, below, value) for rule, value in stacking_faults(*pair)]
        for one, other in combinations(range(len(placements)), 2):
            self.num_pairs += 1
            members = [placements[i] for i in (one, other)]
            if not exhaustive and are_apart(members, [solids[one], solids[other]]):
                continue
            self.num_mesh_pairs += 1
            first, second = (placed(placements[i], solids[i]) for i in (one, other))
            if penetrates(first, second, MAX_PENETRATION_M):
                found.append(("penetration", one, other, MAX_PENETRATION_M))
        return [Violation(layout["layout_id"], *fault) for fault in found]


def disk_faults(
    placements: Sequence[Row], solids: Sequence[Solid], gap_m: float
) -> Iterator[tuple[str, int, int, float]]:
    """Yield placements that leave their disks, and ground disks that are too close.

    Args:
        placements: of one layout.
        solids: theirs, in the same order.
        gap_m: smallest distance between ground disks, metres.

    Yields:
        Rule, index of the placement, index of the other placement, and excess in metres.
    """
    for index, (placement, solid) in enumerate(zip(placements, solids, strict=True)):
        outside = placement["scale"] * solid.radius_m - placement["radius_m"]
        if outside > SLACK_M:
            yield "radius", index, index, outside
    ground = [i for i, placement in enumerate(placements) if placement["supported_by"] < 0]
    centers = np.array([placements[i]["position_m"][:2] for i in ground])
    radii = np.array([placements[i]["radius_m"] for i in ground])
    missing = radii[:, None] + radii + gap_m - np.linalg.norm(centers[:, None] - centers, axis=-1)
    for one, other in zip(*np.nonzero(np.triu(missing > SLACK_M, k=1)), strict=True):
        yield "spacing", ground[one], ground[other], float(missing[one, other])


def stacking_faults(
    placement: Row, below: Row, solid: Solid, table: Solid
) -> Iterator[tuple[str, float]]:
    """Yield the violations of a placement that stands on another one.

    Args:
        placement: the upper placement.
        below: the placement that it stands on.
        solid: of the upper placement.
        table: solid of the placement below.

    Yields:
        Rule, and measured distance in metres.
    """
    if table.support_polygon is None or table.support_height_m is None:
        yield "footprint", float("inf")
        return
    outside = outside_polygon(placement, below, solid, table)
    if outside > SLACK_M:
        yield "footprint", outside
    gap = resting_gap(placement, below, solid, table)
    if abs(gap) > MAX_GAP_M:
        yield "gap", gap


def outside_polygon(placement: Row, below: Row, solid: Solid, table: Solid) -> float:
    """Return how far the placement's outline, seen from above, leaves the support polygon, metres.

    Args:
        placement: the upper placement.
        below: the placement that it stands on.
        solid: of the upper placement.
        table: solid of the placement below.
    """
    assert table.support_polygon is not None
    offset = np.asarray(placement["position_m"]) - np.asarray(below["position_m"])
    center = (yaw_rotation(-below["yaw_rad"]) @ offset)[:2] / below["scale"]
    edge_distance = table.support_polygon.boundary.distance(Point(center))
    within = table.support_polygon.contains(Point(center))
    if within and edge_distance * below["scale"] >= placement["radius_m"]:
        return 0.0  # its whole disk lies inside
    rotation = yaw_rotation(placement["yaw_rad"] - below["yaw_rad"])[:2, :2]
    corners = solid.footprint @ rotation.T * (placement["scale"] / below["scale"]) + center
    beyond = shapely.difference(Polygon(corners), table.support_polygon)
    if beyond.is_empty:
        return 0.0
    points = shapely.points(shapely.get_coordinates(beyond))
    return float(shapely.distance(table.support_polygon, points).max() * below["scale"])


def resting_gap(placement: Row, below: Row, solid: Solid, table: Solid) -> float:
    """Return the distance from a placement down to the mesh that it stands on, metres.

    Rays go straight down from all vertices that could touch the mesh. The smallest distance
    counts: an object with one leg over a crack stands on its other legs. A negative distance
    means that the placement is sunk in; inf means that there is nothing below it.

    Args:
        placement: the upper placement.
        below: the placement that it stands on.
        solid: of the upper placement.
        table: solid of the placement below.
    """
    reach = MAX_GAP_M / placement["scale"]
    points = solid.vertices[solid.vertices[:, 2] <= solid.bottom_m + reach]
    return float(gaps_below(placement, below, points, table).min())


def gaps_below(placement: Row, below: Row, points: Floats, table: Solid) -> NDArray[np.float64]:
    """Return the height of points above the mesh below them, (N,), metres; inf without a mesh.

    Args:
        placement: the upper placement.
        below: the placement that it stands on.
        points: (N, 3), metres, the upper asset's own frame.
        table: solid of the placement below.
    """
    to_table = np.linalg.inv(asset_to_world(below))
    starts = transform_points(to_table @ asset_to_world(placement), points)
    lift = 2 * MAX_GAP_M / below["scale"]  # rays start above the surface, even if it is sunk in
    starts[:, 2] += lift
    down = np.broadcast_to([0.0, 0.0, -1.0], starts.shape)
    hits = table.rays.run(
        starts.astype(np.float32), down.astype(np.float32), query="INTERSECT", output=True
    )
    distance = np.where(hits["geomID"] >= 0, hits["tfar"].astype(np.float64), np.inf)
    return np.asarray((distance - lift) * below["scale"])


def are_apart(placements: Sequence[Row], solids: Sequence[Solid]) -> bool:
    """Return whether the upright bounding cylinders of two placements are apart.

    Args:
        placements: two of one layout.
        solids: theirs, in the same order.
    """
    (one, other), (first, second) = placements, solids
    distance = np.hypot(*np.subtract(one["position_m"][:2], other["position_m"][:2]))
    reach = one["scale"] * first.radius_m + other["scale"] * second.radius_m
    if distance >= reach:
        return True
    heights = [
        placement["position_m"][2] + placement["scale"] * np.array([solid.bottom_m, solid.top_m])
        for placement, solid in zip(placements, solids, strict=True)
    ]
    bottoms, tops = np.transpose(heights)
    return bool(bottoms.max() >= tops.min() - MAX_PENETRATION_M)


def placed(placement: Row, solid: Solid) -> Surface:
    """Return a placement's triangles in the world, metres."""
    return Surface(*transform_mesh(asset_to_world(placement), (solid.vertices, solid.faces)))
