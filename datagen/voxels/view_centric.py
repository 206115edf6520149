"""The view-centric frame: the scene rotated to the camera and scaled into [-0.5, 0.5]³."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from datagen.core.frames import AnyFloats, Floats
from datagen.core.meshes import Mesh
from datagen.errors import ConfigError, DatasetError
from datagen.voxels.surface import mark_views

Grids = NDArray[np.bool_]
"""(N, R, R, R): voxel grids, index order x, y, z, canonical frame."""

LONGEST_SIDE = 1 - 2e-6
"""Longest side of a normalised scene. It is below 1 so that faces on the border fall into voxels 0
and R - 1."""


def view_centric_transform(
    world_to_camera: AnyFloats,
    scene_vertices: AnyFloats,
    *,
    frame: Literal["yaw", "camera", "world"] = "yaw",
) -> Floats:
    """Return ``world_to_canonical`` (4, 4) float64 of one view: a rotation, then a similarity.

    The rotated scene's axis-aligned bounding box is centred, and its longest side is 1 - 2e-6.

    Args:
        world_to_camera: (4, 4), z_up world to cv camera, without roll.
        scene_vertices: (V, 3), metres, z_up world: all vertices of the whole scene.
        frame: the rotation. ``yaw``: about the up axis, so that the camera's right axis becomes
            +X and the camera is on the -Y side. ``camera``: the camera's whole rotation; x is
            right, y forward and z up in the image. ``world``: none.

    Raises:
        ConfigError: the frame is unknown, or the camera's right axis is vertical.
        DatasetError: the scene has no extent, or a vertex is not finite.
    """
    rotation = _rotation(np.asarray(world_to_camera, np.float64)[:3, :3], frame)
    rotated = np.asarray(scene_vertices, np.float64).reshape(-1, 3) @ rotation.T
    if not len(rotated) or not np.isfinite(rotated).all() or not np.ptp(rotated, axis=0).max() > 0:
        raise DatasetError(
            f"view_centric_transform: the scene's {len(rotated)} vertices span no finite box. "
            "Expected at least two different finite points; check the placed assets."
        )
    low, high = rotated.min(axis=0), rotated.max(axis=0)
    scale = LONGEST_SIDE / (high - low).max()
    world_to_canonical = np.eye(4)
    world_to_canonical[:3, :3] = scale * rotation
    world_to_canonical[:3, 3] = -scale * (low + high) / 2
    return world_to_canonical


def _rotation(camera_axes: Floats, frame: str) -> Floats:
    """Return the rotation (3, 3) of a frame; camera_axes (3, 3) has rows right, down, forward."""
    right, down, forward = camera_axes
    if frame == "camera":
        return np.stack([right, forward, -down])
    if frame == "world":
        return np.eye(3)
    if frame != "yaw":
        raise ConfigError(
            f"view_centric_transform: frame is {frame!r}. Expected 'yaw', 'camera' or 'world'."
        )
    length = np.hypot(right[0], right[1])
    if length < 1e-9:
        raise ConfigError(
            f"view_centric_transform: the camera's right axis is {right.tolist()}, vertical. "
            "Expected a camera without roll; make it with datagen.core.cameras.look_at."
        )
    x, y = right[:2] / length
    return np.array([[x, y, 0.0], [-y, x, 0.0], [0.0, 0.0, 1.0]])


def voxelize_views(
    instance_meshes: Sequence[Mesh],
    world_to_canonical: Floats,
    resolution: int = 64,
    *,
    solid: bool = False,
) -> NDArray[np.bool_]:
    """Return the occupancy of a scene and of each of its instances in many views.

    Args:
        instance_meshes: N meshes: vertices (V, 3), metres, z_up world, and faces (F, 3).
        world_to_canonical: (K, 4, 4), each from ``view_centric_transform``.
        resolution: voxels along a side, R.
        solid: whether to fill the inside of each instance. Empty voxels that are connected to the
            outside through voxel sides stay empty.

    Returns:
        (K, N + 1, R, R, R) bool, x, y, z: for each view the scene (the union of its instances),
        then each instance.

    Raises:
        DatasetError: a mesh has a vertex that is not finite, or a face with an invalid index.
    """
    shape = (len(world_to_canonical), len(instance_meshes) + 1, *[resolution] * 3)
    occupancy = np.zeros(shape, np.bool_)
    for index, (vertices, faces) in enumerate(instance_meshes, start=1):
        mark_views(vertices, faces, world_to_canonical, occupancy, index)
    if solid:
        for view, instance in np.ndindex(shape[0], len(instance_meshes)):
            grid = occupancy[view, instance + 1]
            binary_fill_holes(grid, output=grid)
    occupancy[:, 0] = occupancy[:, 1:].any(axis=1)
    return occupancy


def pack_occupancy(occupancy: NDArray[np.bool_]) -> bytes:
    """Return grids as bits, C order, least significant bit first.

    Args:
        occupancy: (..., R, R, R), x, y, z.
    """
    return np.packbits(occupancy.ravel(order="C"), bitorder="little").tobytes()


def unpack_occupancy(packed: bytes, resolution: int = 64) -> Grids:
    """Return the grids (N, R, R, R) bool that ``pack_occupancy`` packed.

    Args:
        packed: bytes from ``pack_occupancy``.
        resolution: voxels along a side, R.

    Raises:
        DatasetError: the bytes are not a whole number of grids.
    """
    bytes_per_grid = resolution**3 // 8
    if not packed or len(packed) % bytes_per_grid:
        raise DatasetError(
            f"occupancy: {len(packed)} bytes. Expected a multiple of {bytes_per_grid} (grids of "
            f"{resolution}³ bits); the row is damaged, make the latents again."
        )
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
    return bits.reshape(-1, *[resolution] * 3).view(np.bool_)


def unpack_instances(packed: bytes, resolution: int = 64) -> Grids:
    """Return the grids (N, R, R, R) bool of a view's instances, without the scene's grid.

    Args:
        packed: a view's ``occupancy``: N + 1 grids from ``pack_occupancy``, the scene's first.
        resolution: voxels along a side, R.

    Raises:
        DatasetError: the bytes are not a whole number of grids.
    """
    return unpack_occupancy(packed, resolution)[1:]
