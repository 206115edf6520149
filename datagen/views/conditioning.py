"""Condition images of a model: a square crop of the scene, and one of each instance."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datagen.errors import RowError

CROP_MARGIN = 1.2
"""Side of the crop over the longest side of the visible scene's box, as in I-Scene's release."""

Resize = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]
"""From an image (A, A, 3) and a side S in pixels to an image (S, S, 3)."""


def resize_smoothly(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Return an image (A, A, 3) at size (S, S, 3), uint8, by Pillow's Lanczos filter.

    The filter averages over all pixels that it shrinks to one.

    Args:
        image: (A, A, 3), sRGB.
        size_px: S, pixels.
    """
    pillow_image = Image.fromarray(image)
    return np.asarray(pillow_image.resize((size_px, size_px), Image.Resampling.LANCZOS))


def resize_lanczos4(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Return an image (A, A, 3) at size (S, S, 3), uint8, as I-Scene's release resizes it.

    It is OpenCV's INTER_LANCZOS4: 8 taps at any scale.

    Args:
        image: (A, A, 3), sRGB.
        size_px: S, pixels.
    """
    taps, weights = _lanczos4_taps(image.shape[0], size_px)
    pixels = image.astype(np.float32)
    rows = np.zeros((size_px, *pixels.shape[1:]), np.float32)
    for k in range(taps.shape[1]):
        rows += weights[:, k, None, None] * pixels[taps[:, k]]
    both = np.zeros((size_px, size_px, 3), np.float32)
    for k in range(taps.shape[1]):
        both += weights[None, :, k, None] * rows[:, taps[:, k]]
    return np.asarray(np.rint(both).clip(0, 255), np.uint8)


def condition_images(
    rgba: NDArray[np.uint8],
    instance_map: NDArray[np.integer[Any]],
    num_instances: int,
    size_px: int,
    resize: Resize = resize_smoothly,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the condition images of a scene and of its instances, on black.

    All images share the crop around the union of the masks, so an instance keeps its place in the
    scene. Where the crop reaches beyond the image, it is black.

    Args:
        rgba: (H, W, 4), uint8, sRGB, straight alpha.
        instance_map: (H, W), 0 background, i + 1 placement i.
        num_instances: N; an instance that is not visible gets a black image.
        size_px: S, pixels: side of the returned images.
        resize: brings the crops to that size.

    Returns:
        The scene (S, S, 3) and the instances (N, S, S, 3), uint8.

    Raises:
        RowError: the map has only background, or another size than the image.
    """
    if rgba.shape[:2] != instance_map.shape:
        raise RowError(
            f"image {rgba.shape[:2]} and instance map {instance_map.shape} differ in size; "
            "render the view again."
        )
    left, top, side = _crop_box(instance_map > 0)
    labels = _cut(instance_map, left, top, side)
    on_black = _cut_on_black(rgba, left, top, side)

    scene = resize(on_black * (labels > 0)[..., None], size_px)
    instances = [
        resize(on_black * (labels == i + 1)[..., None], size_px) for i in range(num_instances)
    ]
    return scene, np.stack(instances) if instances else np.empty((0, *scene.shape), np.uint8)


def crop_instance_map(
    instance_map: NDArray[np.integer[Any]], size_px: int
) -> NDArray[np.integer[Any]]:
    """Return the instance map (S, S) in the crop of ``condition_images``, by nearest neighbour.

    Args:
        instance_map: (H, W), 0 background, i + 1 placement i.
        size_px: S, pixels.

    Raises:
        RowError: the map has only background.
    """
    labels = _cut(instance_map, *_crop_box(instance_map > 0))
    chosen = (2 * np.arange(size_px) + 1) * len(labels) // (2 * size_px)
    nearest: NDArray[np.integer[Any]] = labels[np.ix_(chosen, chosen)]
    return nearest


def canonical_images(
    rgba: NDArray[np.uint8],
    instance_map: NDArray[np.integer[Any]],
    num_instances: int,
    size_px: int,
    resize: Resize = resize_smoothly,
) -> NDArray[np.uint8]:
    """Return an image of each instance in its own crop, (N, S, S, 3) uint8, on black.

    They fill I-Scene's "local" slot. The arguments are those of ``condition_images``.
    """
    images = np.zeros((num_instances, size_px, size_px, 3), np.uint8)
    for index in range(num_instances):
        mask = instance_map == index + 1
        if mask.any():
            box = _crop_box(mask)
            images[index] = resize(_cut_on_black(rgba, *box) * _cut(mask, *box)[..., None], size_px)
    return images


def _crop_box(mask: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return left, top and side, pixels, of the square crop around a mask (H, W)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise RowError("no instance is visible in the instance map; drop the view.")
    height, width = rows[-1] - rows[0], columns[-1] - columns[0]
    half = max(int(CROP_MARGIN * max(width, height)) // 2, 1)
    # I-Scene's release crops with Pillow, which rounds the corners, halves to even.
    left = round((columns[0] + columns[-1]) / 2 - half)
    top = round((rows[0] + rows[-1]) / 2 - half)
    return left, top, 2 * half


def _cut(image: NDArray[Any], left: int, top: int, side: int) -> NDArray[Any]:
    """Return a window (side, side, ...) of an image, zero where it reaches beyond the image."""
    height, width = image.shape[:2]
    window = np.zeros((side, side, *image.shape[2:]), image.dtype)
    x0, x1 = max(left, 0), min(left + side, width)
    y0, y1 = max(top, 0), min(top + side, height)
    window[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return window


def _cut_on_black(rgba: NDArray[np.uint8], left: int, top: int, side: int) -> NDArray[np.uint8]:
    """Return a window (side, side, 3) of an image (H, W, 4), blended onto black."""
    colour = _cut(rgba[..., :3], left, top, side).astype(np.float32)
    alpha = _cut(rgba[..., 3:], left, top, side).astype(np.float32) / 255
    return np.rint(colour * alpha).astype(np.uint8)


@lru_cache(maxsize=32)
def _lanczos4_taps(side: int, size_px: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the 8 old pixels of each new one, and their weights, (size_px, 8) each."""
    position = (np.arange(size_px) + 0.5) * side / size_px - 0.5
    first = np.floor(position).astype(np.intp) - 3
    taps = first[:, None] + np.arange(8)
    distance = position[:, None] - taps
    weights = np.sinc(distance) * np.sinc(distance / 4)
    weights /= weights.sum(axis=1, keepdims=True)
    return taps.clip(0, side - 1), weights.astype(np.float32)
