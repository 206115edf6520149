"""A workspace: the folders of all stages, and what joins their rows."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.core.frames import Floats, placement_matrix, transform_points
from datagen.errors import DatasetError
from datagen.shards import Dataset, Folder, Row, open_dataset
from datagen.shards.dataset import MANIFEST
from datagen.shards.tables import Table
from datagen.views.passes import read_rgba

NUM_SCENES = 5
"""Scenes whose views are shown; the first ones, so that chapters show the same scenes."""


@dataclass(frozen=True)
class Workspace:
    """A workspace folder on this machine."""

    root: Path
    _triangles: dict[str, Floats] = field(default_factory=dict)
    _datasets: dict[str, Dataset | None] = field(default_factory=dict)
    _assets: dict[str, Row] = field(default_factory=dict)

    def dataset(self, folder: str) -> Dataset | None:
        """Return a stage's sealed dataset, or None while it is not made or not finished."""
        if folder not in self._datasets:
            sealed = (self.root / folder / MANIFEST).is_file()
            self._datasets[folder] = open_dataset(self.root / folder) if sealed else None
        return self._datasets[folder]

    def require(self, folder: str) -> Dataset:
        """Return a stage's sealed dataset, which the caller knows to be there."""
        dataset = self.dataset(folder)
        assert dataset is not None, folder
        return dataset

    def assets(self) -> dict[str, Row]:
        """Return the rows of all assets by ``asset_id``; {} if there are none yet."""
        dataset = self.dataset("assets")
        if dataset is not None and not self._assets:
            self._assets.update({row["asset_id"]: row for row in dataset})
        return self._assets

    def triangles(self, asset: Row) -> Floats:
        """Return an asset's triangles (T, 3, 3), metres, its own frame."""
        key = str(asset["asset_id"])
        if key not in self._triangles:
            path = self.root / "assets" / str(asset["geometry_path"])
            if not path.is_file():
                raise DatasetError(
                    f"{path}: no such file, although asset {key[:12]} names it; expected its "
                    "geometry. Restore it, or make the assets again with --overwrite."
                )
            with np.load(path) as arrays:
                self._triangles[key] = arrays["vertices"].astype(np.float64)[arrays["faces"]]
        return self._triangles[key]

    def placed_triangles(self, placement: Row) -> Floats:
        """Return a placement's triangles (T, 3, 3), metres, world."""
        local = self.triangles(self.assets()[placement["asset_id"]])
        matrix = placement_matrix(
            np.array(placement["position_m"]), placement["yaw_rad"], placement["scale"]
        )
        return transform_points(matrix, local.reshape(-1, 3)).reshape(-1, 3, 3)

    def placement_name(self, placement: Row) -> str:
        """Return what stands there, in words."""
        asset = self.assets().get(placement["asset_id"])
        return str(asset["name"]) if asset else str(placement["asset_id"])[:8]

    def layout(self, layout_id: int) -> Row | None:
        """Return one layout's row."""
        dataset = self.dataset("layouts")
        rows = dataset.rows_of(layout_id) if dataset is not None else []
        return rows[0] if rows else None

    def scenes_with_views(self) -> list[int]:
        """Return the first NUM_SCENES ``layout_id`` that have a kept view."""
        found: dict[int, None] = {}
        for row in self.require("renders").rows(["layout_id", "kept"]):
            if row["kept"]:
                found[row["layout_id"]] = None
            if len(found) == NUM_SCENES:
                break
        return list(found)

    def view(self, layout_id: int, view_index: int) -> Row | None:
        """Return one view's row, images as stored."""
        return _with_index(self.dataset("renders"), layout_id, view_index)

    def latent(self, layout_id: int, view_index: int) -> Row | None:
        """Return one view's latents and voxels."""
        return _with_index(self.dataset("latents"), layout_id, view_index)

    def input_picture(self, layout_id: int, view_index: int) -> NDArray[np.uint8] | None:
        """Return a view's picture as RGBA (H, W, 4), None if it was not kept."""
        view = self.view(layout_id, view_index)
        return None if view is None or view["rgb"] is None else read_rgba(view["rgb"])


def _with_index(dataset: Dataset | None, layout_id: int, view_index: int) -> Row | None:
    for row in dataset.rows_of(layout_id) if dataset is not None else []:
        if row["view_index"] == view_index:
            return row
    return None


def open_needed(root: Folder, table: Table) -> Dataset:
    """Open a dataset of a workspace that an export cannot do without.

    Raises:
        DatasetError: it is not there; the message names the command that makes it.
    """
    if not (root / table.folder).exists(MANIFEST):
        raise DatasetError(
            f"export: {root / table.folder} is missing or unfinished, and it is needed here. "
            f"Run `datagen {table.verb} --root {root}` first."
        )
    return open_dataset(root / table.folder)
