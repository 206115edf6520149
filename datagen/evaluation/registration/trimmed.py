"""Trimmed symmetric Chamfer distance: how well two clouds fit where they do."""

from typing import Literal

import numpy as np

from datagen.core.frames import Floats
from datagen.evaluation.formulas import nearest_distances

TrimAs = Literal["fraction", "distance"]


def trimmed_chamfer(
    first: Floats, second: Floats, *, trim: float = 0.2, trim_as: TrimAs = "fraction"
) -> float:
    """Return the mean of both directions' trimmed mean distances, in the clouds' unit.

    Args:
        first: (N, 3).
        second: (M, 3).
        trim: a share, or a distance in the clouds' unit.
        trim_as: "fraction" leaves out the largest share ``trim`` of each direction's distances;
            "distance" caps each distance at ``trim``.

    Raises:
        RowError: a cloud is empty or not finite.
    """
    directions = nearest_distances(first, second)
    return sum(trimmed_mean(distances, trim, trim_as) for distances in directions) / 2


def trimmed_mean(distances: Floats, trim: float, trim_as: TrimAs) -> float:
    """Return the mean of distances (N,) after trimming: see ``trimmed_chamfer``."""
    if trim_as == "distance":
        return float(np.minimum(distances, trim).mean())
    kept = max(1, round(len(distances) * (1 - trim)))
    return float(np.partition(distances, kept - 1)[:kept].mean())
