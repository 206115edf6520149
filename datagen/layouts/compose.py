"""Random scenes: their objects, sizes, rotations and positions, and which object carries which.

Scenes have no semantics, as in I-Scene's supplement: any object may stand beside any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.core.frames import yaw_rotation
from datagen.layouts.poisson import LayoutResult, sample_layout
from datagen.layouts.stacking import Placeable, StackingRules, Stacks


@dataclass(frozen=True)
class CompositionRules:
    """How scenes are sampled. The defaults are the published scene rules."""

    min_objects: int
    max_objects: int
    gap_scale_range: tuple[float, float]
    """Range of s: the gap between objects is s times their mean radius."""
    longest_side_range_m: tuple[float, float] | None
    """Range of the objects' longest sides, metres; None: objects keep their own size."""
    stack_probability: float
    """Probability that an object with a support carries something."""
    max_tries: int
    """Positions tried for an object before the region grows, or the stacked objects shrink."""
    region_area_ratio: float
    """Area of the first region over the area of the objects' disks."""
    max_stacked_per_table: int = 1
    stack_levels: int = 1
    """0: nothing is stacked. 2: a stacked object may itself carry one."""


@dataclass
class Placement:
    """An asset in a scene: world point = position + Rz(yaw)·(scale·vertex)."""

    asset_id: str
    scale: float
    yaw_rad: float
    position_m: NDArray[np.float64]
    """(3,), metres, z_up world."""
    radius_m: float
    """Radius of the object's disk at this scale, metres."""
    supported_by: int = -1
    """Index of the placement that carries this one; -1: the ground."""


@dataclass(frozen=True)
class Composition:
    """One scene's placements and how they were sampled."""

    placements: list[Placement]
    """Those on the ground first; each stands before those that it carries."""
    gap_scale: float
    """The value of s that was drawn."""
    ground: LayoutResult
    """The disks on the ground."""


def compose_scene(
    assets: Sequence[Placeable],
    rules: CompositionRules,
    rng: np.random.Generator,
    *,
    groups: Sequence[Sequence[int]] | None = None,
) -> Composition:
    """Return one random scene. The drawn number of objects includes the stacked ones.

    Args:
        assets: the assets to draw from; at least one.
        rules: numbers, sizes and distances of the objects.
        rng: the scene's own generator.
        groups: groups of asset indices. A group is drawn first, then an asset in it. None: all
            assets are equally likely.

    Raises:
        RowError: an object has no place on the ground, even in the largest region.
    """
    num_objects = int(rng.integers(rules.min_objects, rules.max_objects + 1))
    drawn = [assets[i] for i in _draw_assets(len(assets), groups, num_objects, rng)]
    scales = np.ones(num_objects)
    if rules.longest_side_range_m is not None:
        sides = rng.uniform(*rules.longest_side_range_m, size=num_objects)
        scales = sides / np.array([max(asset.extent_m) for asset in drawn])
    yaws = rng.uniform(0, 2 * np.pi, size=num_objects)
    stacking = StackingRules(rules.stack_probability, rules.max_stacked_per_table, rules.max_tries)
    stacks = Stacks(drawn, scales, stacking, rng)
    tables = stacks.fill_ground_tables() if rules.stack_levels else []
    gap_scale = float(rng.uniform(*rules.gap_scale_range))
    stacks.place_items(tables, gap_scale)
    for _ in range(1, rules.stack_levels):
        tables = stacks.fill_stacked_tables(tables)
        stacks.place_items(tables, gap_scale)

    on_ground = [i for i in range(num_objects) if i not in stacks.carried]
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
    index_of = {i: index for index, i in enumerate(on_ground)}
    for i in stacks.carried:
        index_of[i] = len(placements)
        below = index_of[stacks.carried[i]]
        table = drawn[stacks.carried[i]]
        placements.append(
            _stack(drawn[i], float(scales[i]), yaws[i], table, stacks.spots_m[i], placements, below)
        )
    return Composition(placements, gap_scale, ground)


def category_groups(assets: Sequence[Placeable]) -> list[list[int]]:
    """Return the asset indices of each category, categories in alphabetical order."""
    groups: dict[str, list[int]] = {}
    for index, asset in enumerate(assets):
        groups.setdefault(asset.category, []).append(index)
    return [groups[category] for category in sorted(groups)]


def _draw_assets(
    num_assets: int,
    groups: Sequence[Sequence[int]] | None,
    size: int,
    rng: np.random.Generator,
) -> list[int]:
    if groups is None:
        return [int(i) for i in rng.integers(num_assets, size=size)]
    chosen = [groups[i] for i in rng.integers(len(groups), size=size)]
    return [group[int(rng.integers(len(group)))] for group in chosen]


def _stack(
    item: Placeable,
    scale: float,
    yaw: float,
    table: Placeable,
    spot_m: NDArray[np.float64],
    placements: Sequence[Placement],
    below: int,
) -> Placement:
    """Return the placement of an item at ``spot_m`` (2,) on the table ``placements[below]``."""
    assert table.support is not None
    under = placements[below]
    offset = under.scale * np.array([*spot_m, table.support.height_m])
    position = under.position_m + yaw_rotation(under.yaw_rad) @ offset
    return Placement(item.asset_id, scale, float(yaw), position, item.radius_m * scale, below)
