"""Training samples: a view's latents beside the images that condition them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datagen.errors import RowError
from datagen.training.data.image_tokens import TokenFile
from datagen.training.data.sources import RawView, corrupt, decode_latents
from datagen.views.conditioning import (
    condition_images,
    crop_instance_map,
    resize_lanczos4,
    resize_smoothly,
)
from datagen.views.passes import decode_view

Resizing = Literal["smooth", "lanczos4"]
RESIZERS = {"smooth": resize_smoothly, "lanczos4": resize_lanczos4}


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


def decode_sample(view: RawView, size_px: int, resize: Resizing = "smooth") -> SceneSample:
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
        tokens=latents.tokens,
    )


def decode_images(
    view: RawView, size_px: int, resize: Resizing
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.integer[Any]]]:
    """Return a view's image (S, S, 3), its instances' (N, S, S, 3), and the map's crop (S, S).

    Raises:
        DatasetError: they are not what they should be; shard and row are named.
    """
    latents = view.latents
    try:
        rgba, instance_map = decode_view(view._asdict())
        if (largest := instance_map.max(initial=0)) > latents.num_instances:
            raise RowError(f"the map shows instance {largest} of {latents.num_instances}")
        scene_image, instance_images = condition_images(
            rgba, instance_map, latents.num_instances, size_px, RESIZERS[resize]
        )
    # Pillow's words for a damaged PNG are SyntaxError, OSError or ValueError, by where it is hit.
    except (OSError, SyntaxError, ValueError, TypeError, RowError) as error:
        raise corrupt(latents, view.where, f"its images cannot be used: {error}") from error
    return scene_image, instance_images, crop_instance_map(instance_map, size_px)


def latent_statistics(views: Iterable[NDArray[np.float16]]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each latent channel, (8, 1, 1, 1) float32 each.

    Args:
        views: latents (G, 8, R, R, R) of each, read once and not kept.
    """
    count, total, squares = 0, np.zeros(8), np.zeros(8)
    for latents in views:
        values = latents.astype(np.float64)
        count += values[:, 0].size
        total += values.sum(axis=(0, 2, 3, 4))
        squares += (values**2).sum(axis=(0, 2, 3, 4))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-8))
    return _channel_tensor(mean), _channel_tensor(std)


def _channel_tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).reshape(-1, 1, 1, 1)
