"""``datagen layouts``: composes random scenes of the assets."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import shapely
import tyro

from datagen.core.fields import how
from datagen.core.seeding import rng_for
from datagen.engine.stage import Inputs
from datagen.engine.units import Process, UnitStage, WorkerContext
from datagen.errors import ConfigError, StageError
from datagen.layouts.compose import CompositionRules, category_groups, compose_scene
from datagen.layouts.stacking import Placeable, PlaceableSupport
from datagen.shards import Dataset, Row
from datagen.shards.declared import ASSETS, LAYOUTS
from datagen.shards.splits import asset_split
from datagen.shards.tables import Table


@dataclass(frozen=True, kw_only=True)
class SampleLayouts(UnitStage):
    """Compose scenes of 2 to 12 random objects without collisions, some of them on tables."""

    name: ClassVar[str] = "layouts"
    table: ClassVar[Table] = LAYOUTS
    revision: ClassVar[int] = 2
    reads: ClassVar[tuple[Table, ...]] = (ASSETS,)
    keeps_parts: ClassVar[bool] = False

    num_layouts: Annotated[int, tyro.conf.arg(aliases=["--n"])] = 25_000
    """Number of scenes."""
    min_objects: int = 2
    """Minimum number of objects in a scene, including stacked objects."""
    max_objects: int = 12
    """Maximum number of objects in a scene, including stacked objects."""
    gap_scale_range: tuple[float, float] = (0.1, 1.0)
    """Range of the gap scale s, which is drawn once per scene. The gap between the objects' disks
    is s times their mean radius; a larger s gives a sparser scene."""
    longest_side_range_m: tuple[float, float] = (0.6, 1.2)
    """Range in metres to which the longest side of every placed object is scaled."""
    metric_scale: bool = False
    """Keep the real sizes of the assets instead of scaling them."""
    stack_probability: float = 0.5
    """Probability that a table carries another object of the scene."""
    max_stacked_per_table: int = 1
    """Maximum number of objects on one table. Above 1, their number is drawn at random, and they
    are packed inside the polygon of its support surface."""
    stack_levels: int = 1
    """Number of levels of stacking. 0: all objects are on the ground. 1: objects may be on tables.
    2: objects on tables may carry objects too."""
    asset_weighting: Literal["uniform", "category"] = "uniform"
    """How assets are drawn. uniform: all with the same probability. category: first a category,
    then one of its assets."""
    split: Literal["all", "train", "val", "test"] = "all"
    """Assets to use: all, or those of one split. train, val and test hold 80, 10 and 10 % of the
    assets, by a hash of the asset_id."""
    max_tries: int = 30
    """Positions tried per object before the region grows by 10 %."""
    region_area_ratio: float = 2.0
    """Ratio of the initial region's area to the total area of the objects' disks."""
    seed: int = 0
    """Random seed."""
    verify: bool = how(False)
    """Afterwards, check all layouts of the dataset for collisions between the meshes."""

    def __post_init__(self) -> None:
        if self.num_layouts < 1:
            raise ConfigError(f"num_layouts (--n) must be at least 1, got {self.num_layouts}.")
        if not 1 <= self.min_objects <= self.max_objects <= 1000:
            raise ConfigError(
                "Expected 1 <= min_objects <= max_objects <= 1000, "
                f"got {self.min_objects} and {self.max_objects}."
            )
        for name in ("gap_scale_range", "longest_side_range_m"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(
                    f"{name} must be two positive numbers, smaller first, got {low} {high}."
                )
        if not 0 <= self.stack_probability <= 1:
            raise ConfigError(
                f"stack_probability must lie in [0, 1], got {self.stack_probability}."
            )
        if self.max_stacked_per_table < 1 or not 0 <= self.stack_levels <= 8:
            raise ConfigError(
                "max_stacked_per_table must be at least 1 and stack_levels in [0, 8], "
                f"got {self.max_stacked_per_table} and {self.stack_levels}."
            )
        if self.max_tries < 1 or self.region_area_ratio <= 0:
            raise ConfigError(
                f"max_tries must be at least 1 and region_area_ratio above 0, "
                f"got {self.max_tries} and {self.region_area_ratio}."
            )

    def units(self, inputs: Inputs) -> Sequence[int]:
        return range(self.num_layouts)

    @contextmanager
    def open(self, inputs: Inputs, context: WorkerContext) -> Iterator[Process]:
        assets = read_placeables(inputs["assets"], self.split)
        groups = category_groups(assets) if self.asset_weighting == "category" else None
        rules = CompositionRules(
            min_objects=self.min_objects,
            max_objects=self.max_objects,
            gap_scale_range=self.gap_scale_range,
            longest_side_range_m=None if self.metric_scale else self.longest_side_range_m,
            stack_probability=self.stack_probability,
            max_tries=self.max_tries,
            region_area_ratio=self.region_area_ratio,
            max_stacked_per_table=self.max_stacked_per_table,
            stack_levels=self.stack_levels,
        )

        def process(layout_id: int) -> list[Row]:
            rng = rng_for(self.seed, self.name, layout_id)
            scene = compose_scene(assets, rules, rng, groups=groups)
            placements = [
                {**vars(placement), "position_m": placement.position_m.tolist()}
                for placement in scene.placements
            ]
            return [
                {
                    "layout_id": layout_id,
                    "seed": self.seed,
                    "gap_scale": scene.gap_scale,
                    "gap_m": scene.ground.gap_m,
                    "region_half_m": scene.ground.region_half_m,
                    "expansions": scene.ground.expansions,
                    "placements": placements,
                }
            ]

        yield process


def read_placeables(assets: Dataset, split: str = "all") -> list[Placeable]:
    """Return the usable assets of a split as the sampler sees them, in the dataset's order.

    Args:
        assets: the dataset.
        split: all, train, val or test.

    Raises:
        StageError: no asset is usable, or no usable asset is in the split.
    """
    columns = ["asset_id", "status", "category", "extent_m", "radius_m", "support"]
    usable = [row for row in assets.rows(columns) if row["status"] == "ok"]
    found = [row for row in usable if split in ("all", asset_split(row["asset_id"]))]
    if not usable:
        raise StageError(
            f"{assets.folder}: all of its {len(assets)} objects are quarantined. "
            "Expected at least one usable object; `datagen show` lists the reasons."
        )
    if not found:
        raise StageError(
            f"{assets.folder}: none of its {len(usable)} usable objects is in the split {split}. "
            "Expected at least one; prepare more objects, or leave --split out."
        )
    return [
        Placeable(
            row["asset_id"],
            tuple(row["extent_m"]),
            row["radius_m"],
            row["support"] and _placeable_support(row["support"]),
            row["category"] or "",
        )
        for row in found
    ]


def _placeable_support(support: Row) -> PlaceableSupport:
    polygon = shapely.from_wkb(support["polygon_wkb"])
    rings = [np.array(ring.coords)[:, :2] for ring in (polygon.exterior, *polygon.interiors)]
    edges = np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings])
    return PlaceableSupport(
        support["height_m"],
        tuple(support["anchor_xy_m"]),
        support["clearance_m"],
        support["headroom_m"],
        edges,
    )
