"""Procedural tables and desks."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from datagen.assets.procedural.materials import Material, sample_metal, sample_paint, sample_wood
from datagen.assets.procedural.sampling import chance, uniform
from datagen.assets.procedural.shapes import CORNER_SIGNS, Part, box, cushion, cylinder, lathe


@dataclass(frozen=True)
class RectangularTable:
    """A table: four legs, a frame and a rectangular top."""

    kind: ClassVar[str] = "rectangular_table"
    category: ClassVar[str] = "table"

    width_m: float
    depth_m: float
    height_m: float
    top_m: float
    leg_m: float
    round_legs: bool
    wood: Material
    leg: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "RectangularTable":
        wood = sample_wood(rng)
        return cls(
            width_m=uniform(rng, 1.1, 1.9),
            depth_m=uniform(rng, 0.7, 0.95),
            height_m=uniform(rng, 0.70, 0.78),
            top_m=uniform(rng, 0.025, 0.045),
            leg_m=uniform(rng, 0.05, 0.08),
            round_legs=chance(rng, 0.4),
            wood=wood,
            leg=wood if chance(rng, 0.6) else sample_paint(rng),
        )

    def build(self) -> list[Part]:
        under = self.height_m - self.top_m
        x, y = self.width_m / 2 - self.leg_m, self.depth_m / 2 - self.leg_m
        parts = [
            box((self.width_m, self.depth_m, self.top_m), (0, 0, under + self.top_m / 2), self.wood)
        ]
        for sx, sy in CORNER_SIGNS:
            if self.round_legs:
                parts.append(
                    cylinder(
                        self.leg_m * 0.32,
                        under,
                        (sx * x, sy * y, 0),
                        self.leg,
                        top_radius=self.leg_m / 2,
                    )
                )
            else:
                size = (self.leg_m, self.leg_m, under)
                parts.append(box(size, (sx * x, sy * y, under / 2), self.leg))
        apron = 0.08
        for sign in (-1, 1):
            size = (2 * x - self.leg_m, 0.02, apron)
            parts.append(box(size, (0, sign * y, under - apron / 2), self.leg))
            size = (0.02, 2 * y - self.leg_m, apron)
            parts.append(box(size, (sign * x, 0, under - apron / 2), self.leg))
        return parts


@dataclass(frozen=True)
class RoundTable:
    """A table: a round top on a lathed pedestal with a round foot."""

    kind: ClassVar[str] = "round_table"
    category: ClassVar[str] = "table"

    diameter_m: float
    height_m: float
    top_m: float
    stem_m: float
    foot_share: float
    top: Material
    stem: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "RoundTable":
        top = sample_wood(rng)
        return cls(
            diameter_m=uniform(rng, 0.7, 1.2),
            height_m=uniform(rng, 0.68, 0.76),
            top_m=uniform(rng, 0.025, 0.04),
            stem_m=uniform(rng, 0.035, 0.06),
            foot_share=uniform(rng, 0.45, 0.65),
            top=top,
            stem=top if chance(rng, 0.4) else sample_metal(rng),
        )

    def build(self) -> list[Part]:
        radius, under = self.diameter_m / 2, self.height_m - self.top_m
        edge = self.top_m * 0.3
        outline = [(0, 0), (radius - edge, 0), (radius, edge), (radius, self.top_m - edge)]
        outline += [(radius - edge, self.top_m), (0, self.top_m)]
        top = lathe(outline, (0, 0, under), self.top, 48)
        foot, stem = radius * self.foot_share, self.stem_m
        heights = np.linspace(0.1, 0.9, 9)
        waist = [
            (stem * (1 + 0.5 * np.cos(3 * np.pi * h) ** 2 * (1 - h)), under * h) for h in heights
        ]
        profile = [(0, 0), (foot, 0), (foot, 0.015), (foot * 0.8, 0.03), (stem * 1.6, 0.05), *waist]
        profile += [(radius * 0.35, under - 0.012), (radius * 0.35, under), (0, under)]
        return [top, lathe(profile, (0, 0, 0), self.stem, 32)]


@dataclass(frozen=True)
class Desk:
    """A desk: a worktop on a drawer block and a side panel, with a shelf above its rear edge."""

    kind: ClassVar[str] = "desk"
    category: ClassVar[str] = "desk"

    width_m: float
    depth_m: float
    height_m: float
    shelf_gap_m: float
    shelf_depth_share: float
    num_drawers: int
    drawers_left: bool
    wood: Material
    front: Material
    handle: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Desk":
        wood = sample_wood(rng)
        return cls(
            width_m=uniform(rng, 1.1, 1.5),
            depth_m=uniform(rng, 0.6, 0.75),
            height_m=uniform(rng, 0.72, 0.76),
            shelf_gap_m=uniform(rng, 0.26, 0.34),
            shelf_depth_share=uniform(rng, 0.28, 0.36),
            num_drawers=int(rng.integers(2, 5)),
            drawers_left=chance(rng, 0.5),
            wood=wood,
            front=sample_paint(rng),
            handle=sample_metal(rng),
        )

    def build(self) -> list[Part]:
        board, under = 0.03, self.height_m - 0.03
        side = -1.0 if self.drawers_left else 1.0
        parts = [
            box((self.width_m, self.depth_m, board), (0, 0, under + board / 2), self.wood),
            box(
                (board, self.depth_m * 0.92, under),
                (-side * (self.width_m / 2 - board), 0, under / 2),
                self.wood,
            ),
            box(
                (self.width_m - 0.1, 0.02, under * 0.45),
                (0, self.depth_m * 0.42, under * 0.75),
                self.wood,
            ),
        ]
        return parts + self.drawer_block(side, under) + self.shelf(board)

    def drawer_block(self, side: float, under: float) -> list[Part]:
        """Return the drawer block that carries one end of the worktop.

        Args:
            side: -1 for the left end, 1 for the right.
            under: height of the worktop's lower side, metres.
        """
        width, depth = self.width_m * 0.28, self.depth_m * 0.92
        x = side * (self.width_m / 2 - width / 2 - 0.02)
        parts = [box((width, depth, under), (x, 0, under / 2), self.wood)]
        height = under / self.num_drawers
        for i in range(self.num_drawers):
            z = height * (i + 0.5)
            front = -depth / 2
            parts.append(
                box((width - 0.02, 0.02, height - 0.02), (x, front - 0.008, z), self.front)
            )
            parts.append(
                cushion((width * 0.35, 0.02, 0.016), (x, front - 0.03, z), 0.006, self.handle, 4)
            )
        return parts

    def shelf(self, board: float) -> list[Part]:
        """Return the shelf above the worktop, with its panels.

        Args:
            board: thickness of the shelf and the panels, metres.
        """
        depth = self.depth_m * self.shelf_depth_share
        y, top = self.depth_m / 2 - depth / 2, self.height_m + self.shelf_gap_m
        parts = [box((self.width_m, depth, board), (0, y, top + board / 2), self.wood)]
        for x in (-0.5, 0.0, 0.5):
            panel = x * (self.width_m - board)
            size = (board, depth * 0.98, self.shelf_gap_m)
            parts.append(box(size, (panel, y, self.height_m + self.shelf_gap_m / 2), self.wood))
        return parts
