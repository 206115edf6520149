"""Training samples of the structured-latent model: features on voxels, and their images.

Shape suffixes: N instances, M voxels of one instance, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.training.data.images import Resizing, decode_images
from datagen.training.data.sources import RawView
from datagen.training.objectives.structured_latents.source import RawSlat, decode_slat


@dataclass(frozen=True)
class SlatSample:
    """One kept view: its instances' voxels and features, and what they are conditioned on."""

    layout_id: int
    view_index: int
    coords: Sequence[NDArray[np.uint8]]
    """N of (M, 3)."""
    features: Sequence[NDArray[np.float16]]
    """N of (M, C)."""
    instance_images: NDArray[np.uint8]
    """(N, S, S, 3), sRGB, background black."""

    @property
    def num_instances(self) -> int:
        return len(self.coords)

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take."""
        parts = sum(one.nbytes for one in self.coords) + sum(one.nbytes for one in self.features)
        return parts + self.instance_images.nbytes


def decode_slat_sample(
    view: RawView[RawSlat], size_px: int, resize: Resizing = "smooth"
) -> SlatSample:
    """Decode a view; arguments and errors as of ``decode_sample``."""
    raw = view.latents
    coords, features = decode_slat(raw)
    _, instance_images, _ = decode_images(view, size_px, resize)
    return SlatSample(raw.layout_id, raw.view_index, coords, features, instance_images)
