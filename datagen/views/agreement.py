"""Check that a rendered image and its ray-cast instance map show the same scene."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

MAX_DISAGREEMENT = 0.002
"""Largest share of all pixels of a scene's views that may disagree. A larger share means that
geometry or cameras differ."""

SHADOW_MAX = 40
"""Brightest colour channel of a shadow, of 255: black plus what the denoiser adds."""


def disagreement(
    alpha: NDArray[np.uint8],
    instance_map: NDArray[np.unsignedinteger[Any]],
    transparent_map: NDArray[np.bool_] | None = None,
) -> int:
    """Return the number of pixels where an image's alpha and its instance map disagree.

    Not counted are pixels within 1 px, also diagonally, of an edge between object and background:
    there a ray through the pixel's centre and the covered share of the pixel may differ. Pixels
    whose first hit is transparent are not counted either.

    Args:
        alpha: (H, W), the image's alpha; below 128 a pixel counts as background.
        instance_map: (H, W), 0 background.
        transparent_map: (H, W), whether the first hit's material has alpha below 1; None: nowhere.
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
    """Return where an image may show a shadow on the ground, (H, W): opaque and almost black.

    Args:
        rgba: (H, W, 4), sRGB, straight alpha.
        instance_map: (H, W), 0 background.
    """
    shadow: NDArray[np.bool_] = rgba[..., :3].max(axis=2) <= SHADOW_MAX
    shadow &= instance_map == 0
    return shadow
