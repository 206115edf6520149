"""Images of prediction and truth in two colours, before and after alignment."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from datagen.core.cameras import distance_to_frame, intrinsics_from_fov, look_at
from datagen.core.frames import Floats, transform_points
from datagen.core.meshes import Mesh
from datagen.report.images import image
from datagen.report.shading import Triangles, shade

TRUE_COLOR, PREDICTED_COLOR = (47, 111, 210), (232, 112, 32)
_FOV_RAD = float(np.radians(30.0))
_VIEWS = {"three quarters": np.array([0.45, -0.8, 0.5]), "from above": np.array([0.0, 0.0, 1.0])}


def overlays(
    predicted: Sequence[Mesh | None],
    true: Sequence[Mesh | None],
    transform: Floats,
    size_px: int = 200,
) -> list[Markup]:
    """Return four images as HTML: before alignment from the front and from above, then after it.

    Args:
        predicted: vertices (V, 3) and faces (F, 3) of each instance, z_up; None where missing.
        true: the same of the truth.
        transform: (4, 4), the alignment, predicted to true.
        size_px: side of an image.
    """
    before, truth = _triangles(predicted), _triangles(true)
    after = transform_points(transform, before.reshape(-1, 3)).reshape(-1, 3, 3)
    images = []
    for when, moved in (("before alignment", before), ("after alignment", after)):
        for name, towards in _VIEWS.items():
            drawn = overlay(moved, truth, towards, size_px)
            images.append(image(drawn, f"{when}, {name}", max_px=size_px))
    return images


def overlay(
    predicted: Triangles, true: Triangles, towards: Floats, size_px: int
) -> NDArray[np.uint8]:
    """Return RGBA (size, size, 4): truth blue, prediction orange, mixed where both are visible.

    Args:
        predicted: (T, 3, 3), may be empty.
        true: (U, 3, 3), not empty.
        towards: (3,), direction from the centre to the camera.
        size_px: side of the image; truth and prediction together fill it.
    """
    corners = np.concatenate([true.reshape(-1, 3), predicted.reshape(-1, 3)])
    center = (corners.min(axis=0) + corners.max(axis=0)) / 2
    radius = float(np.linalg.norm(corners - center, axis=1).max())
    eye = center + towards / np.linalg.norm(towards) * distance_to_frame(radius, _FOV_RAD)
    intrinsics = intrinsics_from_fov(_FOV_RAD, size_px, size_px)
    mixed = np.zeros((size_px, size_px, 4))
    for triangles, color in ((true, TRUE_COLOR), (predicted, PREDICTED_COLOR)):
        if len(triangles):
            colors = np.broadcast_to(np.array(color, np.float64), (len(triangles), 3))
            seen = shade(triangles, colors, look_at(eye, center), intrinsics, (size_px, size_px))
            weight = seen[..., 3:] / 255.0
            mixed[..., :3] += seen[..., :3] * weight
            mixed[..., 3:] += weight
    mixed[..., :3] /= np.maximum(mixed[..., 3:], 1.0)
    mixed[..., 3] = 255.0 * mixed[..., 3].clip(max=1.0)
    return np.asarray(mixed.round(), np.uint8)


def _triangles(meshes: Sequence[Mesh | None]) -> Triangles:
    found = [np.asarray(mesh[0])[mesh[1]] for mesh in meshes if mesh is not None]
    return np.concatenate(found) if found else np.zeros((0, 3, 3))
