"""Stacking: objects are drawn onto tables, shrunk until they fit, and placed.

A table is any object with a support. Tables on the ground are filled first, then, with two levels,
the tables that stand on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datagen.core.frames import Floats
from datagen.layouts.poisson import pack_in_polygon

STACKED_MARGIN = 0.98
"""Most of the distance to the nearest edge, and of the headroom, that a stacked object takes."""

MIN_STACKED_SIDE = 0.1
"""Least longest side of a stacked object, as a share of its table's: smaller ones would be under
two voxels in a scene of a few metres. An object that would be smaller stays on the ground."""


@dataclass(frozen=True)
class PlaceableSupport:
    """The support of an asset (see datagen.layouts.support); metres, the asset's own frame."""

    height_m: float
    anchor_xy_m: tuple[float, float]
    clearance_m: float
    headroom_m: float
    edges_m: Floats
    """(E, 2, 2): start and end of every edge of the polygon and of its holes."""


@dataclass(frozen=True)
class Placeable:
    """The measures of an asset that sampling uses; metres, the asset's own frame."""

    asset_id: str
    extent_m: tuple[float, float, float]
    radius_m: float
    support: PlaceableSupport | None
    category: str = ""


@dataclass(frozen=True)
class StackingRules:
    """How objects are stacked."""

    probability: float
    """Probability that a table carries something."""
    max_per_table: int = 1
    max_tries: int = 30
    """Positions tried for an object before all objects on that table shrink."""


class Stacks:
    """The stacked objects of one scene; an object is named by its index in ``drawn``.

    Args:
        drawn: the scene's N objects.
        scales: (N,); the scale of an object that must shrink is changed in place.
        rules: how objects are stacked.
        rng: the scene's own generator.
    """

    def __init__(
        self,
        drawn: Sequence[Placeable],
        scales: Floats,
        rules: StackingRules,
        rng: np.random.Generator,
    ) -> None:
        self._drawn, self._scales, self._rules, self._rng = drawn, scales, rules, rng
        self._drawn_scales = scales.copy()
        self._radius = np.array([asset.radius_m for asset in drawn])
        self._height = np.array([asset.extent_m[2] for asset in drawn])
        self._side = np.array([max(asset.extent_m) for asset in drawn])
        self._is_free = np.ones(len(drawn), bool)
        self.carried: dict[int, int] = {}
        """The table of each stacked object."""
        self.spots_m: dict[int, Floats] = {}
        """Position of each stacked object, (2,), metres, its table's own frame."""

    def fill_ground_tables(self) -> list[int]:
        """Draw objects onto the tables on the ground; return the tables that carry something."""
        return [table for table in range(len(self._drawn)) if self._fill(table, on_ground=True)]

    def fill_stacked_tables(self, below: Sequence[int]) -> list[int]:
        """Draw objects onto the tables that stand on the tables ``below``; return those used."""
        stacked = [item for item, table in self.carried.items() if table in below]
        return [table for table in stacked if self._fill(table, on_ground=False)]

    def place_items(self, tables: Sequence[int], gap_scale: float) -> None:
        """Set the position of every object on some tables.

        One object stands on the anchor. Several are packed inside the polygon as on the ground.
        If they would have to shrink too far, the last drawn one moves to the ground.

        Args:
            tables: the tables, by index.
            gap_scale: s; the gap between objects is s times their mean radius.
        """
        for table in tables:
            items = [item for item, below in self.carried.items() if below == table]
            while len(items) > 1 and not self._pack(table, items, gap_scale):
                self._move_to_ground(items.pop())
            if len(items) == 1:
                self.spots_m[items[0]] = np.array(self._support(table).anchor_xy_m)

    def _fill(self, table: int, *, on_ground: bool) -> bool:
        """Draw objects onto a table with the rules' probability; return whether it has any.

        They are drawn from the objects that neither carry nor are carried and that are large
        enough after they shrank to fit.
        """
        wants = self._rng.random() < self._rules.probability
        if self._drawn[table].support is None or (table in self.carried) == on_ground or not wants:
            return False
        wanted = 1
        if self._rules.max_per_table > 1:
            wanted = int(self._rng.integers(1, self._rules.max_per_table + 1))
        scales = self._fitting_scales(table)
        fits = self._is_free & (scales * self._side >= self._least_side(table))
        fits[table] = False
        candidates = np.flatnonzero(fits).tolist()
        for _ in range(min(wanted, len(candidates))):
            item = candidates.pop(int(self._rng.integers(len(candidates))))
            self._scales[item] = scales[item]
            self._is_free[item] = self._is_free[table] = False
            self.carried[item] = table
        return bool(fits.any())

    def _pack(self, table: int, items: list[int], gap_scale: float) -> bool:
        """Shrink and place several objects on a table; return False if one gets too small."""
        shares = self._least_side(table) / (self._scales[items] * self._side[items])
        packed = pack_in_polygon(
            self._support(table).edges_m,
            self._scales[items] * self._radius[items] / self._scales[table],
            self._rng,
            gap_scale=gap_scale,
            max_tries=self._rules.max_tries,
            min_share=float(shares.max()),
        )
        if packed is None:
            return False
        self._scales[items] *= packed.share
        self.spots_m.update(zip(items, packed.centers_m, strict=True))
        return True

    def _move_to_ground(self, item: int) -> None:
        del self.carried[item]
        self._scales[item] = self._drawn_scales[item]
        self._is_free[item] = True

    def _fitting_scales(self, table: int) -> Floats:
        """Return every object's scale (N,) after shrinking to a table's clearance and headroom."""
        room = STACKED_MARGIN * self._scales[table]
        by_edge = room * self._support(table).clearance_m / self._radius
        by_ceiling = room * self._headroom_m(table) / self._height
        return np.minimum(self._scales, np.minimum(by_edge, by_ceiling))

    def _headroom_m(self, table: int) -> float:
        """Return the free height above a table, metres, its own frame.

        A table that stands on another one also has that one's headroom above it.
        """
        support = self._support(table)
        below = self.carried.get(table)
        if below is None:
            return support.headroom_m
        room = self._headroom_m(below) * self._scales[below] / self._scales[table]
        return min(support.headroom_m, float(room) - support.height_m)

    def _least_side(self, table: int) -> float:
        """Return the least longest side, metres, of an object that may stand on a table."""
        root = table
        while root in self.carried:
            root = self.carried[root]
        return float(MIN_STACKED_SIDE * self._scales[root] * self._side[root])

    def _support(self, table: int) -> PlaceableSupport:
        support = self._drawn[table].support
        assert support is not None, table
        return support
