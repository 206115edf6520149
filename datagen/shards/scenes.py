"""The meshes of a layout's scene, from the assets' geometry."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.core.frames import Floats, placement_matrix, transform_points
from datagen.errors import DatasetError, RowError
from datagen.shards import Dataset, Row
from datagen.voxels import check_mesh


@dataclass(frozen=True)
class SceneMeshes:
    """A scene's placements, in their order."""

    meshes: list[tuple[Floats, NDArray[np.int32]]]
    """Vertices (V, 3), metres, world, and faces (F, 3)."""
    transparent: list[NDArray[np.bool_] | None]
    """(F,): faces whose material has alpha below 1; None where all are opaque."""
    prepared_paths: list[Path]
    """What Blender loads."""
    asset_to_world: list[Floats]
    """(4, 4), metres."""

    @property
    def vertices(self) -> Floats:
        """All vertices of the scene, (V, 3), metres, world."""
        return np.concatenate([vertices for vertices, _ in self.meshes])


class SceneReader:
    """Reads the scenes of layouts; keeps the geometry of recent assets."""

    def __init__(self, assets: Dataset) -> None:
        columns = ["asset_id", "geometry_path", "prepared_path"]
        self._assets = assets
        self._rows = {row["asset_id"]: row for row in assets.rows(columns)}
        self._geometry = lru_cache(maxsize=512)(self._read_geometry)

    def read(self, layout: Row, *, prepared: bool = False) -> SceneMeshes:
        """Return the meshes of a layout's placements.

        Args:
            layout: a row of ``layouts``.
            prepared: whether the files for Blender are wanted too (copied here if far away).

        Raises:
            RowError: the layout names an asset that is not there or has no geometry.
        """
        scene = SceneMeshes([], [], [], [])
        for placement in layout["placements"]:
            row = self._asset(placement["asset_id"], layout["layout_id"])
            geometry = self._geometry(row["geometry_path"])
            matrix = placement_matrix(
                np.array(placement["position_m"]), placement["yaw_rad"], placement["scale"]
            )
            scene.meshes.append((transform_points(matrix, geometry["vertices"]), geometry["faces"]))
            scene.transparent.append(geometry.get("transparent"))
            scene.asset_to_world.append(matrix)
            if prepared:
                scene.prepared_paths.append(self._assets.folder.local_copy(row["prepared_path"]))
        return scene

    def _asset(self, asset_id: str, layout_id: int) -> dict[str, Any]:
        row = self._rows.get(asset_id)
        if row is None or row["geometry_path"] is None:
            raise RowError(
                f"layout {layout_id} places asset {asset_id}, which {self._assets.folder} "
                f"{'does not hold' if row is None else 'has quarantined'}"
            )
        return row

    def _read_geometry(self, path: str) -> dict[str, NDArray[Any]]:
        with np.load(self._assets.folder.local_copy(path)) as file:
            geometry = {name: file[name] for name in file.files}
        try:
            check_mesh(geometry["vertices"], geometry["faces"])
        except DatasetError as error:  # one bad asset ends the scenes that use it, not the run
            raise RowError(f"{self._assets.folder}/{path}: {error}") from error
        return geometry
