"""Which voxels a picture shows, by the depth and the instance map that were rendered with it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.core.cameras import pixel_rays, project
from datagen.core.frames import Floats, transform_points


@dataclass(frozen=True)
class SurfacePoints:
    """What the P pixels of a picture that show something show, and the camera of the picture."""

    points_m: Floats
    """(P, 3), metres, world."""
    slots: NDArray[np.int64]
    """(P,): i + 1 where placement i is shown."""
    uv: Floats
    """(P, 2): the pixels' centres, 0..1 from the left and the top."""
    world_to_camera: Floats
    intrinsics: Floats
    size_px: tuple[int, int]
    """Width and height."""


@dataclass(frozen=True)
class VoxelTable:
    """The M occupied voxels of a scene's slots: the scene's own, then those of each instance."""

    slots: NDArray[np.int64]
    """(M,): 0 for the scene's voxels, i + 1 for those of placement i."""
    coords: NDArray[np.int64]
    """(M, 3): x, y, z."""
    centres_m: Floats
    """(M, 3), metres, world."""
    world_to_canonical: Floats
    rows: NDArray[np.int64]
    """(N + 1, R, R, R): which of the M a cell is, -1 where it is empty."""

    @classmethod
    def of(cls, occupancy: NDArray[np.bool_], world_to_canonical: Floats) -> "VoxelTable":
        """Number the voxels of grids (N + 1, R, R, R), the scene first, in C order."""
        places = np.argwhere(occupancy)
        rows = np.full(occupancy.shape, -1, np.int64)
        rows[occupancy] = np.arange(len(places))
        canonical = (places[:, 1:] + 0.5) / occupancy.shape[-1] - 0.5
        centres_m = transform_points(np.linalg.inv(world_to_canonical), canonical)
        return cls(places[:, 0], places[:, 1:], centres_m, world_to_canonical, rows)

    def shown_by(self, surface: SurfacePoints) -> tuple[NDArray[np.int64], Floats]:
        """Return how many pixels of a picture show each voxel (M,), and their mean place (M, 2).

        A pixel shows the voxels, the scene's and the instance's, that its surface point lies in.
        Where no pixel does, the place is that of the voxel's centre, seen or not; -1 where it is
        behind the camera or beside the picture.
        """
        resolution = self.rows.shape[-1]
        canonical = transform_points(self.world_to_canonical, surface.points_m)
        # Faces on the border may be rounded to beyond it.
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
    """Return the points that a picture's pixels show.

    Args:
        depth_z: (H, W), metres, planar; inf where there is background.
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
