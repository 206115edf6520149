"""Which views are kept: those in which every object is to be seen."""

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
    """Return why a view is dropped, or None where it is kept.

    A placement of which too little shows is ``occluded`` if enough would show of it alone, else
    it is ``too small`` for the image: ``"occluded: placements 3, 5"``.

    Args:
        visible_px: (N,), pixels that show each placement.
        amodal_px: (N,), pixels that each placement would cover alone.
        min_visible_px: the fewest that must show each; 1 drops what cannot be seen at all.
        min_visible_fraction: the least share of its amodal pixels that each must show.
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
