"""Directions spread evenly over the sphere, from which cameras look at a scene."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datagen.core.frames import Floats
from datagen.errors import ConfigError

Method = Literal["hammersley", "fibonacci", "trellis"]

GOLDEN_TURN = (np.sqrt(5.0) - 1.0) / 2.0


def sphere_directions(
    num_views: int, *, method: Method = "hammersley", offset: tuple[float, float] = (0.0, 0.0)
) -> Floats:
    """Return (num_views, 3) unit vectors, z_up, from the scene centre to the cameras.

    ``hammersley`` and ``fibonacci`` are uniform over the sphere: equal areas get equal numbers.
    ``trellis`` is the sequence of TRELLIS's renderer, its quirk included: it gives three quarters
    of the views to the upper half (see ``_warp``).

    Args:
        num_views: how many; at least 1.
        method: which sequence.
        offset: a shift in [0, 1)², drawn a scene, so that scenes do not share cameras: a share
            of one step of height, and a share of a turn about the up axis.
    """
    if num_views < 1:
        raise ConfigError(f"num_views is {num_views}; expected at least 1.")
    index = np.arange(num_views)
    # Half a step in, so that without an offset no camera sits on a pole.
    even = (index + (0.5 + offset[0]) % 1.0) / num_views
    if method == "hammersley":
        return _from_square(even, radical_inverse(index, 2) + offset[1])
    if method == "fibonacci":
        return _from_square(even, index * GOLDEN_TURN + offset[1])
    if method == "trellis":
        u = _warp((index + offset[0]) / num_views)
        return _from_square(u, radical_inverse(index, 2) + offset[1])
    raise ConfigError(
        f"view directions {method!r} are unknown. Expected hammersley, fibonacci or trellis."
    )


def _from_square(u: Floats, v: Floats) -> Floats:
    """Map heights u in [0, 1], south pole to north, and turns v to unit vectors (N, 3).

    TRELLIS's pitch is acos(1 - 2u) - pi/2, whose sine is 2u - 1. Equal steps of u are equal areas
    (Archimedes).
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
    """Return TRELLIS's warp of u, which thins out the views from below the horizon.

    ``sphere_hammersley_sequence`` in its dataset toolkit: the quarter of the views with u < 1/4
    fills the lower half of the sphere, the other three quarters the upper.
    """
    return np.where(u < 0.25, 2.0 * u, 2.0 / 3.0 * u + 1.0 / 3.0)
