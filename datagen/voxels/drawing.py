"""Images of voxels, and the preview of a prediction: input, prediction and truth side by side."""

import colorsys
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from datagen.voxels.view_centric import Grids

Pixels = NDArray[np.uint8]
"""(H, W, 3) or (H, W, 4): sRGB, straight alpha."""

_PALETTE = (
    (228, 87, 86),  # the first colours differ most in hue; all are readable on white and black
    (66, 133, 200),
    (84, 162, 75),
    (242, 162, 52),
    (150, 96, 190),
    (62, 178, 178),
    (240, 128, 176),
    (158, 118, 84),
    (190, 190, 60),
    (110, 124, 148),
    (160, 210, 130),
    (250, 190, 160),
)

# Projection of one voxel step along x, y and z, pixels (right, down): an axonometric view from the
# −Y side, 27° from the right and 29° from above. The steps are whole pixels, so faces have no seams
# and need no anti-aliasing. The columns (4, 2, 0) and (1, −2, −4) are orthogonal and almost equally
# long, so the view is hardly distorted.
_STEP_PX = np.array([[4, 1], [2, -2], [0, -4]])
_TOWARDS_VIEWER = np.array([8, -16, 10])  # the kernel of the projection
_FACES = (  # axis, side that the viewer sees, brightness
    (0, +1, 0.68),
    (1, -1, 0.88),
    (2, +1, 1.08),
)
_MARGIN_PX = 4
_OUTLINE_DEPTH = 60  # a jump in depth of about three voxels is drawn as an edge
_BOX_RGBA = (150, 150, 150, 130)


def instance_color(index: int) -> tuple[int, int, int]:
    """Return the sRGB colour, 0 to 255, of a placement, the same in every image.

    Args:
        index: of the placement.
    """
    if 0 <= index < len(_PALETTE):
        return _PALETTE[index]
    hue = (index * 0.618033988749895) % 1.0  # the golden ratio keeps neighbours apart
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55, 0.85)
    return int(red * 255), int(green * 255), int(blue * 255)


def color_instances(instance_map: NDArray[np.integer[Any]]) -> Pixels:
    """Return an instance map as RGBA (H, W, 4); the background is transparent.

    Args:
        instance_map: (H, W), 0 background, i + 1 placement i.
    """
    highest = int(instance_map.max(initial=0))
    lookup = np.array([(0, 0, 0, 0)] + [(*instance_color(i), 255) for i in range(highest)])
    return np.asarray(lookup[instance_map], np.uint8)


def draw_voxels(instances: Grids) -> Pixels:
    """Return an image (H, W, 4) RGBA of voxels coloured by instance, on transparent background.

    It is a parallel projection from the camera's (−Y) side, a little from the right and from
    above, the same for every grid, so images can be compared. The edges of the canonical cube are
    drawn behind the voxels.

    Args:
        instances: (N, R, R, R), x, y, z. The last instance wins where several share a voxel.
    """
    resolution = instances.shape[1]
    lattice = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * resolution
    on_screen = lattice @ _STEP_PX
    origin = _MARGIN_PX - on_screen.min(axis=0)
    width, height = on_screen.max(axis=0) + origin + _MARGIN_PX
    color = np.zeros((height * width, 3))
    depth = np.full(height * width, np.iinfo(np.int64).min)

    padded = np.zeros((resolution + 2,) * 3, np.int32)
    inside = padded[1:-1, 1:-1, 1:-1]
    for index, grid in enumerate(instances):
        inside[grid] = index + 1
    # Cubes on a lattice can be sorted by their distance: painted from the farthest to the nearest,
    # each pixel keeps the nearest face.
    voxels = np.argwhere(padded) - 1
    voxels = voxels[np.argsort(voxels @ _TOWARDS_VIEWER, kind="stable")]
    palette = np.array([instance_color(i) for i in range(len(instances))]).reshape(-1, 3)
    span = float(np.abs(_TOWARDS_VIEWER).sum() * resolution)
    for axis, side, brightness in _FACES:
        offset = np.eye(3, dtype=np.int64)[axis] * side
        neighbours = padded[tuple((voxels + 1 + offset).T)]
        shown = voxels[neighbours == 0]
        nearness = shown @ _TOWARDS_VIEWER
        labels = inside[tuple(shown.T)] - 1
        haze = 0.82 + 0.36 * (nearness - _TOWARDS_VIEWER.clip(max=0).sum() * resolution) / span
        shades = palette[labels] * (brightness * haze)[:, None]
        columns, rows = (shown @ _STEP_PX + origin).T
        for du, dv in _face_pixels(axis, side):
            pixels = (rows + dv) * width + columns + du
            visible = nearness >= depth[pixels]
            _paint(pixels[visible], nearness[visible], shades[visible], color, depth)
    return _finish(color.reshape(height, width, 3), depth.reshape(height, width), origin, lattice)


