"""Flat-shaded images of meshes by ray casting: thumbnails, dropped views and overlays."""

from typing import Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from datagen.core.cameras import distance_to_frame, intrinsics_from_fov, look_at, pixel_rays
from datagen.core.frames import Floats

Triangles = NDArray[np.floating[Any]]
"""(T, 3, 3), metres, world."""

_SUPERSAMPLING = 2
_FOV_RAD = np.radians(30.0)
_VIEW_DIRECTION = np.array([0.45, -0.8, 0.5])  # from the front, a little right, from above
_KEY_LIGHT = np.array([-0.45, -0.65, -0.6])  # camera axes: from the upper left, behind the camera


def portrait(triangles: Triangles, color: tuple[int, int, int], size_px: int) -> NDArray[np.uint8]:
    """Return RGBA (size, size, 4) of one object that fills the image; the background is clear."""
    corners = triangles.reshape(-1, 3)
    center = (corners.min(axis=0) + corners.max(axis=0)) / 2
    radius = float(np.linalg.norm(corners - center, axis=1).max())
    towards = _VIEW_DIRECTION / np.linalg.norm(_VIEW_DIRECTION)
    eye = center + towards * distance_to_frame(radius, float(_FOV_RAD))
    intrinsics = intrinsics_from_fov(float(_FOV_RAD), size_px, size_px)
    colors = np.broadcast_to(np.array(color, np.float64), (len(triangles), 3))
    return shade(triangles, colors, look_at(eye, center), intrinsics, (size_px, size_px))


def shade(
    triangles: Triangles,
    colors: NDArray[np.float64],
    world_to_camera: Floats,
    intrinsics: Floats,
    size_px: tuple[int, int],
) -> NDArray[np.uint8]:
    """Return RGBA (H, W, 4) of triangles lit from behind the camera; alpha 0 where none is hit.

    Args:
        triangles: (T, 3, 3), metres, world.
        colors: (T, 3), sRGB 0 to 255.
        world_to_camera: (4, 4).
        intrinsics: (3, 3), pixels of an image of ``size_px``.
        size_px: width and height of the image.
    """
    width, height = size_px
    fine = np.array(intrinsics, np.float64)
    fine[:2] *= _SUPERSAMPLING
    columns, rows = np.meshgrid(
        np.arange(width * _SUPERSAMPLING), np.arange(height * _SUPERSAMPLING)
    )
    origin, directions = pixel_rays(world_to_camera, fine, columns.ravel(), rows.ravel())
    scene = EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(triangles, np.float32))
    origins = np.broadcast_to(origin, directions.shape)
    hit = np.asarray(
        scene.run(np.ascontiguousarray(origins, np.float32), directions.astype(np.float32))
    )

    lit = np.zeros((len(hit), 4))
    seen = hit >= 0
    brightness = _brightness(triangles, world_to_camera)
    lit[seen, :3] = (colors * brightness[:, None]).clip(0, 255)[hit[seen]]
    lit[seen, 3] = 255.0
    return _shrink(lit.reshape(height, _SUPERSAMPLING, width, _SUPERSAMPLING, 4))


def _brightness(triangles: Triangles, world_to_camera: Floats) -> Floats:
    edges = triangles[:, 1:] - triangles[:, :1]
    normals = np.cross(edges[:, 0], edges[:, 1]) @ world_to_camera[:3, :3].T
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals / np.where(lengths > 0, lengths, 1.0)
    # Models have faces with either winding: each is lit on the side that the camera sees.
    corner = triangles[:, 0] @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    normals *= np.where((normals * corner).sum(axis=1, keepdims=True) > 0, -1.0, 1.0)
    light = _KEY_LIGHT / np.linalg.norm(_KEY_LIGHT)
    return np.asarray(0.45 + 0.65 * (normals @ light).clip(min=0))


def _shrink(lit: Floats) -> NDArray[np.uint8]:
    """Return the averages of blocks (H, s, W, s, 4); both have straight alpha."""
    alpha = lit[..., 3:].mean(axis=(1, 3))
    color = (lit[..., :3] * lit[..., 3:]).sum(axis=(1, 3))
    color /= np.maximum(lit[..., 3:].sum(axis=(1, 3)), 1.0)
    return np.asarray(np.dstack([color, alpha]).round(), np.uint8)
