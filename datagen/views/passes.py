"""PNG columns of a view's row: image, instance map, depth, normals and amodal masks.

All but the image are ray-cast, so they agree with the instance map in every pixel.
"""

import io
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datagen.views.visibility import VisibleView

Pass = Literal["depth", "normal", "amodal"]

NO_PASSES = dict.fromkeys(("depth_z", "depth_unit_m", "normal", "amodal_masks"))
"""The columns of a view without passes."""

DEPTH_STEPS = 65535  # 16 bits, of which 0 is background


def pass_columns(view: VisibleView, passes: tuple[Pass, ...]) -> dict[str, Any]:
    """Return the columns of a view's passes; those of other passes are None.

    Args:
        view: the ray-cast view, with what the passes need.
        passes: the passes that are wanted.
    """
    columns: dict[str, Any] = dict(NO_PASSES)
    if "depth" in passes:
        columns["depth_z"], columns["depth_unit_m"] = depth_png(view.depth_z)
    if "normal" in passes:
        assert view.normal is not None
        columns["normal"] = normal_png(view.normal)
    if "amodal" in passes:
        assert view.amodal_masks is not None
        height, width = view.depth_z.shape
        columns["amodal_masks"] = [
            png(
                np.unpackbits(bits, count=height * width, bitorder="little")
                .view(bool)
                .reshape(height, width)
            )
            for bits in view.amodal_masks
        ]
    return columns


def depth_png(depth_z: NDArray[np.floating[Any]]) -> tuple[bytes, float]:
    """Return planar depth as a 16-bit PNG, and the metres of one of its steps.

    The farthest surface is 65535 and background is 0. At 3 m a step is 0.05 mm.

    Args:
        depth_z: (H, W), metres; inf for background.
    """
    found = np.isfinite(depth_z)
    unit_m = float(depth_z[found].max(initial=0.0)) / DEPTH_STEPS or 1.0
    steps = np.zeros(depth_z.shape, np.uint16)
    steps[found] = np.rint(depth_z[found] / unit_m)
    return png(steps), unit_m


def read_depth(data: bytes, unit_m: float) -> NDArray[np.float32]:
    """Return planar depth (H, W) float32, metres, inf for background.

    Args:
        data: a PNG from ``depth_png``.
        unit_m: metres per step, from ``depth_png``.
    """
    steps = np.asarray(Image.open(io.BytesIO(data))).astype(np.float32)
    return np.where(steps > 0, steps * np.float32(unit_m), np.float32(np.inf))


def normal_png(normal: NDArray[np.floating[Any]]) -> bytes:
    """Return normals as an RGB PNG of 8 bits: (n + 1) / 2 * 255, black for background.

    Args:
        normal: (H, W, 3), unit, camera frame; 0 for background.
    """
    colors = np.rint((normal + 1) * 127.5).astype(np.uint8)
    colors[~normal.any(axis=2)] = 0  # no unit vector has this colour
    return png(colors)


def read_normal(data: bytes) -> NDArray[np.float32]:
    """Return normals (H, W, 3) float32, camera frame, 0 for background.

    Their length is 1 up to the rounding to 8 bits.

    Args:
        data: a PNG from ``normal_png``.
    """
    colors = np.asarray(Image.open(io.BytesIO(data)))
    normal = colors.astype(np.float32) / 127.5 - 1
    normal[~colors.any(axis=2)] = 0
    return normal


def read_mask(data: bytes) -> NDArray[np.bool_]:
    """Return a mask (H, W) bool from its PNG of one bit per pixel."""
    return np.asarray(Image.open(io.BytesIO(data)))


def png(array: NDArray[np.generic]) -> bytes:
    """Return an image as PNG.

    Args:
        array: (H, W) bool, uint8 or uint16, or (H, W, 3 or 4) uint8.
    """
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def read_rgba(data: bytes) -> NDArray[np.uint8]:
    """Return an image file as (H, W, 4) uint8, sRGB, straight alpha."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGBA"))


def read_instance_map(data: bytes) -> NDArray[np.integer[Any]]:
    """Return an instance map (H, W), uint8 or uint16: 0 background, i + 1 placement i."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def decode_view(row: Mapping[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.integer[Any]]]:
    """Return the image (H, W, 4) uint8 and the instance map (H, W) of a kept row of ``renders``.

    Args:
        row: a row whose ``kept`` is true.
    """
    return read_rgba(row["rgb"]), read_instance_map(row["instance_map"])
