"""Which voxels an image shows, found from its depth and its instance map."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.core.cameras import pixel_rays, project
from datagen.core.frames import Floats, transform_points


@dataclass(frozen=True)
class SurfacePoints:
    """The surface points in the P pixels of an image that show an object, and its camera."""

    points_m: Floats
    """(P, 3), metres, z_up world."""
    slots: NDArray[np.int64]
    """(P,): i + 1 for placement i."""
    uv: Floats
    """(P, 2): pixel centres, from 0 to 1, from the left and from the top."""
    world_to_camera: Floats
    """(4, 4), z_up world to cv camera."""
    intrinsics: Floats
    """(3, 3), pixels."""
    size_px: tuple[int, int]
    """Width and height of the image, pixels."""


@dataclass(frozen=True)
class VoxelTable:
    """The M occupied voxels of all slots: those of the scene, then those of each instance."""

    slots: NDArray[np.int64]
    """(M,): 0 for the scene, i + 1 for placement i."""
    coords: NDArray[np.int64]
    """(M, 3): x, y, z."""
    centres_m: Floats
    """(M, 3), metres, z_up world."""
    world_to_canonical: Floats
    """(4, 4)."""
    rows: NDArray[np.int64]
    """(N + 1, R, R, R): index of each cell among the M voxels, -1 if it is empty."""

    @classmethod
    def of(cls, occupancy: NDArray[np.bool_], world_to_canonical: Floats) -> "VoxelTable":
        """Return the table of the voxels in occupancy grids, in C order.

        Args:
            occupancy: (N + 1, R, R, R), x, y, z: the scene's grid, then each instance's.
            world_to_canonical: (4, 4).
        """
        places = np.argwhere(occupancy)
        rows = np.full(occupancy.shape, -1, np.int64)
        rows[occupancy] = np.arange(len(places))
        canonical = (places[:, 1:] + 0.5) / occupancy.shape[-1] - 0.5
        centres_m = transform_points(np.linalg.inv(world_to_canonical), canonical)
        return cls(places[:, 0], places[:, 1:], centres_m, world_to_canonical, rows)

    def shown_by(self, surface: SurfacePoints) -> tuple[NDArray[np.int64], Floats]:
        """Return how many pixels show each voxel, (M,) int64, and their mean position, (M, 2).

        A pixel shows the voxel of the scene and the voxel of the instance that contain its
        surface point. If no pixel shows a voxel, its position is that of its centre in the image,
        or -1 if the centre is behind the camera or outside the image. Positions go from 0 to 1,
        from the left and from the top.

        Args:
            surface: the surface points of an image.
        """
        resolution = self.rows.shape[-1]
        canonical = transform_points(self.world_to_canonical, surface.points_m)
        # Points on the border of the grid may be rounded to outside it.
        x, y, z = np.floor((canonical + 0.5) * resolution).astype(int).clip(0, resolution - 1).T
        rows = np.concatenate([self.rows[0, x, y, z], self.rows[surface.slots, x, y, z]])
        uv = np.concatenate([surface.uv, surface.uv])[rows >= 0]
        rows, count = rows[rows >= 0], len(self.slots)
        shown = np.bincount(rows, minlength=count)
        sums = [np.bincount(rows, uv[:, axis], minlength=count) for axis in range(2)]
        mean = np.column_stack(sums) / np.maximum(shown, 1)[:, None]
        return shown, np.where(shown[:, None] > 0, mean, self._centres_in(surface))

    def _centres_in(self, surface: SurfacePoints) -> Floats:
        width, height = surface.size_px
        u, v, z = project(self.centres_m, surface.world_to_camera, surface.intrinsics).T
        places = np.column_stack([u / width, v / height])
        inside = (z > 0) & (places >= 0).all(axis=1) & (places < 1).all(axis=1)
        return np.where(inside[:, None], places, -1.0)


def surface_points(
    depth_z: NDArray[np.floating[Any]],
    instance_map: NDArray[np.integer[Any]],
    world_to_camera: Floats,
    intrinsics: Floats,
) -> SurfacePoints:
    """Return the surface points that an image's pixels show.

    Args:
        depth_z: (H, W), metres, planar depth; inf for background.
        instance_map: (H, W), 0 background, i + 1 placement i.
        world_to_camera: (4, 4), z_up world to cv camera.
        intrinsics: (3, 3), pixels.
    """
    height, width = depth_z.shape
    row, column = np.nonzero(np.isfinite(depth_z) & (instance_map > 0))
    origin, directions = pixel_rays(world_to_camera, intrinsics, column, row)
    forward = world_to_camera[2, :3]
    ray_distance = depth_z[row, column].astype(np.float64) / (directions @ forward)
    return SurfacePoints(
        points_m=origin + ray_distance[:, None] * directions,
        slots=instance_map[row, column].astype(np.int64),
        uv=np.column_stack([(column + 0.5) / width, (row + 0.5) / height]),
        world_to_camera=world_to_camera,
        intrinsics=intrinsics,
        size_px=(width, height),
    )
