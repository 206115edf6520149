"""Materials of procedural objects: colours and small generated textures."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datagen.core.seeding import rng_for

Color = tuple[float, float, float]
"""sRGB, each in [0, 1]."""

PatternKind = Literal["wood", "checker", "stripes", "weave", "speckle"]

TEXTURE_PX = 128
FABRICS: tuple[PatternKind, ...] = ("weave", "weave", "stripes", "checker")
WOODS: tuple[Color, ...] = (
    (0.72, 0.52, 0.33),
    (0.55, 0.35, 0.20),
    (0.38, 0.23, 0.14),
    (0.84, 0.69, 0.49),
    (0.63, 0.38, 0.22),
)
PAINTS: tuple[Color, ...] = (
    (0.80, 0.18, 0.15),
    (0.13, 0.38, 0.66),
    (0.95, 0.75, 0.20),
    (0.20, 0.55, 0.35),
    (0.90, 0.90, 0.87),
    (0.18, 0.19, 0.22),
    (0.88, 0.48, 0.22),
    (0.47, 0.28, 0.55),
    (0.30, 0.66, 0.70),
    (0.85, 0.55, 0.60),
)
METALS: tuple[Color, ...] = ((0.75, 0.76, 0.78), (0.20, 0.20, 0.22), (0.80, 0.65, 0.35))


@dataclass(frozen=True)
class Pattern:
    """A texture that repeats over a surface."""

    kind: PatternKind
    second: Color
    """The texture's other colour; the first one is the material's."""

    tile_m: float
    """Side length of one repetition, metres."""


@dataclass(frozen=True)
class Material:
    """The appearance of a surface."""

    color: Color
    roughness: float = 0.6
    metallic: float = 0.0
    pattern: Pattern | None = None


def sample_wood(rng: np.random.Generator) -> Material:
    """Return a random wood with a grain."""
    color = jittered(rng, WOODS[rng.integers(len(WOODS))], 0.04)
    dark: Color = (color[0] * 0.68, color[1] * 0.64, color[2] * 0.60)
    return Material(color, 0.55, 0.0, Pattern("wood", dark, float(rng.uniform(0.3, 0.6))))


def sample_paint(rng: np.random.Generator, roughness: float = 0.5) -> Material:
    """Return a random plain colour."""
    return Material(jittered(rng, PAINTS[rng.integers(len(PAINTS))], 0.05), roughness)


def sample_metal(rng: np.random.Generator) -> Material:
    """Return a random bare metal."""
    return Material(METALS[rng.integers(len(METALS))], float(rng.uniform(0.25, 0.45)), 0.9)


def sample_fabric(rng: np.random.Generator) -> Material:
    """Return a random cloth: woven, striped or checked."""
    color = jittered(rng, PAINTS[rng.integers(len(PAINTS))], 0.08)
    second: Color = (0.55 * color[0] + 0.4, 0.55 * color[1] + 0.4, 0.55 * color[2] + 0.4)
    kind = FABRICS[rng.integers(len(FABRICS))]
    tile_m = 0.03 if kind == "weave" else float(rng.uniform(0.12, 0.2))
    return Material(color, 0.9, 0.0, Pattern(kind, second, tile_m))


def sample_glaze(rng: np.random.Generator) -> Material:
    """Return a random glaze of ceramics: plain, with bands or with speckles."""
    material = sample_paint(rng, 0.25)
    if rng.random() < 0.5:
        return material
    kind: PatternKind = "stripes" if rng.random() < 0.6 else "speckle"
    second = PAINTS[rng.integers(len(PAINTS))]
    tile_m = float(rng.uniform(0.03, 0.06)) * (1 if kind == "stripes" else 2)
    return Material(material.color, 0.25, 0.0, Pattern(kind, second, tile_m))


def jittered(rng: np.random.Generator, color: Color, amount: float) -> Color:
    """Return a random colour whose channels differ from ``color`` by at most ``amount``."""
    r, g, b = np.clip(np.array(color) + rng.uniform(-amount, amount, 3), 0.02, 0.98).round(4)
    return (float(r), float(g), float(b))


def draw_texture(material: Material) -> Image.Image:
    """Return the material's pattern as an RGB image that repeats without a seam.

    Args:
        material: one with a pattern.
    """
    pattern = material.pattern
    assert pattern is not None, material
    share = {
        "wood": wood_share,
        "checker": checker_share,
        "stripes": stripes_share,
        "weave": weave_share,
        "speckle": speckle_share,
    }[pattern.kind]()
    first, second = np.array(material.color), np.array(pattern.second)
    pixels = first + share[..., None] * (second - first)
    return Image.fromarray((pixels * 255).round().astype(np.uint8), "RGB")


def texture_grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return u and v of every pixel, (TEXTURE_PX, TEXTURE_PX) each, in (0, 1)."""
    ticks = (np.arange(TEXTURE_PX) + 0.5) / TEXTURE_PX
    u, v = np.meshgrid(ticks, ticks)
    return u, v


def wood_share() -> NDArray[np.float64]:
    """Return the second colour's share (TEXTURE_PX, TEXTURE_PX) of wood: wavy lines and bands."""
    u, v = texture_grid()
    wave = 0.02 * np.sin(2 * np.pi * u) + 0.008 * np.sin(6 * np.pi * u + 1.0)
    fine = 0.5 + 0.5 * np.sin(2 * np.pi * 14 * (v + wave))
    broad = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * (v + 2 * wave) + 0.7)
    share: NDArray[np.float64] = 0.35 * fine**3 + 0.45 * broad**2
    return share


def checker_share() -> NDArray[np.float64]:
    """Return the second colour's share (TEXTURE_PX, TEXTURE_PX) of a 2 by 2 checkerboard."""
    u, v = texture_grid()
    return ((u < 0.5) ^ (v < 0.5)).astype(np.float64)


def stripes_share() -> NDArray[np.float64]:
    """Return the second colour's share (TEXTURE_PX, TEXTURE_PX) of one stripe along u."""
    _, v = texture_grid()
    return ((v > 0.35) & (v < 0.65)).astype(np.float64)


def weave_share() -> NDArray[np.float64]:
    """Return the second colour's share (TEXTURE_PX, TEXTURE_PX) of crossing threads."""
    u, v = texture_grid()
    share: NDArray[np.float64] = (np.sin(8 * np.pi * u) * np.sin(8 * np.pi * v) + 1) / 8
    return share


def speckle_share() -> NDArray[np.float64]:
    """Return the second colour's share (TEXTURE_PX, TEXTURE_PX) of dots at fixed places."""
    u, v = texture_grid()
    share = np.zeros_like(u)
    for x, y in rng_for(0, "speckle texture").uniform(size=(14, 2)):
        du, dv = (np.abs((a - b + 0.5) % 1.0 - 0.5) for a, b in ((u, x), (v, y)))
        share[np.hypot(du, dv) < 0.055] = 1.0
    return share
