"""Training samples of the structured-latent model: features on voxels, and conditioning images.

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
    """One kept view: voxels and features of its instances, and the images that condition them."""

    layout_id: int
    """The scene."""
    view_index: int
    """The view of the scene."""
    coords: Sequence[NDArray[np.uint8]]
    """N arrays (M, 3), voxels 0 to 63 along x, y, z."""
    features: Sequence[NDArray[np.float16]]
    """N arrays (M, C)."""
    instance_images: NDArray[np.uint8]
    """(N, S, S, 3), sRGB, background black."""

    @property
    def num_instances(self) -> int:
        """N, hidden instances included."""
        return len(self.coords)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, bytes."""
        parts = sum(one.nbytes for one in self.coords) + sum(one.nbytes for one in self.features)
        return parts + self.instance_images.nbytes


def decode_slat_sample(
    view: RawView[RawSlat], size_px: int, resize: Resizing = "smooth"
) -> SlatSample:
    """Return the sample of a stored view; arguments and errors are those of ``decode_sample``."""
    raw = view.latents
    coords, features = decode_slat(raw)
    _, instance_images, _ = decode_images(view, size_px, resize)
    return SlatSample(raw.layout_id, raw.view_index, coords, features, instance_images)
