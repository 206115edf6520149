"""What lights a scene: lamps and a sky, as plain values that Blender is told.

Colours are linear sRGB. Suns and the sky do not depend on the scene's size; the lamps of TRELLIS,
which stand at places, are scaled with it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datagen.core.frames import Floats
from datagen.errors import ConfigError
from datagen.views.cameras import bounding_sphere

LightName = Literal["studio", "trellis", "random", "hdri"]
Vector = tuple[float, float, float]

WHITE: Vector = (1.0, 1.0, 1.0)
SKY_RADIANCE = 0.64
"""Mean radiance, W/m2/sr, that every HDRI is brought to: what the studio's suns and sky give."""

RANDOM_KEY_ELEVATION_DEG = (15.0, 80.0)
RANDOM_KEY_IRRADIANCE = (1.5, 3.5)
RANDOM_FILLS = (1, 3)
RANDOM_FILL_IRRADIANCE = (0.2, 1.0)
RANDOM_ANGLE_RAD = (0.05, 1.2)  # of a sun's disk: from hard shadows to very soft ones
RANDOM_SKY_RADIANCE = (0.1, 0.5)
RANDOM_TINT = 0.25  # the most by which red and blue leave white, one up, one down


HDRI_SUFFIXES = (".hdr", ".exr")
GROUND_SIDES = 50.0  # of the ground, over the scene's radius: low suns throw long shadows
GROUND_GAP = 1e-4  # below the scene, over its radius: not in the same plane as a foot


@dataclass(frozen=True)
class Lamp:
    """One lamp, as Blender's kinds."""

    kind: Literal["SUN", "POINT", "AREA"]
    power: float
    """W; of a sun, the irradiance that it gives, W/m2."""
    towards: Vector = (0.0, 0.0, 1.0)
    """From what it lights towards it, z_up world, any length; of no use to a point."""
    position_m: Vector = (0.0, 0.0, 0.0)
    """Metres, world; of no use to a sun."""
    size: float = 0.0
    """A sun's disk: its angle, rad. A point's radius or a square area's side: metres."""
    color: Vector = WHITE


@dataclass(frozen=True)
class Light:
    """All that lights a scene."""

    lamps: tuple[Lamp, ...]
    sky_radiance: float
    """W/m2/sr: of a uniform white sky, or the mean that ``hdri`` is brought to."""
    hdri: Path | None = None
    """An equirectangular .hdr or .exr picture; None: the uniform sky."""
    hdri_turn_rad: float = 0.0
    """How far the picture is turned about the up axis."""


@dataclass(frozen=True)
class Ground:
    """A square plane that catches shadows; from below it cannot be seen."""

    center_m: Vector
    side_m: float


STUDIO = Light(
    lamps=(
        Lamp("SUN", 2.8, (-0.5, -0.6, 0.9), size=0.5),
        Lamp("SUN", 0.7, (0.9, -0.2, 0.35), size=0.9),
        Lamp("SUN", 0.6, (0.1, 0.9, 0.5), size=0.9),
        Lamp("SUN", 0.8, (0.1, -0.2, -1.0), size=1.2),  # many views look from below the horizon
    ),
    sky_radiance=0.25,
)
"""Soft and fixed, the same for scenes of every size."""


def build_light(
    name: LightName,
    vertices_m: NDArray[np.floating[Any]],
    rng: np.random.Generator,
    hdris: list[Path],
) -> Light:
    """Return the light of a scene.

    Args:
        name: ``studio`` is fixed, ``trellis`` has the three lamps of TRELLIS's renderer,
            ``random`` draws suns and a sky, ``hdri`` draws one of the pictures and its turn.
        vertices_m: (V, 3), metres, world: the scene.
        rng: the scene's own.
        hdris: the pictures to draw from, in a fixed order.
    """
    if name == "studio":
        return STUDIO
    if name == "trellis":
        low, high = vertices_m.min(axis=0), vertices_m.max(axis=0)
        return trellis_light((low + high) / 2, float((high - low).max()))
    if name == "random":
        return sample_light(rng)
    picture = hdris[int(rng.integers(len(hdris)))]
    return Light((), SKY_RADIANCE, picture, float(rng.uniform(0, 2 * np.pi)))


