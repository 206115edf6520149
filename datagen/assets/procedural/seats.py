"""Procedural chairs, stools, benches and sofas."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from datagen.assets.procedural.materials import (
    Material,
    sample_fabric,
    sample_metal,
    sample_paint,
    sample_wood,
)
from datagen.assets.procedural.sampling import chance, uniform
from datagen.assets.procedural.shapes import (
    CORNER_SIGNS,
    Part,
    box,
    cushion,
    cylinder,
    leaning,
    tube,
)


@dataclass(frozen=True)
class Chair:
    """A chair: four legs, a padded seat and a back of slats."""

    kind: ClassVar[str] = "chair"
    category: ClassVar[str] = "seat"

    width_m: float
    depth_m: float
    seat_m: float
    back_m: float
    num_slats: int
    upright_slats: bool
    lean_rad: float
    wood: Material
    pad: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Chair":
        return cls(
            width_m=uniform(rng, 0.40, 0.48),
            depth_m=uniform(rng, 0.40, 0.47),
            seat_m=uniform(rng, 0.43, 0.47),
            back_m=uniform(rng, 0.42, 0.55),
            num_slats=int(rng.integers(3, 6)),
            upright_slats=chance(rng, 0.5),
            lean_rad=uniform(rng, 0.08, 0.18),
            wood=sample_wood(rng) if chance(rng, 0.7) else sample_paint(rng),
            pad=sample_fabric(rng),
        )

    def build(self) -> list[Part]:
        leg, frame = 0.036, self.seat_m - 0.05
        x, y = self.width_m / 2 - leg / 2, self.depth_m / 2 - leg / 2
        parts = [box((self.width_m, self.depth_m, 0.03), (0, 0, frame + 0.015), self.wood)]
        pad = (self.width_m - 0.02, self.depth_m - 0.03, 0.045)
        parts.append(cushion(pad, (0, -0.01, frame + 0.045), 0.02, self.pad))
        for sx, sy in CORNER_SIGNS:
            parts.append(box((leg, leg, frame), (sx * x, sy * y, frame / 2), self.wood))
        for sign in (-1, 1):
            parts.append(box((0.02, 2 * y, 0.025), (sign * x, 0, frame * 0.4), self.wood))
        tilt = leaning(-self.lean_rad)
        hinge = np.array([0, y, frame])
        return parts + [part.rotated(tilt).moved(hinge) for part in self.back(x, leg)]

    def back(self, x: float, leg: float) -> list[Part]:
        """Return the upright back, standing at the origin.

        Args:
            x: half the distance between its posts, metres.
            leg: thickness of a post, metres.
        """
        parts = [
            box((leg, leg * 0.8, self.back_m), (sign * x, 0, self.back_m / 2), self.wood)
            for sign in (-1, 1)
        ]
        parts.append(box((2 * x + leg + 0.006, leg * 0.7, 0.07), (0, 0, self.back_m), self.wood))
        if self.upright_slats:
            parts.append(box((2 * x, 0.02, 0.03), (0, 0, 0.14), self.wood))
            for offset in np.linspace(-x, x, self.num_slats + 2)[1:-1]:
                size = (0.025, 0.014, self.back_m - 0.14)
                parts.append(box(size, (offset, 0, 0.07 + self.back_m / 2), self.wood))
            return parts
        for height in np.linspace(0.16, self.back_m, self.num_slats)[:-1]:
            parts.append(box((2 * x, 0.014, 0.045), (0, 0, height), self.wood))
        return parts


@dataclass(frozen=True)
class Stool:
    """A stool: a round seat on splayed legs with a ring."""

    kind: ClassVar[str] = "stool"
    category: ClassVar[str] = "seat"

    diameter_m: float
    height_m: float
    num_legs: int
    splay: float
    seat: Material
    leg: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Stool":
        return cls(
            diameter_m=uniform(rng, 0.30, 0.38),
            height_m=uniform(rng, 0.45, 0.75),
            num_legs=int(rng.integers(3, 5)),
            splay=uniform(rng, 1.2, 1.45),
            seat=sample_fabric(rng) if chance(rng, 0.5) else sample_wood(rng),
            leg=sample_metal(rng) if chance(rng, 0.5) else sample_wood(rng),
        )

    def build(self) -> list[Part]:
        radius, thick = self.diameter_m / 2, 0.04
        parts = [cylinder(radius, thick, (0, 0, self.height_m - thick), self.seat, segments=36)]
        angles = 2 * np.pi * (np.arange(self.num_legs) + 0.5) / self.num_legs
        for angle in angles:
            out = np.array([np.cos(angle), np.sin(angle)]) * radius
            top = [*(0.7 * out), self.height_m - thick]
            parts.append(tube([[*(0.7 * self.splay * out), 0.0], top], 0.016, self.leg))
        ring = np.linspace(0, 2 * np.pi, 33)
        at = radius * 0.7 * (self.splay + (1 - self.splay) * 0.35)
        height = np.full(33, self.height_m * 0.35)
        path = np.column_stack([at * np.cos(ring), at * np.sin(ring), height])
        return [*parts, tube(path, 0.009, self.leg, 8)]


@dataclass(frozen=True)
class Bench:
    """A garden bench of planks with arms and a back."""

    kind: ClassVar[str] = "bench"
    category: ClassVar[str] = "seat"

    width_m: float
    depth_m: float
    seat_m: float
    num_planks: int
    plank: Material
    frame: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Bench":
        return cls(
            width_m=uniform(rng, 1.2, 1.7),
            depth_m=uniform(rng, 0.42, 0.5),
            seat_m=uniform(rng, 0.42, 0.46),
            num_planks=int(rng.integers(4, 6)),
            plank=sample_wood(rng),
            frame=sample_metal(rng) if chance(rng, 0.6) else sample_paint(rng),
        )

    def build(self) -> list[Part]:
        pitch = self.depth_m / self.num_planks
        parts = []
        for i in range(self.num_planks):
            y = -self.depth_m / 2 + (i + 0.5) * pitch
            parts.append(
                box((self.width_m, pitch * 0.82, 0.03), (0, y, self.seat_m - 0.015), self.plank)
            )
        rear = self.depth_m / 2
        for z in (0.14, 0.26, 0.38):
            y = rear + 0.03 + 0.15 * z
            parts.append(box((self.width_m, 0.025, 0.085), (0, y, self.seat_m + z), self.plank))
        for sign in (-1, 1):
            parts += self.end_frame(sign * (self.width_m / 2 - 0.09), rear)
        return parts

    def end_frame(self, x: float, rear: float) -> list[Part]:
        """Return the bent bars at one end: legs, arm rest and back post.

        Args:
            x: position of the bars, metres.
            rear: y of the seat's rear edge, metres.
        """
        seat, front = self.seat_m - 0.04, -self.depth_m / 2 + 0.03
        arm = self.seat_m + 0.22
        post = [[x, rear + 0.06, 0], [x, rear, seat], [x, rear + 0.09, self.seat_m + 0.42]]
        rest = [
            [x, front - 0.02, 0],
            [x, front, arm - 0.03],
            [x, front + 0.03, arm],
            [x, rear + 0.04, arm],
        ]
        bar = [[x, front, seat], [x, rear, seat]]
        return [tube(path, 0.018, self.frame) for path in (post, rest, bar)]


@dataclass(frozen=True)
class Sofa:
    """A sofa: cushions between two arms."""

    kind: ClassVar[str] = "sofa"
    category: ClassVar[str] = "seat"

    num_seats: int
    seat_width_m: float
    depth_m: float
    seat_m: float
    back_m: float
    arm_m: float
    fabric: Material
    pillow: Material
    leg: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Sofa":
        return cls(
            num_seats=int(rng.integers(1, 4)),
            seat_width_m=uniform(rng, 0.56, 0.68),
            depth_m=uniform(rng, 0.8, 0.92),
            seat_m=uniform(rng, 0.40, 0.45),
            back_m=uniform(rng, 0.38, 0.46),
            arm_m=uniform(rng, 0.14, 0.2),
            fabric=sample_fabric(rng),
            pillow=sample_fabric(rng),
            leg=sample_wood(rng),
        )

    def build(self) -> list[Part]:
        inner = self.num_seats * self.seat_width_m
        width, base, pad = inner + 2 * self.arm_m, self.seat_m - 0.15, 0.15
        leg, back = 0.08, 0.2
        base_size = (width - 0.03, self.depth_m - 0.03, base - leg)
        parts = [cushion(base_size, (0, 0, leg + 0.01 + base_size[2] / 2), 0.02, self.fabric)]
        # The back is a bit narrower: coplanar faces of two parts would shade each other.
        size = (width - 0.02, back, self.seat_m + self.back_m - leg)
        y = self.depth_m / 2 - back / 2 + 0.01
        parts.append(cushion(size, (0, y, leg + size[2] / 2), 0.06, self.fabric))
        for sign in (-1, 1):
            size = (self.arm_m, self.depth_m, self.seat_m + 0.18 - leg)
            x = sign * (width / 2 - self.arm_m / 2)
            parts.append(cushion(size, (x, 0, leg + size[2] / 2), 0.06, self.fabric))
        for i in range(self.num_seats):
            x = -inner / 2 + (i + 0.5) * self.seat_width_m
            size = (self.seat_width_m * 0.98, self.depth_m - back, pad)
            parts.append(cushion(size, (x, -back / 2, base + pad / 2), 0.05, self.fabric))
            size = (self.seat_width_m * 0.9, 0.16, self.back_m * 0.85)
            tilted = cushion(size, (0, 0, size[2] / 2), 0.07, self.pillow).rotated(leaning(-0.15))
            parts.append(tilted.moved((x, self.depth_m / 2 - back - 0.12, self.seat_m)))
        for sx, sy in CORNER_SIGNS:
            foot = (sx * (width / 2 - 0.08), sy * (self.depth_m / 2 - 0.08), 0)
            parts.append(cylinder(0.02, leg + 0.01, foot, self.leg, top_radius=0.03))
        return parts
