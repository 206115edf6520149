"""The images that a model is conditioned on: one square crop of the scene, masked per instance."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datagen.errors import RowError

CROP_MARGIN = 1.2
"""Side of the crop over the longest side of the visible scene's box, as I-Scene released it."""


def condition_images(
    rgba: NDArray[np.uint8],
    instance_map: NDArray[np.integer[Any]],
    num_instances: int,
    size_px: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the scene's image and every instance's, background removed (black).

    All share the crop around the union of the masks, so that an instance stays at its place in
    the scene's frame. What the crop takes from outside the picture is black.

    Args:
        rgba: (H, W, 4), uint8, sRGB, straight alpha.
        instance_map: (H, W), 0 is background, i + 1 is placement i.
        num_instances: N; one that is not visible gets a black image.
        size_px: side S of the returned images.

    Returns:
        The scene (S, S, 3) and the instances (N, S, S, 3), uint8.

    Raises:
        RowError: the map is all background, or has another size than the picture.
    """
    if rgba.shape[:2] != instance_map.shape:
        raise RowError(
            f"picture {rgba.shape[:2]} and instance map {instance_map.shape} differ in size; "
            "render the view again."
        )
    left, top, side = _crop_box(instance_map > 0)
    labels = _cut(instance_map, left, top, side)
    colour = _cut(rgba[..., :3], left, top, side).astype(np.float32)
    alpha = _cut(rgba[..., 3:], left, top, side).astype(np.float32) / 255
    on_black = np.rint(colour * alpha).astype(np.uint8)

    scene = _masked(on_black, labels > 0, size_px)
    instances = [_masked(on_black, labels == i + 1, size_px) for i in range(num_instances)]
    return scene, np.stack(instances) if instances else np.empty((0, *scene.shape), np.uint8)


def crop_instance_map(
    instance_map: NDArray[np.integer[Any]], size_px: int
) -> NDArray[np.integer[Any]]:
    """Return the map (S, S) in the crop of ``condition_images``, by nearest neighbour.

    Raises:
        RowError: the map is all background.
    """
    labels = _cut(instance_map, *_crop_box(instance_map > 0))
    chosen = (2 * np.arange(size_px) + 1) * len(labels) // (2 * size_px)
    nearest: NDArray[np.integer[Any]] = labels[np.ix_(chosen, chosen)]
    return nearest


def _crop_box(mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return left, top and side, pixels, of the square about the mask's box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise RowError("no instance is visible in the instance map; drop the view.")
    height, width = rows[-1] - rows[0], columns[-1] - columns[0]
    half = max(int(CROP_MARGIN * max(width, height)) // 2, 1)
    center_x, center_y = (columns[0] + columns[-1]) // 2, (rows[0] + rows[-1]) // 2
    return int(center_x - half), int(center_y - half), 2 * half


def _cut(
    image: NDArray[np.integer[Any]], left: int, top: int, side: int
) -> NDArray[np.integer[Any]]:
    """Return the (side, side, ...) window, zero where it leaves the image."""
    height, width = image.shape[:2]
    window = np.zeros((side, side, *image.shape[2:]), image.dtype)
    x0, x1 = max(left, 0), min(left + side, width)
    y0, y1 = max(top, 0), min(top + side, height)
    window[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return window


def _masked(image: NDArray[np.uint8], mask: NDArray[np.bool_], size_px: int) -> NDArray[np.uint8]:
    picture = Image.fromarray(image * mask[..., None])
    return np.asarray(picture.resize((size_px, size_px), Image.Resampling.LANCZOS))