def trellis_light(center_m: Floats, longest_side_m: float) -> Light:
    """Return the lamps of TRELLIS's toolkit (``blender_script/render.py``, ``init_lighting``).

    There the scene's longest side is 1; here places and sizes are scaled by it, and powers by its
    square, so that surfaces get the same light. The lamp below is turned away from the scene, as
    published: what looks down is dark. The grey sky is that of Blender's startup file.

    Args:
        center_m: (3,), metres, world: the centre of the scene's box.
        longest_side_m: of that box.
    """
    side = longest_side_m

    def at(x: float, y: float, z: float) -> Vector:
        where = np.asarray(center_m) + side * np.array([x, y, z])
        return float(where[0]), float(where[1]), float(where[2])

    return Light(
        lamps=(
            Lamp("POINT", 1000 * side**2, position_m=at(4, 1, 6)),
            Lamp("AREA", 10_000 * side**2, position_m=at(0, 0, 10), size=100 * side),
            Lamp("AREA", 1000 * side**2, position_m=at(0, 0, -10), size=side),
        ),
        sky_radiance=0.05,
    )


def sample_light(rng: np.random.Generator) -> Light:
    """Draw a key sun, one to three fill suns from anywhere, and a sky, within the ranges above."""
    key_elevation = np.radians(rng.uniform(*RANDOM_KEY_ELEVATION_DEG))
    lamps = [_sample_sun(rng, float(np.sin(key_elevation)), RANDOM_KEY_IRRADIANCE)]
    for _ in range(int(rng.integers(RANDOM_FILLS[0], RANDOM_FILLS[1] + 1))):
        lamps.append(_sample_sun(rng, float(rng.uniform(-1, 1)), RANDOM_FILL_IRRADIANCE))
    return Light(tuple(lamps), float(rng.uniform(*RANDOM_SKY_RADIANCE)))


def _sample_sun(
    rng: np.random.Generator, sine_elevation: float, irradiance: tuple[float, float]
) -> Lamp:
    azimuth = rng.uniform(0, 2 * np.pi)
    ring = np.sqrt(1 - sine_elevation**2)
    tint = float(rng.uniform(-RANDOM_TINT, RANDOM_TINT))
    return Lamp(
        "SUN",
        power=float(rng.uniform(*irradiance)),
        towards=(float(ring * np.cos(azimuth)), float(ring * np.sin(azimuth)), sine_elevation),
        size=float(rng.uniform(*RANDOM_ANGLE_RAD)),
        color=(1.0 + tint, 1.0, 1.0 - tint),
    )


def ground_under(vertices_m: Floats) -> Ground:
    """Return the ground of a scene, whose vertices are (V, 3), metres, world."""
    center_m, radius_m = bounding_sphere(vertices_m)
    height_m = float(vertices_m[:, 2].min()) - GROUND_GAP * radius_m
    return Ground((float(center_m[0]), float(center_m[1]), height_m), GROUND_SIDES * radius_m)


def list_hdris(folder: Path) -> list[Path]:
    """Return the pictures of skies in a folder, by name.

    Raises:
        ConfigError: there is no such folder, or none in it.
    """
    found = list(folder.resolve().iterdir()) if folder.is_dir() else []
    skies = sorted(path for path in found if path.suffix.lower() in HDRI_SUFFIXES)
    if not skies:
        what = f"holds {len(found)} files, none" if folder.is_dir() else "is no folder"
        raise ConfigError(
            f"hdri_folder {folder} {what}; expected a folder of .hdr or .exr skies "
            "(equirectangular); give another --hdri-folder."
        )
    return skies
