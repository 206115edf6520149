"""Training samples: a view's latents beside the images that condition them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.training.data.image_tokens import TokenFile
from datagen.training.data.images import Resizing, decode_images
from datagen.training.data.sources import RawView
from datagen.training.objectives.structure.source import RawLatents, decode_latents


@dataclass(frozen=True)
class SceneSample:
    """One kept view: what is sampled, and what it is conditioned on."""

    layout_id: int
    view_index: int
    scene_latent: NDArray[np.float16]
    """(8, 16, 16, 16), the encoder's raw mean."""
    instance_latents: NDArray[np.float16]
    """(N, 8, 16, 16, 16), in the scene's frame."""
    scene_image: NDArray[np.uint8]
    """(S, S, 3), sRGB, background black."""
    instance_images: NDArray[np.uint8]
    """(N, S, S, 3), the same crop with one instance left."""
    instance_map: NDArray[np.integer[Any]]
    """(S, S), the same crop: 0 is background, i + 1 is instance i."""
    tokens: TokenFile | None = None
    """The images' tokens, where training takes those that are stored."""

    @property
    def num_instances(self) -> int:
        return len(self.instance_latents)

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take."""
        arrays = (value for value in vars(self).values() if isinstance(value, np.ndarray))
        return sum(array.nbytes for array in arrays)


def decode_sample(
    view: RawView[RawLatents], size_px: int, resize: Resizing = "smooth"
) -> SceneSample:
    """Decode a view.

    Args:
        view: as it lies on disk.
        size_px: side of the conditioning images.
        resize: how they get it; frozen encoders want what they were published with.

    Raises:
        DatasetError: latents or images are not what they should be; shard and row are named.
    """
    latents = view.latents
    scene_latent, instance_latents = decode_latents(latents)
    scene_image, instance_images, instance_map = decode_images(view, size_px, resize)
    return SceneSample(
        layout_id=latents.layout_id,
        view_index=latents.view_index,
        scene_latent=scene_latent,
        instance_latents=instance_latents,
        scene_image=scene_image,
        instance_images=instance_images,
        instance_map=instance_map,
        tokens=view.tokens,
    )
