"""Procedural mugs, bowls, bottles, vases and potted plants."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from datagen.assets.procedural.materials import Material, sample_glaze, sample_paint, sample_wood
from datagen.assets.procedural.sampling import chance, uniform
from datagen.assets.procedural.shapes import Part, lathe, tube
from datagen.core.frames import yaw_rotation
from datagen.core.seeding import rng_for

WALL_M = 0.008
"""Thinnest wall, metres: about a voxel of a small object, and wide enough to be hit by rays."""


@dataclass(frozen=True)
class Mug:
    """A cup with a handle."""

    kind: ClassVar[str] = "mug"
    category: ClassVar[str] = "tableware"

    radius_m: float
    height_m: float
    flare: float
    handle_m: float
    glaze: Material
    inside: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Mug":
        return cls(
            radius_m=uniform(rng, 0.04, 0.05),
            height_m=uniform(rng, 0.085, 0.115),
            flare=uniform(rng, 0.95, 1.15),
            handle_m=uniform(rng, 0.028, 0.036),
            glaze=sample_glaze(rng),
            inside=Material((0.93, 0.92, 0.88), 0.25),
        )

    def build(self) -> list[Part]:
        r, h, top = self.radius_m, self.height_m, self.radius_m * self.flare
        outside = [(0, 0), (r * 0.86, 0), (r, 0.008), (top, h - 0.003), (top - WALL_M / 2, h)]
        inside = [
            (top - WALL_M / 2, h),
            (top - WALL_M, h - 0.003),
            (r * 0.9 - WALL_M, 0.014),
            (0, 0.01),
        ]
        angle = np.linspace(-0.62 * np.pi, 0.62 * np.pi, 17)
        path = np.column_stack(
            [
                r * 0.98 + self.handle_m * (np.cos(angle) + 0.3),
                np.zeros(17),
                h * 0.5 + h * 0.32 * np.sin(angle),
            ]
        )
        return [
            lathe(outside, (0, 0, 0), self.glaze, 40),
            lathe(inside, (0, 0, 0), self.inside, 40),
            tube(path, 0.0065, self.glaze),
        ]


@dataclass(frozen=True)
class Bowl:
    """An open bowl on a foot ring."""

    kind: ClassVar[str] = "bowl"
    category: ClassVar[str] = "tableware"

    radius_m: float
    height_m: float
    power: float
    glaze: Material
    inside: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Bowl":
        return cls(
            radius_m=uniform(rng, 0.08, 0.14),
            height_m=uniform(rng, 0.06, 0.1),
            power=uniform(rng, 0.45, 0.7),
            glaze=sample_wood(rng) if chance(rng, 0.3) else sample_glaze(rng),
            inside=sample_paint(rng, 0.25),
        )

    def build(self) -> list[Part]:
        foot, rise = self.radius_m * 0.42, 0.012
        share = np.linspace(0, 1, 12) ** 1.5
        height = rise + share * (self.height_m - rise)
        radius = foot + (self.radius_m - foot) * share**self.power
        outside = [(0, 0), (foot, 0), *zip(radius, height, strict=True)]
        lip = (self.radius_m - WALL_M / 2, self.height_m + 0.003)
        inner_radius = np.maximum(radius[::-1] - WALL_M, 0.0)
        inner_height = np.maximum(height[::-1], rise + WALL_M)
        inner_height[0] = self.height_m
        inside = [lip, *zip(inner_radius[:-1], inner_height[:-1], strict=True), (0, rise + WALL_M)]
        return [
            lathe([*outside, lip], (0, 0, 0), self.glaze, 40),
            lathe(inside, (0, 0, 0), self.inside, 40),
        ]


@dataclass(frozen=True)
class Bottle:
    """A bottle with a shoulder, a neck, a cap and a label."""

    kind: ClassVar[str] = "bottle"
    category: ClassVar[str] = "tableware"

    radius_m: float
    height_m: float
    neck_m: float
    shoulder: float
    body: Material
    cap: Material
    label: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Bottle":
        greens = ((0.10, 0.30, 0.14), (0.35, 0.18, 0.08), (0.12, 0.25, 0.45), (0.75, 0.80, 0.78))
        return cls(
            radius_m=uniform(rng, 0.035, 0.048),
            height_m=uniform(rng, 0.24, 0.33),
            neck_m=uniform(rng, 0.013, 0.017),
            shoulder=uniform(rng, 0.52, 0.64),
            body=Material(greens[rng.integers(4)], 0.15),
            cap=sample_paint(rng),
            label=sample_glaze(rng),
        )

    def build(self) -> list[Part]:
        r, h, neck = self.radius_m, self.height_m, self.neck_m
        share = np.linspace(0, 1, 9)
        blend = (1 + np.cos(np.pi * share)) / 2
        low, high = h * self.shoulder, h * (self.shoulder + 0.2)
        shoulder = zip(neck + (r - neck) * blend, low + (high - low) * share, strict=True)
        top = h - 0.022
        body = [(0, 0), (r * 0.9, 0), (r, 0.006), *shoulder, (neck, top), (0, top)]
        cap = [(0, 0), (neck + 0.003, 0), (neck + 0.003, 0.018), (neck, 0.022), (0, 0.022)]
        strip = [(r, 0), (r + 0.001, 0.001), (r + 0.001, h * 0.24), (r, h * 0.24 + 0.001)]
        return [
            lathe(body, (0, 0, 0), self.body, 36),
            lathe(cap, (0, 0, top), self.cap, 24),
            lathe(strip, (0, 0, h * 0.18), self.label, 36),
        ]


@dataclass(frozen=True)
class Vase:
    """A bellied vase with a narrow mouth."""

    kind: ClassVar[str] = "vase"
    category: ClassVar[str] = "decoration"

    radius_m: float
    height_m: float
    belly: float
    mouth_share: float
    glaze: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Vase":
        return cls(
            radius_m=uniform(rng, 0.07, 0.12),
            height_m=uniform(rng, 0.22, 0.4),
            belly=uniform(rng, 0.35, 0.6),
            mouth_share=uniform(rng, 0.4, 0.6),
            glaze=sample_glaze(rng),
        )

    def build(self) -> list[Part]:
        share = np.linspace(0, 1, 24)
        swell = np.sin(np.pi * share ** (np.log(0.5) / np.log(self.belly)))
        base = 0.55 + (self.mouth_share - 0.55) * share
        flare = 0.25 * np.clip((share - 0.85) / 0.15, 0, 1) ** 2
        radius = self.radius_m * (base + (1 - base) * swell + flare)
        height = self.height_m * share
        inner = [
            (r - WALL_M, max(z, WALL_M)) for r, z in zip(radius[::-1], height[::-1], strict=True)
        ]
        outside = [(0, 0), *zip(radius, height, strict=True)]
        return [lathe([*outside, *inner, (0, WALL_M)], (0, 0, 0), self.glaze, 40)]


@dataclass(frozen=True)
class Plant:
    """A plant with long leaves in a pot."""

    kind: ClassVar[str] = "plant"
    category: ClassVar[str] = "plant"

    pot_m: float
    pot_height_m: float
    num_leaves: int
    leaf_m: float
    leaf_width_m: float
    leaf_seed: int
    pot: Material
    leaf: Material
    soil: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Plant":
        green = (uniform(rng, 0.1, 0.25), uniform(rng, 0.38, 0.55), uniform(rng, 0.1, 0.22))
        return cls(
            pot_m=uniform(rng, 0.09, 0.14),
            pot_height_m=uniform(rng, 0.14, 0.22),
            num_leaves=int(rng.integers(11, 17)),
            leaf_m=uniform(rng, 0.28, 0.5),
            leaf_width_m=uniform(rng, 0.045, 0.07),
            leaf_seed=int(rng.integers(2**31)),
            pot=sample_glaze(rng) if chance(rng, 0.5) else Material((0.72, 0.38, 0.25), 0.8),
            leaf=Material(green, 0.6),
            soil=Material((0.20, 0.14, 0.10), 0.95),
        )

    def build(self) -> list[Part]:
        r, h = self.pot_m, self.pot_height_m
        profile = [(0, 0), (r * 0.7, 0), (r * 0.95, h - 0.03), (r * 1.05, h - 0.03), (r * 1.05, h)]
        profile += [(r * 0.93, h), (r * 0.9, h - 0.02)]
        soil = [(r * 0.91, h - 0.022), (0, h - 0.012)]
        parts = [lathe(profile, (0, 0, 0), self.pot, 36), lathe(soil, (0, 0, 0), self.soil, 24)]
        rng = rng_for(self.leaf_seed, "leaves")
        for i in range(self.num_leaves):
            # 2.4 rad, the golden angle, distributes the leaves evenly.
            azimuth = 2.4 * i + float(rng.uniform(-0.3, 0.3))
            rise = float(rng.uniform(0.35, 1.35)) if i else 1.5
            parts.append(self.blade(azimuth, rise, self.leaf_m * float(rng.uniform(0.75, 1.1))))
        return parts

    def blade(self, azimuth: float, rise: float, length: float) -> Part:
        """Return one leaf: a solid pointed blade that bends down along its length.

        Args:
            azimuth: direction in which it grows, radians.
            rise: elevation at its base, radians.
            length: metres.
        """
        share = np.linspace(0, 1, 10)
        angle = rise - 1.1 * share**1.5
        step = length / 9
        out = np.r_[0, np.cumsum(np.cos(angle[:-1]) * step)]
        up = np.r_[0, np.cumsum(np.sin(angle[:-1]) * step)]
        half = self.leaf_width_m / 2 * np.maximum(np.sin(np.pi * share**0.7), 0.12)
        keel = np.column_stack([out + 0.01, np.zeros(10), up + self.pot_height_m - 0.02])
        normal = np.column_stack([-np.sin(angle), np.zeros(10), np.cos(angle)])
        side = np.array([0.0, 1.0, 0.0])
        thick = 0.004 * np.maximum(1 - share, 0.3)[:, None]
        rails = [
            keel + half[:, None] * side + 0.25 * half[:, None] * normal,
            keel + thick * normal,
            keel - half[:, None] * side + 0.25 * half[:, None] * normal,
            keel - thick * normal,
        ]
        vertices = np.stack(rails, 1).reshape(-1, 3)
        faces = []
        for i in range(9):
            for j in range(4):
                a, b = 4 * i + j, 4 * i + (j + 1) % 4
                faces += [[a, b + 4, b], [a, a + 4, b + 4]]
        faces += [[0, 1, 2], [0, 2, 3], [36, 38, 37], [36, 39, 38]]

        flat = Part(vertices, np.array(faces), vertices[:, :2].copy(), self.leaf)
        return flat.rotated(yaw_rotation(azimuth))
