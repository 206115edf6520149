"""Evenly distributed directions on the sphere, from which cameras look at a scene."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datagen.core.frames import Floats
from datagen.errors import ConfigError

DirectionSequence = Literal["hammersley", "fibonacci", "trellis"]

GOLDEN_RATIO = (np.sqrt(5.0) - 1.0) / 2.0


def sphere_directions(
    num_views: int,
    *,
    method: DirectionSequence = "hammersley",
    offset: tuple[float, float] = (0.0, 0.0),
) -> Floats:
    """Return unit vectors (num_views, 3) float64, z_up, from the scene centre to the cameras.

    Args:
        num_views: number of directions; at least 1.
        method: the sequence. ``hammersley`` and ``fibonacci`` are uniform over the sphere: equal
            areas get equal numbers. ``trellis`` is that of TRELLIS's renderer, which puts three
            quarters of the views on the upper half.
        offset: two numbers in [0, 1), different for each scene, so that scenes do not share
            cameras: a shift in height, as a share of one step, and a rotation about the Z axis,
            as a share of 360°.

    Raises:
        ConfigError: num_views is below 1, or the method is unknown.
    """
    if num_views < 1:
        raise ConfigError(f"num_views is {num_views}; expected at least 1.")
    index = np.arange(num_views)
    # Shifted by half a step, so that without an offset no camera is at a pole.
    even = (index + (0.5 + offset[0]) % 1.0) / num_views
    if method == "hammersley":
        return _from_square(even, radical_inverse(index, 2) + offset[1])
    if method == "fibonacci":
        return _from_square(even, index * GOLDEN_RATIO + offset[1])
    if method == "trellis":
        u = _warp((index + offset[0]) / num_views)
        return _from_square(u, radical_inverse(index, 2) + offset[1])
    raise ConfigError(
        f"view directions {method!r} are unknown. Expected hammersley, fibonacci or trellis."
    )


def _from_square(u: Floats, v: Floats) -> Floats:
    """Return the unit vectors (N, 3) of heights u and azimuths v.

    TRELLIS's pitch is acos(1 - 2u) - pi/2, whose sine is 2u - 1. Equal steps of u are equal areas
    (Archimedes).

    Args:
        u: (N,), 0 at the south pole, 1 at the north pole.
        v: (N,), in rotations about the Z axis.
    """
    z = 2.0 * u - 1.0
    ring = np.sqrt(np.maximum(0.0, 1.0 - z * z))
    yaw = 2.0 * np.pi * v
    return np.column_stack([ring * np.cos(yaw), ring * np.sin(yaw), z])


def radical_inverse(index: NDArray[np.int64], base: int) -> Floats:
    """Return elements (N,) of the van der Corput sequence in a base, for indices (N,) from 0 on.

    An index's digits are mirrored at the point: in base 2, 6 = 110 gives 0.011 = 0.375.
    """
    result = np.zeros(len(index))
    digit, rest = 1.0, index.copy()
    while rest.any():
        digit /= base
        result += digit * (rest % base)
        rest //= base
    return result


def _warp(u: Floats) -> Floats:
    """Return u after TRELLIS's warp, which reduces the number of views from below the horizon.

    See ``sphere_hammersley_sequence`` in its dataset toolkit: the quarter of the views with
    u < 1/4 fills the lower half of the sphere, the other three quarters fill the upper half.
    """
    return np.where(u < 0.25, 2.0 * u, 2.0 / 3.0 * u + 1.0 / 3.0)
