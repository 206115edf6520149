"""Training samples of the structure model: the latents of a view, and its conditioning images."""

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
    """One kept view: the latents to learn, and the images that condition them."""

    layout_id: int
    """The scene."""
    view_index: int
    """The view of the scene."""
    scene_latent: NDArray[np.float16]
    """(8, 16, 16, 16), the encoder's raw mean."""
    instance_latents: NDArray[np.float16]
    """(N, 8, 16, 16, 16), each instance at its place in the scene's frame."""
    scene_image: NDArray[np.uint8]
    """(S, S, 3), sRGB, background black."""
    instance_images: NDArray[np.uint8]
    """(N, S, S, 3), the same crop with one instance visible in each."""
    instance_map: NDArray[np.integer[Any]]
    """(S, S), the same crop: 0 is background, i + 1 is instance i."""
    tokens: TokenFile | None = None
    """The stored tokens of the images; None: tokens are computed while training."""

    @property
    def num_instances(self) -> int:
        """N, hidden instances included."""
        return len(self.instance_latents)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, bytes."""
        arrays = (value for value in vars(self).values() if isinstance(value, np.ndarray))
        return sum(array.nbytes for array in arrays)


def decode_sample(
    view: RawView[RawLatents], size_px: int, resize: Resizing = "smooth"
) -> SceneSample:
    """Return the sample of a stored view.

    Args:
        view: the stored view.
        size_px: side of the conditioning images.
        resize: filter of the resizing. Frozen encoders need the one they were published with.

    Raises:
        DatasetError: latents or images are corrupt; shard and row are named.
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
