"""The geometry of scenes: meshes of assets, and their placements in the world."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.core.frames import AnyIntegers, Floats, placement_matrix
from datagen.core.meshes import Mesh, transform_mesh
from datagen.errors import DatasetError, RowError
from datagen.shards.dataset import Dataset, Row
from datagen.voxels import check_mesh

CACHED_ASSETS = 512
"""Number of assets whose geometry is kept in memory, the most recent ones."""


@dataclass(frozen=True)
class SceneMeshes:
    """The meshes of a scene's placements, in their order."""

    meshes: list[tuple[Floats, AnyIntegers]] = field(default_factory=list)
    """Vertices (V, 3), metres, world, and faces (F, 3)."""
    transparent: list[NDArray[np.bool_] | None] = field(default_factory=list)
    """(F,): faces whose material has alpha below 1; None where all are opaque."""
    prepared_paths: list[Path] = field(default_factory=list)
    """Files that Blender loads; [] unless they were asked for."""
    asset_to_world: list[Floats] = field(default_factory=list)
    """(4, 4), the asset's own frame to the world, metres."""

    @property
    def vertices(self) -> Floats:
        """All vertices of the scene, (V, 3), metres, world."""
        return np.concatenate([vertices for vertices, _ in self.meshes])

    def transformed(self, matrix: Floats) -> list[Mesh]:
        """Return the placements' meshes, vertices (V, 3) and faces (F, 3), in another frame.

        Args:
            matrix: (4, 4), world to that frame, for example a view's ``world_to_canonical``.
        """
        return [transform_mesh(matrix, mesh) for mesh in self.meshes]


def asset_to_world(placement: Mapping[str, Any]) -> Floats:
    """Return the (4, 4) matrix that puts an asset into the world, metres.

    Args:
        placement: an entry of the column ``placements`` of ``layouts``.
    """
    position_m = np.array(placement["position_m"])
    return placement_matrix(position_m, placement["yaw_rad"], placement["scale"])


class SceneReader:
    """Reads the geometry of assets and of scenes.

    Args:
        assets: a sealed dataset. Its rows are read immediately, geometry when it is needed.
    """

    def __init__(self, assets: Dataset) -> None:
        columns = ["asset_id", "geometry_path", "prepared_path"]
        self._assets = assets
        self._rows = {row["asset_id"]: row for row in assets.rows(columns)}
        self._geometry = lru_cache(maxsize=CACHED_ASSETS)(self._read_geometry)

    def mesh(self, asset_id: str) -> Mesh:
        """Return an asset's vertices (V, 3) and faces (F, 3); metres, the asset's own frame.

        Raises:
            RowError: there is no such asset, or its geometry is missing or damaged.
        """
        geometry = self._geometry(asset_id)
        return geometry["vertices"], geometry["faces"]

    def read(self, layout: Row, *, prepared: bool = False) -> SceneMeshes:
        """Return the meshes of a layout's placements in the world.

        Args:
            layout: a row of ``layouts``.
            prepared: also return the files for Blender. Files in remote storage are copied to
                this machine.

        Raises:
            RowError: a placed asset is missing, or its geometry is missing or damaged.
        """
        scene = SceneMeshes()
        for placement in layout["placements"]:
            asset_id = placement["asset_id"]
            geometry = self._geometry(asset_id)
            matrix = asset_to_world(placement)
            scene.meshes.append(transform_mesh(matrix, self.mesh(asset_id)))
            scene.transparent.append(geometry.get("transparent"))
            scene.asset_to_world.append(matrix)
            if prepared:
                path = self._rows[asset_id]["prepared_path"]
                scene.prepared_paths.append(self._assets.folder.local_copy(path))
        return scene

    def _read_geometry(self, asset_id: str) -> dict[str, NDArray[Any]]:
        path, folder = self._geometry_path(asset_id), self._assets.folder
        try:
            with np.load(folder.local_copy(path)) as file:
                geometry = {name: file[name] for name in file.files}
        except FileNotFoundError as error:
            raise RowError(
                f"{folder}/{path}: no such file, although asset {asset_id[:12]} names it. Expected "
                "its geometry; restore the file, or make the assets again with --overwrite."
            ) from error
        try:
            check_mesh(geometry["vertices"], geometry["faces"])
        except DatasetError as error:  # a bad asset fails the scenes that use it; the run continues
            raise RowError(f"{folder}/{path}: {error}") from error
        return geometry

    def _geometry_path(self, asset_id: str) -> str:
        row = self._rows.get(asset_id)
        if row is None or row["geometry_path"] is None:
            problem = "there is no such asset" if row is None else "it is quarantined"
            raise RowError(
                f"{self._assets.folder}: asset {asset_id} is placed, but {problem}. Expected a "
                "usable asset; make the layouts again from these assets."
            )
        return str(row["geometry_path"])
