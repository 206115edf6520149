"""Which views are kept: those in which enough of every placement is visible."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def drop_reason(
    visible_px: NDArray[np.integer[Any]],
    amodal_px: NDArray[np.integer[Any]],
    *,
    min_visible_px: int = 1,
    min_visible_fraction: float = 0.0,
) -> str | None:
    """Return why a view is dropped, such as ``"occluded: placements 3, 5"``; None if it is kept.

    A placement with too few visible pixels is ``too small`` if it would have too few even alone
    in the scene, else it is ``occluded``.

    Args:
        visible_px: (N,), visible pixels of each placement.
        amodal_px: (N,), pixels that each placement would have alone in the scene.
        min_visible_px: least number of visible pixels of each placement.
        min_visible_fraction: least share of visible pixels among its amodal pixels.
    """
    visible, amodal = np.asarray(visible_px), np.asarray(amodal_px)
    unseen = (visible < min_visible_px) | (visible < min_visible_fraction * amodal)
    too_small = unseen & (amodal < min_visible_px)
    reasons = {
        "occluded": np.nonzero(unseen & ~too_small)[0],
        "too small": np.nonzero(too_small)[0],
    }
    parts = [
        f"{word}: placements {', '.join(map(str, indices))}"
        for word, indices in reasons.items()
        if len(indices)
    ]
    return "; ".join(parts) or None
