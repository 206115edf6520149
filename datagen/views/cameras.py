"""The cameras of a scene: all look at its centre and see all of it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.core.cameras import distance_to_frame, intrinsics_from_fov, look_at
from datagen.core.frames import Floats
from datagen.errors import ConfigError
from datagen.views.directions import DirectionSequence, sphere_directions

WHOLE_SPHERE = (-np.pi / 2, np.pi / 2)


def bounding_sphere(points_m: NDArray[np.floating[Any]]) -> tuple[Floats, float]:
    """Return centre (3,) float64 and radius of a sphere around all points, metres.

    Its centre is that of the points' bounding box.

    Args:
        points_m: (N, 3), metres.
    """
    center = (np.min(points_m, axis=0) + np.max(points_m, axis=0)).astype(np.float64) / 2
    return center, float(np.sqrt(((points_m - center) ** 2).sum(axis=1).max()))


def scene_views(
    center_m: NDArray[np.floating[Any]],
    radius_m: float,
    num_views: int,
    *,
    fov_rad: float,
    width: int,
    height: int,
    method: DirectionSequence = "hammersley",
    offset: tuple[float, float] = (0.0, 0.0),
    elevation_range_rad: tuple[float, float] = WHOLE_SPHERE,
) -> list[tuple[Floats, Floats]]:
    """Return the cameras of a scene: ``world_to_camera`` (4, 4) and ``intrinsics`` (3, 3) each.

    Both are float64. The scene's bounding sphere just fits the shorter side of the image.

    Args:
        center_m: (3,), metres, z_up world: the point that every camera looks at.
        radius_m: radius, metres, of a sphere about the centre that contains the whole scene.
        num_views: number of cameras.
        fov_rad: field of view along the longer image side, radians.
        width: image width, pixels.
        height: image height, pixels.
        method: see ``sphere_directions``.
        offset: see ``sphere_directions``.
        elevation_range_rad: lowest and highest elevation. The directions are compressed into that
            band; equal areas of it still get equal numbers of cameras.

    Raises:
        ConfigError: the elevations or ``sphere_directions``'s arguments are out of range.
    """
    low, high = elevation_range_rad
    if not WHOLE_SPHERE[0] <= low < high <= WHOLE_SPHERE[1]:
        raise ConfigError(
            f"elevation_range_rad is ({low:g}, {high:g}); expected lowest < highest, both within "
            "±π/2 (from below to above the scene)."
        )
    directions = _compress(sphere_directions(num_views, method=method, offset=offset), low, high)
    shorter_share = min(width, height) / max(width, height)
    shorter_fov_rad = 2 * float(np.arctan(np.tan(fov_rad / 2) * shorter_share))
    distance_m = distance_to_frame(radius_m, shorter_fov_rad)
    intrinsics = intrinsics_from_fov(fov_rad, width, height)
    center = np.asarray(center_m, np.float64)
    return [
        (look_at(center + distance_m * direction, center), intrinsics) for direction in directions
    ]


def _compress(directions: Floats, low_rad: float, high_rad: float) -> Floats:
    """Return directions (N, 3) moved into a band of elevations; ratios of areas are kept."""
    if (low_rad, high_rad) == WHOLE_SPHERE:
        return directions
    z = np.sin(low_rad) + (directions[:, 2] + 1) / 2 * (np.sin(high_rad) - np.sin(low_rad))
    ring = np.sqrt(np.maximum(0.0, 1.0 - z * z))
    azimuth = np.arctan2(directions[:, 1], directions[:, 0])
    return np.column_stack([ring * np.cos(azimuth), ring * np.sin(azimuth), z])
