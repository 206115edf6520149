"""Exact surface voxels and the view-centric frame they live in."""

from datagen.voxels.surface import check_mesh, mark_views, voxelize_surface
from datagen.voxels.view_centric import (
    Grids,
    pack_occupancy,
    unpack_instances,
    unpack_occupancy,
    view_centric_transform,
    voxelize_views,
)

__all__ = [
    "Grids",
    "check_mesh",
    "mark_views",
    "pack_occupancy",
    "unpack_instances",
    "unpack_occupancy",
    "view_centric_transform",
    "voxelize_surface",
    "voxelize_views",
]
