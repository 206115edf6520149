"""Does a picture show what the rays said? Its alpha against the instance map."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

MAX_DISAGREEMENT = 0.002
"""Of all pixels, pooled over a scene's views. More means other geometry or another camera."""

SHADOW_MAX = 40
"""The brightest that a shadow's colour may be, of 255: black, and what the denoiser adds."""


def disagreement(
    alpha: NDArray[np.uint8],
    instance_map: NDArray[np.unsignedinteger[Any]],
    transparent_map: NDArray[np.bool_] | None = None,
) -> int:
    """Count the pixels where alpha and instance map disagree for no good reason.

    A ray through the centre and the covered share of a pixel may differ near edges, so pixels
    within 1 px (diagonals too) of an edge between object and background are left out; so are
    pixels whose first hit has a material with alpha below 1.

    Args:
        alpha: (H, W), the picture's; below 128 a pixel counts as background.
        instance_map: (H, W), 0 background.
        transparent_map: (H, W), where the first hit is transparent; None: nowhere.
    """
    covered = (instance_map > 0).astype(np.uint8)
    near_edge = maximum_filter(covered, 3) != minimum_filter(covered, 3)
    wrong = ((alpha >= 128) != (covered == 1)) & ~near_edge
    if transparent_map is not None:
        wrong &= ~transparent_map
    return int(wrong.sum())


def shadow_map(
    rgba: NDArray[np.uint8], instance_map: NDArray[np.unsignedinteger[Any]]
) -> NDArray[np.bool_]:
    """Return (H, W): where a picture's ground may be in shadow, which is alpha without colour.

    Args:
        rgba: (H, W, 4), straight alpha.
        instance_map: (H, W), 0 background.
    """
    shadow: NDArray[np.bool_] = rgba[..., :3].max(axis=2) <= SHADOW_MAX
    shadow &= instance_map == 0
    return shadow
