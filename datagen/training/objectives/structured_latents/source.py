"""The source of voxel features: views of a workspace made with ``encode --store slat_features``."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datagen.shards.declared import LATENTS, SLAT
from datagen.shards.tensors import read_tensor
from datagen.training.data.sources import KEYS, ViewSource, corrupt

SLAT_COLUMNS = (*KEYS, "num_instances", *(column.name for column in SLAT[:3]))


class RawSlat(NamedTuple):
    """A stored row of ``latents`` with features, not yet decoded."""

    where: str
    """Shard and row, for messages."""
    layout_id: int
    view_index: int
    num_instances: int
    slat_counts: list[int]
    slat_coords: bytes
    slat_features: bytes


class SlatSource(ViewSource[RawSlat]):
    """The views of one workspace, with the features of their instances' voxels."""

    columns = SLAT_COLUMNS

    def raw_row(self, where: str, *values: Any) -> RawSlat:
        """Return a row of ``latents`` from the values of its ``columns``."""
        return RawSlat(where, *values)

    def decode_latents(self, raw: RawSlat) -> NDArray[np.float16]:
        """Return the features (V, C) of all instances of a row.

        Raises:
            DatasetError: they do not fit their voxels, or are not finite; shard and row are named.
        """
        return np.concatenate(decode_slat(raw)[1])

    @property
    def feature_channels(self) -> int:
        """C, read from the first view."""
        [raw, *_] = self._read_latents(0).values()
        return decode_slat(raw)[1][0].shape[1]


def decode_slat(
    raw: RawSlat,
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.float16]]]:
    """Return voxels (M, 3) and features (M, C) of each instance; those of the scene are left out.

    Raises:
        DatasetError: their numbers differ, or a feature is not finite; shard and row are named.
    """
    schema = LATENTS.full_schema
    try:
        coords = read_tensor(schema.field("slat_coords"), raw.slat_coords).astype(np.uint8)
        flat = read_tensor(schema.field("slat_features"), raw.slat_features).astype(np.float16)
        features = flat.reshape(len(coords), -1)
    except (ValueError, TypeError) as error:  # bytes for another shape; null
        raise corrupt(raw, raw.where, f"its features cannot be used: {error}") from error
    counts = raw.slat_counts
    if len(counts) != raw.num_instances + 1 or sum(counts) != len(coords) or min(counts) < 1:
        problem = f"it counts {counts} voxels, has {len(coords)}, of {raw.num_instances} instances"
        raise corrupt(raw, raw.where, problem)
    if not np.isfinite(features).all():
        raise corrupt(raw, raw.where, "a feature is not finite")
    ends = np.cumsum(counts)[:-1]
    return np.split(coords, ends)[1:], np.split(features, ends)[1:]
