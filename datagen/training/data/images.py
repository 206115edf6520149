"""The conditioning images of a model, decoded from a stored view."""

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
    """Return the conditioning images of a view and of its instances.

    Args:
        view: the stored view.
        size_px: S, side of the images.
        resize: filter of the resizing.

    Returns:
        The view's image (S, S, 3), the images of its N instances (N, S, S, 3), both sRGB on
        black; and the same crop of the instance map (S, S): 0 is background, i + 1 is instance i.

    Raises:
        DatasetError: an image does not decode, or does not fit the view; shard and row are named.
    """
    latents = view.latents
    try:
        rgba, instance_map = decode_view(view._asdict())
        if (largest := instance_map.max(initial=0)) > latents.num_instances:
            raise RowError(f"the map shows instance {largest} of {latents.num_instances}")
        scene_image, instance_images = condition_images(
            rgba, instance_map, latents.num_instances, size_px, RESIZERS[resize]
        )
    # Pillow raises SyntaxError, OSError or ValueError, depending on where a PNG is damaged.
    except (OSError, SyntaxError, ValueError, TypeError, RowError) as error:
        raise corrupt(latents, view.where, f"its images cannot be used: {error}") from error
    return scene_image, instance_images, crop_instance_map(instance_map, size_px)
