"""Procedural lamps, bookcases, crates, books and monitors."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from datagen.assets.procedural.materials import (
    PAINTS,
    Color,
    Material,
    Pattern,
    jittered,
    sample_fabric,
    sample_metal,
    sample_paint,
    sample_wood,
)
from datagen.assets.procedural.sampling import chance, uniform
from datagen.assets.procedural.shapes import Part, box, cushion, cylinder, lathe, prism, tube
from datagen.core.frames import yaw_rotation
from datagen.core.seeding import rng_for

NUM_COVERS = 5
PAPER = Material((0.92, 0.89, 0.80), 0.9, 0.0, Pattern("stripes", (0.80, 0.76, 0.66), 0.006))


@dataclass(frozen=True)
class TableLamp:
    """A table lamp: a foot, a stem and a conical shade that is open at both ends."""

    kind: ClassVar[str] = "lamp"
    category: ClassVar[str] = "lamp"

    height_m: float
    foot_m: float
    shade_m: float
    shade_top_share: float
    ceramic: bool
    base: Material
    shade: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "TableLamp":
        ceramic = chance(rng, 0.5)
        return cls(
            height_m=uniform(rng, 0.42, 0.6),
            foot_m=uniform(rng, 0.075, 0.1),
            shade_m=uniform(rng, 0.13, 0.18),
            shade_top_share=uniform(rng, 0.5, 0.75),
            ceramic=ceramic,
            base=sample_paint(rng, 0.25) if ceramic else sample_metal(rng),
            shade=sample_fabric(rng) if chance(rng, 0.4) else Material((0.95, 0.88, 0.72), 0.9),
        )

    def build(self) -> list[Part]:
        h, foot = self.height_m, self.foot_m
        if self.ceramic:
            share = np.linspace(0, 1, 14)
            belly = foot * (0.75 + 0.35 * np.sin(np.pi * share**0.8) - 0.6 * share**2)
            base = [(0, 0), *zip(belly, share * h * 0.55, strict=True), (0.009, h * 0.56)]
        else:
            base = [(0, 0), (foot, 0), (foot, 0.015), (0.03, 0.03), (0.012, 0.05)]
        stem = [*base, (0.009, h * 0.9), (0.02, h * 0.9), (0.02, h * 0.93), (0, h * 0.93)]
        low, top = h * 0.58, self.shade_m * self.shade_top_share
        wall = 0.008
        shade = [(self.shade_m - wall, low), (self.shade_m, low), (top, h), (top - wall, h)]
        parts = [lathe(stem, (0, 0, 0), self.base, 32)]
        parts.append(lathe([*shade, shade[0]], (0, 0, 0), self.shade, 40))
        for angle in (0, 2 * np.pi / 3, 4 * np.pi / 3):
            reach = (top + 0.1 * (self.shade_m - top)) - wall / 2
            end = [reach * np.cos(angle), reach * np.sin(angle), h * 0.93]
            parts.append(tube([[0, 0, h * 0.92], end], 0.004, self.base, 6))
        return parts


@dataclass(frozen=True)
class Bookcase:
    """A bookcase: shelves between two sides, some of them with books."""

    kind: ClassVar[str] = "bookcase"
    category: ClassVar[str] = "storage"

    width_m: float
    depth_m: float
    height_m: float
    num_shelves: int
    book_seed: int
    wood: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Bookcase":
        num_shelves = int(rng.integers(3, 6))
        return cls(
            width_m=uniform(rng, 0.7, 1.0),
            depth_m=uniform(rng, 0.28, 0.34),
            height_m=round(0.1 + num_shelves * uniform(rng, 0.33, 0.38), 4),
            num_shelves=num_shelves,
            book_seed=int(rng.integers(2**31)),
            wood=sample_wood(rng),
        )

    def build(self) -> list[Part]:
        w, d, h, board = self.width_m, self.depth_m, self.height_m, 0.025
        inner = w - 2 * board
        parts = [
            box((board, d, h), (sign * (w / 2 - board / 2), 0, h / 2), self.wood)
            for sign in (-1, 1)
        ]
        parts.append(box((inner, 0.01, h), (0, d / 2 - 0.005, h / 2), self.wood))
        pitch = (h - 0.06 - board) / self.num_shelves
        rng = rng_for(self.book_seed, "books")
        covers = [Material(color, 0.7) for color in sample_colors(rng)]
        for i in range(self.num_shelves + 1):
            z = 0.06 + i * pitch
            parts.append(box((inner, d - 0.01, board), (0, -0.005, z + board / 2), self.wood))
            if i < self.num_shelves and rng.random() < 0.8:
                parts += self.row_of_books(rng, covers, -inner / 2, z + board, pitch - board, inner)
        parts.append(box((inner, 0.02, 0.06), (0, -d / 2 + 0.03, 0.03), self.wood))
        return parts

    def row_of_books(
        self,
        rng: np.random.Generator,
        covers: list[Material],
        left: float,
        base: float,
        room: float,
        inner: float,
    ) -> list[Part]:
        """Return books that stand side by side, from the left of a shelf.

        Args:
            rng: of the bookcase's books.
            covers: the covers to choose from.
            left: x of the shelf's left end, metres.
            base: height on which the books stand, metres.
            room: free height above the shelf, metres.
            inner: width of the shelf, metres.
        """
        parts, x, end = [], left + 0.005, left + inner * float(rng.uniform(0.45, 0.95))
        while x < end:
            thick = float(rng.uniform(0.022, 0.045))
            tall, deep = (
                room * float(rng.uniform(0.6, 0.9)),
                self.depth_m * float(rng.uniform(0.6, 0.8)),
            )
            cover = covers[rng.integers(len(covers))]
            y = self.depth_m / 2 - 0.012 - deep / 2
            parts.append(
                box((thick - 0.002, deep, tall), (x + thick / 2, y, base + tall / 2), cover)
            )
            x += thick
        return parts


@dataclass(frozen=True)
class Crate:
    """An open crate made of slats."""

    kind: ClassVar[str] = "crate"
    category: ClassVar[str] = "storage"

    width_m: float
    depth_m: float
    height_m: float
    num_slats: int
    wood: Material
    post: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Crate":
        wood = sample_wood(rng)
        return cls(
            width_m=uniform(rng, 0.42, 0.6),
            depth_m=uniform(rng, 0.3, 0.42),
            height_m=uniform(rng, 0.25, 0.36),
            num_slats=int(rng.integers(3, 5)),
            wood=wood,
            post=wood if chance(rng, 0.6) else sample_paint(rng),
        )

    def build(self) -> list[Part]:
        w, d, h, board, post = self.width_m, self.depth_m, self.height_m, 0.012, 0.03
        parts = [box((w - 2 * board, d - 2 * board, board), (0, 0, board / 2 + 0.01), self.wood)]
        for sx in (-1, 1):
            for sy in (-1, 1):
                at = (sx * (w / 2 - board - post / 2), sy * (d / 2 - board - post / 2), h / 2)
                parts.append(box((post, post, h), at, self.post))
        pitch = h / self.num_slats
        for i in range(self.num_slats):
            z, tall = (i + 0.5) * pitch, pitch * 0.78
            for sign in (-1, 1):
                parts.append(box((w, board, tall), (0, sign * (d - board) / 2, z), self.wood))
                size = (board, d - 2 * board, tall)
                parts.append(box(size, (sign * (w - board) / 2, 0, z), self.wood))
        return parts


@dataclass(frozen=True)
class BookStack:
    """A stack of books, each rotated a little."""

    kind: ClassVar[str] = "book_stack"
    category: ClassVar[str] = "books"

    num_books: int
    length_m: float
    book_seed: int

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "BookStack":
        return cls(
            num_books=int(rng.integers(3, 7)),
            length_m=uniform(rng, 0.24, 0.3),
            book_seed=int(rng.integers(2**31)),
        )

    def build(self) -> list[Part]:
        rng = rng_for(self.book_seed, "stack")
        parts, base = [], 0.0
        for i in range(self.num_books):
            length = self.length_m * (1 - 0.05 * i) * float(rng.uniform(0.92, 1.0))
            thick = float(rng.uniform(0.028, 0.05))
            cover = sample_paint(rng, 0.6)
            rotation = yaw_rotation(float(rng.uniform(-0.3, 0.3)))
            book = self.book(length, length * float(rng.uniform(0.68, 0.76)), thick, cover)
            parts += [part.rotated(rotation).moved((0, 0, base)) for part in book]
            base += thick
        return parts

    def book(self, length: float, width: float, thick: float, cover: Material) -> list[Part]:
        """Return one closed book that lies flat, its spine on the -Y side; sizes in metres."""
        card, rim = 0.004, 0.006
        label = Material(
            jittered(rng_for(self.book_seed, "label", str(cover.color)), PAINTS[2], 0.05)
        )
        spine = box((length, card, thick), (0, -width / 2 + card / 2, thick / 2), cover)
        pages = (length - 2 * rim, width - rim - card, thick - 2 * card)
        band = (length * 0.16, 0.002, thick * 0.98)
        return [
            spine,
            box((length, width - card, card), (0, card / 2, card / 2), cover),
            box((length, width - card, card), (0, card / 2, thick - card / 2), cover),
            box(pages, (0, (card - rim) / 2, thick / 2), PAPER),
            box(band, (length * 0.3, -width / 2 - 0.0005, thick / 2), label),
            box(
                (0.006, 0.002, thick * 0.98),
                (-length * 0.36, -width / 2 - 0.0005, thick / 2),
                label,
            ),
        ]


@dataclass(frozen=True)
class Monitor:
    """A flat screen on a stand; the screen shows an image."""

    kind: ClassVar[str] = "monitor"
    category: ClassVar[str] = "electronics"

    width_m: float
    aspect: float
    foot_m: float
    frame: Material
    screen: Material

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Monitor":
        first, second = rng.choice(len(PAINTS), 2, replace=False)
        image = Pattern("checker" if chance(rng, 0.4) else "stripes", PAINTS[second], 0.14)
        return cls(
            width_m=uniform(rng, 0.5, 0.68),
            aspect=uniform(rng, 0.54, 0.62),
            foot_m=uniform(rng, 0.2, 0.26),
            frame=Material((0.08, 0.08, 0.09), 0.4) if chance(rng, 0.7) else sample_metal(rng),
            screen=Material(PAINTS[first], 0.2, 0.0, image),
        )

    def build(self) -> list[Part]:
        w, h = self.width_m, self.width_m * self.aspect
        low, rim = 0.13, 0.018
        foot = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
        outline = self.foot_m * np.array(foot) * [1.0, 0.06]
        return [
            cushion((w, 0.03, h), (0, 0, low + h / 2), 0.008, self.frame, 4),
            box((w - 2 * rim, 0.004, h - 2 * rim), (0, -0.0145, low + h / 2), self.screen),
            cushion((w * 0.5, 0.03, h * 0.5), (0, 0.025, low + h / 2), 0.012, self.frame, 4),
            prism(outline, self.foot_m * 0.75, (0, 0.03, self.foot_m * 0.03), self.frame),
            cylinder(0.022, low + h * 0.4, (0, 0.045, 0.01), self.frame),
        ]


def sample_colors(rng: np.random.Generator) -> list[Color]:
    """Return the NUM_COVERS colours of a bookcase's books: few, as each material costs time."""
    return [PAINTS[i] for i in rng.choice(len(PAINTS), NUM_COVERS, replace=False)]
