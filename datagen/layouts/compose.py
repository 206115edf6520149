"""Random scenes: which objects, how large, how turned, what stands on what.

Scenes are non-semantic, as in I-Scene's supplement: any object may stand beside any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.core.frames import yaw_rotation
from datagen.layouts.poisson import LayoutResult, sample_layout

STACKED_MARGIN = 0.98
"""A stacked object's disk takes this share of the room to the nearest edge and to the ceiling."""

MIN_STACKED_SIDE = 0.1
"""A stacked object's longest side is at least this share of its supporter's: in a scene of a
few metres less would be under two voxels. An object that would be smaller stays on the ground."""


@dataclass(frozen=True)
class PlaceableSupport:
    """Where a thing can stand on an asset; metres, the asset's own frame."""

    height_m: float
    anchor_xy_m: tuple[float, float]
    clearance_m: float
    headroom_m: float


@dataclass(frozen=True)
class Placeable:
    """What the sampler knows of an asset; metres, the asset's own frame."""

    asset_id: str
    extent_m: tuple[float, float, float]
    radius_m: float
    support: PlaceableSupport | None


@dataclass(frozen=True)
class CompositionRules:
    """How scenes are drawn. The defaults are the published scene rules."""

    min_objects: int
    max_objects: int
    gap_scale_range: tuple[float, float]
    longest_side_range_m: tuple[float, float] | None
    """None: objects keep their own size."""
    stack_probability: float
    max_tries: int
    region_area_ratio: float


@dataclass
class Placement:
    """An asset put in a scene: world point = position + Rz(yaw)·(scale·vertex)."""

    asset_id: str
    scale: float
    yaw_rad: float
    position_m: NDArray[np.float64]
    radius_m: float
    supported_by: int = -1


@dataclass(frozen=True)
class Composition:
    """One scene's placements and the numbers of its sampler."""

    placements: list[Placement]
    gap_scale: float
    ground: LayoutResult


def compose_scene(
    assets: Sequence[Placeable], rules: CompositionRules, rng: np.random.Generator
) -> Composition:
    """Draw one scene. It has as many objects as it drew, stacked ones counted.

    Args:
        assets: at least one.
        rules: how many, how large, how far apart.
        rng: the scene's own generator; the only source of randomness.
    """
    num_objects = int(rng.integers(rules.min_objects, rules.max_objects + 1))
    drawn = [assets[i] for i in rng.integers(len(assets), size=num_objects)]
    scales = np.ones(num_objects)
    if rules.longest_side_range_m is not None:
        sides = rng.uniform(*rules.longest_side_range_m, size=num_objects)
        scales = sides / np.array([max(asset.extent_m) for asset in drawn])
    yaws = rng.uniform(0, 2 * np.pi, size=num_objects)
    carried = _draw_stacks(drawn, scales, rules.stack_probability, rng)
    gap_scale = float(rng.uniform(*rules.gap_scale_range))

    on_ground = [i for i in range(num_objects) if i not in carried]
    radii = np.array([drawn[i].radius_m * scales[i] for i in on_ground])
    ground = sample_layout(
        radii,
        rng,
        gap_scale=gap_scale,
        max_tries=rules.max_tries,
        region_area_ratio=rules.region_area_ratio,
    )
    placements = [
        Placement(drawn[i].asset_id, scales[i], yaws[i], np.array([*center, 0.0]), float(radius))
        for i, center, radius in zip(on_ground, ground.centers_m, radii, strict=True)
    ]
    for i, supporter in carried.items():
        below = on_ground.index(supporter)
        placements.append(
            _stack(drawn[i], float(yaws[i]), drawn[supporter], placements[below], below, scales[i])
        )
    return Composition(placements, gap_scale, ground)


def _draw_stacks(
    drawn: Sequence[Placeable],
    scales: NDArray[np.float64],
    probability: float,
    rng: np.random.Generator,
) -> dict[int, int]:
    """Return {stacked object: its table}; shrinks ``scales`` of the stacked to fit their tables.

    Each table carries something with the given probability: one of the objects that neither
    carry nor are carried, and that is not too small once it fits.
    """
    carried: dict[int, int] = {}
    carriers: set[int] = set()
    for table, asset in enumerate(drawn):
        wants = rng.random() < probability
        if asset.support is None or table in carried or not wants:
            continue
        free = [
            i for i in range(len(drawn)) if i != table and i not in carried and i not in carriers
        ]
        fitting = {
            i: _fitting_scale(drawn[i], float(scales[i]), asset, float(scales[table])) for i in free
        }
        fitting = {
            i: scale
            for i, scale in fitting.items()
            if scale * max(drawn[i].extent_m)
            >= MIN_STACKED_SIDE * scales[table] * max(asset.extent_m)
        }
        if not fitting:
            continue
        chosen = list(fitting)[int(rng.integers(len(fitting)))]
        scales[chosen] = fitting[chosen]
        carried[chosen] = table
        carriers.add(table)
    return carried


def _fitting_scale(item: Placeable, scale: float, table: Placeable, table_scale: float) -> float:
    """Return the item's scale, shrunk to the table's distance to the nearest edge and headroom."""
    assert table.support is not None
    room = STACKED_MARGIN * table_scale
    return min(
        scale,
        room * table.support.clearance_m / item.radius_m,
        room * table.support.headroom_m / item.extent_m[2],
    )


def _stack(
    item: Placeable, yaw: float, table: Placeable, below: Placement, below_index: int, scale: float
) -> Placement:
    assert table.support is not None
    anchor = np.array([*table.support.anchor_xy_m, table.support.height_m])
    position = below.position_m + yaw_rotation(below.yaw_rad) @ (below.scale * anchor)
    return Placement(
        item.asset_id, float(scale), yaw, position, item.radius_m * float(scale), below_index
    )
