"""Reading an image of a scene and its segmentation from files, as I-Scene's release does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from datagen.errors import RowError

MAX_LABELS = 255
"""A file with more labels is not a segmentation, or a lossy format has changed its labels."""

SMALL_SHARE = 1e-3
"""Share of the image's pixels below which an instance is too small to be recognised. MIDI leaves
such instances out of its data; I-Scene names them as its failure case."""


@dataclass(frozen=True)
class MaskedImage:
    """An image and its instances."""

    rgba: NDArray[np.uint8]
    """(H, W, 4), sRGB; alpha is 255 everywhere."""
    instance_map: NDArray[np.uint16]
    """(H, W): 0 background, i + 1 is the instance with ``labels[i]``."""
    labels: list[int]
    """The file's labels, ascending; a colour is r + 256·g + 65536·b."""
    resized_from: tuple[int, int] | None
    """Width and height, pixels, of the image file, if the segmentation has another size."""

    @property
    def visible_px(self) -> list[int]:
        """Number of pixels of each instance."""
        counts = np.bincount(self.instance_map.ravel(), minlength=len(self.labels) + 1)
        return [int(count) for count in counts[1:]]

    def warnings(self) -> list[str]:
        """Return what a user should know before trusting a result for this image."""
        height, width = self.instance_map.shape
        found = []
        if self.resized_from is not None:
            was = "×".join(map(str, self.resized_from))
            found.append(f"the image of {was} px is resized to its masks' {width}×{height}")
        for index, pixels in enumerate(self.visible_px):
            if pixels < SMALL_SHARE * height * width:
                found.append(
                    f"instance {index} (label {self.labels[index]}) has only {pixels} pixels; "
                    "such small instances often fail"
                )
        return found


def read_masked_image(image: Path, masks: Path) -> MaskedImage:
    """Return an image and its instances, at the size of the segmentation.

    Args:
        image: any image file; fully transparent pixels become black, partial alpha is dropped.
        masks: an image file of labels: one channel, a palette, gray RGB, R + 256·G, or 24-bit
            colours. 0 (black) is background; alpha is ignored.

    Raises:
        RowError: a file is missing or not an image, or the segmentation has no label or too many.
    """
    ids = segmentation_ids(_open_image(masks))
    labels = [int(label) for label in np.unique(ids) if label > 0]
    if not labels:
        raise RowError(
            f"{masks}: all {ids.size} pixels are 0, the background. Expected a label above 0 for "
            "each object; draw the masks."
        )
    if len(labels) > MAX_LABELS:
        raise RowError(
            f"{masks}: holds {len(labels)} labels. Expected one per object, at most {MAX_LABELS}; "
            "give a segmentation in a lossless format (PNG), without smoothed edges."
        )
    opened = _open_image(image)
    rgb = _colours(opened)
    size = ids.shape[1], ids.shape[0]
    resized = rgb.size != size
    rgba = np.asarray(
        (rgb.resize(size, Image.Resampling.BICUBIC) if resized else rgb).convert("RGBA")
    )
    instance_map = np.searchsorted(np.array([0, *labels]), ids).astype(np.uint16)
    return MaskedImage(rgba, instance_map, labels, opened.size if resized else None)


def segmentation_ids(segmentation: Image.Image) -> NDArray[np.uint32]:
    """Return the label of each pixel, (H, W) uint32; a colour is r + 256·g + 65536·b.

    Args:
        segmentation: one channel, a palette, gray and alpha, RGB or RGBA.
    """
    pixels = np.asarray(segmentation)
    if pixels.ndim == 2:
        return pixels.astype(np.uint32)
    if pixels.shape[2] == 2:  # gray and alpha
        return pixels[..., 0].astype(np.uint32)
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red
    return np.asarray(red | green << 8 | blue << 16, np.uint32)


def _colours(image: Image.Image) -> Image.Image:
    """Return an image as RGB: transparent pixels are black, partial alpha is dropped (I-Scene)."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size), rgba).convert("RGB")
    return _eight_bit(image).convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return a 16-bit gray image at 8 bits; Pillow's own conversion would clip it to white."""
    if not image.mode.startswith("I"):
        return image
    pixels: NDArray[Any] = np.asarray(image)
    return Image.fromarray((pixels.astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))


def _open_image(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise RowError(f"{path}: no such file; expected an image. Check the name.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise RowError(
            f"{path}: not a readable image ({error}); expected a PNG, JPEG, WebP or TIFF. "
            "Save the image again."
        ) from error
    return image
