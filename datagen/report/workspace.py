"""What the report reads from a workspace: datasets if they are there, geometry, views, voxels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.shards import Row
from datagen.voxels import unpack_occupancy


def instance_grids(latent: Row) -> NDArray[np.bool_]:
    """Return a view's true voxels (N, 64, 64, 64), the scene's own grid left out."""
    return unpack_occupancy(np.asarray(latent["occupancy"]).tobytes())[1:]


def spread(items: list[Any], count: int) -> Iterator[Any]:
    """Yield at most ``count`` items, evenly spread over the list."""
    if len(items) <= count:
        yield from items
        return
    for index in np.linspace(0, len(items) - 1, count).round().astype(int):
        yield items[index]
