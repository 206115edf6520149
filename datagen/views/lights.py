"""Lamps, sky and ground of a scene, as values that are sent to Blender.

Colours are linear sRGB. Suns and the sky do not depend on the scene's size. TRELLIS's lamps have
positions, so they are scaled with the scene.
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
"""Mean radiance, W/m2/sr, to which every HDRI is scaled; the same light as the studio gives."""

RANDOM_KEY_ELEVATION_DEG = (15.0, 80.0)
RANDOM_KEY_IRRADIANCE = (1.5, 3.5)
RANDOM_FILLS = (1, 3)
RANDOM_FILL_IRRADIANCE = (0.2, 1.0)
RANDOM_ANGLE_RAD = (0.05, 1.2)  # of a sun's disk: from hard shadows to very soft ones
RANDOM_SKY_RADIANCE = (0.1, 0.5)
RANDOM_TINT = 0.25  # largest change of red and blue, one up and one down

HDRI_SUFFIXES = (".hdr", ".exr")
GROUND_SIDES = 50.0  # side of the ground over the scene's radius: low suns cast long shadows
GROUND_GAP = 1e-4  # depth of the ground below the scene over its radius: no coplanar faces


@dataclass(frozen=True)
class Lamp:
    """One lamp of a scene."""

    kind: Literal["SUN", "POINT", "AREA"]
    """Kind of light in Blender."""
    power: float
    """Power, W; for a sun its irradiance, W/m2."""
    to_lamp: Vector = (0.0, 0.0, 1.0)
    """Direction to the lamp from what it lights, z_up world, any length; unused for a point."""
    position_m: Vector = (0.0, 0.0, 0.0)
    """Position, metres, z_up world; unused for a sun."""
    size: float = 0.0
    """Angle of a sun's disk, radians; radius of a point or side of a square area, metres."""
    color: Vector = WHITE


@dataclass(frozen=True)
class Light:
    """All light in a scene."""

    lamps: tuple[Lamp, ...]
    sky_radiance: float
    """Radiance, W/m2/sr, of a uniform white sky, or the mean radiance of ``hdri``."""
    hdri: Path | None = None
    """An equirectangular .hdr or .exr image of a sky; None: a uniform sky."""
    hdri_rotation_rad: float = 0.0
    """Rotation of the image about the Z axis, radians."""


@dataclass(frozen=True)
class Ground:
    """A square horizontal plane that catches shadows and is invisible from below."""

    center_m: Vector
    """Metres, z_up world."""
    side_m: float
    """Metres."""


STUDIO = Light(
    lamps=(
        Lamp("SUN", 2.8, (-0.5, -0.6, 0.9), size=0.5),
        Lamp("SUN", 0.7, (0.9, -0.2, 0.35), size=0.9),
        Lamp("SUN", 0.6, (0.1, 0.9, 0.5), size=0.9),
        Lamp("SUN", 0.8, (0.1, -0.2, -1.0), size=1.2),  # many views look from below the horizon
    ),
    sky_radiance=0.25,
)
"""Soft light, the same for all scenes."""


def build_light(
    name: LightName,
    vertices_m: NDArray[np.floating[Any]],
    rng: np.random.Generator,
    hdris: list[Path],
) -> Light:
    """Return the light of a scene.

    Args:
        name: ``studio``: the same for all scenes. ``trellis``: the three lamps of TRELLIS's
            renderer. ``random``: random suns and sky. ``hdri``: a random image and rotation.
        vertices_m: (V, 3), metres, z_up world: the scene's vertices.
        rng: the scene's own generator.
        hdris: images of skies to choose from, in a fixed order.
    """
    if name == "studio":
        return STUDIO
    if name == "trellis":
        low, high = vertices_m.min(axis=0), vertices_m.max(axis=0)
        return trellis_light((low + high) / 2, float((high - low).max()))
    if name == "random":
        return sample_light(rng)
    hdri = hdris[int(rng.integers(len(hdris)))]
    return Light((), SKY_RADIANCE, hdri, float(rng.uniform(0, 2 * np.pi)))


def trellis_light(center_m: Floats, longest_side_m: float) -> Light:
    """Return the lamps of TRELLIS's toolkit (``blender_script/render.py``, ``init_lighting``).

    TRELLIS scales each scene to a longest side of 1. Here positions and sizes are scaled by the
    longest side, and powers by its square, so surfaces get the same light. As published, the lamp
    below points away from the scene, so surfaces that face down are dark. The grey sky is that of
    Blender's startup file.

    Args:
        center_m: (3,), metres, z_up world: centre of the scene's bounding box.
        longest_side_m: longest side of that box, metres.
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
    """Return a random light: a key sun from above, one to three fill suns, and a sky.

    Args:
        rng: the scene's own generator.
    """
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
        to_lamp=(float(ring * np.cos(azimuth)), float(ring * np.sin(azimuth)), sine_elevation),
        size=float(rng.uniform(*RANDOM_ANGLE_RAD)),
        color=(1.0 + tint, 1.0, 1.0 - tint),
    )


def ground_under(vertices_m: Floats) -> Ground:
    """Return the ground below a scene.

    Args:
        vertices_m: (V, 3), metres, z_up world: the scene's vertices.
    """
    center_m, radius_m = bounding_sphere(vertices_m)
    height_m = float(vertices_m[:, 2].min()) - GROUND_GAP * radius_m
    return Ground((float(center_m[0]), float(center_m[1]), height_m), GROUND_SIDES * radius_m)


def list_hdris(folder: Path) -> list[Path]:
    """Return the .hdr and .exr images in a folder, sorted by name.

    Raises:
        ConfigError: the folder does not exist or has no such image.
    """
    found = list(folder.resolve().iterdir()) if folder.is_dir() else []
    skies = sorted(path for path in found if path.suffix.lower() in HDRI_SUFFIXES)
    if not skies:
        what = f"holds {len(found)} other files" if folder.is_dir() else "is not a folder"
        raise ConfigError(
            f"hdri_folder {folder} {what}. Expected a folder with equirectangular images of skies "
            f"({', '.join(HDRI_SUFFIXES)}); give another --hdri-folder."
        )
    return skies
