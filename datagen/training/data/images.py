"""The images that condition a model, decoded from a view as it lies on disk."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datagen.errors import RowError
from datagen.training.data.sources import RawView, corrupt
from datagen.views.conditioning import (
    condition_images,
    crop_instance_map,
    resize_lanczos4,
    resize_smoothly,
)
from datagen.views.passes import decode_view

Resizing = Literal["smooth", "lanczos4"]
RESIZERS = {"smooth": resize_smoothly, "lanczos4": resize_lanczos4}


def decode_images(
    view: RawView[Any], size_px: int, resize: Resizing
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