def write_preview(
    path: Path,
    rgba: Pixels,
    predicted: Grids,
    true: Grids | None,
    instance_map: NDArray[np.integer[Any]] | None = None,
    textured: Pixels | None = None,
) -> None:
    """Write a PNG with labelled panels side by side: input, prediction and truth.

    Args:
        path: the PNG file.
        rgba: (H, W, 4), sRGB: the input image.
        predicted: (N, R, R, R): the predicted instances.
        true: (N, R, R, R): the true instances; None: without this panel.
        instance_map: (H, W): the input's masks; None: without this panel.
        textured: (H, W, 4), sRGB: an image of textured surfaces; None: without this panel.
    """
    panels = [("input", rgba)]
    if instance_map is not None:
        panels.append(("masks", color_instances(instance_map)))
    panels.append(("sampled", draw_voxels(predicted)))
    if textured is not None:
        panels.append(("textured", textured))
    if true is not None:
        panels.append(("true", draw_voxels(true)))
    _side_by_side(panels).save(path)


def png_bytes(pixels: Pixels) -> bytes:
    """Return an image as a PNG of small size.

    Args:
        pixels: (H, W, 3 or 4), sRGB, straight alpha.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _face_pixels(axis: int, side: int) -> list[tuple[int, int]]:
    """Return the pixels (right, down) that a voxel's face covers, relative to its low corner."""
    first, second = (_STEP_PX[other] for other in range(3) if other != axis)
    start = _STEP_PX[axis] * (side > 0)
    to_face = np.linalg.inv(np.stack([first, second], axis=1).astype(np.float64))
    right, down = np.meshgrid(np.arange(-8, 9), np.arange(-8, 9))
    pixels = np.stack([right.ravel(), down.ravel()], axis=1)
    # Shifted a little, so that a pixel centre on a border belongs to one face only.
    within = (pixels + np.array([0.5 + 1e-4, 0.5 + 3e-4]) - start) @ to_face.T
    covered = ((within >= 0) & (within < 1)).all(axis=1)
    return [(int(u), int(v)) for u, v in pixels[covered]]


def _paint(
    pixels: NDArray[np.int64],
    nearness: NDArray[np.int64],
    shades: NDArray[np.float64],
    color: NDArray[np.float64],
    depth: NDArray[np.int64],
) -> None:
    # For repeated indices numpy keeps the last assignment, which is the nearest face.
    color[pixels] = shades
    depth[pixels] = nearness


def _finish(
    color: NDArray[np.float64],
    depth: NDArray[np.int64],
    origin: NDArray[np.int64],
    lattice: NDArray[np.int64],
) -> Pixels:
    """Return the image: outlines where the depth jumps, over the far edges of the cube."""
    filled = depth > np.iinfo(np.int64).min
    height, width = filled.shape
    nearer = np.zeros_like(filled)
    for roll_axis in (0, 1):
        for step in (1, -1):
            other = np.roll(depth, step, axis=roll_axis)
            # Only the farther side of a jump is darkened, so outlines are one pixel wide.
            nearer |= filled & (other > np.iinfo(np.int64).min) & (other - depth > _OUTLINE_DEPTH)
    color = np.where(nearer[..., None], color * 0.5, color)
    voxels = np.dstack([color.clip(0, 255), filled * 255.0]).astype(np.uint8)

    canvas = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    pen = ImageDraw.Draw(canvas)
    far = lattice[np.argmin(lattice @ _TOWARDS_VIEWER)]
    for corner in lattice:
        for axis in range(3):
            if corner[axis] != 0 or not _touches_far(corner, axis, far):
                continue
            end = corner.copy()
            end[axis] = lattice.max()
            line = [tuple(int(c) for c in point @ _STEP_PX + origin) for point in (corner, end)]
            pen.line([*line[0], *line[1]], fill=_BOX_RGBA)
    canvas.alpha_composite(Image.fromarray(voxels))
    return np.asarray(canvas)


def _touches_far(corner: NDArray[np.int64], axis: int, far: NDArray[np.int64]) -> bool:
    """Return whether the cube's edge along ``axis`` at a corner is on a far wall or the floor."""
    others = [other for other in range(3) if other != axis]
    return any(corner[other] == far[other] for other in others)


def _side_by_side(panels: Sequence[tuple[str, Pixels]], height: int = 384) -> Image.Image:
    gap, caption = 16, 28
    images = [Image.fromarray(pixels).convert("RGBA") for _, pixels in panels]
    images = [
        image.resize((max(image.width * height // image.height, 1), height)) for image in images
    ]
    total = sum(image.width for image in images) + gap * (len(images) + 1)
    canvas = Image.new("RGBA", (total, height + caption + gap), (250, 250, 250, 255))
    pen, left = ImageDraw.Draw(canvas), gap
    for (title, _), image in zip(panels, images, strict=True):
        pen.text((left, 6), title, fill=(60, 60, 60), font=ImageFont.load_default(16))
        canvas.alpha_composite(image, (left, caption))
        left += image.width + gap
    return canvas.convert("RGB")
